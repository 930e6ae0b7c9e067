"""What a hostile or broken peer is answered: the exact transport error code, or nothing at all, and never more memory.

The peer holds the keys (hostile.py), so each case is beneath the encryption. The list is that of the threats that the project
set out with, the 1-RTT cases of h3spec (marked), and what RFC 9000, 9001 and 9221 say must be an error.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from afterburnerd.abi.layout import (
    QuicCid,
    QuicClose,
    QuicEventKind,
    QuicOutcome,
    QuicRefusal,
    QuicRole,
    QuicSend,
    QuicState,
)

from . import seal, wire
from .hostile import ID, REMOTE_PORT, Victim, cid, packed, token
from .network import MS, SECOND

CLIENT, SERVER = QuicRole.CLIENT, QuicRole.SERVER
BIG = wire.MAX_VARINT

# Streams as the peer of a server (a client) numbers them.
PEER_BIDI, OUR_BIDI, PEER_UNI, OUR_UNI = 0, 1, 2, 3


def ncid(sequence: int, retire: int = 0, **changes: Any) -> bytes:
    return wire.new_connection_id(sequence, retire, changes.get("cid", cid(1, sequence)), changes.get("token", token(1, sequence)))  # fmt: skip


# (name, what the peer says in one packet, the code that it must be closed with[, the type of the frame that is blamed])
CASES: list[tuple[str, list[bytes], int, int | None]] = [
    # flow control, RFC 9000 4.1
    ("h3spec: a STREAM with a large offset", [wire.stream(PEER_BIDI, b"GET /\r\n", 100_000_000, True)], wire.FLOW_CONTROL_ERROR, 0x0F),
    ("one byte over the window of a stream", [wire.stream(PEER_UNI, b"x", 1000)], wire.FLOW_CONTROL_ERROR, None),
    ("one byte over the window of a bidirectional stream", [wire.stream(PEER_BIDI, b"x", 2000)], wire.FLOW_CONTROL_ERROR, None),
    ("over the window of the connection", [wire.stream(4 * i + 2, b"x", 999) for i in range(8)] + [wire.stream(0, b"x", 1999), wire.stream(4, b"x", 1999)], wire.FLOW_CONTROL_ERROR, None),
    ("RESET_STREAM whose final size is over the window", [wire.reset_stream(PEER_UNI, 0, 1001)], wire.FLOW_CONTROL_ERROR, 0x04),
    ("offset and length above 2^62 - 1", [wire.stream(PEER_UNI, b"xx", BIG)], wire.FRAME_ENCODING_ERROR, None),
    # stream limits, RFC 9000 4.6
    ("h3spec: a stream ID over the limit", [wire.stream(1_000_000_000, b"x")], wire.STREAM_LIMIT_ERROR, None),
    ("the first unidirectional stream over the limit", [wire.stream(PEER_UNI + 4 * 8, b"x", fin=True)], wire.STREAM_LIMIT_ERROR, None),
    ("the first bidirectional stream over the limit", [wire.stream(PEER_BIDI + 4 * 4, b"x")], wire.STREAM_LIMIT_ERROR, None),
    ("RESET_STREAM over the limit", [wire.reset_stream(PEER_UNI + 4 * 8, 0, 0)], wire.STREAM_LIMIT_ERROR, 0x04),
    ("STOP_SENDING over the limit", [wire.stop_sending(PEER_BIDI + 4 * 4, 0)], wire.STREAM_LIMIT_ERROR, 0x05),
    ("MAX_STREAM_DATA over the limit", [wire.max_stream_data(PEER_BIDI + 4 * 4, 10)], wire.STREAM_LIMIT_ERROR, 0x11),
    ("h3spec: MAX_STREAMS above 2^60", [wire.max_streams((1 << 60) + 1, False)], wire.FRAME_ENCODING_ERROR, 0x12),
    ("MAX_STREAMS above 2^60, unidirectional", [wire.max_streams((1 << 60) + 1, True)], wire.FRAME_ENCODING_ERROR, 0x13),
    ("h3spec: STREAMS_BLOCKED above 2^60", [wire.streams_blocked((1 << 60) + 1, False)], wire.FRAME_ENCODING_ERROR, 0x16),
    # stream states and directions, RFC 9000 19.4 to 19.13
    ("h3spec: RESET_STREAM for a send-only stream", [wire.reset_stream(OUR_UNI, 0, 0)], wire.STREAM_STATE_ERROR, 0x04),
    ("h3spec: STOP_SENDING for a stream that does not exist", [wire.stop_sending(101, 0)], wire.STREAM_STATE_ERROR, 0x05),
    ("STOP_SENDING for a receive-only stream", [wire.stop_sending(PEER_UNI, 0)], wire.STREAM_STATE_ERROR, 0x05),
    ("h3spec: STREAM for one of ours that is not there yet", [wire.stream(OUR_BIDI, b"")], wire.STREAM_STATE_ERROR, None),
    ("h3spec: STREAM for a send-only stream", [wire.stream(OUR_UNI, b"")], wire.STREAM_STATE_ERROR, None),
    ("h3spec: MAX_STREAM_DATA for one of ours that is not there yet", [wire.max_stream_data(101, 1_000_000)], wire.STREAM_STATE_ERROR, 0x11),
    ("h3spec: MAX_STREAM_DATA for a receive-only stream", [wire.max_stream_data(PEER_UNI, 1_000_000)], wire.STREAM_STATE_ERROR, 0x11),
    ("STREAM_DATA_BLOCKED for a send-only stream", [wire.stream_data_blocked(OUR_UNI, 0)], wire.STREAM_STATE_ERROR, 0x15),
    # final sizes, RFC 9000 4.5
    ("data behind a FIN", [wire.stream(PEER_BIDI, b"x", 9, True), wire.stream(PEER_BIDI, b"y", 10)], wire.FINAL_SIZE_ERROR, None),
    ("a second FIN elsewhere", [wire.stream(PEER_BIDI, b"x", 10, True), wire.stream(PEER_BIDI, b"x", 12, True)], wire.FINAL_SIZE_ERROR, None),
    ("a FIN below what has come", [wire.stream(PEER_BIDI, b"x", 10), wire.stream(PEER_BIDI, b"x", 5, True)], wire.FINAL_SIZE_ERROR, None),
    ("RESET_STREAM with another final size", [wire.stream(PEER_BIDI, b"x", 10, True), wire.reset_stream(PEER_BIDI, 0, 12)], wire.FINAL_SIZE_ERROR, 0x04),
    ("RESET_STREAM below what has come", [wire.stream(PEER_BIDI, b"x", 10), wire.reset_stream(PEER_BIDI, 0, 5)], wire.FINAL_SIZE_ERROR, 0x04),
    # acknowledgements, RFC 9000 13.1, 19.3
    ("ACK of a packet that was not sent", [wire.ack((0, 1000))], wire.PROTOCOL_VIOLATION, 0x02),
    ("ACK of the next packet", [wire.ack((11, 10_000_000))], wire.PROTOCOL_VIOLATION, 0x02),
    ("ACK with a negative first range", [b"\x02" + wire.varint(5) + wire.varint(0) + wire.varint(0) + wire.varint(6)], wire.FRAME_ENCODING_ERROR, 0x02),
    ("ACK with a negative later range", [b"\x02" + wire.varint(5) + wire.varint(0) + wire.varint(1) + wire.varint(0) + wire.varint(9) + wire.varint(0)], wire.FRAME_ENCODING_ERROR, 0x02),
    ("ACK whose ranges are cut off", [b"\x02" + wire.varint(10) + wire.varint(0) + wire.varint(9) + wire.varint(0)], wire.FRAME_ENCODING_ERROR, 0x02),
    ("ACK that promises 2^60 ranges", [b"\x02" + wire.varint(10) + wire.varint(0) + wire.varint(1 << 60) + wire.varint(0) * 4], wire.FRAME_ENCODING_ERROR, 0x02),
    # connection IDs, RFC 9000 5.1, 19.15, 19.16
    ("h3spec: NEW_CONNECTION_ID that retires more than it brings", [wire.new_connection_id(1, 11, cid(1, 1), token(1, 1))], wire.FRAME_ENCODING_ERROR, 0x18),
    ("h3spec: NEW_CONNECTION_ID of no bytes", [wire.new_connection_id(1, 0, b"", token(1, 1))], wire.FRAME_ENCODING_ERROR, 0x18),
    ("NEW_CONNECTION_ID of 21 bytes", [wire.new_connection_id(1, 0, bytes(21), token(1, 1))], wire.FRAME_ENCODING_ERROR, 0x18),
    ("more NEW_CONNECTION_IDs than we allow", [ncid(i) for i in range(1, 6)], wire.CONNECTION_ID_LIMIT_ERROR, 0x18),
    ("a sequence number with two connection IDs", [ncid(1), ncid(1, cid=b"otherone")], wire.PROTOCOL_VIOLATION, 0x18),
    ("a sequence number with two tokens", [ncid(1), ncid(1, token=b"x" * 16)], wire.PROTOCOL_VIOLATION, 0x18),
    ("a connection ID with two sequence numbers", [ncid(1), ncid(2, cid=cid(1, 1))], wire.PROTOCOL_VIOLATION, 0x18),
    ("RETIRE_CONNECTION_ID of one that we never gave", [wire.retire_connection_id(99)], wire.PROTOCOL_VIOLATION, 0x19),
    ("RETIRE_CONNECTION_ID of the one that it came on", [wire.retire_connection_id(0)], wire.PROTOCOL_VIOLATION, 0x19),
    # frames that a server does not take, RFC 9000 19.7, 19.20
    ("h3spec: NEW_TOKEN to a server", [wire.new_token(b"DUMMY")], wire.PROTOCOL_VIOLATION, 0x07),
    ("h3spec: HANDSHAKE_DONE to a server", [wire.HANDSHAKE_DONE], wire.PROTOCOL_VIOLATION, 0x1E),
    # encoding
    ("h3spec: a frame of an unknown type", [b"\x20"], wire.FRAME_ENCODING_ERROR, 0x20),
    ("a frame of an unknown long type", [wire.varint(0x1234_5678)], wire.FRAME_ENCODING_ERROR, None),
    ("a type that is cut off", [wire.PING, b"\x40"], wire.FRAME_ENCODING_ERROR, None),
    ("PING in a longer encoding", [b"\x40\x01"], wire.PROTOCOL_VIOLATION, None),
    ("STREAM longer than its packet", [b"\x0a" + wire.varint(2) + wire.varint(100) + b"short"], wire.FRAME_ENCODING_ERROR, 0x0A),
    ("CRYPTO longer than its packet", [b"\x06" + wire.varint(0) + wire.varint(100) + b"short"], wire.FRAME_ENCODING_ERROR, 0x06),
    ("CRYPTO above 2^62 - 1", [wire.crypto(BIG, b"xx")], wire.FRAME_ENCODING_ERROR, 0x06),
    ("PATH_CHALLENGE that is cut off", [b"\x1a1234"], wire.FRAME_ENCODING_ERROR, 0x1A),
    ("PATH_RESPONSE that is cut off", [b"\x1b1234"], wire.FRAME_ENCODING_ERROR, 0x1B),
    ("RESET_STREAM that is cut off", [b"\x04\x00"], wire.FRAME_ENCODING_ERROR, 0x04),
    ("STOP_SENDING that is cut off", [b"\x05\x00"], wire.FRAME_ENCODING_ERROR, 0x05),
    ("MAX_DATA that is cut off", [b"\x10\x80"], wire.FRAME_ENCODING_ERROR, 0x10),
    ("NEW_CONNECTION_ID that is cut off", [b"\x18\x01\x00\x08abcdefgh"], wire.FRAME_ENCODING_ERROR, 0x18),
    ("CONNECTION_CLOSE whose reason is cut off", [b"\x1c\x00\x00\x40\x64gone"], wire.FRAME_ENCODING_ERROR, 0x1C),
    ("DATAGRAM longer than its packet", [b"\x31\x40\x64short"], wire.FRAME_ENCODING_ERROR, 0x31),
    # DATAGRAM, RFC 9221 3
    ("a DATAGRAM frame over our limit", [wire.datagram(bytes(1199))], wire.PROTOCOL_VIOLATION, 0x31),
    # CRYPTO, RFC 9000 7.5
    ("CRYPTO far beyond what we keep", [wire.crypto(1_000_000, b"x")], wire.CRYPTO_BUFFER_EXCEEDED, 0x06),
]  # fmt: skip


@pytest.mark.parametrize(("frames", "code", "blamed"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_an_error_of_the_peer_closes_with_its_code(frames: list[bytes], code: int, blamed: int | None) -> None:
    e = Victim(SERVER)
    e.say(*frames)
    assert e.closed, f"not closed; said: {e.frames}"
    assert (e.closed.app, e.closed.code) == (False, code), e.closed
    assert blamed is None or e.closed.cause == blamed, e.closed
    ended = e.ended()
    assert ended and (ended.by, ended.code, ended.is_app) == (QuicClose.ERROR, code, 0)


@pytest.mark.parametrize("suite", seal.SUITES)
def test_the_error_is_the_same_with_every_cipher(suite: int) -> None:
    e = Victim(SERVER, suite=suite)
    e.say(wire.HANDSHAKE_DONE)
    assert e.closed and e.closed.code == wire.PROTOCOL_VIOLATION


@pytest.mark.parametrize(
    "frames",
    [
        [wire.stream(PEER_BIDI, b"hello", fin=True), wire.stream(PEER_BIDI, b"x", 5)],
        [wire.reset_stream(PEER_BIDI, 0, 5), wire.reset_stream(PEER_BIDI, 0, 6)],
        [wire.reset_stream(PEER_BIDI, 0, 5), wire.stream(PEER_BIDI, b"x", 5)],
    ],
    ids=["data behind a FIN that was told", "two RESET_STREAMs that differ", "data behind a RESET_STREAM"],
)
def test_what_comes_for_a_stream_that_is_over_is_never_told(frames: list[bytes]) -> None:
    """RFC 9000 4.5: FINAL_SIZE_ERROR is not asked of who has forgotten the stream; silence is."""
    e = Victim(SERVER)
    e.say(frames[0])
    before = len(e.told)
    e.say(frames[1])
    assert len(e.told) == before
    assert e.closed is None or e.closed.code == wire.FINAL_SIZE_ERROR


CLIENT_CASES: list[tuple[str, list[bytes], int]] = [
    ("NEW_TOKEN without a token", [wire.new_token(b"")], wire.FRAME_ENCODING_ERROR),
    ("STREAM on our unidirectional stream", [wire.stream(2, b"x")], wire.STREAM_STATE_ERROR),
    ("STREAM on our bidirectional stream that is not there", [wire.stream(0, b"x")], wire.STREAM_STATE_ERROR),
    ("a stream of the server over the limit", [wire.stream(3 + 4 * 8, b"x")], wire.STREAM_LIMIT_ERROR),
]


@pytest.mark.parametrize(("frames", "code"), [c[1:] for c in CLIENT_CASES], ids=[c[0] for c in CLIENT_CASES])
def test_an_error_of_a_server_closes_with_its_code(frames: list[bytes], code: int) -> None:
    e = Victim(CLIENT)
    e.say(*frames)
    assert e.closed and e.closed.code == code, e.frames


# --- packets -----------------------------------------------------------------------------------------------------------


def test_h3spec_a_packet_without_frames_is_a_protocol_violation() -> None:
    e = Victim()
    e.say(pad=False)
    assert e.closed and e.closed.code == wire.PROTOCOL_VIOLATION


@pytest.mark.parametrize("bits", [0x08, 0x10, 0x18])
def test_h3spec_reserved_bits_are_a_protocol_violation(bits: int) -> None:
    e = Victim()
    e.say(wire.PING, bits=0x40 | bits)
    assert e.closed and e.closed.code == wire.PROTOCOL_VIOLATION


@pytest.mark.parametrize("what", ["empty", "reserved", "frames", "tag"])
def test_nothing_is_an_error_before_the_packet_is_authentic(what: str) -> None:
    e = Victim()
    payload = wire.HANDSHAKE_DONE if what == "frames" else b"" if what == "empty" else wire.PING
    packet = e.sealer.seal(payload, bits=0x58 if what == "reserved" else 0x40, pad=what != "empty")
    e.arrive(packet[:-1] + bytes([packet[-1] ^ 1]))
    assert not e.wait(100 * MS)
    assert e.info()["packets_undecryptable"] == 1
    assert e.alive()


def test_packets_too_short_without_fixed_bit_or_for_others_are_dropped() -> None:
    e = Victim()
    rng = random.Random(1)
    for size in range(1, 60):
        for first in (0x00, 0x40, 0x7F, 0xC0, 0xFF):
            e.arrive(bytes([first]) + cid(0, 0)[: max(0, size - 1)] + rng.randbytes(max(0, size - 9)))
    assert not e.arrive(e.sealer.seal(wire.PING, cid=b"somebody"))
    e.sealer.seal(wire.PING)
    assert not e.closed and e.alive()


def test_a_spoofed_version_negotiation_or_retry_changes_nothing() -> None:
    e = Victim(CLIENT)
    negotiation = b"\x80" + bytes(4) + b"\x08" + cid(0, 0) + b"\x08" + cid(1, 0) + b"\x6b\x33\x43\xcf"
    retry = b"\xf0\x00\x00\x00\x01\x08" + cid(0, 0) + b"\x08" + b"newsrcid" + b"token" + bytes(16)
    for packet in (negotiation, retry):
        assert not e.arrive(packet)
    assert e.alive()


def test_a_replayed_packet_is_dropped_and_delivers_nothing_twice() -> None:
    e = Victim()
    packet = e.sealer.seal(wire.stream(PEER_UNI, b"once", fin=True) + wire.datagram(b"once"))
    for _ in range(5):
        e.arrive(packet)
        e.wait(30 * MS)
    assert len(e.told_of("data")) == 1 and len(e.told_of("datagram")) == 1
    assert e.info()["packets_duplicate"] == 4
    # also long after, when the engine has forgotten the details
    for _ in range(2000):
        e.arrive(e.sealer.seal(wire.PING))
    e.arrive(packet)
    e.wait(30 * MS)
    assert len(e.told_of("data")) == 1 and len(e.told_of("datagram")) == 1


def test_a_stream_that_comes_again_in_other_packets_is_delivered_once() -> None:
    e = Victim()
    for _ in range(3):
        e.say(wire.stream(PEER_UNI, b"once", fin=True))
    e.say(wire.stream(PEER_UNI, b"on"), wire.stream(PEER_UNI, b"ce", 2))
    assert [item[2:] for item in e.told_of("data")] == [(PEER_UNI, 0, b"once", True)]
    assert e.alive()


def test_packet_numbers_of_every_length_and_far_ahead_are_read() -> None:
    e = Victim()
    for size, number in (
        (1, 100),
        (2, 200),
        (3, 30_000),
        (4, 1 << 24),
        (4, (1 << 24) + (1 << 30)),
        (2, (1 << 24) + (1 << 30) + 9),
    ):
        e.frames.clear()
        e.say(wire.PING, number=number, number_bytes=size)
        assert any(lo <= number <= hi for f in e.of("ack") for lo, hi in f.ranges), (size, number)


# --- acknowledgements ---------------------------------------------------------------------------------------------------


def test_an_acknowledgement_of_a_skipped_number_closes_and_moves_no_window() -> None:
    e = Victim(CLIENT, skip_packets=4)
    for _ in range(40):
        assert e.engine.send(ID, QuicSend.UNI, b"x" * 100, e.now)[0] == 0
        e.drain()
    sent = [number for number, _ in e.sent]
    skipped = sorted(set(range(sent[0], sent[-1])) - set(sent))
    assert skipped, "no packet number was left out"
    before = e.info()["cwnd"]
    done = len(e.told_of("done"))
    e.say(wire.ack((sent[0], sent[-1])))
    assert e.closed and e.closed.code == wire.PROTOCOL_VIOLATION
    assert len([d for d in e.told_of("done")[done:] if d[3] == QuicOutcome.ACKNOWLEDGED]) == 0
    assert e.info()["cwnd"] == before


def test_a_truncated_ack_applies_nothing() -> None:
    e = Victim(CLIENT)
    e.engine.send(ID, QuicSend.UNI, b"x" * 100, e.now, token=1)
    e.drain()
    largest = e.opener.least - 1
    e.say(b"\x02" + wire.varint(largest) + wire.varint(0) + wire.varint(3) + wire.varint(0))
    assert e.closed and e.closed.code == wire.FRAME_ENCODING_ERROR
    assert [d[3] for d in e.told_of("done")] == [QuicOutcome.CLOSED]


def test_an_acknowledgement_of_handshake_numbers_is_no_error_of_ours() -> None:
    """aioquic counts all spaces with one counter: numbers below the first of ours were used, but not by us."""
    e = Victim(CLIENT, next_pn=10, settle=False)
    e.say(wire.ack((0, 3)))
    assert e.closed and e.closed.code == wire.PROTOCOL_VIOLATION


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_a_key_update_of_the_peer_is_followed() -> None:
    e = Victim()
    for generation in range(1, 5):
        e.sealer.generation = generation
        answer = e.say(wire.PING)
        assert any(f.kind == "ack" for f in answer)
        assert e.opener.generation == generation, "answered with the old keys"
        e.acknowledge()
        e.wait(4 * SECOND)  # the former keys stay for 3 PTO
    assert e.alive()


def test_a_late_packet_under_the_old_keys_is_read_for_a_while() -> None:
    e = Victim()
    late = e.sealer.seal(wire.datagram(b"late"))
    e.sealer.generation = 1
    e.say(wire.PING)
    e.arrive(late)
    e.wait(MS)
    assert [d[2] for d in e.told_of("datagram")] == [b"late"]


def test_old_keys_on_a_higher_packet_number_are_a_key_update_error() -> None:
    e = Victim()
    e.sealer.generation = 1
    e.say(wire.PING)
    e.say(wire.PING, generation=0)
    assert e.closed and e.closed.code == wire.KEY_UPDATE_ERROR


def test_a_second_update_before_the_first_was_acknowledged_is_an_error_or_unreadable() -> None:
    """RFC 9001 6.1, 6.2: a peer must not; the engine may drop what it has no key for, and must not follow."""
    e = Victim()
    e.sealer.generation = 1
    e.arrive(e.sealer.seal(wire.PING))
    e.sealer.generation = 2
    e.arrive(e.sealer.seal(wire.PING))
    e.wait(30 * MS)
    assert e.info()["rx_generation"] <= 1
    assert e.closed is None or e.closed.code == wire.KEY_UPDATE_ERROR


def test_a_second_update_that_takes_its_time_is_an_error_where_the_first_had_no_answer() -> None:
    """Nothing of ours was sealed with the keys of the first, so the peer cannot have an acknowledgement of it (6.1)."""
    e = Victim()
    e.sealer.generation = 1
    assert not e.say(wire.PADDING * 3)  # nothing that is to be acknowledged
    e.wait(10 * SECOND)  # the next key is there
    e.sealer.generation = 2
    e.say(wire.PING)
    assert e.closed and e.closed.code == wire.KEY_UPDATE_ERROR
    assert e.opener.generation == 1


def test_a_client_takes_no_key_update_from_another_address() -> None:
    """RFC 9000 9: it discards what comes from there, so there would be no answer in the new keys."""
    e = Victim(CLIENT)
    e.sealer.generation = 1
    assert not e.say(wire.PING, port=REMOTE_PORT + 1)
    assert e.info()["rx_generation"] == 0
    assert not e.say(wire.PING, port=REMOTE_PORT + 1, bits=0x58)  # nor reserved bits
    e.sealer.generation = 0
    assert e.alive()


def test_our_own_update_gives_the_peer_time_to_make_the_next_key() -> None:
    """Its 3 PTO (RFC 9001 6.5) are not ours: until they are over it hears nothing of us, should we update again."""
    e = Victim(CLIENT, key_update_packets=20, theirs={"initial_max_streams_uni": 10_000, "initial_max_data": 1 << 20})
    updated: list[int] = []
    for _ in range(2000):
        e.engine.send(ID, QuicSend.UNI, b"x" * 50, e.now)
        before = e.opener.generation
        e.drain()
        e.sealer.generation = e.opener.generation
        if e.opener.generation != before:
            updated.append(e.now)
        e.acknowledge()
        e.now += 5 * MS
    assert len(updated) > 3 and not e.closed
    assert min(later - sooner for sooner, later in pairwise(updated)) >= SECOND


def test_our_own_update_comes_in_time_for_the_limit() -> None:
    e = Victim(CLIENT, key_update_packets=20, confidentiality_limit=1000)
    for _ in range(100):
        e.engine.send(ID, QuicSend.UNI, b"x" * 50, e.now)
        e.drain()
        e.sealer.generation = e.opener.generation
        e.acknowledge()
        e.wait(MS)
        e.now += SECOND
    assert e.opener.generation >= 3 and not e.closed
    assert e.event(QuicEventKind.KEY_UPDATE)


def test_the_confidentiality_limit_closes_where_no_update_is_possible() -> None:
    """A peer that never acknowledges keeps us from a second update: the connection ends before the limit is passed."""
    e = Victim(CLIENT, key_update_packets=10, confidentiality_limit=40, keep_alive_ms=10)
    counts: dict[int, int] = {}
    for _ in range(2000):
        e.now += 10 * MS
        e.arrive(e.sealer.seal(wire.PING))
        for _ in e.drain():
            pass
        if e.closed:
            break
    for number, _ in e.sent:
        counts[number] = counts.get(number, 0) + 1
    assert e.closed and e.closed.code == wire.AEAD_LIMIT_REACHED, e.opener.generation
    assert len(e.sent) <= 2 * 40 + 2


def test_a_peer_that_acknowledges_nothing_does_not_take_all_records_of_packets() -> None:
    """What we have sent is remembered until it is acknowledged; what nobody acknowledges gives way to our own acknowledgements."""
    e = Victim(packets=256, keep_alive_ms=100)
    assert e.engine.send(ID, QuicSend.UNI, b"never acknowledged", e.now)[0] == 0
    for _ in range(3000):
        assert any(f.kind == "ack" for f in e.say(wire.PING)), "silent"
        e.now += 100 * MS  # 390 s altogether, in which many a PTO expires
    assert not e.closed
    e.acknowledge()
    e.wait(SECOND)
    fates = e.told_of("done")
    assert [fate[3] for fate in fates] == [QuicOutcome.ACKNOWLEDGED], fates
    e.acknowledge()
    e.drain()
    assert e.info()["in_flight"] <= 100, "what gave way is in the window for ever"
    assert e.alive()


@pytest.mark.parametrize("suite", seal.SUITES)
def test_the_integrity_limit_closes(suite: int) -> None:
    e = Victim(suite=suite, integrity_limit=10)
    for i in range(12):
        packet = e.sealer.seal(wire.PING)
        e.arrive(packet[:-1] + bytes([packet[-1] ^ 1]))
        e.drain()
        if i < 8:
            assert not e.closed
    assert e.closed and e.closed.code == wire.AEAD_LIMIT_REACHED


def test_forged_packets_are_counted_over_all_keys() -> None:
    e = Victim(integrity_limit=10)
    for generation in (0, 1):
        e.sealer.generation = generation
        e.say(wire.PING)
        for _ in range(6):
            packet = e.sealer.seal(wire.PING)
            e.arrive(packet[:-1] + bytes([packet[-1] ^ 1]))
    e.drain()
    assert e.closed and e.closed.code == wire.AEAD_LIMIT_REACHED


# --- stateless reset, close ---------------------------------------------------------------------------------------------


def test_a_stateless_reset_with_the_right_token_ends_it_in_silence() -> None:
    e = Victim(CLIENT)
    e.arrive(b"\x40" + bytes(30) + token(1, 0))  # to a connection ID that is not ours: the supervisor's to find
    assert not e.ended()
    e.arrive(b"\x40" + cid(0, 0) + b"\x11" * 20 + token(1, 0))
    assert not e.wait(10 * SECOND), "it answered a stateless reset"
    ended = e.ended()
    assert ended and ended.by == QuicClose.RESET


def test_a_stateless_reset_with_a_wrong_token_is_noise() -> None:
    e = Victim(CLIENT)
    for guess in (token(1, 1), bytes(16), token(0, 0), token(1, 0)[:-1] + b"\xff"):
        e.arrive(b"\x40" + cid(0, 0) + b"\x11" * 20 + guess)
    assert not e.wait(30 * MS) and e.alive()


def test_the_token_of_a_connection_id_that_is_not_in_use_yet_resets_nothing_before_it_is() -> None:
    e = Victim(CLIENT)
    e.say(ncid(1))
    e.arrive(b"\x40" + cid(0, 0) + b"\x11" * 20 + token(1, 1))
    e.drain()
    assert not e.ended() and e.alive()


def test_a_peer_that_closes_is_answered_with_silence() -> None:
    e = Victim()
    answer = e.say(wire.connection_close(0, None, b"bye"))
    for _ in range(20):
        answer += e.say(wire.PING)
    # RFC 9000 10.2.2: one packet with CONNECTION_CLOSE may be sent before draining, and nothing afterwards
    assert {f.kind for f in answer} <= {"connection_close"} and len(answer) <= 1
    ended = e.ended()
    assert ended and (ended.by, ended.is_app, ended.code) == (QuicClose.PEER, 1, 0)
    e.wait(60 * SECOND)
    assert e.engine.totals()["connections"] == 0


def test_the_reason_of_a_close_is_bounded() -> None:
    e = Victim()
    e.say(wire.connection_close(5, 0x02, b"z" * 1000))
    [(event, body)] = e.event(QuicEventKind.CLOSED)
    assert event.code == 5 and event.number == 2 and body.count(b"z") <= 256


def test_a_closed_connection_answers_less_and_less_and_ends() -> None:
    e = Victim()
    e.engine.close(ID, True, 3, b"enough", e.now)
    e.drain()
    for _ in range(200):
        e.now += 5 * MS
        e.arrive(e.sealer.seal(wire.PING))
        e.drain()
    assert all(f.kind in ("connection_close", "padding") for f in e.frames)
    assert 2 <= len(e.sent) <= 20, f"{len(e.sent)} packets for 200"
    assert all((f.code, f.app) == (3, True) for f in e.of("connection_close"))
    e.wait(60 * SECOND)
    totals = e.engine.totals()
    assert totals["connections"] == totals["slots_used"] == totals["blocks_used"] == totals["objects_used"] == 0


def test_an_idle_connection_ends_in_silence() -> None:
    e = Victim()
    answer = e.wait(40 * SECOND)
    ended = e.ended()
    assert ended and ended.by == QuicClose.IDLE and not any(f.kind == "connection_close" for f in answer)


# --- floods: memory stays what it was ------------------------------------------------------------------------------------


def flood(e: Victim, make: Callable[[int], bytes], packets: int = 3000) -> None:
    before = e.engine.totals()["memory_bytes"]
    for i in range(packets):
        e.arrive(e.sealer.seal(make(i)))
        if i % 16 == 15:
            e.drain()
            e.acknowledge()
            e.now += MS
        if e.closed:
            break
    e.drain()
    totals = e.engine.totals()
    assert totals["memory_bytes"] == before
    assert totals["blocks_used"] < totals["blocks"]


def test_a_flood_of_path_challenges_is_answered_within_bounds() -> None:
    e = Victim()
    flood(e, lambda i: b"".join(wire.path_challenge((i * 100 + k).to_bytes(8, "big")) for k in range(100)))
    assert len(e.of("path_response")) <= 3000 * 2
    assert e.alive()


def test_a_flood_of_new_connection_ids_is_bounded() -> None:
    """Each retires the one before, so the limit is kept, and what is owed in RETIRE_CONNECTION_ID grows: it must not, for ever."""
    e = Victim()

    def one(i: int) -> bytes:
        name = i.to_bytes(8, "big")
        return wire.new_connection_id(i + 1, i + 1, name, name * 2)

    flood(e, one)
    assert e.closed is None or e.closed.code in (wire.CONNECTION_ID_LIMIT_ERROR, wire.PROTOCOL_VIOLATION)


def test_new_connection_ids_whose_retirement_is_never_acknowledged_end_the_connection() -> None:
    e = Victim()
    for i in range(200):
        name = i.to_bytes(8, "big")
        e.arrive(e.sealer.seal(wire.new_connection_id(i + 1, i + 1, name, name * 2)))
        e.drain()
        if e.closed:
            break
    assert e.closed and e.closed.code == wire.CONNECTION_ID_LIMIT_ERROR


def test_a_connection_id_that_the_peer_wants_back_is_retired_and_used_no_more() -> None:
    e = Victim()
    e.say(ncid(1), ncid(2, 2))
    assert sorted(f.sequence for f in e.of("retire_connection_id")) == [0, 1]
    e.say(wire.PING)
    assert e.opener.cid == cid(1, 2)


def test_connection_ids_of_ours_are_announced_and_replaced_from_the_stock() -> None:
    e = Victim(local_cids=3, settle=False)
    e.drain()
    assert sorted(f.sequence for f in e.of("new_connection_id")) == [1, 2]
    assert all(f.token == token(0, f.sequence) and f.cid == cid(0, f.sequence) for f in e.of("new_connection_id"))
    e.say(wire.retire_connection_id(0), cid=cid(0, 1))
    [(_, body)] = e.event(QuicEventKind.CID_RETIRED)
    assert QuicCid.unpack(body).seq == 0
    assert e.arrive(e.sealer.seal(wire.PING)), "what was sent to it before it was retired may come after"
    e.wait(5 * SECOND)  # 3 PTO without an RTT are some three
    assert not e.arrive(e.sealer.seal(wire.PING)), "a retired connection ID is taken for ever"
    assert e.engine.stock(ID, packed(0, 3).pack()) == 1
    e.sealer.cid = cid(0, 1)
    e.say(wire.PING)
    assert 3 in [f.sequence for f in e.of("new_connection_id")]


def test_a_flood_of_retired_connection_ids_is_bounded() -> None:
    e = Victim(local_cids=4)
    flood(e, lambda i: wire.retire_connection_id(1 + i % 3))
    assert e.alive()


def test_a_flood_of_crypto_is_bounded() -> None:
    e = Victim(CLIENT)
    flood(e, lambda i: wire.crypto(2 * i + 2, b"x"))
    assert e.closed and e.closed.code == wire.CRYPTO_BUFFER_EXCEEDED


def test_a_flood_of_pings_and_gaps_is_acknowledged_within_bounds() -> None:
    e = Victim()
    for i in range(4000):
        e.arrive(e.sealer.seal(wire.PING, number=10 + 2 * i))
        if i % 50 == 49:
            e.now += MS
            e.drain()
    assert e.of("ack") and all(len(f.ranges) <= 256 for f in e.of("ack"))
    e.sealer.number = 20_000
    assert e.alive()


def test_a_flood_of_small_stream_fragments_is_bounded() -> None:
    e = Victim()
    flood(e, lambda i: wire.stream(PEER_BIDI, b"x", 1 + (2 * i) % 1990))
    assert e.closed is None or e.closed.code in (wire.INTERNAL_ERROR, wire.PROTOCOL_VIOLATION, wire.FLOW_CONTROL_ERROR)


def test_a_flood_of_resets_and_stops_is_bounded() -> None:
    e = Victim()

    def one(i: int) -> bytes:
        stream = 4 * (i % 4)
        return wire.stop_sending(stream, i) + wire.stream_data_blocked(stream, i) + wire.data_blocked(i)

    flood(e, one)
    assert e.alive()


def test_an_acknowledgement_of_the_same_packets_again_and_again_changes_nothing() -> None:
    e = Victim(CLIENT)
    e.engine.send(ID, QuicSend.UNI, b"x" * 100, e.now, token=1)
    e.drain()
    for _ in range(500):
        e.acknowledge()
    e.drain()
    assert [d[2:4] for d in e.told_of("done")] == [(1, QuicOutcome.ACKNOWLEDGED)]
    assert e.alive()


# --- migration -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        [wire.PING],
        [wire.PATH_CHALLENGE_ZERO],
        [wire.PATH_CHALLENGE_ZERO, wire.PING],
        [wire.PING, wire.PATH_CHALLENGE_ZERO, wire.PATH_CHALLENGE_ZERO],
    ],
)
@pytest.mark.parametrize("padding", [0, 200, 500])
def test_a_new_address_is_validated_and_gets_no_more_than_three_times_what_came_from_it(
    frames: list[bytes], padding: int
) -> None:
    e = Victim(SERVER, local_cids=2)
    for _ in range(40):
        e.engine.send(ID, QuicSend.UNI, b"x" * 1000, e.now)
    came = 0
    for _ in range(3):
        packet = e.sealer.seal(b"".join(frames) + bytes(padding))
        e.arrive(packet, port=9999)
        came += len(packet)
        e.wait(100 * MS)
        assert 0 < e.bytes_to[9999] <= 3 * came
    e.wait(5 * SECOND)
    assert e.bytes_to[9999] <= 3 * came
    assert (wire.PING not in frames) or e.of("path_challenge"), "the new address was not challenged"


def test_an_answer_to_the_challenge_validates_the_address() -> None:
    e = Victim(SERVER, local_cids=2)
    e.arrive(e.sealer.seal(wire.PING), port=9999)
    e.drain()
    [challenge, *_] = e.of("path_challenge")
    e.say(wire.path_response(challenge.data), port=9999)
    migrated = e.event(QuicEventKind.MIGRATED)
    assert len(migrated) == 1
    e.sent_to.clear()
    e.say(wire.PING, port=9999)
    assert set(e.sent_to) == {9999}


def test_a_wrong_answer_to_a_challenge_validates_nothing() -> None:
    e = Victim(SERVER, local_cids=2)
    e.arrive(e.sealer.seal(wire.PING), port=9999)
    e.drain()
    e.say(wire.path_response(b"guessed!"), port=9999)
    assert not e.event(QuicEventKind.MIGRATED) and not e.closed


def test_a_client_ignores_packets_from_another_address() -> None:
    e = Victim(CLIENT)
    assert not e.say(wire.PING, port=REMOTE_PORT + 1)
    assert e.alive()


def test_an_old_packet_from_another_address_moves_nothing() -> None:
    e = Victim(SERVER)
    late = e.sealer.seal(wire.PING)
    e.say(wire.PING)
    e.arrive(late, port=9999)
    e.wait(30 * MS)
    assert set(e.sent_to) == {REMOTE_PORT}


# --- transport parameters (the engine parses the peer's): adoption is refused --------------------------------------------

BAD_PARAMETERS: list[tuple[str, dict[str, Any]]] = [
    ("h3spec: original_destination_connection_id of a client", {"original_destination_connection_id": b"DUMMY"}),
    ("h3spec: preferred_address of a client", {"preferred_address": bytes(41)}),
    ("h3spec: retry_source_connection_id of a client", {"retry_source_connection_id": b"DUMMY"}),
    ("h3spec: stateless_reset_token of a client", {"stateless_reset_token": bytes(16)}),
    ("h3spec: max_udp_payload_size below 1200", {"max_udp_payload_size": 1090}),
    ("h3spec: ack_delay_exponent above 20", {"ack_delay_exponent": 30}),
    ("h3spec: max_ack_delay of 2^14 and more", {"max_ack_delay": 1 << 15}),
    ("active_connection_id_limit below 2", {"active_connection_id_limit": 1}),
    ("initial_max_streams_uni above 2^60", {"initial_max_streams_uni": (1 << 60) + 1}),
    ("initial_max_streams_bidi above 2^60", {"initial_max_streams_bidi": (1 << 60) + 1}),
    ("a number with bytes left over", {"max_ack_delay": b"\x19\x00"}),
    ("a flag with a value", {"disable_active_migration": b"\x01"}),
]


@pytest.mark.parametrize("theirs", [c[1] for c in BAD_PARAMETERS], ids=[c[0] for c in BAD_PARAMETERS])
def test_wrong_transport_parameters_of_a_peer_are_refused(theirs: dict[str, Any]) -> None:
    Victim(SERVER, theirs=theirs, expect=QuicRefusal.PEER_TPARAMS)


def test_h3spec_parameters_without_initial_source_connection_id_or_twice_are_refused() -> None:
    Victim(SERVER, raw_theirs=wire.parameters(max_idle_timeout=1000), expect=QuicRefusal.PEER_TPARAMS)
    twice = wire.parameters(initial_source_connection_id=cid(1, 0)) + wire.parameters(max_ack_delay=3) * 2
    Victim(SERVER, raw_theirs=twice, expect=QuicRefusal.PEER_TPARAMS)
    Victim(SERVER, raw_theirs=b"\x01\x08\x00", expect=QuicRefusal.PEER_TPARAMS)


def test_unknown_parameters_are_no_error() -> None:
    raw = wire.parameters(initial_source_connection_id=cid(1, 0)) + wire.varint(31 * 77 + 27) + b"\x03abc"
    assert Victim(SERVER, raw_theirs=raw).alive()


# --- what is allowed and odd ----------------------------------------------------------------------------------------------


def test_h3spec_crypto_of_a_client_is_handed_up_or_closed_with_the_alert() -> None:
    """KeyUpdate of TLS in 1-RTT: an engine without TLS hands the bytes up, and the supervisor answers with the alert."""
    e = Victim(SERVER)
    e.say(wire.crypto(0, b"\x18\x00\x00\x01\x01"))
    if e.closed:
        assert e.closed.code == wire.UNEXPECTED_MESSAGE
    else:
        [(_, body)] = e.event(QuicEventKind.CRYPTO)
        assert body == b"\x18\x00\x00\x01\x01"


def test_frames_without_consequences_change_nothing() -> None:
    e = Victim(CLIENT)
    e.say(wire.data_blocked(5), wire.streams_blocked(9, True), wire.path_response(b"12345678"), wire.max_data(1))
    e.say(wire.max_streams(1, True), wire.PADDING * 100, wire.HANDSHAKE_DONE, wire.HANDSHAKE_DONE)
    assert e.alive()


def test_the_widest_of_everything_is_no_error() -> None:
    e = Victim(CLIENT)
    e.say(
        wire.max_data(BIG),
        wire.max_streams(1 << 60, True),
        wire.max_streams(1 << 60, False),
        wire.ack((10, 10), delay=BIG),
    )
    assert e.alive() or e.closed


def test_messages_under_way_fail_typed_when_the_peer_closes() -> None:
    e = Victim(CLIENT)
    for i in range(5):
        e.engine.send(ID, QuicSend.UNI, b"x" * 500, e.now, token=i + 1)
    e.drain()
    e.say(wire.connection_close(2, None))
    assert sorted(d[2] for d in e.told_of("done")) == [1, 2, 3, 4, 5]
    assert {d[3] for d in e.told_of("done")} == {QuicOutcome.CLOSED}
    assert e.engine.send(ID, QuicSend.UNI, b"late", e.now)[0] < 0


def test_a_peer_that_stops_a_stream_gets_a_reset_and_we_a_fate() -> None:
    e = Victim(CLIENT)
    code, stream = e.engine.send(ID, QuicSend.BIDI_OPEN, b"x" * 500, e.now, token=1)
    assert code == 0
    e.drain()
    e.say(wire.stop_sending(stream, 77))
    [reset] = e.of("reset_stream")
    assert (reset.stream, reset.code) == (stream, 77)
    e.acknowledge()
    e.drain()
    assert [d[2] for d in e.told_of("done")] == [1]


def test_the_handshake_state_of_a_client_ends_with_handshake_done() -> None:
    e = Victim(CLIENT, confirmed=False, settle=False)
    assert e.info()["state"] == QuicState.HANDSHAKE
    e.say(wire.HANDSHAKE_DONE)
    assert e.info()["state"] == QuicState.OPEN
    assert len(e.event(QuicEventKind.CONFIRMED)) == 1


def test_frames_about_a_stream_of_0rtt_that_is_not_sent_again_yet_are_no_error() -> None:
    """The server has seen it, and may ask to stop it before the engine has its message. What it says comes again."""
    e = Victim(CLIENT, settle=False, state={"early_accepted": 1, "early_uni": 3})
    e.say(wire.stop_sending(10, 5))
    assert not e.closed and not any(f.kind == "ack" for f in e.frames)
    assert e.engine.send(ID, QuicSend.UNI_OPEN, b"its stream would be one of theirs", e.now)[0] == -1021
    for n in range(3):
        e.engine.send(ID, QuicSend.UNI, b"again", e.now, token=1 + n)
    e.drain()
    e.say(wire.stop_sending(10, 5), wire.max_stream_data(2, 20_000))
    assert [f.stream for f in e.of("stream")] == [2, 6, 10] and any(f.kind == "ack" for f in e.frames)
    assert e.engine.send(ID, QuicSend.UNI_OPEN, b"the fourth", e.now) == (0, 14)
    e.wait(MS)
    e.say(wire.stop_sending(18, 5))
    assert e.closed is not None and e.closed.code == wire.STREAM_STATE_ERROR


def test_a_path_response_fills_its_datagram() -> None:
    """RFC 9000 8.2.2: so that who asks learns that the path carries 1,200 bytes."""
    e = Victim(SERVER)
    before = e.bytes_to[REMOTE_PORT]
    e.arrive(e.sealer.seal(wire.PATH_CHALLENGE_ZERO))
    assert [f.kind for f in e.drain() if f.kind != "padding"] == ["path_response"]
    assert e.bytes_to[REMOTE_PORT] - before == 1200


def test_no_probe_and_no_key_update_before_the_handshake_is_confirmed() -> None:
    """RFC 9002 6.2.1, RFC 9001 6.1: a client that has not heard HANDSHAKE_DONE does neither, and both afterwards."""
    e = Victim(CLIENT, confirmed=False, key_update_packets=5)
    for n in range(12):
        e.engine.send(ID, QuicSend.UNI, b"once", e.now, token=n)
        e.drain()
    sent = len(e.sent)
    e.wait(3 * SECOND)
    assert len(e.sent) == sent and e.info()["tx_generation"] == 0
    e.say(wire.HANDSHAKE_DONE, after=3 * SECOND)
    assert len(e.sent) > sent + 1
