"""Records of the tracing program become names, sentences and JSON."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import msgspec
import pytest

from afterburnerd.ctl.trace.events import RECORD, Names, decode, line, reasons_of, text
from afterburnerd.ctl.trace.program import SOURCE

FORMAT = 'print fmt: "reason: %s", __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 3, "NO_SOCKET" })'
NAMES = Names({2: "eth0", 3: "eth1"}.__getitem__, {0xFFFF: "udp_rcv"}.__getitem__, reasons_of(FORMAT), 1_000)


def record(kind: int, **fields: Any) -> bytes:
    order = (
        "time_ns", "location", "kind", "ifindex", "action", "error", "reason", "program", "to", "map", "index", "drops",
        "family", "sport", "dport", "pad",
    )  # fmt: skip
    values = [5 if name == "time_ns" else kind if name == "kind" else fields.pop(name, 0) for name in order]
    packed = RECORD.pack(*values, fields.pop("saddr", bytes(16)), fields.pop("daddr", bytes(16)))
    assert not fields
    return packed


def four(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed + bytes(12)


def test_the_record_is_that_of_the_program() -> None:
    """Sizes of C and Python agree: no padding hides between the fields."""
    body = re.search(r"struct event \{(.*?)\n\};", SOURCE.read_text(), re.DOTALL)
    assert body
    sizes = {"u64": 8, "u32": 4, "s32": 4, "u16": 2, "u8": 1}
    total = 0
    for kind, names in re.findall(r"^\s*(u64|u32|s32|u16|u8) ([^;]+);", body[1], re.MULTILINE):
        for name in names.split(","):
            times = re.search(r"\[(\d+)\]", name)
            assert total % sizes[kind] == 0, name
            total += sizes[kind] * (int(times[1]) if times else 1)
    assert total == RECORD.size and total % 8 == 0


def test_a_failed_redirect_names_queue_error_and_what_it_means() -> None:
    event = decode(record(2, ifindex=2, action=4, error=-105, program=7, map=12, index=3), NAMES)
    assert (event.time_ns, event.event, event.interface, event.action) == (1005, "xdp_redirect_err", "eth0", "redirect")
    assert (event.error, event.index, event.program) == ("ENOBUFS", 3, 7)
    assert text(event) == (
        "not redirected to entry 3 of map 12: ENOBUFS (No buffer space available); its RX ring is full: the worker is behind, "
        "or stands still"
    )
    # Elsewhere ENOBUFS has another meaning, and entry 0 is an entry.
    assert decode(record(2, ifindex=2, action=4, error=-105, to=3), NAMES).hint == ""
    assert decode(record(2, ifindex=2, action=4, error=-105, map=1, index=0), NAMES).index == 0
    assert text(decode(record(2, ifindex=2, action=4, error=-22, to=3), NAMES)).startswith(
        "not redirected to eth1: EINVAL"
    )
    assert "errno" not in text(decode(record(2, ifindex=2, action=4, error=-9999, to=3), NAMES))


def test_an_exception_and_a_full_device() -> None:
    event = decode(record(1, ifindex=2, action=3, program=7), NAMES)
    assert (event.event, event.action) == ("xdp_exception", "tx")
    assert text(event) == "program 7 answered tx, and the frame was given up"
    event = decode(record(3, ifindex=2, action=4, to=3, drops=5, error=-100), NAMES)
    assert text(event) == "5 not sent on eth1: ENETDOWN (Network is down)"


def test_a_dropped_datagram_has_the_kernels_reason() -> None:
    event = decode(
        record(
            4,
            ifindex=2,
            reason=3,
            location=0xFFFF,
            family=4,
            sport=5,
            dport=8001,
            saddr=four("192.0.2.1"),
            daddr=four("192.0.2.2"),
        ),
        NAMES,
    )
    assert text(event) == "192.0.2.1:5 > 192.0.2.2:8001 dropped: NO_SOCKET in udp_rcv"
    assert line(event).split()[1:3] == ["kfree_skb", "eth0"]
    assert event.action == ""
    six = decode(record(4, family=6, dport=8001, reason=99, daddr=ipaddress.IPv6Address("fd00::2").packed), NAMES)
    assert (six.destination, six.reason, six.interface) == ("[fd00::2]:8001", "99", "")
    assert "no reason told" in text(decode(record(4, family=4), NAMES))


def test_json_leaves_out_what_does_not_apply() -> None:
    told = msgspec.json.decode(msgspec.json.encode(decode(record(1, ifindex=2, action=0, program=7), NAMES)))
    assert told == {
        "time_ns": 1005, "event": "xdp_exception", "interface": "eth0", "ifindex": 2, "action": "aborted", "program": 7,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [9, 0])
def test_a_kind_of_the_future_does_not_stop_the_rest(kind: int) -> None:
    assert decode(record(kind), NAMES).event == str(kind)
