"""qlog: what a connection did, as the engine's events tell it, in the form that tools for QUIC read.

    event QLOG (heads of frames, no data) ─┐
    event KEY_UPDATE, Closed ──────────────┴─► records ─► JSON text sequence (RFC 7464) of qlog 0.3

The main schema is draft-ietf-quic-qlog-main-schema-08, the events are those of draft-ietf-quic-qlog-quic-events-08. Times are in
milliseconds since the first line's `reference_time`. Stateless reset tokens, tokens for new connections and data of streams are
not written: a qlog may be given to somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..abi.layout import QuicClose, QuicEvent, QuicEventKind, QuicQlog, QuicQlogFrame, QuicQlogMetrics

RECORD_SEPARATOR = b"\x1e"
MS = 1e6  # nanoseconds
UNKNOWN_RTT = 0xFFFF_FFFF_FFFF_FFFF  # min_rtt_ns before the first sample

Fields = dict[str, Any]


def record(document: Fields) -> bytes:
    return RECORD_SEPARATOR + msgspec.json.encode(document) + b"\n"


def header(
    title: str, *, is_client: bool, reference_ms: float, group: str, peer: tuple[str, int], local: tuple[str, int]
) -> bytes:
    """The first record of a file."""
    return record(
        {
            "qlog_version": "0.3",
            "qlog_format": "JSON-SEQ",
            "title": title,
            "trace": {
                "vantage_point": {"name": "afterburner", "type": "client" if is_client else "server"},
                "common_fields": {
                    "group_id": group,
                    "time_format": "relative",
                    "reference_time": reference_ms,
                    "protocol_type": ["QUIC"],
                },
                "configuration": {"peer": f"{peer[0]} {peer[1]}", "local": f"{local[0]} {local[1]}"},
            },
        }
    )


class Writer:
    """Makes records of one connection's events; `start_ns` is CLOCK_MONOTONIC at the reference time."""

    def __init__(self, *, is_client: bool, start_ns: int) -> None:
        self._is_client = is_client
        self._start_ns = start_ns
        self._metrics: Fields = {}

    def event(self, event: QuicEvent, body: bytes) -> bytes:
        """b"" for what says nothing new."""
        if event.kind == QuicEventKind.KEY_UPDATE:
            return self._key_update(event)
        if event.kind != QuicEventKind.QLOG:
            return b""
        what = event.code
        if what in (QuicQlog.SENT, QuicQlog.RECEIVED):
            name = "packet_sent" if what == QuicQlog.SENT else "packet_received"
            data: Fields = {
                "header": {"packet_type": "1RTT", "packet_number": event.number, "key_phase": str(event.by)},
                "raw": {"length": event.token},
                "frames": list(frames(body)),
            }
            if event.is_app:
                data["frames"].append({"frame_type": "unknown", "raw_frame_type": 0, "note": "and more"})
            return self._record(event.time_ns, f"transport:{name}", data)
        if what == QuicQlog.LOST:
            return self._record(
                event.time_ns,
                "recovery:packet_lost",
                {
                    "header": {"packet_type": "1RTT", "packet_number": event.number},
                    "trigger": "time_threshold" if event.by else "reordering_threshold",
                },
            )
        if what == QuicQlog.METRICS:
            return self._metrics_updated(event.time_ns, QuicQlogMetrics.unpack(body))
        if what == QuicQlog.MISSED:
            return self._record(
                event.time_ns, "loglevel:warning", {"message": f"{event.number} events are missing here"}
            )
        return b""

    def closed(self, time_ns: int, by: QuicClose | None, code: int, reason: str, *, is_app: bool) -> bytes:
        """The last record."""
        triggers = {QuicClose.IDLE: "idle_timeout", QuicClose.RESET: "stateless_reset", QuicClose.LOCAL: "application",
                    QuicClose.PEER: "application", QuicClose.ERROR: "error", None: "error"}  # fmt: skip
        return self._record(
            time_ns,
            "connectivity:connection_closed",
            {
                "owner": "remote" if by in (QuicClose.PEER, QuicClose.RESET) else "local",
                "application_code" if is_app else "connection_code": code,
                "reason": reason,
                "trigger": "clean"
                if by in (QuicClose.LOCAL, QuicClose.PEER) and not code
                else triggers.get(by, "error"),
            },
        )

    def _key_update(self, event: QuicEvent) -> bytes:
        return b"".join(
            self._record(
                event.time_ns,
                "security:key_updated",
                {
                    "key_type": f"{side}_1rtt_secret",
                    "generation": event.number,
                    "trigger": "local_update" if event.code else "remote_update",
                },
            )
            for side in ("client", "server")
        )

    def _metrics_updated(self, time_ns: int, m: QuicQlogMetrics) -> bytes:
        """Only what changed."""
        now: Fields = {
            "smoothed_rtt": m.srtt_ns / MS,
            "rtt_variance": m.rttvar_ns / MS,
            "latest_rtt": m.latest_rtt_ns / MS,
            "congestion_window": m.cwnd,
            "bytes_in_flight": m.in_flight,
            "pto_count": m.pto_count,
        }
        if m.min_rtt_ns != UNKNOWN_RTT:
            now["min_rtt"] = m.min_rtt_ns / MS
        changed = {k: v for k, v in now.items() if self._metrics.get(k) != v}
        self._metrics.update(changed)
        return self._record(time_ns, "recovery:metrics_updated", changed) if changed else b""

    def _record(self, time_ns: int, name: str, data: Fields) -> bytes:
        return record({"time": max(time_ns - self._start_ns, 0) / MS, "name": name, "data": data})


