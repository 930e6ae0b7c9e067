"""A peer that says anything: it holds the keys, seals whatever frames it is told to, and reads what the engine answers.

    e = Victim()                         an engine with one adopted connection, no handshake needed: the secrets are made up
    e.say(wire.ping())                   a packet, and what the engine answers, as frames
    e.closed                             None, or the CONNECTION_CLOSE that it sent

The packets are sealed by `seal.py`, the frames made by `wire.py`; nothing of the engine's own code is used against it.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from afterburnerd.abi.layout import (
    Path,
    QuicAdopt,
    QuicCid,
    QuicEvent,
    QuicEventKind,
    QuicRefusal,
    QuicRole,
)
from afterburnerd.native import lib

from . import seal, wire
from .network import MS

LOCAL, REMOTE = bytes(10) + b"\xff\xff\x0a\x00\x00\x01", bytes(10) + b"\xff\xff\x0a\x00\x00\x02"
LOCAL_PORT, REMOTE_PORT = 4000, 8001
ID = 7
NEVER = (1 << 64) - 1

# What the engine's end promises, and what the peer does; tests change what they are about.
OURS: dict[str, int] = {
    "max_idle_timeout": 30_000,
    "max_udp_payload_size": 1472,
    "initial_max_data": 10_000,
    "initial_max_stream_data_bidi_local": 3_000,
    "initial_max_stream_data_bidi_remote": 2_000,
    "initial_max_stream_data_uni": 1_000,
    "initial_max_streams_bidi": 4,
    "initial_max_streams_uni": 8,
    "ack_delay_exponent": 3,
    "max_ack_delay": 25,
    "active_connection_id_limit": 4,
    "max_datagram_frame_size": 1200,
}
THEIRS: dict[str, int] = {
    "max_idle_timeout": 30_000,
    "max_udp_payload_size": 1472,
    "initial_max_data": 100_000,
    "initial_max_stream_data_bidi_local": 10_000,
    "initial_max_stream_data_bidi_remote": 10_000,
    "initial_max_stream_data_uni": 10_000,
    "initial_max_streams_bidi": 10,
    "initial_max_streams_uni": 100,
    "ack_delay_exponent": 3,
    "max_ack_delay": 25,
    "active_connection_id_limit": 4,
    "max_datagram_frame_size": 1200,
}


def cid(owner: int, sequence: int) -> bytes:
    return bytes([0xA0 + owner, sequence]) + bytes(6)


def token(owner: int, sequence: int) -> bytes:
    return bytes([0x70 + owner, sequence]) * 8


def packed(owner: int, sequence: int, with_token: bool = True) -> QuicCid:
    return QuicCid(
        seq=sequence, len=8, has_token=int(with_token), cid=cid(owner, sequence), token=token(owner, sequence)
    )


class Victim:
    """The engine, and its peer's keys. `role` is the engine's."""

    def __init__(
        self,
        role: QuicRole = QuicRole.SERVER,
        *,
        suite: int = seal.AES128,
        ours: dict[str, Any] | None = None,
        theirs: dict[str, Any] | None = None,
        raw_theirs: bytes | None = None,
        confirmed: bool = True,
        next_pn: int = 10,
        local_cids: int = 1,
        mtu: int = 1472,
        seed: int = 1,
        expect: QuicRefusal = QuicRefusal.NONE,
        settle: bool = True,
        state: dict[str, Any] | None = None,  # more of what is handed over
        **config: int,
    ) -> None:
        rng = random.Random(seed)
        self.now = 1_000 * MS
        self.role = role
        self.engine = lib.QuicEngine(
            **{
                "connections": 4, "messages": 256, "packets": 4096, "streams": 32, "stream_bytes": 4096, "uni_window": 64,
                "bidi_window": 64, "no_mtu_discovery": 1, "seed": seed, **config,
            }
        )  # fmt: skip
        secret_bytes = seal.hash_bytes(suite)
        mine, its = rng.randbytes(secret_bytes), rng.randbytes(secret_bytes)
        self.sealer = seal.Sealer(suite, mine, cid(0, 0))
        self.opener = seal.Opener(suite, its, 8, next_pn)
        server = role == QuicRole.SERVER
        extra_ours: dict[str, Any] = {"initial_source_connection_id": cid(0, 0)}
        extra_theirs: dict[str, Any] = {"initial_source_connection_id": cid(1, 0)}
        (extra_ours if server else extra_theirs).update(
            original_destination_connection_id=b"original", stateless_reset_token=token(0 if server else 1, 0)
        )
        local = wire.parameters(**{**OURS, **extra_ours, **(ours or {})})
        remote = wire.parameters(**{**THEIRS, **extra_theirs, **(theirs or {})}) if raw_theirs is None else raw_theirs
        self.path = Path(
            local=LOCAL, remote=REMOTE, local_port=LOCAL_PORT, remote_port=REMOTE_PORT, dmac=b"\x02" * 6, smac=b"\x04" * 6,
            family=4, ttl=64, mtu=mtu,
        )  # fmt: skip
        self.adopted = QuicAdopt(
            path=self.path,
            local_cids=tuple(packed(0, i) for i in range(local_cids)),
            peer_cids=(packed(1, 0, not server),),
            id=ID,
            version=1,
            role=role,
            suite=suite,
            confirmed=int(confirmed or server),
            tx_secret=its,
            rx_secret=mine,
            next_pn=next_pn,
            local_count=local_cids,
            peer_count=1,
            local_tparams_len=len(local),
            remote_tparams_len=len(remote),
            local_tparams=local,
            remote_tparams=remote,
            **(state or {}),
        )
        self.frames: list[wire.Frame] = []  # everything that the engine sent
        self.sent: list[tuple[int, list[wire.Frame]]] = []  # the same, by packet
        self.sent_to: list[int] = []  # port that each packet went to
        self.marked = 0  # packets sent with ECT(0)
        self.bytes_to: Counter[int] = Counter()  # bytes of datagrams by that port
        self.told: list[tuple[Any, ...]] = []  # everything that its sink heard, but events
        self.events: list[tuple[QuicEventKind, QuicEvent, bytes]] = []
        self.refusal = QuicRefusal(self.engine.adopt(self.adopted.pack(), self.now))
        assert self.refusal == expect, f"adoption: {self.refusal.name}"
        if settle and expect == QuicRefusal.NONE:
            self.settle()

    # --- the engine's side ---

    def drain(self, packets: int = NEVER) -> list[wire.Frame]:
        """Everything that it wants to send now (or so many packets of it), opened; the events that it told are gathered."""
        fresh: list[wire.Frame] = []
        while packets and (out := self.engine.tx(self.now, min(packets, 16))):
            packets -= len(out)
            for data, path, conn, ecn, _probe in out:
                self.marked += ecn == 2
                assert conn == ID
                number, payload = self.opener.open(data)
                frames = wire.parse(payload)
                self.sent.append((number, frames))
                self.sent_to.append(Path.unpack(path).remote_port)
                self.bytes_to[self.sent_to[-1]] += len(data)
                fresh += frames
        self.frames += fresh
        for item in self.engine.events():
            if item[0] == "event":
                event = QuicEvent.unpack(item[2])
                self.events.append((QuicEventKind(event.kind), event, item[3]))
            else:
                self.told.append(item)
        return fresh

    def wait(self, span: int) -> list[wire.Frame]:
        """Lets virtual time pass, with every timer that is due on the way."""
        end, fresh, turns = self.now + span, self.drain(), 0
        while (due := self.engine.deadline()) <= end:
            turns += 1
            assert turns < 10_000, f"a timer is stuck: due {due}, now {self.now}"
            self.now = max(self.now, due)
            fresh += self.drain()
        self.now = end
        return fresh + self.drain()

    def settle(self) -> None:
        """Acknowledges what the engine sends by itself after an adoption, until it is quiet."""
        for _ in range(8):
            if not self.drain():
                break
            self.acknowledge()
        self.frames.clear()
        self.sent.clear()
        self.sent_to.clear()

    # --- the peer's side ---

    def arrive(self, packet: bytes, port: int = REMOTE_PORT, tos: int = 0) -> bool:
        """The datagram reaches the engine; whether it was its own."""
        return bool(self.engine.rx([(packet, REMOTE, port, LOCAL, LOCAL_PORT, tos)], self.now)[0])

    def say(self, *frames: bytes, port: int = REMOTE_PORT, after: int = 0, **how: Any) -> list[wire.Frame]:
        """One packet of these frames; the answer within 30 ms, when a delayed acknowledgement would have come."""
        self.arrive(self.sealer.seal(b"".join(frames), **how), port)
        return self.wait(after or 30 * MS)

    def acknowledge(self) -> None:
        """All that the engine sent so far."""
        self.arrive(self.sealer.seal(wire.ack((self.adopted.next_pn, self.opener.least - 1))))

    @property
    def closed(self) -> wire.Frame | None:
        return next((f for f in self.frames if f.kind == "connection_close"), None)

    def ended(self) -> QuicEvent | None:
        return next((e for kind, e, _ in self.events if kind == QuicEventKind.CLOSED), None)

    def of(self, kind: str) -> list[wire.Frame]:
        return [f for f in self.frames if f.kind == kind]

    def told_of(self, kind: str) -> list[tuple[Any, ...]]:
        return [item for item in self.told if item[0] == kind]

    def event(self, kind: QuicEventKind) -> list[tuple[QuicEvent, bytes]]:
        return [(e, body) for k, e, body in self.events if k == kind]

    def info(self) -> dict[str, Any]:
        info = self.engine.info(ID)
        assert info is not None
        return info

    def alive(self) -> bool:
        """It answers a PING, and its books are in order."""
        if self.closed or self.ended():
            return False
        return any(f.kind == "ack" for f in self.say(wire.PING))
