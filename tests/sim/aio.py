"""The engine against aioquic, both ends sans-I/O on one virtual clock: a real handshake, then our engine is the connection.

    [ Front (aioquic without 1-RTT keys) -> export -> QuicEngine ]  <-- Network -->  [ aioquic, whole and independent ]

Our end is what the product does: `afterburnerd.quic` shakes hands, keeps early 1-RTT packets, exports; the engine adopts, and
HANDSHAKE_DONE ends the front. Either end may be the client. Everything is drawn from the seed, os.urandom of aioquic included.
What must hold: every byte arrives once and right, every message of ours has one fate, and the pools are empty at the end.

`early`: our end is a client that has a ticket, and its first messages travel in 0-RTT, which the server takes, or does not. The
engine gets the same messages once more, as the product does it, and none may arrive twice.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

from aioquic import tls as aio_tls
from aioquic.quic import connection as aio_connection
from aioquic.quic import events as aio_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import CipherSuite, SessionTicket

from afterburnerd.abi.layout import (
    Path,
    QuicClose,
    QuicEvent,
    QuicEventKind,
    QuicOutcome,
    QuicRefusal,
    QuicSend,
)
from afterburnerd.native import lib
from afterburnerd.quic.accept import Accept
from afterburnerd.quic.cids import LocalCid
from afterburnerd.quic.dial import Dial, EarlyMessage, Target
from afterburnerd.quic.export import export
from afterburnerd.quic.front import Front, FrontSettings
from afterburnerd.quic.identity import Identity, PeerIdentity
from afterburnerd.quic.params import Params
from afterburnerd.quic.shake import Shake, State
from afterburnerd.quic.tickets import Ticket

from . import seal
from .network import MS, NEVER, SECOND, Address, Network, Profile

CLIENT: Address = ("10.0.0.1", 40000)
SERVER: Address = ("10.0.0.2", 8001)
ID = 7
ALPN = "solana-tpu"
SUITES = (CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384, CipherSuite.CHACHA20_POLY1305_SHA256)
LIMIT = 3_600 * SECOND
PEER_BACKOFF = (
    5  # doublings of aioquic's probe timeout, which has no bound: five lost probes could outlast every idle timeout
)

logging.getLogger("quic").setLevel(logging.CRITICAL + 1)


def mapped(host: str) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(int(part) for part in host.split("."))


def seconds(now: int) -> float:
    return now / SECOND


@contextmanager
def seeded(rng: random.Random) -> Iterator[None]:
    """aioquic's connection IDs and challenges come from the seed, so that a run can be made again."""
    real = aio_connection.os
    aio_connection.os = SimpleNamespace(urandom=rng.randbytes)
    try:
        yield
    finally:
        aio_connection.os = real


@contextmanager
def refusing(refuses: bool) -> Iterator[None]:
    """aioquic takes whatever a resumed client offers; a server that takes none does not see the offer."""
    real = aio_tls.pull_client_hello

    def without(buf: Any) -> Any:
        hello = real(buf)
        hello.early_data = False
        return hello

    if refuses:
        aio_tls.pull_client_hello = without
    try:
        yield
    finally:
        aio_tls.pull_client_hello = real


@dataclass
class Flow:
    """One direction of a stream, or a DATAGRAM."""

    data: bytearray = field(default_factory=bytearray)  # what was sent
    got: int = 0
    fin: bool = False
    got_fin: bool = False
    excused: bool = False  # reset or stopped: the rest may be missing
    datagram: bool = False


IDENTITY = Identity.generate()


