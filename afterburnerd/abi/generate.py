"""Writes the files that the schema stands for, or with --check says which of them are stale.

python -m afterburnerd.abi.generate            write
python -m afterburnerd.abi.generate --check    exit 1 where a committed file is not what the schema says
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable

from afterburnerd import generated

from . import schema
from .kinds import HIST_BUCKETS, HIST_MAX_BITS, HIST_SUB_BITS, Block, Constant, Enum, Home, Stat, Struct

SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
BANNER = "Generated from afterburnerd/abi/schema.py by `python -m afterburnerd.abi.generate`; do not edit."


class SchemaError(Exception):
    """The schema contradicts itself."""


def size_of(type_: str) -> int:
    if type_ in SIZES:
        return SIZES[type_]
    return next(s.size for s in schema.STRUCTS if s.name == type_)


def align_of(type_: str) -> int:
    if type_ in SIZES:
        return SIZES[type_]
    return max(align_of(f.type) for f in next(s for s in schema.STRUCTS if s.name == type_).fields)


def check_struct(s: Struct) -> None:
    """A layout with holes would depend on the compiler: every byte must be named."""
    offset = 0
    for f in s.fields:
        if offset % align_of(f.type):
            raise SchemaError(f"struct {s.name}: {f.name} at byte {offset} is not aligned for {f.type}")
        offset += size_of(f.type) * f.count
    if offset != s.size or offset % max(align_of(f.type) for f in s.fields):
        raise SchemaError(f"struct {s.name}: fields take {offset} bytes, declared {s.size}")


# --- C -------------------------------------------------------------------------------------------------------------


def c_type(type_: str, home: Home) -> str:
    if type_ in SIZES:
        return f"__{type_}" if home == "bpf" else f"uint{SIZES[type_] * 8}_t"
    return f"struct ab_{type_}"


def c_enum(e: Enum) -> str:
    rows = [f"    AB_{e.prefix}_{name} = {i}, /* {text} */" for i, (name, text) in enumerate(e.members)]
    rows.append(f"    AB_{e.prefix}_END = {len(e.members)},")
    return f"/* {e.help} */\nenum ab_{e.name} {{\n" + "\n".join(rows) + "\n};\n"


def c_struct(s: Struct) -> str:
    rows = []
    for f in s.fields:
        dims = f"[{f.count}]" if f.count > 1 else ""
        rows.append(f"    {c_type(f.type, s.home)} {f.name}{dims}; /* {f.help} */")
    body = "\n".join(rows)
    return (
        f"/* {s.help} */\nstruct ab_{s.name} {{\n{body}\n}};\n"
        f'_Static_assert(sizeof(struct ab_{s.name}) == {s.size}, "struct ab_{s.name} changed size");\n'
    )


def c_constant(c: Constant) -> str:
    value = f"{c.value}" if c.value < 1 << 31 else f"0x{c.value:x}ULL"
    return f"#define AB_{c.name} {value} /* {c.help} */"


def c_block(b: Block) -> str:
    rows = []
    for s in b.stats:
        kind = "struct ab_hist" if s.kind == "histogram" else "uint64_t"
        rows.append(f"    {kind} {s.name}; /* {s.help}{f' [{s.unit}]' if s.unit else ''} */")
    pad = b.words - sum(s.words for s in b.stats)
    if pad:
        rows.append(f"    uint64_t pad[{pad}];")
    body = "\n".join(rows)
    return (
        f"/* {b.help}; written by the {b.writer} alone */\nstruct ab_stats_{b.name} {{\n{body}\n}};\n"
        f"_Static_assert(sizeof(struct ab_stats_{b.name}) == {b.words * 8}, "
        f'"struct ab_stats_{b.name} changed size");\n'
    )


def header_bpf() -> str:
    parts = [
        f"/* {BANNER}\n *\n * What the BPF program and the C helper share: map keys and values, reasons, limits. The includer provides\n"
        " * __u8 ... __u64 (linux/types.h). */\n#ifndef AFTERBURNER_H\n#define AFTERBURNER_H\n",
        "\n".join(c_constant(c) for c in schema.CONSTANTS if c.home == "bpf") + "\n",
        *(c_enum(e) for e in schema.ENUMS if e.home == "bpf"),
        *(c_struct(s) for s in schema.STRUCTS if s.home == "bpf"),
        "#endif\n",
    ]
    return "\n".join(parts)


def header_native() -> str:
    constants = "\n".join(c_constant(c) for c in schema.CONSTANTS if c.home == "native")
    hist = (
        "/* log-linear histogram: geometry in kinds.py, arithmetic in hist.h */\n"
        f"#define AB_HIST_SUB_BITS {HIST_SUB_BITS}\n#define AB_HIST_MAX_BITS {HIST_MAX_BITS}\n"
        f"#define AB_HIST_BUCKETS {HIST_BUCKETS}\n"
        "struct ab_hist {\n    uint64_t count; /* values recorded */\n    uint64_t sum; /* their sum */\n"
        "    uint64_t min; /* smallest, meaningless while count is 0 */\n    uint64_t max; /* largest */\n"
        "    uint64_t buckets[AB_HIST_BUCKETS];\n};\n"
    )
    parts = [
        f"/* {BANNER}\n *\n * Layouts that a data plane shares with its supervisor and with readers of its shared memory. */\n"
        '#ifndef AB_ABI_H\n#define AB_ABI_H\n\n#include <linux/types.h>\n#include <stdint.h>\n\n#include "afterburner.h"\n',
        f"#define AB_VERSION {schema.VERSION}\n#define AB_MAGIC 0x{schema.MAGIC:x}ULL\n"
        f"#define AB_RECORD_MAGIC 0x{schema.RECORD_MAGIC:x}ULL\n{constants}\n",
        *(c_enum(e) for e in schema.ENUMS if e.home == "native"),
        *(c_struct(s) for s in schema.STRUCTS if s.home == "native"),
        hist,
        *(c_block(b) for b in schema.BLOCKS),
        "#endif\n",
    ]
    return "\n".join(parts)


# --- Python --------------------------------------------------------------------------------------------------------


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def is_pad(name: str) -> bool:
    return name.startswith("pad")


def py_format(s: Struct) -> str:
    fmt = "<"
    for f in s.fields:
        if is_pad(f.name):
            fmt += f"{size_of(f.type) * f.count}x"
        elif f.type not in SIZES:
            fmt += f"{size_of(f.type) * f.count}s"
        elif f.type == "u8" and f.count > 1:
            fmt += f"{f.count}s"
        elif f.count > 1:
            raise SchemaError(f"struct {s.name}: arrays of {f.type} have no Python form yet")
        else:
            fmt += CODES[f.type]
    if struct.calcsize(fmt) != s.size:
        raise SchemaError(f"struct {s.name}: Python sees {struct.calcsize(fmt)} bytes, declared {s.size}")
    return fmt


def py_struct(s: Struct) -> str:
    fields = [f for f in s.fields if not is_pad(f.name)]
    rows, to_bytes, from_bytes = [], [], []
    for i, f in enumerate(fields):
        if f.type not in SIZES and f.count > 1:
            rows.append(f"    {f.name}: tuple[{camel(f.type)}, ...] = ()  # {f.help}")
            to_bytes.append(f"pack_array(self.{f.name}, {camel(f.type)}, {f.count})")
            from_bytes.append(f"unpack_array(v[{i}], {camel(f.type)})")
        elif f.type not in SIZES:
            rows.append(f"    {f.name}: {camel(f.type)}  # {f.help}")
            to_bytes.append(f"self.{f.name}.pack()")
            from_bytes.append(f"{camel(f.type)}.unpack(v[{i}])")
        else:
            kind, default = ("bytes", f"bytes({f.count})") if f.count > 1 else ("int", "0")
            rows.append(f"    {f.name}: {kind} = {default}  # {f.help}")
            to_bytes.append(f"self.{f.name}")
            from_bytes.append(f"v[{i}]")
    nested = [r for r, f in zip(rows, fields, strict=True) if f.type not in SIZES and f.count == 1]
    plain = [r for r, f in zip(rows, fields, strict=True) if f.type in SIZES or f.count > 1]
    call = [f"{f.name}={x}" for f, x in zip(fields, from_bytes, strict=True)]
    offsets, offset = [], 0
    for f in s.fields:
        if not is_pad(f.name):
            offsets.append(f'"{f.name}": {offset}')
        offset += size_of(f.type) * f.count
    return "\n".join(
        [
            f"class {camel(s.name)}(msgspec.Struct, frozen=True):",
            f'    """{s.help[0].upper()}{s.help[1:]}."""',
            "",
            *nested,
            *plain,
            "",
            f'    LAYOUT: ClassVar[struct.Struct] = struct.Struct("{py_format(s)}")',
            f"    SIZE: ClassVar[int] = {s.size}",
            f"    OFFSETS: ClassVar[dict[str, int]] = {{{', '.join(offsets)}}}",
            "",
            "    def pack(self) -> bytes:",
            f"        return self.LAYOUT.pack({', '.join(to_bytes)})",
            "",
            "    @classmethod",
            "    def unpack(cls, data: Buffer, offset: int = 0) -> Self:",
            "        v = cls.LAYOUT.unpack_from(data, offset)",
            f"        return cls({', '.join(call)})",
            "",
        ]
    )


# What the generated file needs for arrays of structs: fewer than there is room for are filled up with zero.
ARRAYS = """

