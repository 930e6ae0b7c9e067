"""Events of the engine become qlog that holds to its schema, and nothing that is secret gets into it."""

from __future__ import annotations

from typing import Any

import pytest

from afterburnerd.abi.layout import QuicClose, QuicEvent, QuicEventKind, QuicQlog, QuicQlogFrame, QuicQlogMetrics
from afterburnerd.quic import qlog
from tests import qlog_schema

MS = 1_000_000

# Heads of frames as they lie on the wire (RFC 9000 19), how much data was behind, and what a reader is to see.
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("00", 9, {"frame_type": "padding", "raw": {"length": 10}}),
    ("01", 0, {"frame_type": "ping"}),
    ("02 19 08 00 05", 0, {"frame_type": "ack", "ack_delay": 0.064, "acked_ranges": [[20, 25]]}),
    (
        "03 19 00 01 00 03 02 07 08 09",
        0,
        {"frame_type": "ack", "ack_delay": 0.0, "acked_ranges": [[25], [18, 20]], "ect0": 7, "ect1": 8, "ce": 9},
    ),
    ("04 04 4539 40c8", 0, {"frame_type": "reset_stream", "stream_id": 4, "error_code": 0x539, "final_size": 200}),
    ("05 04 02", 0, {"frame_type": "stop_sending", "stream_id": 4, "error_code": 2}),
    ("06 40ff 4064", 100, {"frame_type": "crypto", "offset": 255, "length": 100}),
    ("07 20", 32, {"frame_type": "new_token", "token": {"type": "retry", "raw": {"length": 32}}}),
    ("0b 02 40eb", 235, {"frame_type": "stream", "stream_id": 2, "offset": 0, "length": 235, "fin": True}),
    ("0c 06 44d0", 1200, {"frame_type": "stream", "stream_id": 6, "offset": 1232, "length": 1200, "fin": False}),
    ("10 80010000", 0, {"frame_type": "max_data", "maximum": 65536}),
    ("11 04 05", 0, {"frame_type": "max_stream_data", "stream_id": 4, "maximum": 5}),
    ("13 4200", 0, {"frame_type": "max_streams", "stream_type": "unidirectional", "maximum": 512}),
    ("14 05", 0, {"frame_type": "data_blocked", "limit": 5}),
    ("15 04 05", 0, {"frame_type": "stream_data_blocked", "stream_id": 4, "limit": 5}),
    ("16 05", 0, {"frame_type": "streams_blocked", "stream_type": "bidirectional", "limit": 5}),
    (
        "18 03 01 08 1122334455667788" + "ee" * 16,
        0,
        {
            "frame_type": "new_connection_id", "sequence_number": 3, "retire_prior_to": 1, "connection_id_length": 8,
            "connection_id": "1122334455667788",
        },
    ),
    ("19 03", 0, {"frame_type": "retire_connection_id", "sequence_number": 3}),
    ("1a 0102030405060708", 0, {"frame_type": "path_challenge", "data": "0102030405060708"}),
    (
        "1c 0a 08 03 626164",
        0,
        {
            "frame_type": "connection_close", "error_space": "transport", "error_code": 10, "raw_error_code": 10,
            "trigger_frame_type": 8, "reason": "bad",
        },
    ),
    (
        "1d 00 03 627965",
        0,
        {
            "frame_type": "connection_close", "error_space": "application", "error_code": 0, "raw_error_code": 0,
            "reason": "bye",
        },
    ),
    ("1e", 0, {"frame_type": "handshake_done"}),
    ("31 05", 5, {"frame_type": "datagram", "length": 5}),
]  # fmt: skip


def heads(*cases: tuple[str, int, dict[str, Any]]) -> bytes:
    found = b""
    for text, data, _ in cases:
        head = bytes.fromhex(text)
        found += QuicQlogFrame(len=len(head), data=data).pack() + head
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[2]['frame_type']}-{c[0][:2]}")
def test_each_frame_is_read_as_it_lies_on_the_wire(case: tuple[str, int, dict[str, Any]]) -> None:
    assert list(qlog.frames(heads(case))) == [case[2]]