def frames(body: bytes) -> Iterator[Fields]:
    """The frames of a packet."""
    at = 0
    while at + QuicQlogFrame.SIZE <= len(body):
        head = QuicQlogFrame.unpack(body, at)
        at += QuicQlogFrame.SIZE
        yield frame(body[at : at + head.len], head.data)
        at += head.len


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        """A variable-length integer (RFC 9000 16)."""
        size = 1 << (self.data[self.at] >> 6)
        value = int.from_bytes(self.data[self.at : self.at + size], "big") & ((1 << (8 * size - 2)) - 1)
        self.at += size
        return value

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]


def frame(head: bytes, data: int) -> Fields:
    """One frame from its head, and how many bytes of data it had. The engine has checked it."""
    r = _Reader(head)
    kind = r.number()
    if 0x08 <= kind <= 0x0F:
        found: Fields = {"frame_type": "stream", "stream_id": r.number()}
        found["offset"] = r.number() if kind & 4 else 0
        return {**found, "length": data, "fin": bool(kind & 1)}
    make = FRAMES.get(kind)
    if make is None:
        return {"frame_type": "unknown", "raw_frame_type": kind, "raw": {"length": len(head) + data}}
    return make(r, data, kind)


def _ack(r: _Reader, _: int, kind: int) -> Fields:
    largest, delay, count, first = r.number(), r.number(), r.number(), r.number()
    low = largest - first
    ranges = [[low, largest]]
    for _i in range(count):
        high = low - r.number() - 2
        low = high - r.number()
        ranges.append([low, high])
    found: Fields = {
        "frame_type": "ack",
        "ack_delay": delay * 8 / 1000,  # exponent 3, the default of both sides here
        "acked_ranges": [[a] if a == b else [a, b] for a, b in ranges],
    }
    if kind == 3:
        found |= {"ect0": r.number(), "ect1": r.number(), "ce": r.number()}
    return found


def _plain(name: str, *fields: str, **fixed: Any) -> Callable[[_Reader, int, int], Fields]:
    return lambda r, data, kind: {"frame_type": name, **fixed, **{field: r.number() for field in fields}}


def _padding(_r: _Reader, data: int, _kind: int) -> Fields:
    return {"frame_type": "padding", "raw": {"length": data + 1}}


def _crypto(r: _Reader, data: int, _kind: int) -> Fields:
    return {"frame_type": "crypto", "offset": r.number(), "length": data}


def _new_cid(r: _Reader, _data: int, _kind: int) -> Fields:
    sequence, retire, length = r.number(), r.number(), r.take(1)[0]
    return {
        "frame_type": "new_connection_id",
        "sequence_number": sequence,
        "retire_prior_to": retire,
        "connection_id_length": length,
        "connection_id": r.take(length).hex(),
    }


def _path(name: str) -> Callable[[_Reader, int, int], Fields]:
    return lambda r, data, kind: {"frame_type": name, "data": r.take(8).hex()}


def _close(r: _Reader, _data: int, kind: int) -> Fields:
    code = r.number()
    found: Fields = {
        "frame_type": "connection_close",
        "error_space": "application" if kind == 0x1D else "transport",
        "error_code": code,
        "raw_error_code": code,
    }
    if kind == 0x1C:
        found["trigger_frame_type"] = r.number()
    return {**found, "reason": r.take(r.number()).decode(errors="replace")}


FRAMES: dict[int, Callable[[_Reader, int, int], Fields]] = {
    0x00: _padding,
    0x01: _plain("ping"),
    0x02: _ack,
    0x03: _ack,
    0x04: _plain("reset_stream", "stream_id", "error_code", "final_size"),
    0x05: _plain("stop_sending", "stream_id", "error_code"),
    0x06: _crypto,
    0x07: lambda r, data, kind: {"frame_type": "new_token", "token": {"type": "retry", "raw": {"length": data}}},
    0x10: _plain("max_data", "maximum"),
    0x11: _plain("max_stream_data", "stream_id", "maximum"),
    0x12: _plain("max_streams", "maximum", stream_type="bidirectional"),
    0x13: _plain("max_streams", "maximum", stream_type="unidirectional"),
    0x14: _plain("data_blocked", "limit"),
    0x15: _plain("stream_data_blocked", "stream_id", "limit"),
    0x16: _plain("streams_blocked", "limit", stream_type="bidirectional"),
    0x17: _plain("streams_blocked", "limit", stream_type="unidirectional"),
    0x18: _new_cid,
    0x19: _plain("retire_connection_id", "sequence_number"),
    0x1A: _path("path_challenge"),
    0x1B: _path("path_response"),
    0x1C: _close,
    0x1D: _close,
    0x1E: _plain("handshake_done"),
    0x30: lambda r, data, kind: {"frame_type": "datagram", "length": data},
    0x31: lambda r, data, kind: {"frame_type": "datagram", "length": data},
}