@cache
def tickets(suite: CipherSuite) -> tuple[Ticket, SessionTicket]:
    """What a client and its server keep of a former connection, shaken by aioquic alone on a clean wire."""
    kept: list[SessionTicket] = []
    common: dict[str, Any] = {"alpn_protocols": [ALPN], "cipher_suites": [suite]}
    client = QuicConnection(
        configuration=QuicConfiguration(
            is_client=True, server_name=Target(SERVER).server_name, verify_mode=0, **common
        ),
        session_ticket_handler=kept.append,
    )
    client.connect(SERVER, 0.0)
    out = client.datagrams_to_send(0.0)
    server = QuicConnection(
        configuration=QuicConfiguration(
            is_client=False, certificate=IDENTITY.certificate, private_key=IDENTITY.key, max_data=1 << 20,
            max_stream_data=1 << 18, **common,
        ),
        original_destination_connection_id=out[0][0][6 : 6 + out[0][0][5]],
        session_ticket_fetcher=lambda label: None,
        session_ticket_handler=kept.append,
    )  # fmt: skip
    for turn in range(8):
        now = turn / 100
        for data, _ in out:
            server.receive_datagram(data, CLIENT, now)
        for data, _ in server.datagrams_to_send(now):
            client.receive_datagram(data, SERVER, now)
        out = client.datagrams_to_send(now)
    theirs, ours = kept  # the server has it first
    return Ticket(ours, PeerIdentity(IDENTITY.public), ALPN), theirs


