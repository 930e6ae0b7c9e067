"""The worker's loop over the socket backend, unprivileged: rules, decoding, records, echo, statistics."""

from __future__ import annotations

import mmap
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd.abi import lone, schema
from afterburnerd.abi.layout import RECORD_MAGIC, Decoder, Record, RecordKind, RecordRing, Rule, TxReason
from afterburnerd.native import lib
from tests import cc

LOOPBACK = bytes(10) + b"\xff\xff" + socket.inet_aton("127.0.0.1")
SLOTS, SLOT_BYTES = 16, 512


class Bench:
    """A worker with its shared memory in plain anonymous maps."""

    def __init__(self) -> None:
        self.stats = mmap.mmap(-1, lone.SIZE)
        self.bell = mmap.mmap(-1, 4096)
        self.ring = mmap.mmap(-1, RecordRing.SIZE + SLOTS * SLOT_BYTES)
        self.ring[: RecordRing.SIZE] = RecordRing(
            magic=RECORD_MAGIC, version=schema.VERSION, slot_bytes=SLOT_BYTES, slots=SLOTS
        ).pack()
        self.worker = lib.Worker(index=3, stats=self.stats, bell=self.bell, **lone.OFFSETS)
        self.worker.set_records(self.ring)

    def open(self, decoder: Decoder, rule: int = 5) -> tuple[str, int]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        address: tuple[str, int] = sock.getsockname()
        self.worker.set_rules(Rule(addr=LOOPBACK, port=address[1], rule=rule, decoder=decoder).pack())
        self.worker.open_udp(2, sock.detach())
        return address

    def of_worker(self, name: str) -> int:
        return lone.read(self.stats, "worker", name)

    def of_rule(self, rule: int, name: str) -> int:
        return lone.read(self.stats, "rule", name, rule)

    def of_queue(self, slot: int, name: str) -> int:
        return lone.read(self.stats, "queue", name, slot)

    def record(self, number: int) -> tuple[Record, bytes]:
        at = RecordRing.SIZE + number % SLOTS * SLOT_BYTES
        record = Record.unpack(self.ring, at)
        return record, self.ring[at + Record.SIZE : at + Record.SIZE + record.stored]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.worker.close()


