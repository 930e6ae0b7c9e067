"""Where fields of the kernel's structures lie, as the running kernel says (BTF, Documentation/bpf/btf.rst).

bcc compiles with the headers that are installed, and those may be another kernel's; what is read from a socket buffer by
their offsets would then be nonsense. The kernel's own description cannot be wrong, so offsets come from there.

    header | types, one after the other, of lengths that follow from their kinds | strings
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F
HEADER = struct.Struct("<HBBIIIII")
TYPE = struct.Struct("<III")  # name, info, size or type
MEMBER = struct.Struct("<III")  # name, type, offset
STRUCT, UNION = 4, 5
# Bytes behind the head of a type: fixed, and for each of its `vlen` entries. Kinds that are not here have none.
FIXED = {1: 4, 3: 12, 14: 4, 17: 4}  # INT, ARRAY, VAR, DECL_TAG
EACH = {STRUCT: 12, UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}  # and ENUM, FUNC_PROTO, DATASEC, ENUM64
KINDS = 20  # so many are known; the length of another one is not


class BtfError(Exception):
    """The description cannot be read, or what is looked for is not in it."""


class Btf:
    """One description, read once."""

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER.size:
            raise BtfError("too short to be BTF")
        magic, _, _, header, types, types_size, strings, strings_size = HEADER.unpack_from(data)
        if magic != MAGIC or header + max(types + types_size, strings + strings_size) > len(data):
            raise BtfError("not BTF of this machine's byte order")
        self._types = data[header + types : header + types + types_size]
        self._strings = data[header + strings : header + strings + strings_size]
        self._at = array("I", [0])  # of each type, by its number; 0 is void and has no place
        at, end = 0, len(self._types)
        while at + TYPE.size <= end:
            self._at.append(at)
            info = int.from_bytes(self._types[at + 4 : at + 8], "little")
            kind = info >> 24 & 0x1F
            if kind >= KINDS:
                raise BtfError(f"a type of kind {kind}, which is not known here")
            at += TYPE.size + FIXED.get(kind, 0) + EACH.get(kind, 0) * (info & 0xFFFF)

    @classmethod
    def of_kernel(cls, path: Path = VMLINUX) -> Btf:
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise BtfError(f"{path}: {error.strerror}") from None
        except BtfError as error:
            raise BtfError(f"{path}: {error}") from None

    def offset(self, structure: str, field: str) -> int:
        """Bytes from the beginning of the structure to the field; anonymous structures and unions are looked into."""
        wanted, name = structure.encode(), field.encode()
        for number in range(1, len(self._at)):
            at = self._at[number]
            kind = self._types[at + 7] & 0x1F
            if kind == STRUCT and self._name(TYPE.unpack_from(self._types, at)[0]) == wanted:
                bits = self._bits(number, name)
                if bits is not None and bits % 8 == 0:
                    return bits // 8
        raise BtfError(f"this kernel has no struct {structure} with a field {field}")

    def _bits(self, number: int, field: bytes) -> int | None:
        at = self._at[number]
        _, info, _ = TYPE.unpack_from(self._types, at)
        if info >> 24 & 0x1F not in (STRUCT, UNION):
            return None
        for n in range(info & 0xFFFF):
            name, kind, offset = MEMBER.unpack_from(self._types, at + TYPE.size + n * MEMBER.size)
            bits: int = offset & 0xFFFFFF if info >> 31 else offset  # the upper eight are the size of a bit field
            if name and self._name(name) == field:
                return bits
            if not name and 0 < kind < len(self._at) and (inner := self._bits(kind, field)) is not None:
                return bits + inner
        return None

    def _name(self, offset: int) -> bytes:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset:end]
