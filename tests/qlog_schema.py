"""What a qlog file must look like, by draft-ietf-quic-qlog-main-schema-08 and -quic-events-08, as far as we write any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NUMBER = (int, float)
HEADER = {"packet_type": str, "packet_number": int}
EVENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # required and optional fields of `data`
    "transport:packet_sent": ({"header": dict, "raw": dict, "frames": list}, {}),
    "transport:packet_received": ({"header": dict, "raw": dict, "frames": list}, {}),
    "recovery:packet_lost": ({"header": dict, "trigger": str}, {}),
    "recovery:metrics_updated": (
        {},
        {
            "smoothed_rtt": NUMBER, "min_rtt": NUMBER, "latest_rtt": NUMBER, "rtt_variance": NUMBER, "pto_count": int,
            "congestion_window": int, "bytes_in_flight": int,
        },
    ),
    "security:key_updated": ({"key_type": str, "generation": int, "trigger": str}, {}),
    "connectivity:connection_closed": (
        {"owner": str, "trigger": str},
        {"connection_code": int, "application_code": int, "reason": str},
    ),
    "loglevel:warning": ({"message": str}, {}),
}  # fmt: skip
FRAMES: dict[str, dict[str, Any]] = {
    "padding": {"raw": dict},
    "ping": {},
    "ack": {"ack_delay": NUMBER, "acked_ranges": list},
    "reset_stream": {"stream_id": int, "error_code": int, "final_size": int},
    "stop_sending": {"stream_id": int, "error_code": int},
    "crypto": {"offset": int, "length": int},
    "new_token": {"token": dict},
    "stream": {"stream_id": int, "offset": int, "length": int, "fin": bool},
    "max_data": {"maximum": int},
    "max_stream_data": {"stream_id": int, "maximum": int},
    "max_streams": {"stream_type": str, "maximum": int},
    "data_blocked": {"limit": int},
    "stream_data_blocked": {"stream_id": int, "limit": int},
    "streams_blocked": {"stream_type": str, "limit": int},
    "new_connection_id": {"sequence_number": int, "retire_prior_to": int, "connection_id": str},
    "retire_connection_id": {"sequence_number": int},
    "path_challenge": {"data": str},
    "path_response": {"data": str},
    "connection_close": {"error_space": str, "error_code": int, "reason": str},
    "handshake_done": {},
    "datagram": {"length": int},
}


def read(data: bytes | Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and events; AssertionError where the form is broken. Strict JSON: no NaN, no lone text."""
    raw = data.read_bytes() if isinstance(data, Path) else data
    assert raw[:1] == b"\x1e", "a JSON text sequence begins with a record separator (RFC 7464)"
    records = []
    for text in raw[1:].split(b"\x1e"):
        assert text.endswith(b"\n"), f"a record without its line end: {text[-80:]!r}"
        records.append(json.loads(text, parse_constant=_refuse))
    return _header(records[0]), [_event(e) for e in records[1:]]


def _refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def _header(h: dict[str, Any]) -> dict[str, Any]:
    assert (h["qlog_version"], h["qlog_format"]) == ("0.3", "JSON-SEQ")
    trace = h["trace"]
    assert trace["vantage_point"]["type"] in ("client", "server")
    assert trace["common_fields"]["time_format"] == "relative"
    assert isinstance(trace["common_fields"]["reference_time"], NUMBER)
    return h


def _event(e: dict[str, Any]) -> dict[str, Any]:
    assert set(e) == {"time", "name", "data"} and isinstance(e["time"], NUMBER) and e["time"] >= 0, e
    required, optional = EVENTS[e["name"]]
    data = e["data"]
    assert set(required) <= set(data) <= set(required) | set(optional), e
    for name, value in data.items():
        assert isinstance(value, {**required, **optional}[name]), (name, e)
    for name, kind in HEADER.items() if "header" in data else ():
        assert isinstance(data["header"][name], kind), e
    for frame in data.get("frames", ()):
        fields = FRAMES[frame["frame_type"]]
        assert set(fields) <= set(frame), frame
        assert all(isinstance(frame[n], kind) for n, kind in fields.items()), frame
        for part in frame.get("acked_ranges", ()):
            assert 1 <= len(part) <= 2 and part[0] <= part[-1], frame
    return e
