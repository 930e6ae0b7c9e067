"""Rings of commands and events: order, room, wiping, and the other side's lies."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from collections.abc import Iterator

import pytest

from afterburnerd.abi.layout import (
    QUIC_COMMAND_BYTES,
    QUIC_EVENT_BYTES,
    QuicCommand,
    QuicCommandKind,
    QuicEvent,
    QuicEventKind,
    QuicRing,
)
from afterburnerd.abi.rings import ASLEEP_WORD, HEAD_WORD, TAIL_WORD, Consumer, Producer, Ring, RingBroken

SLOTS = 8


@pytest.fixture
def commands() -> Iterator[Ring]:
    ring = Ring.create("commands", SLOTS, QUIC_COMMAND_BYTES)
    yield ring
    ring.close()


@pytest.fixture
def events() -> Iterator[Ring]:
    ring = Ring.create("events", SLOTS, QUIC_EVENT_BYTES)
    yield ring
    ring.close()


def report(ring: Ring, number: int, body: bytes = b"", kind: int = QuicEventKind.DONE, length: int = -1) -> None:
    """What a worker does: the slot first, then the count."""
    head = ring.words[HEAD_WORD]
    event = QuicEvent(number=number, kind=kind, length=len(body) if length < 0 else length)
    slot = ring.slot(head)
    slot[: QuicEvent.SIZE] = event.pack()
    slot[QuicEvent.SIZE : QuicEvent.SIZE + len(body)] = body
    ring.words[HEAD_WORD] = head + 1


def test_a_full_ring_takes_nothing_and_overwrites_nothing(commands: Ring) -> None:
    producer = Producer(commands)
    assert [producer.put(QuicCommand(number=i)) for i in range(SLOTS + 2)] == [True] * SLOTS + [False] * 2
    assert [QuicCommand.unpack(commands.slot(i)).number for i in range(SLOTS)] == list(range(SLOTS))
    commands.words[TAIL_WORD] = 3
    assert producer.room == 3
    assert producer.put(QuicCommand(number=99), b"body")
    found = QuicCommand.unpack(commands.slot(0))
    assert (found.number, found.length) == (99, 4)
    assert bytes(commands.slot(0)[QuicCommand.SIZE :][:4]) == b"body"


def test_a_body_that_fits_no_slot_is_the_callers_mistake(commands: Ring) -> None:
    producer = Producer(commands)
    assert producer.put(QuicCommand(kind=QuicCommandKind.SEND), bytes(producer.body_limit))
    with pytest.raises(ValueError, match=f"room for {producer.body_limit}"):
        producer.put(QuicCommand(), bytes(producer.body_limit + 1))
    assert commands.words[HEAD_WORD] == 1


def test_events_come_in_order_whole_and_once(events: Ring, seed: int) -> None:
    rng, consumer, sent, got = random.Random(seed), Consumer(events), [], []
    for number in range(500):
        body = rng.randbytes(rng.randrange(QUIC_EVENT_BYTES - QuicEvent.SIZE + 1))
        report(events, number, body)
        sent.append((number, body))
        if events.words[HEAD_WORD] - events.words[TAIL_WORD] == SLOTS or rng.random() < 0.3:
            got += [(event.number, body) for event, body in consumer.take(rng.randint(1, SLOTS))]
    got += [(event.number, body) for event, body in consumer.take()]
    assert got == sent
    assert consumer.take() == []
    assert events.words[TAIL_WORD] == len(sent)


@pytest.mark.parametrize("kind", [QuicEventKind.KEYS, QuicEventKind.CRYPTO, QuicEventKind.TOKEN])
def test_a_slot_that_held_a_secret_is_wiped(events: Ring, kind: QuicEventKind) -> None:
    report(events, 1, b"secret", kind)
    ((event, body),) = Consumer(events).take()
    assert (event.kind, body) == (kind, b"secret")
    assert bytes(events.slot(0)) == bytes(QUIC_EVENT_BYTES)


def test_impossible_counts_and_lengths_are_seen(commands: Ring, events: Ring) -> None:
    producer, consumer = Producer(commands), Consumer(events)
    commands.words[TAIL_WORD] = 1
    with pytest.raises(RingBroken, match="consumed 1 of 0"):
        producer.put(QuicCommand())
    events.words[HEAD_WORD] = SLOTS + 1
    with pytest.raises(RingBroken, match=f"written {SLOTS + 1} events"):
        consumer.take()
    events.words[HEAD_WORD] = 0
    report(events, 1, length=QUIC_EVENT_BYTES - QuicEvent.SIZE + 1)
    with pytest.raises(RingBroken, match="a body of"):
        consumer.take()


def test_nobody_can_cut_a_ring_short(commands: Ring) -> None:
    """That would be a SIGBUS in the other process."""
    with pytest.raises(OSError):
        os.ftruncate(commands.fd, 4096)
    assert fcntl.fcntl(commands.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL


def test_a_ring_of_another_layout_is_refused(commands: Ring) -> None:
    size = QuicRing.SIZE + SLOTS * QUIC_COMMAND_BYTES
    fd = os.dup(commands.fd)
    commands.bytes[8:16] = struct.pack("<Q", 99)
    with pytest.raises(RingBroken, match="layout version"):
        Ring(fd, size)
    os.close(fd)
    with pytest.raises(ValueError, match="power of two"):
        Ring.create("odd", 3, QUIC_EVENT_BYTES)
    with pytest.raises(ValueError, match="multiple of 64"):
        Ring.create("odd", 4, QUIC_EVENT_BYTES + 1)


def test_a_consumer_that_sleeps_is_woken_once(commands: Ring, events: Ring) -> None:
    producer = Producer(commands)
    assert producer.put(QuicCommand()) and not producer.wakes()
    commands.words[ASLEEP_WORD] = 1  # the worker's to write
    assert producer.put(QuicCommand()) and producer.wakes() and not producer.wakes()

    consumer = Consumer(events)
    assert consumer.doze() and events.words[ASLEEP_WORD] == 1
    consumer.wake()
    assert events.words[ASLEEP_WORD] == 0
    report(events, 0)
    assert not consumer.doze() and events.words[ASLEEP_WORD] == 0, "it sleeps on an event"
    assert len(consumer.take()) == 1 and consumer.doze()