class Packable(Protocol):
    SIZE: ClassVar[int]

    def pack(self) -> bytes: ...

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self: ...


T = TypeVar("T", bound=Packable)


def pack_array(items: tuple[T, ...], of: type[T], room: int) -> bytes:
    if len(items) > room:
        raise ValueError(f"{len(items)} of {of.__name__}, room for {room}")
    return b"".join(item.pack() for item in items)


def unpack_array(data: bytes, of: type[T]) -> tuple[T, ...]:
    return tuple(of.unpack(data, i) for i in range(0, len(data), of.SIZE))


"""


def py_enum(e: Enum) -> str:
    rows = [f"    {name} = {i}  # {text}" for i, (name, text) in enumerate(e.members)]
    return f'class {camel(e.name)}(IntEnum):\n    """{e.help[0].upper()}{e.help[1:]}."""\n\n' + "\n".join(rows) + "\n"


def layout_python() -> str:
    head = [
        f'"""{BANNER}',
        "",
        "Typed views of the shared layouts: `X.unpack(buffer, offset)` and `x.pack()`.",
        '"""',
        "",
        "# ruff: noqa: E501",
        "from __future__ import annotations",
        "",
        "import struct",
        "from enum import IntEnum",
        "from typing import ClassVar, Protocol, Self, TypeVar",
        "",
        "import msgspec",
        "",
        "Buffer = bytes | bytearray | memoryview",
        "",
        f"VERSION = {schema.VERSION}",
        f"MAGIC = 0x{schema.MAGIC:X}",
        f"RECORD_MAGIC = 0x{schema.RECORD_MAGIC:X}",
        f"HIST_SUB_BITS = {HIST_SUB_BITS}",
        f"HIST_BUCKETS = {HIST_BUCKETS}",
        *(f"{c.name} = {c.value}  # {c.help}" for c in schema.CONSTANTS),
        ARRAYS,
    ]
    bodies = [py_enum(e) for e in schema.ENUMS] + [py_struct(s) for s in ordered_structs()]
    return "\n".join(head) + "\n\n".join(bodies)


