"""Offsets are what the kernel says they are, and a description that is none is refused."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess

import pytest

from afterburnerd.ctl.trace.btf import HEADER, MAGIC, VMLINUX, Btf, BtfError


class Made:
    """A description put together by hand."""

    def __init__(self) -> None:
        self.strings = bytearray(b"\0")
        self.types = b""

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(
        self, kind: int, name: str = "", size: int = 0, members: tuple[tuple[str, int, int], ...] = (), flag: int = 0
    ) -> None:
        packed = b"".join(struct.pack("<III", self.name(n), t, o) for n, t, o in members)
        self.types += struct.pack("<III", self.name(name), flag << 31 | kind << 24 | len(members), size) + packed

    def data(self) -> bytes:
        head = HEADER.pack(MAGIC, 1, 0, HEADER.size, 0, len(self.types), len(self.types), len(self.strings))
        return head + self.types + bytes(self.strings)


def made() -> Made:
    m = Made()
    m.add(1, "int", 4)  # 1, and 4 bytes behind it
    m.types += bytes(4)
    m.add(5, "", 8, (("x", 1, 0), ("y", 1, 0)))  # 2: anonymous union
    m.add(4, "", 16, (("a", 1, 0), ("", 2, 64)))  # 3: anonymous struct with it at byte 8
    m.add(4, "buffer", 64, (("head", 1, 128), ("", 3, 256), ("flag", 1, 3 << 24 | 35), ("last", 1, 480)), flag=1)  # 4
    m.add(4, "device", 8, (("head", 1, 32),))  # 5
    return m


def test_fields_are_found_also_in_anonymous_parts() -> None:
    btf = Btf(made().data())
    assert btf.offset("buffer", "head") == 16
    assert btf.offset("buffer", "a") == 32
    assert (btf.offset("buffer", "x"), btf.offset("buffer", "y")) == (40, 40)
    assert btf.offset("buffer", "last") == 60
    assert btf.offset("device", "head") == 4


@pytest.mark.parametrize(
    ("structure", "field"), [("buffer", "nothing"), ("nothing", "head"), ("int", "head"), ("buffer", "flag")]
)
def test_what_is_not_there_is_told(structure: str, field: str) -> None:
    with pytest.raises(BtfError, match=f"no struct {structure} with a field {field}"):
        Btf(made().data()).offset(structure, field)


def test_what_is_no_description_is_refused() -> None:
    data = made().data()
    for wrong in (b"", data[:10], b"\xeb\x9f" + data[2:], data[:-1]):
        with pytest.raises(BtfError):
            Btf(wrong)
    m = made()
    m.add(25, "of the future")
    with pytest.raises(BtfError, match="kind 25"):
        Btf(m.data())


@pytest.mark.skipif(not VMLINUX.exists() or not shutil.which("bpftool"), reason="needs the kernel's BTF and bpftool")
def test_the_kernel_is_read_as_bpftool_reads_it() -> None:
    raw = subprocess.run(
        ["bpftool", "btf", "dump", "file", VMLINUX, "format", "raw"], capture_output=True, text=True
    ).stdout
    if not raw:
        pytest.skip("this bpftool cannot read this kernel's BTF")
    btf = Btf.of_kernel()
    for structure, field in (("sk_buff", "dev"), ("sk_buff", "head"), ("net_device", "ifindex"), ("sk_buff", "len")):
        body = re.search(rf"^\[\d+\] STRUCT '{structure}' size=.*\n((?:\t.*\n)+)", raw, re.MULTILINE)
        assert body
        bits = re.search(rf"^\t'{field}' type_id=\d+ bits_offset=(\d+)", body[1], re.MULTILINE)
        if bits:  # else in an anonymous part
            assert btf.offset(structure, field) * 8 == int(bits[1])
    headers = re.search(
        r"^\[\d+\] STRUCT '\(anon\)' size=.*\n(?:\t.*\n)*?\t'transport_header' .* bits_offset=(\d+).*\n\t'network_header' .* bits_offset=(\d+)",
        raw,
        re.MULTILINE,
    )
    if headers:
        apart = btf.offset("sk_buff", "network_header") - btf.offset("sk_buff", "transport_header")
        assert apart * 8 == int(headers[2]) - int(headers[1])