def qevent(code: QuicQlog, time_ms: float = 5.0, **fields: int) -> QuicEvent:
    return QuicEvent(conn=7, time_ns=int(time_ms * MS), kind=QuicEventKind.QLOG, code=code, **fields)


def test_a_whole_file_holds_to_the_schema() -> None:
    writer = qlog.Writer(is_client=True, start_ns=4 * MS)
    text = qlog.header("connection 7", is_client=True, reference_ms=1.5e12, group="7",
                       peer=("2001:db8::1", 8009), local=("2001:db8::2", 4000))  # fmt: skip
    text += writer.event(qevent(QuicQlog.SENT, number=12, token=1200, by=1), heads(*CASES))
    text += writer.event(qevent(QuicQlog.RECEIVED, 6, number=3, token=50), heads(CASES[2]))
    text += writer.event(qevent(QuicQlog.LOST, 7, number=11, token=1200), b"")
    text += writer.event(qevent(QuicQlog.LOST, 7, number=10, token=1200, by=1), b"")
    text += writer.event(qevent(QuicQlog.MISSED, 8, number=40), b"")
    text += writer.event(QuicEvent(kind=QuicEventKind.KEY_UPDATE, time_ns=8 * MS, number=1, code=1), b"")
    text += writer.closed(9 * MS, QuicClose.ERROR, 10, "flow control", is_app=False)
    header, events = qlog_schema.read(text)
    assert header["trace"]["vantage_point"]["type"] == "client"
    assert [(e["name"].split(":")[1], e["time"]) for e in events] == [
        ("packet_sent", 1), ("packet_received", 2), ("packet_lost", 3), ("packet_lost", 3), ("warning", 4),
        ("key_updated", 4), ("key_updated", 4), ("connection_closed", 5),
    ]  # fmt: skip
    sent = events[0]["data"]
    assert sent["header"] == {"packet_type": "1RTT", "packet_number": 12, "key_phase": "1"}
    assert sent["raw"] == {"length": 1200} and len(sent["frames"]) == len(CASES)
    assert [e["data"]["trigger"] for e in events[2:4]] == ["reordering_threshold", "time_threshold"]
    assert events[-1]["data"] == {
        "owner": "local", "connection_code": 10, "reason": "flow control", "trigger": "error",
    }  # fmt: skip
    assert "ee" * 16 not in text.decode(), "a stateless reset token"


def test_metrics_tell_what_changed() -> None:
    writer = qlog.Writer(is_client=False, start_ns=0)
    unknown = 0xFFFF_FFFF_FFFF_FFFF
    first = QuicQlogMetrics(srtt_ns=2 * MS, min_rtt_ns=unknown, cwnd=1000)
    texts = [
        writer.event(qevent(QuicQlog.METRICS), m.pack())
        for m in (first, first, QuicQlogMetrics(srtt_ns=2 * MS, min_rtt_ns=MS, cwnd=900))
    ]
    assert texts[1] == b""
    whole = qlog.header("", is_client=False, reference_ms=0, group="", peer=("", 0), local=("", 0)) + b"".join(texts)
    _, events = qlog_schema.read(whole)
    assert "min_rtt" not in events[0]["data"] and events[0]["data"]["smoothed_rtt"] == 2
    assert events[1]["data"] == {"min_rtt": 1.0, "congestion_window": 900}


def test_the_schema_notices_what_is_wrong() -> None:
    head = qlog.header("", is_client=False, reference_ms=0, group="", peer=("", 0), local=("", 0))
    for wrong in (
        head[1:],
        head + qlog.record({"time": 0, "name": "transport:packet_guessed", "data": {}}),
        head + qlog.record({"time": -1, "name": "loglevel:warning", "data": {"message": ""}}),
        head + qlog.record({"time": 0, "name": "recovery:packet_lost", "data": {"trigger": ""}}),
    ):
        with pytest.raises((AssertionError, KeyError)):
            qlog_schema.read(wrong)
