"""Writes the committed corpora of the fuzz targets: `python -m tests.fuzz.make_corpus`.

A corpus is where a fuzzer starts; with one example of every shape and of every fault it need not guess its way past the
first counts. The files come from the tests' own makers and fixed seeds, so that they can be made again and reviewed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from afterburnerd.abi.layout import QuicAdopt
from afterburnerd.lab import broken
from afterburnerd.lab.transactions import SHAPES, Maker
from tests.net import frames
from tests.sim import wire

CORPUS = Path(__file__).parent / "corpus"


def solana_tx() -> dict[str, bytes]:
    maker = Maker(20_260_914)
    files = {f"shape-{shape}": maker.make(shape) for shape in SHAPES}
    # Small bases: a fuzzer works fastest on short inputs.
    files |= {f"malformed-{reason}": broken.malformed(maker, reason) for reason in broken.SENDABLE if reason != "empty"}
    files |= {f"unsound-{reason}": broken.unsound(maker, reason) for reason in broken.UNSOUND}
    return files


def eth() -> dict[str, bytes]:
    """First byte: which checksums the target mends (1 IPv4, 2 UDP), so that the fuzzer may change anything."""
    files = {}
    for version in (4, 6):
        for name, tags in (("", ()), ("-vlan", (5,)), ("-qinq", (5, 6)), ("-priority", (0, 7))):
            files[f"ipv{version}{name}"] = b"\3" + frames.datagram(b"payload", 8001, version, tags)
        whole = frames.datagram(bytes(9), 8001, version)
        files[f"ipv{version}-padded"] = b"\0" + whole + bytes(9)
        files[f"ipv{version}-cut"] = b"\0" + whole[:-1]
        files[f"ipv{version}-no-checksum"] = b"\0" + whole[:-11] + bytes(11)
        short = bytearray(whole)
        short[-13] = 7  # the UDP length: less than its header
        files[f"ipv{version}-udp-length"] = b"\1" + bytes(short)
    options = bytearray(frames.datagram(bytes(8), 8001))
    options[14] = 0x46
    files["ipv4-options"] = b"\1" + bytes(options)
    return files


class Choices(bytearray):
    """What a target asks its input for, one after the other."""

    def one(self, *values: int) -> Choices:
        self.extend(value & 0xFF for value in values)
        return self

    def two(self, *values: int) -> Choices:
        for value in values:
            self.extend(value.to_bytes(2, "little"))
        return self


def rules() -> dict[str, bytes]:
    def made(
        rule_list: list[tuple[int, int, int]], asked: list[tuple[int, int, int]], more: Callable[[int], int] = int
    ) -> bytes:
        """Rules as (address, port, VLANs) and datagrams as the same; `more` may spoil a rule."""
        choices = Choices().one(len(rule_list))
        for address, port, vlans in rule_list:
            choices.one(more(vlans), address, port)
            if more(vlans) & 0x40:
                choices.one(4)  # the rule's index: 64, one too many
            if more(vlans) & 0x80:
                choices.one(99)  # no such decoder
        for address, port, vlans in asked:
            choices.one(vlans, address, port)
        return bytes(choices)

    every = [(address, port, vlans) for address in range(8) for port in (1, 2, 255) for vlans in (0, 5)]
    return {
        "every-address": made(every, every),
        "any-address": made([(0, 1, 0), (1, 1, 0)], [(1, 1, 0), (2, 1, 0), (2, 0, 0), (0, 0, 0), (2, 2, 0)]),
        "the-later-counts": made([(1, 1, 0), (1, 1, 0), (1, 2, 0), (1, 1, 0)], [(1, 1, 0), (1, 2, 0)]),
        "one-cluster": made([(1, port, 0) for port in range(1, 32)] * 3, [(1, port, 0) for port in range(32)]),
        "port-zero": made([(1, 0, 0)], [(1, 0, 0)]),
        "index-out-of-bounds": made([(1, 1, 0)], [(1, 1, 0)], lambda vlans: vlans | 0x40),
        "decoder-out-of-bounds": made([(1, 1, 0)], [(1, 1, 0)], lambda vlans: vlans | 0x80),
        "none": made([], [(1, 1, 0), (0, 0, 0)]),
    }


def records() -> dict[str, bytes]:
    def made(size: int, slots: int, fields: tuple[int, ...] = (), lengths: tuple[int, ...] = (0, 100, 4095)) -> bytes:
        """`fields`: how slots, slot_bytes, magic, version and head differ from what would be right (0: not at all)."""
        choices = Choices().two(size // 64).one(size % 64, slots)
        for how in (*fields, *[0] * (5 - len(fields))):
            choices.one(how)
        choices[8:8] = b"\5\0"  # how far the head is
        return bytes(choices.two(*lengths))

    right = 256 + 4 * 512
    return {
        "whole": made(right, 2),
        "one-slot": made(256 + 192, 0),
        "a-byte-short": made(right - 1, 2, (0, 0x49)),
        "room-behind": made(right + 63, 2),
        "smallest-slots": made(256 + 128 * 192, 7, lengths=(63, 64, 65)),
        "wraps": made(right, 2, lengths=tuple(range(0, 40))),
        "head-before-overflow": made(right, 2, (0, 0, 0, 0, 0xC1)),
        "slots-no-power": made(right, 2, (0xB1,)),
        "slots-that-overflow": made(right, 2, (0x60,)),
        "slot-too-small": made(right, 2, (0, 0x47)),
        "slot-not-aligned": made(right, 2, (0, 0xB8)),
        "other-magic": made(right, 2, (0, 0, 0xB1)),
        "other-version": made(right, 2, (0, 0, 0, 0xB1)),
        "no-header": made(255, 0),
        "empty": made(0, 0),
    }


class Traffic(Choices):
    """For fuzz_io.c: packet memory, then what happens to it."""

    RING_64, RING_2 = 5, 0

    def __init__(self, ring: int = RING_64, frames: int = 128, jumbo: bool = True, verify: bool = False) -> None:
        super().__init__()
        self.one(ring, frames - 1, verify | jumbo << 1)

    def receive(self, *lengths: int, times: int = 1, stamp: bool = True, flip: int | None = None) -> Traffic:
        """A frame in so many parts, the same `times` (1 to 16) over; `flip`: a byte of it is changed."""
        self.one(2 | times - 1 << 4)
        for _ in range(times):
            self.one(0 if len(lengths) == 1 else 132 + (len(lengths) - 2), stamp << 1 | (flip is not None))
            self.two(*lengths)
            if flip is not None:
                self.one(flip)
        return self

    def turn(self, burst: int = 64, answers: int = 0, times: int = 1) -> Traffic:
        self.one(times - 1 << 4)
        for _ in range(times):
            self.one(burst - 1).two(answers)
        return self

    def transmit(self, times: int = 1) -> Traffic:
        self.one(1 | 3 << 2 | times - 1 << 4)
        return self


def io() -> dict[str, bytes]:
    files = {
        "singles": Traffic().receive(60, times=16).turn().receive(1792).receive(10).turn(),
        "echo": Traffic().receive(60, times=16).turn(answers=0xAAAA).transmit().turn().receive(60).turn(),
        "jumbo": Traffic().receive(1700, 1700, 900).receive(60).turn(answers=3).transmit().turn(),
        "cut-across-bursts": Traffic().receive(60, times=3).turn().receive(60, 500, 70).turn(1).turn(1).turn(1),
        "cut-stamp": Traffic().receive(60).receive(500, 70).receive(80, stamp=False).turn(2).turn(2),
        "more-jumbos-than-slots": Traffic().receive(900, 900, times=16).receive(900, 700, times=5).turn().turn(),
        "one-open-and-sixteen": Traffic().receive(9, 900, 9).turn(2).receive(90, 9, times=16).turn().turn(),
        "too-long": Traffic().receive(1792, 1792, 1792, 1792, 1792, 1792).receive(60).turn(),
        "too-long-and-cut": Traffic().receive(*[1792] * 7).receive(60, 60).turn(6).turn(1).turn(1).turn(),
        "too-long-in-the-last-slot": Traffic().receive(9, 9, times=15).turn().receive(*[1792] * 6).turn(),
        "just-fits": Traffic().receive(1792, 1792, 1792, 1792, 1792, 1280).turn(),
        "jumbo-not-asked-for": Traffic(jumbo=False).receive(60, 60, 60).receive(60).turn(2).turn(),
        "nothing-in-a-part": Traffic().receive(0, 60, 0).receive(0).receive(60).turn(1).turn(),
        "not-datagrams": Traffic().receive(60, times=4, flip=12).receive(900, 900, flip=14).turn(),
        "starved-fill": Traffic(frames=8).receive(60, times=16).turn().receive(60, times=16).turn(answers=0xFFFF),
        "starved-completion": Traffic(ring=Traffic.RING_2, frames=32).receive(60).receive(60).turn(answers=3),
        "one-frame": Traffic(frames=1).receive(60).turn().transmit(),
        "verified": Traffic(verify=True).receive(60, flip=40).receive(60).turn(answers=1).transmit().turn(),
    }
    for round_ in range(4):  # TX and COMPLETION full: answers are dropped, and frames come back later
        files["starved-completion"].receive(60).receive(60).turn(answers=3)
        if round_ % 2:
            files["starved-completion"].transmit()
    return {name: bytes(traffic) for name, traffic in files.items()}


def quic_frames() -> dict[str, bytes]:
    """First byte: 1, a server reads them."""
    token, most = bytes(range(16)), wire.MAX_VARINT
    frames = {
        "ack": wire.ack((90, 100), (80, 85), (0, 3), delay=7),
        "ack-ecn": wire.ack((90, 100), (10, 11), delay=7, ecn=(1, 0, 3)),
        "ack-far": wire.ack((most - 5, most), (0, most - 70)),
        "ack-below-zero": b"\x02\x05\x00\x01\x00\x04\x00",
        "ack-too-many": b"\x02\x05\x00\x3f\x00\x00\x00",
        "stream": wire.stream(2, b"transaction", fin=True) * 3,
        "stream-rest": wire.stream(6, b"rest", 9, length=False),
        "stream-too-far": wire.stream(6, b"xy", most - 1),
        "crypto": wire.crypto(100, b"ticket"),
        "crypto-too-far": wire.crypto(most - 1, b"xy"),
        "reset": wire.reset_stream(4, 7, 1 << 40) + wire.stop_sending(4, 7),
        "limits": wire.max_data(1 << 30) + wire.max_stream_data(4, 9) + wire.max_streams(5, True),
        "too-many-streams": wire.max_streams((1 << 60) + 1, False),
        "blocked": wire.data_blocked(1) + wire.stream_data_blocked(4, 9) + wire.streams_blocked(5, False),
        "cids": wire.new_connection_id(3, 1, b"12345678", token) + wire.retire_connection_id(1),
        "cid-too-long": wire.new_connection_id(3, 1, bytes(21), token),
        "cid-retires-itself": wire.new_connection_id(3, 4, bytes(8), token),
        "path": wire.path_challenge(b"12345678") + wire.path_response(b"87654321"),
        "close": wire.connection_close(10, 6, b"because"),
        "close-app": wire.connection_close(5, None, b"enough"),
        "datagram": wire.datagram(b"message") + wire.PING + wire.datagram(b"rest", length=False),
        "padding": wire.PING + bytes(40),
        "long-type": wire.varint(1, 2),
        "unknown": wire.varint(0xAF),
        "empty": b"",
    }
    files = {name: b"\0" + data for name, data in frames.items()}
    for name, data in {"token": wire.new_token(b"token"), "done": wire.HANDSHAKE_DONE}.items():
        files |= {name: b"\0" + data, f"{name}-at-a-server": b"\1" + data}
    return files


def quic_tparams() -> dict[str, bytes]:
    """First byte: 1, a server sent them."""
    client = {"initial_source_connection_id": b"source"}
    server = client | {"original_destination_connection_id": b"original"}
    ranges: dict[str, int] = {
        "max_udp_payload_size": 1200,
        "ack_delay_exponent": 20,
        "max_ack_delay": (1 << 14) - 1,
        "active_connection_id_limit": 2,
        "initial_max_streams_uni": 1 << 60,
        "max_datagram_frame_size": 1200,
    }
    address = bytes(range(24)) + b"\x08connid78" + bytes(range(16))
    files = {f"range-{name}": b"\0" + wire.parameters(**client, **{name: value}) for name, value in ranges.items()}
    files |= {
        "client": b"\0" + wire.parameters(**client, **ranges),
        "server": b"\1" + wire.parameters(**server, **ranges, stateless_reset_token=bytes(range(16))),
        "preferred": b"\1" + wire.parameters(**server, preferred_address=address, disable_active_migration=True),
        "preferred-long": b"\1"
        + wire.parameters(**server, preferred_address=address[:24] + b"\x15" + bytes(21) + bytes(16)),
        "preferred-empty": b"\1" + wire.parameters(**server, preferred_address=address[:24] + bytes(17)),
        "retried": b"\1" + wire.parameters(**server, retry_source_connection_id=b""),
        "long-cid": b"\0" + wire.parameters(initial_source_connection_id=bytes(21)),
        "twice": b"\0" + wire.parameters(**client) * 2,
        "unknown": b"\0" + wire.varint(27) + b"\2hi" + wire.parameters(**client),
        "of-a-server": b"\0" + wire.parameters(**server),
        "cut": b"\0" + wire.parameters(**client, **ranges)[:-1],
        "empty": b"\0",
    }
    return files


def quic_packets() -> dict[str, bytes]:
    """A choice of role, cipher and limits, then what happens (fuzz_quic_packets.c)."""

    def frames(*parts: bytes, how: int = 0) -> bytes:
        body = b"".join(parts)
        assert len(body) < 256
        return bytes([1, how, len(body)]) + body

    token = b"token" * 3 + b"!"
    server, client, unconfirmed = b"\x01\x20", b"\x40\x20", b"\x00\x20"
    everything = {
        "ping": wire.PING,
        "ack": wire.ack((0, 2)),
        "ack-unsent": wire.ack((0, 60)),
        "ack-ecn": wire.ack((0, 0), ecn=(1, 0, 0)),
        "reset": wire.stream(2, b"ab", 5) + wire.reset_stream(2, 1, 9),
        "stop": wire.stop_sending(1, 7),
        "crypto": wire.crypto(0, b"ticket") + wire.crypto(10, b"later"),
        "token": wire.new_token(token),
        "streams": wire.stream(2, b"hello", fin=True) + wire.stream(0, b"x", 10) + wire.stream(0, b"0123456789"),
        "credit": wire.max_data(1 << 20) + wire.max_stream_data(1, 1 << 20) + wire.max_streams(50, True),
        "blocked": wire.data_blocked(1) + wire.stream_data_blocked(0, 2) + wire.streams_blocked(3, False),
        "cids": wire.new_connection_id(1, 1, b"\xb1" * 8, token) + wire.retire_connection_id(1),
        "path": wire.path_challenge(b"8 bytes!") + wire.path_response(b"8 bytes!"),
        "done": wire.HANDSHAKE_DONE,
        "datagram": wire.datagram(b"hello"),
        "close": wire.connection_close(3, None, b"bye"),
        "close-transport": wire.connection_close(10, 6, b"why"),
        "unknown": b"\x21",
    }
    files = {f"server-{name}": server + frames(data) + b"\x09" for name, data in everything.items()}
    files |= {
        "client-sends": client + b"\x07\x00\x80\x00\x07\x41\x00\x08\x07\x03\x40\x00\x09\x05\x10\x09",
        "client-confirmed-late": unconfirmed + b"\x07\x00\x80\x00\x09" + frames(wire.HANDSHAKE_DONE) + b"\x09\x05\x01",
        "key-update": server + frames(wire.PING, how=4) + b"\x09" + frames(wire.PING) + b"\x09",
        "old-number": server + frames(wire.PING, how=1) * 20 + frames(wire.PING, how=2) + b"\x09",
        "twice": server + frames(wire.stream(2, b"hello", fin=True)) * 2 + b"\x09",
        "moved": server + bytes([0x41, 0, 1]) + wire.PING + b"\x09",
        "reflected": client + b"\x07\x00\x80\x00\x09\x04\x01\x00\x00\x01\x09",
        "lost": client + b"\x07\x00\x80\x00\x09\xf6\xff\xff\x09\xf6\xff\xff\x09",
        "raw": server + b"\x80\x20" + bytes(32) + b"\x00\x05hello",
        "resets": client + b"\x07\x01\x80\x00\x08\x01\x09\x08\x02\x09\x08\x00\x09\x08\xfc\x09",
    }
    return files


def quic_peer() -> dict[str, bytes]:
    """Draws of a simulation: any bytes are some."""
    return {f"draws-{size}": random.Random(size).randbytes(size) for size in (2, 64, 200, 400, 1000)}


def quic_adopt() -> dict[str, bytes]:
    """Patches to a good adoption: their number, then place, length and bytes of each (fuzz_quic_adopt.c)."""

    def patched(*patches: tuple[str, bytes]) -> bytes:
        out = bytes([len(patches)])
        for name, data in patches:
            out += QuicAdopt.OFFSETS[name].to_bytes(2, "little") + bytes([len(data)]) + data
        return out

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    return {
        "good": patched() + b"\x00\x00",
        "server": patched(("role", b"\x01")),
        "suite": patched(("suite", b"\x09")),
        "version": patched(("version", number(2, 4))),
        "counts": patched(("local_count", number(9, 4)), ("peer_count", number(0, 4))),
        "lengths": patched(("crypto_len", number(5000, 4)), ("remote_tparams_len", number(600, 4))),
        "early": patched(
            ("early_count", number(2, 4)), ("next_pn", number(7, 8)), ("early", number(3, 8) + number(5, 8))
        ),
        "far": patched(("next_pn", number((1 << 62) - 1, 8)), ("crypto_rx_offset", b"\xff" * 8)),
        "idle": patched(("idle_deadline_ns", number(1, 8)), ("rtt_hint_ns", b"\xff" * 8)),
        "twice": patched() + b"\x00\x01" + patched(("id", number(2, 8))) + b"\x00",
        "remote": patched(("remote_tparams", b"\x0a\x01\x30\x0b\x02\x80\x00")),
    }


MAKERS: dict[str, Callable[[], dict[str, bytes]]] = {
    "solana_tx": solana_tx,
    "eth": eth,
    "rules": rules,
    "records": records,
    "io": io,
    "quic_frames": quic_frames,
    "quic_tparams": quic_tparams,
    "quic_packets": quic_packets,
    "quic_peer": quic_peer,
    "quic_adopt": quic_adopt,
}


def kept(name: str) -> dict[str, bytes]:
    """The corpus as it is committed."""
    return {path.name: path.read_bytes() for path in (CORPUS / name).iterdir()}


def main() -> None:
    for name, make in MAKERS.items():
        folder, files = CORPUS / name, make()
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        print(f"{folder}: {len(files)} files, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()