class Simulation:
    def __init__(self, seed: int, *, verbose: bool = False, early: bool = False) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.verbose = verbose
        self.client = rng.random() < 0.5 or early  # our end's role
        self.now = self.start = rng.randrange(1, 1_000_000) * MS
        self.us, self.them = (CLIENT, SERVER) if self.client else (SERVER, CLIENT)
        forth = Profile.draw(rng)
        back = Profile.draw(rng) if rng.random() < 0.5 else forth
        for profile in (forth, back):
            profile.blackholes = tuple((a + self.start, b + self.start) for a, b in profile.blackholes)
        self.network = Network(random.Random(seed ^ 0x6E6574), forth, back, CLIENT)
        self.suite = rng.choice(SUITES)
        hard = any(p.loss > 0.1 or p.delay > 100 * MS or p.blackholes for p in (forth, back))
        tiny = rng.random() < 0.25 and not early  # a server must not give less than it gave before (RFC 9000 7.4.1)
        self.idle = 600.0 if hard else rng.choice((30.0, 60.0))
        stream_bytes = rng.choice((4096, 16384))

        # aioquic finds no MTU: it stays at what it is told
        peer_size = rng.choice((1200, min(1400, (back if self.client else forth).mtu)))

        def window(low: int, high: int, small: int) -> int:
            return rng.randrange(16, small) if tiny else rng.randrange(low, high)

        self.params = Params(
            max_idle_timeout_ms=int(self.idle * 1000),
            max_udp_payload_size=rng.choice((1200, 1472, 65527)),
            max_data=rng.randrange(500, 5000) if tiny else rng.choice((50_000, 1 << 20)),
            max_stream_data_bidi_local=window(1500, stream_bytes, 1500),
            max_stream_data_bidi_remote=window(1500, stream_bytes, 1500),
            max_stream_data_uni=window(1500, stream_bytes, 1500),
            max_streams_bidi=rng.randrange(1, 4) if tiny else rng.randrange(4, 64),
            max_streams_uni=rng.randrange(1, 6) if tiny else rng.choice((8, 64, 512)),
            ack_delay_exponent=rng.choice((0, 3, 10)),
            max_ack_delay_ms=rng.choice((0, 1, 25, 100)),
            active_cid_limit=rng.choice((2, 4, 8)),
            max_datagram_frame_size=rng.choice((0, 1200, 65535)),
            grease=False,
        )
        self.we_update = rng.random() < 0.5  # keys; aioquic else: it takes both at once for two updates
        self.engine = lib.QuicEngine(
            connections=2, messages=rng.choice((256, 512)), packets=2048, streams=rng.choice((128, 256)), stream_bytes=stream_bytes,
            uni_window=512, bidi_window=64, burst_packets=rng.choice((1, 16)), cc=rng.randrange(2),
            initial_window=rng.choice((0, 12_000)), pacing=rng.randrange(2), ecn=rng.randrange(2),
            no_mtu_discovery=rng.randrange(2), skip_packets=rng.choice((0, 20)), seed=rng.getrandbits(64),
            key_update_packets=rng.choice((0, 30)) if self.we_update else 0, confidentiality_limit=0,
        )  # fmt: skip
        self.room = rng.choice((1200, 1472, 9000))
        settings = FrontSettings(identity=IDENTITY, params=self.params, alpn=(ALPN,), cipher_suites=(self.suite,))
        self.peer_config = QuicConfiguration(
            alpn_protocols=[ALPN],
            certificate=IDENTITY.certificate,
            private_key=IDENTITY.key,
            cipher_suites=[self.suite],
            congestion_control_algorithm=rng.choice(("reno", "cubic")),
            idle_timeout=self.idle,
            is_client=not self.client,
            max_data=rng.randrange(500, 5000) if tiny else 1 << 20,
            max_stream_data=rng.randrange(16, 2000) if tiny else 1 << 18,
            max_datagram_frame_size=rng.choice((None, 65536)),
            max_datagram_size=peer_size,
            verify_mode=0,
        )
        self.peer = None if self.client else QuicConnection(configuration=self.peer_config)
        self.settings = settings
        self.shake: Shake | None = None
        self.own_cid = LocalCid(0, rng.randbytes(8), rng.randbytes(16))
        self.stock = [LocalCid(i, rng.randbytes(8), rng.randbytes(16)) for i in range(1, rng.randrange(1, 4))]
        self.next_cid = 1 + len(self.stock)
        self.early_draw = random.Random(seed ^ 0x30525454) if early else None
        self.ticket = tickets(self.suite) if early else None
        # the server: takes 0-RTT, resumes without it, has forgotten
        self.takes = self.early_draw.choice(("early", "early", "early", "resume", "nothing")) if self.early_draw else ""
        early_sent = self.early_messages() if early else ()
        if self.client:
            self.shake = Dial(
                ID, settings, self.own_cid, Target(SERVER, timeout=3600.0), seconds(self.now),
                ticket=self.ticket[0] if self.ticket else None, messages=early_sent,
            )  # fmt: skip
        else:
            assert self.peer
            self.peer.connect(SERVER, seconds(self.now))
        # what both ends do
        self.adopted = self.confirmed = False
        self.opener: seal.Opener | None = None
        self.ours: dict[int, Flow] = {}  # by key
        self.theirs: dict[int, Flow] = {}  # by stream ID; DATAGRAMs by negated key
        self.our_streams: dict[int, int] = {}  # stream ID -> key, as soon as it is known
        self.fates: dict[int, int] = {}  # token -> outcome
        self.tokens: dict[int, int] = {}  # token -> key
        if isinstance(self.shake, Dial):
            self.ours = {m.token - 1: Flow(bytearray(m.data), fin=True) for m in self.shake.early_messages}
        self.open_keys: list[tuple[int, int]] = []  # (key, stream) of streams of ours that stay open
        self.actions = [rng.choice((0, 5, 30, 100)), rng.choice((0, 5, 30, 100))]
        self.gap = rng.choice((0, MS, 10 * MS))
        self.next_action = [self.start, self.start]
        self.peer_ready = False
        self.closed: QuicEvent | None = None
        self.peer_closed: aio_events.ConnectionTerminated | None = None
        self.closing = ""  # who closes: "us", "them"
        self.close_code = 0
        self.rebinds = rng.choice((0, 0, 1, 2)) if not self.client else 0
        self.next_rebind = self.start + rng.randrange(2_000) * MS
        self.early_close = rng.random() < 0.1
        self.peer_updates = self.last_update = 0  # of keys, by aioquic
        self.heads: dict[int, bytes] = {}  # of our streams, what came before the key was whole
        self.replies: list[int] = []  # streams of the peer that wait for our side's end, or they are never over
        self.next_ping = 0  # of the peer, for who says nothing behind a NAT that moves is not found again
        self.packets = 0
        self.early_accepted = False  # by the server
        self.early_acked = 0  # ranges of 0-RTT packets that were acknowledged
        self.short_sent = self.short_got = 0

    def early_messages(self) -> tuple[EarlyMessage, ...]:
        draw = self.early_draw
        assert draw is not None
        return tuple(
            EarlyMessage(n + 1, n.to_bytes(2, "little") + draw.randbytes(draw.choice((0, 100, 235, 1000, 1230))))
            for n in range(draw.randrange(1, 30))
        )

    def say(self, text: str) -> None:
        if self.verbose:
            print(f"{(self.now - self.start) / SECOND:12.6f} {text}")

    # --- our end ---

    def receive(self, data: bytes, src: Address, ecn: int) -> None:
        if data[0] & 0x80:
            if self.shake is None and not self.client and not self.adopted:
                self.shake = self.accept(data)
            if self.shake is not None:
                self.shake.receive(data, src, seconds(self.now), ecn)
        elif self.adopted:
            self.inject(data, src, ecn)
        elif self.shake is not None:
            self.shake.receive(data, src, seconds(self.now), ecn)

    def accept(self, data: bytes) -> Shake:
        first = data[6 : 6 + data[5]]
        front = Front(self.settings, self.own_cid, is_client=False, original_dcid=first)
        return Accept(ID, front, CLIENT, first, True, seconds(self.now) + 3600.0, seconds(self.now))

    def inject(self, data: bytes, src: Address, ecn: int) -> None:
        self.engine.rx([(data, mapped(src[0]), src[1], mapped(self.us[0]), self.us[1], ecn)], self.now)

    def turn(self) -> None:
        """Everything that our end has to do at this time."""
        shake = self.shake
        if shake is not None:
            for data in shake.poll(seconds(self.now)):
                self.network.send(data, self.us, shake.remote, self.now)
            assert shake.failure is None, f"the handshake failed: {shake.failure}"
            if shake.state is State.COMPLETE and not self.adopted:
                self.adopt(shake)
            if self.adopted and shake.early:
                for early in shake.early:
                    self.inject(early.datagram, early.remote, early.tos)
                shake.early.clear()
        if not self.adopted:
            return
        while out := self.engine.tx(self.now, 16, self.room):
            for data, path, conn, ecn, _probe in out:
                assert conn == ID and self.opener is not None
                to = Path.unpack(path)
                self.opener.open(data)
                self.packets += 1
                remote = (self.them[0], to.remote_port)
                self.say(f"we send {len(data)} bytes, packet {self.opener.least - 1}")
                self.network.send(data, self.us, remote, self.now, ecn)
        for item in self.engine.events():
            self.hear(item)

    def adopt(self, shake: Shake) -> None:
        front = shake.front
        assert front is not None
        path = Path(
            local=mapped(self.us[0]), remote=mapped(shake.remote[0]), local_port=self.us[1], remote_port=shake.remote[1],
            dmac=b"\x02" * 6, smac=b"\x04" * 6, family=4, ttl=64, mtu=self.rng.choice((1200, 1472, 8952)),
        )  # fmt: skip
        dial = shake if isinstance(shake, Dial) else None
        self.early_accepted = dial is not None and dial.early_accepted
        state = export(
            front, ID, path, [self.own_cid, *self.stock], early_accepted=dial is not None and dial.early_accepted,
            early_streams=len(dial.early_messages) if dial else 0,
        )  # fmt: skip
        refusal = QuicRefusal(self.engine.adopt(state.pack(), self.now))
        assert refusal == QuicRefusal.NONE, refusal.name
        self.opener = seal.Opener(state.suite, state.tx_secret[: seal.hash_bytes(state.suite)], len(front.peer_cids()[0].cid), state.next_pn)  # fmt: skip
        self.adopted = True
        self.say("adopted")
        for message in dial.early_messages if dial else ():
            self.tokens[message.token] = message.token - 1
            code, _ = self.engine.send(ID, QuicSend.UNI, message.data, self.now, token=message.token)
            assert code == 0, code
        if not self.client:
            shake.confirm()
            self.shake = None
            self.confirmed = True

    def hear(self, item: tuple[Any, ...]) -> None:
        kind = item[0]
        self.say(f"we hear {item if kind != 'event' else QuicEventKind(QuicEvent.unpack(item[2]).kind).name}"[:150])
        if kind == "data":
            _, _, stream, offset, data, fin = item
            assert stream in self.theirs, f"data on stream {stream}, on which nothing was sent"
            flow = self.theirs[stream]
            assert not flow.got_fin, f"data behind the end of stream {stream}"
            assert offset == flow.got, f"stream {stream} goes on at {offset}, not at {flow.got}"
            assert flow.data[offset : offset + len(data)] == data, f"bytes of stream {stream} are wrong"
            flow.got += len(data)
            flow.got_fin = fin
            if not stream & 2 and (stream & 1 == 0) != self.client and fin:
                self.replies.append(stream)
            assert not fin or (flow.fin and flow.got == len(flow.data)), f"stream {stream} ends at {flow.got}"
        elif kind == "reset":
            assert self.theirs[item[2]].excused
            self.theirs[item[2]].got_fin = True
            if not item[2] & 2 and (item[2] & 1 == 0) != self.client:
                self.replies.append(item[2])
        elif kind == "datagram":
            flow = self.theirs[-1 - int.from_bytes(item[2][:2], "little")]
            assert flow.data == item[2] and not flow.got_fin
            flow.got_fin = True
        elif kind == "done":
            _, _, number, outcome, _ = item
            assert number not in self.fates, f"the fate of message {number} twice"
            self.fates[number] = outcome
        else:
            event = QuicEvent.unpack(item[2])
            assert self.closed is None, "an event behind CLOSED"
            if event.kind == QuicEventKind.CONFIRMED:
                assert self.client and not self.confirmed
                self.confirmed = True
                assert self.shake is not None
                self.shake.confirm()
                self.shake = None
            elif event.kind == QuicEventKind.CLOSED:
                self.closed = event
            elif event.kind == QuicEventKind.EARLY:
                self.early_acked += 1
            elif event.kind == QuicEventKind.CIDS_LOW:
                fresh = [LocalCid(self.next_cid + i, self.rng.randbytes(8), self.rng.randbytes(16)) for i in range(min(8, event.number))]  # fmt: skip
                from afterburnerd.quic.export import packed

                taken = self.engine.stock(ID, b"".join(packed(c).pack() for c in fresh))
                self.next_cid += taken

    # --- the peer ---

    def peer_turn(self) -> None:
        peer = self.peer
        if peer is None:
            return
        timer = peer.get_timer()
        if timer is not None and seconds(self.now) >= timer:
            peer.handle_timer(seconds(self.now))
            peer._loss._pto_count = min(peer._loss._pto_count, PEER_BACKOFF)
        while (event := peer.next_event()) is not None:
            self.peer_hears(event)
        with seeded(self.rng):
            for data, address in peer.datagrams_to_send(seconds(self.now)):
                self.network.send(data, self.them, address, self.now)
        while (event := peer.next_event()) is not None:
            self.peer_hears(event)

    def peer_hears(self, event: aio_events.QuicEvent) -> None:
        self.say(f"aioquic: {event}"[:150])
        if isinstance(event, aio_events.HandshakeCompleted):
            self.peer_ready = True
        elif isinstance(event, aio_events.StreamDataReceived):
            stream = event.stream_id
            data = self.heads.pop(stream, b"") + event.data
            if stream not in self.our_streams:
                if len(data) < 2:
                    self.heads[stream] = data
                    if event.end_stream:
                        assert not data
                        self.short_got += 1
                    return
                self.our_streams[stream] = int.from_bytes(data[:2], "little")
            flow = self.ours[self.our_streams[stream]]
            assert flow.data[flow.got : flow.got + len(data)] == data, f"bytes of stream {stream} are wrong"
            flow.got += len(data)
            if event.end_stream:
                assert flow.fin and flow.got == len(flow.data) and not flow.got_fin
                flow.got_fin = True
        elif isinstance(event, aio_events.StreamReset):
            assert self.ours[self.our_streams[event.stream_id]].excused
        elif isinstance(event, aio_events.DatagramFrameReceived):
            flow = self.ours[int.from_bytes(event.data[:2], "little")]
            assert flow.data == event.data and not flow.got_fin
            flow.got_fin = True
        elif isinstance(event, aio_events.StopSendingReceived):
            assert self.theirs[event.stream_id].excused
        elif isinstance(event, aio_events.ConnectionTerminated):
            self.peer_closed = event

    def peer_receive(self, data: bytes, src: Address) -> None:
        if self.peer is None:
            if data[0] & 0xB0 != 0x80:  # nothing begins with another packet than an Initial
                return
            with seeded(self.rng):
                self.peer = QuicConnection(
                    configuration=self.peer_config,
                    original_destination_connection_id=data[6 : 6 + data[5]],
                    **self.memory(),
                )
        with seeded(self.rng), refusing(self.takes == "resume"):
            self.peer.receive_datagram(data, src, seconds(self.now))

    def memory(self) -> dict[str, Any]:
        """What the server has kept of a former connection."""
        if self.ticket is None or self.takes == "nothing":
            return {}
        label, kept = self.ticket[1].ticket, self.ticket[1]
        return {"session_ticket_fetcher": lambda asked: kept if asked == label else None}

    # --- the plan ---

    def send(self, key: int, how: int, size: int, stream: int = 0, fin: bool = False) -> bool:
        flow = self.ours[key]
        data = key.to_bytes(2, "little") + self.rng.randbytes(size) if not flow.data else self.rng.randbytes(size)
        if how == QuicSend.UNI and size == 0:
            data = b""
        number = len(self.tokens) + 1
        code, made = self.engine.send(ID, how, data, self.now, stream=stream, token=number, fin=fin)
        self.say(f"we want to send {len(data)} bytes, {QuicSend(how).name} key {key}: {code}")
        if code:
            return False
        self.tokens[number] = key
        flow.data += data
        flow.fin = fin or how == QuicSend.UNI
        if how in (QuicSend.BIDI_OPEN, QuicSend.UNI_OPEN):
            self.our_streams[made] = key
            if not fin:
                self.open_keys.append((key, made))
        if how == QuicSend.UNI and not data:
            self.short_sent += 1
        return True

    def peer_updates_keys(self) -> None:
        """aioquic does not ask whether it may: not before its last update was followed, nor within 3 PTO (RFC 9001 6.1, 6.5), nor
        at the same time as we do."""
        info = self.engine.info(ID)
        assert self.peer is not None
        if self.we_update or info is None or info["rx_generation"] != self.peer_updates:
            return
        if info["tx_generation"] == self.peer_updates and self.now - self.last_update > 4 * info["pto_ns"]:
            self.peer_updates += 1
            self.last_update = self.now
            self.peer.request_key_update()

    def may_move(self) -> bool:
        """A client must not before its handshake is confirmed (RFC 9000 9)."""
        return self.peer is not None and self.peer._handshake_confirmed and self.adopted and not self.closing

    def end_streams(self) -> None:
        """The plans are over: whatever is open gets its end, or it holds the credit that others wait for."""
        if self.actions[0] == 0 and self.open_keys:
            key, stream = self.open_keys[-1]
            if self.ours[key].excused or self.send(key, QuicSend.STREAM, 0, stream, True):
                self.open_keys.pop()
        if self.actions[1] == 0:
            assert self.peer is not None
            for stream, flow in self.theirs.items():
                if stream >= 0 and not flow.fin and not flow.excused:
                    flow.fin = True
                    self.peer.send_stream_data(stream, b"", True)

    def reply(self) -> None:
        while self.replies and not self.closed:
            key = len(self.ours)
            self.ours[key] = Flow()
            if not self.send(key, QuicSend.STREAM, self.rng.randrange(100), self.replies[0], True):
                del self.ours[key]
                return
            self.our_streams[self.replies.pop(0)] = key

    def act(self) -> None:
        rng = self.rng
        self.actions[0] -= 1
        self.next_action[0] = self.now + (rng.randrange(2 * self.gap) if self.gap else 0)
        draw = rng.random()
        key = len(self.ours)
        if draw < 0.60:
            self.ours[key] = Flow()
            how, size, fin = QuicSend.UNI, rng.choice((0, 15, 100, 235, 1000, 1232, 6000)), True
        elif draw < 0.70:
            self.ours[key] = Flow(datagram=True)
            how, size, fin = QuicSend.DATAGRAM, rng.randrange(1, 1000), False
        elif draw < 0.80:
            self.ours[key] = Flow()
            how, size, fin = (
                rng.choice((QuicSend.BIDI_OPEN, QuicSend.UNI_OPEN)),
                rng.randrange(1, 3000),
                rng.random() < 0.5,
            )
        elif draw < 0.92 and self.open_keys:
            at = rng.randrange(len(self.open_keys))
            key, stream = self.open_keys[at]
            if self.ours[key].excused:
                return
            fin = rng.random() < 0.3
            if self.send(key, QuicSend.STREAM, rng.choice((0, 1, 1000, 4000)), stream, fin) and fin:
                self.open_keys.pop(at)
            return
        elif draw < 0.95:
            if self.we_update:
                self.engine.update_keys(ID, self.now)
            return
        elif draw < 0.97 and self.open_keys:
            key, stream = self.open_keys.pop()
            if self.engine.reset_stream(ID, stream, 5) == 0:
                self.ours[key].excused = True
            return
        else:
            self.engine.ping(ID)
            return
        if not self.send(key, how, size, fin=fin):
            del self.ours[key]

    def peer_act(self) -> None:
        peer, rng = self.peer, self.rng
        assert peer is not None
        self.actions[1] -= 1
        self.next_action[1] = self.now + (rng.randrange(2 * self.gap) if self.gap else 0)
        draw = rng.random()
        if draw < 0.70:
            uni = rng.random() < 0.7
            stream = peer.get_next_available_stream_id(is_unidirectional=uni)
            flow = self.theirs.setdefault(stream, Flow())
            data, fin = rng.randbytes(rng.choice((0, 1, 17, 235, 1232, 5000))), rng.random() < 0.9
            if not data:
                fin = True
            flow.data += data
            flow.fin = fin
            peer.send_stream_data(stream, data, fin)
        elif draw < 0.80:
            if not self.params.max_datagram_frame_size:
                return
            key = len(self.theirs)
            data = key.to_bytes(2, "little") + rng.randbytes(rng.randrange(1000))
            self.theirs[-1 - key] = Flow(bytearray(data), datagram=True)
            peer.send_datagram_frame(data)
        elif draw < 0.90:
            for stream, flow in self.theirs.items():
                if stream >= 0 and not flow.fin and not flow.excused:
                    data = rng.randbytes(rng.choice((1, 1000)))
                    flow.data += data
                    flow.fin = rng.random() < 0.5
                    peer.send_stream_data(stream, data, flow.fin)
                    return
        elif draw < 0.93:
            for stream, flow in self.theirs.items():
                # aioquic resets streams, too, that it was not allowed to open yet
                if stream >= 0 and not flow.fin and not flow.excused and flow.got:
                    flow.excused = True
                    peer.reset_stream(stream, 9)
                    return
        elif draw < 0.96:
            for stream, key in self.our_streams.items():
                flow = self.ours[key]
                if not flow.got_fin and not flow.excused and flow.got:
                    flow.excused = True
                    peer.stop_stream(stream, 9)
                    return
        elif draw < 0.98:
            if self.peer_ready and self.adopted:
                self.peer_updates_keys()
        else:
            peer.send_ping(draw.__hash__())

    # --- the run ---

    def done(self) -> bool:
        """Everything has arrived, and both ends know it."""
        return (
            self.adopted
            and self.confirmed
            and self.peer_ready
            and self.actions == [0, 0]
            and len(self.fates) == len(self.tokens)
            and not self.replies
            and not self.open_keys
            and self.short_got == self.short_sent
            and all(
                f.datagram or f.excused or (f.got == len(f.data) and f.got_fin == f.fin)
                for f in (*(f for f in self.ours.values() if f.data), *self.theirs.values())
            )
        )

    def missing(self) -> str:
        """What is not over, for a reader of a failure."""
        flows = [
            f"{name} {key}: {f.got} of {len(f.data)}{' fin' if f.fin else ''}{' ended' if f.got_fin else ''}"
            for name, table in (("ours", self.ours), ("theirs", self.theirs))
            for key, f in table.items()
            if not f.datagram and not f.excused and f.data and (f.got != len(f.data) or f.got_fin != f.fin)
        ]
        fates = sorted(set(self.tokens) - set(self.fates))
        return (
            f"adopted {self.adopted}, confirmed {self.confirmed}, aioquic ready {self.peer_ready}, actions {self.actions}, "
            f"short {self.short_got} of {self.short_sent}, no fate: {fates[:8]}, flows: {flows[:8]}"
        )

    def finish(self) -> None:
        self.closing = self.rng.choice(("us", "them"))
        self.close_code = self.rng.randrange(100)
        self.say(f"{self.closing} close")
        if self.closing == "us":
            self.engine.close(ID, True, self.close_code, b"done", self.now)
        else:
            assert self.peer is not None
            self.peer.close(error_code=self.close_code, reason_phrase="done")

    def due(self) -> int:
        """When something happens next."""
        due = self.network.deadline()
        if self.adopted:
            due = min(due, self.engine.deadline())
        timers = [self.shake.due if self.shake else None, self.peer.get_timer() if self.peer else None]
        for timer in timers:
            if timer is not None:
                due = min(due, math.ceil(timer * SECOND) + 1)
        if self.actions[0] and self.adopted and not self.closing:
            due = min(due, self.next_action[0])
        if self.actions[1] and self.peer_ready and not self.closing:
            due = min(due, self.next_action[1])
        if self.rebinds and self.may_move():
            due = min(due, self.next_rebind)
        if not self.client and self.peer_ready and not self.closing:
            due = min(due, self.next_ping)
        return due

    def run(self) -> None:
        idle = 0
        while True:
            before = self.packets, self.network.serial
            for flight in self.network.arrived(self.now):
                if flight.dst[0] == self.us[0]:
                    self.receive(flight.data, flight.src, flight.ecn)
                else:
                    self.peer_receive(flight.data, flight.src)
            for _ in range(8):
                if (
                    self.actions[0]
                    and self.adopted
                    and not self.closing
                    and self.next_action[0] <= self.now
                    and not self.closed
                ):
                    self.act()
                if self.actions[1] and self.peer_ready and not self.closing and self.next_action[1] <= self.now:
                    self.peer_act()
            if self.rebinds and self.may_move() and self.next_rebind <= self.now:
                self.rebinds -= 1
                self.next_rebind = self.now + self.rng.randrange(2_000) * MS
                self.network.rebind((CLIENT[0], self.network.outside[1] + 1))
                self.say("rebinding")
            if not self.client and self.peer_ready and not self.closing and self.next_ping <= self.now:
                self.next_ping = self.now + SECOND
                assert self.peer is not None
                self.peer.send_ping(0)
            if self.adopted and self.peer_ready and not self.closing and not self.closed:
                self.reply()
                self.end_streams()
            self.turn()
            self.peer_turn()
            if not self.closing and (self.done() or (self.early_close and self.peer_ready and self.adopted and self.now > self.start + 2 * SECOND)):  # fmt: skip
                self.finish()
                self.turn()
                self.peer_turn()
            if self.closed and self.peer_closed and self.engine.totals()["connections"] == 0:
                break
            if self.peer_closed and not self.closing:
                raise AssertionError(f"aioquic ended it: {self.peer_closed}; {self.missing()}")
            if self.closed and not self.closing:
                raise AssertionError(
                    f"the engine ended it: {QuicClose(self.closed.by).name} {self.closed}; {self.missing()}"
                )
            due = self.due()
            assert due < NEVER, "nothing will ever happen again"
            idle = idle + 1 if due <= self.now and before == (self.packets, self.network.serial) else 0
            assert idle < 1000, "a timer is stuck"
            self.now = max(self.now, due)
            assert self.now < self.start + LIMIT, f"no end in sight: closing {self.closing!r}; {self.missing()}"
        self.settle()

    def settle(self) -> None:
        assert self.closed is not None
        assert len(self.fates) == len(self.tokens), "messages without a fate"
        complete = self.done()
        assert complete or self.early_close, "closed before everything had arrived"
        if self.closing == "us":
            assert self.closed.by == QuicClose.LOCAL
        else:
            assert self.closed.by in (QuicClose.PEER, QuicClose.IDLE)
            assert self.closed.by == QuicClose.IDLE or self.closed.code == self.close_code
        for number, outcome in self.fates.items():
            flow = self.ours[self.tokens[number]]
            if outcome == QuicOutcome.CLOSED:
                assert self.early_close
            elif outcome == QuicOutcome.LOST:
                assert flow.datagram
            elif outcome in (QuicOutcome.RESET, QuicOutcome.STOPPED):
                assert flow.excused
            else:
                assert outcome == QuicOutcome.ACKNOWLEDGED
                # aioquic may have acknowledged what it would have told later, had it not been closed
                assert (
                    flow.got_fin or flow.excused or not flow.data or not (flow.datagram or flow.fin) or self.early_close
                )
        totals = self.engine.totals()
        assert totals["slots_used"] == totals["blocks_used"] == totals["objects_used"] == 0, totals
        self.engine.free()


def run(seed: int, verbose: bool = False, *, early: bool = False) -> Simulation:
    simulation = Simulation(seed, verbose=verbose, early=early)
    with seeded(simulation.rng):
        simulation.run()
    return simulation