def ordered_structs() -> list[Struct]:
    """Nested structs first, so that annotations of msgspec resolve at import."""
    nested = {f.type for s in schema.STRUCTS for f in s.fields if f.type not in SIZES}
    return sorted(schema.STRUCTS, key=lambda s: s.name not in nested)


# --- documentation -------------------------------------------------------------------------------------------------

BLOCK_LABELS = {
    "daemon": "",
    "reason": "`verdict`, `reason`",
    "worker": "`worker`",
    "queue": "`worker`, `queue`",
    "rule": "`worker`, `rule`",
}


def exported_name(stat: Stat) -> str:
    return f"afterburner_{stat.metric}"


def metrics_markdown() -> str:
    lines = [
        "# Metrics",
        "",
        f"<!-- {BANNER} -->",
        "",
        "What `curl -s http://127.0.0.1:9475/metrics` shows. Every figure stands in the statistics segment first",
        "(`afterburnerctl stats` reads it without asking a process) and is converted to base units on the way out.",
        "",
    ]
    for b in schema.BLOCKS:
        lines += [
            f"## {b.name}",
            "",
            f"{b.help[0].upper()}{b.help[1:]}. Written by the {b.writer}, one per {b.per}.",
            "",
        ]
        lines += ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
        seen: dict[str, list[Stat]] = {}
        for s in b.stats:
            if s.metric:
                seen.setdefault(s.metric, []).append(s)
        for stats in seen.values():
            s = stats[0]
            labels = [BLOCK_LABELS[b.per]] if BLOCK_LABELS[b.per] else []
            for key in dict.fromkeys(k for x in stats for k, _ in x.labels):
                values = ", ".join(v for x in stats for k, v in x.labels if k == key)
                labels.append(f"`{key}` ({values})")
            if s.kind == "enum":
                labels.append("`state`")
            kind = "gauge" if s.kind == "enum" else s.kind
            text = s.help if len(stats) == 1 or not s.help.partition(": ")[2] else s.help.partition(": ")[0]
            lines.append(f"| `{exported_name(s)}` | {kind} | {', '.join(labels)} | {text} |")
        lines.append("")
    lines += [
        "## exporter",
        "",
        "Worked out when the page is asked for.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for d in schema.DERIVED:
        labels = [", ".join(f"`{label}`" for label in d.labels)]
        lines.append(f"| `afterburner_{d.metric}` | {d.kind} | {', '.join(labels)} | {d.help} |")
    lines.append("")
    return "\n".join(lines)


TARGETS: dict[str, Callable[[], str]] = {
    "bpf/afterburner.h": header_bpf,
    "afterburnerd/native/abi.h": header_native,
    "afterburnerd/abi/layout.py": layout_python,
    "docs/metrics.md": metrics_markdown,
}


def main(argv: list[str] | None = None) -> int:
    for s in schema.STRUCTS:
        check_struct(s)
    files = ((name, render()) for name, render in TARGETS.items())
    return generated.run("afterburnerd.abi.generate", __doc__, files, argv)


if __name__ == "__main__":
    sys.exit(main())