def send(address: tuple[str, int], *payloads: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    for payload in payloads:
        sock.sendto(payload, address)
    return sock


def test_raw_datagrams_become_records(bench: Bench) -> None:
    address = bench.open(Decoder.RAW)
    sender = send(address, b"first", b"second")
    bench.worker.run(10)
    record, payload = bench.record(1)
    assert (record.seq, record.kind, payload) == (4, RecordKind.DATAGRAM, b"second")
    assert (record.src, record.sport) == (LOOPBACK, sender.getsockname()[1])
    assert (record.dst, record.dport) == (LOOPBACK, address[1])
    assert (record.rule, record.worker, record.queue, record.length) == (5, 3, 2, 6)
    assert bench.of_rule(5, "packets") == 2
    assert bench.of_rule(5, "bytes") == 11
    assert bench.of_queue(2, "rx_packets") == 2
    assert bench.of_worker("records") == 2


def test_what_is_no_transaction_is_recorded_with_its_reason(bench: Bench) -> None:
    send(bench.open(Decoder.SOLANA_TX), b"\x01" + bytes(10))
    bench.worker.run(10)
    record, payload = bench.record(0)
    assert (record.kind, record.reason) == (RecordKind.MALFORMED, TxReason.TRUNCATED_SIGNATURES)
    assert payload == b"\x01" + bytes(10)
    assert bench.of_worker("malformed_truncated_signatures") == 1
    assert bench.of_rule(5, "malformed") == 1
    assert bench.of_worker("decoded") == 0


def test_a_payload_longer_than_a_slot_is_cut_and_says_so(bench: Bench) -> None:
    send(bench.open(Decoder.RAW), bytes(range(256)) * 4)
    bench.worker.run(10)
    record, payload = bench.record(0)
    assert (record.length, record.stored) == (1024, SLOT_BYTES - Record.SIZE)
    assert payload == (bytes(range(256)) * 4)[: record.stored]


def test_the_ring_wraps_and_sequence_numbers_stay_dense(bench: Bench) -> None:
    send(bench.open(Decoder.RAW), *(str(i).encode() for i in range(SLOTS + 3)))
    bench.worker.run(10)
    assert RecordRing.unpack(bench.ring).head == SLOTS + 3
    record, payload = bench.record(SLOTS + 2)
    assert (record.seq, payload) == (2 * (SLOTS + 2) + 2, str(SLOTS + 2).encode())


def test_echo_answers_the_sender(bench: Bench) -> None:
    sender = send(bench.open(Decoder.ECHO), b"ping")
    bench.worker.run(10)
    assert sender.recv(100) == b"ping"
    assert bench.of_queue(2, "tx_packets") == 1


@pytest.mark.privileged
def test_a_peer_that_cannot_be_answered_costs_nobody_else_an_answer(bench: Bench) -> None:
    """Source port 0 can be sent (RFC 768 allows it) and not be answered."""
    address = bench.open(Decoder.ECHO)
    sender = send(address)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        for i in range(6):
            if i % 3 == 0:
                raw.sendto((0).to_bytes(2, "big") + address[1].to_bytes(2, "big") + b"\0\x0c\0\0mute", address)
            else:
                sender.sendto(b"ping%d" % i, address)
    bench.worker.run(10)
    assert {sender.recv(100) for _ in range(4)} == {b"ping1", b"ping2", b"ping4", b"ping5"}
    assert (bench.of_queue(2, "rx_packets"), bench.of_queue(2, "tx_packets")) == (6, 4)
    assert (bench.of_queue(2, "tx_dropped"), bench.of_queue(2, "tx_completed")) == (2, 4)
    assert bench.of_queue(2, "tx_bytes") == 4 * 5


def test_the_doorbell_ends_the_loop(bench: Bench) -> None:
    bench.open(Decoder.RAW)
    bench.bell[0:8] = (7).to_bytes(8, "little")
    assert bench.worker.run() == 1
    assert bench.worker.run(3) == 2  # answered: it does not ring twice
    assert bench.of_worker("control_turns") == 1


def test_a_datagram_without_a_rule_is_counted(bench: Bench) -> None:
    address = bench.open(Decoder.RAW)
    bench.worker.set_rules(b"")
    send(address, b"late")
    bench.worker.run(10)
    assert bench.of_worker("drop_no_rule") == 1


def test_bad_arguments_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="whole number of rules"):
        bench.worker.set_rules(b"x")
    with pytest.raises(OSError, match="out of bounds"):
        bench.worker.set_rules(Rule(port=1, decoder=77).pack())
    with pytest.raises(OSError, match="not open"):
        bench.worker.close_slot(9)
    with pytest.raises(OSError, match="no ring of layout"):
        bench.worker.set_records(mmap.mmap(-1, 4096))
    bench.worker.close()
    with pytest.raises(ValueError, match="closed"):
        bench.worker.run(1)


def test_a_sleeping_worker_wakes_when_its_guest_is_due(tmp_path: Path) -> None:
    """On a clock that stands still but for reads (100 ns each) and sleeps: a timer of the QUIC engine is never overslept, and
    no sleep is longer than a millisecond, since the bell of a guest may be missing. It does not sleep sooner than 50 us behind a
    packet, nor where something is due within 50."""
    source = cc.ROOT / "tests/native/c/nap.c"
    nap = cc.program(tmp_path / "nap", source, cc.LIBRARY, flags=("-lcrypto", "-ldl", "-lm"))
    wanted = (0, 1_000, 60_000, 200_000, 999_999, 1_000_001, 2_500_000, 7_000_000)
    done = cc.run(nap, *map(str, wanted))
    assert done.returncode == 0, done.stderr
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(found) == len(wanted)
    for due, (late, sleeps, longest) in zip(wanted, found, strict=True):
        assert 0 <= late <= 1_000, f"due in {due} ns: {late} ns late"
        assert longest <= 1_000_000 and (sleeps > 0) == (due > 105_000)
