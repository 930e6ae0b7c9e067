"""The binding: whatever Python passes, nothing of the process is harmed, nothing is held, and errors arrive as errors."""

from __future__ import annotations

import array
import gc
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afterburnerd.abi import lone, schema
from afterburnerd.abi.layout import RECORD_MAGIC, Record, RecordRing, Rule, Tx
from afterburnerd.native import lib

XSK: dict[str, Any] = {
    "slot": 0, "ifindex": 1, "queue": 0, "frames": 64, "frame_size": 2048, "ring": 64, "huge_pages": 2, "mode": 2,
    "generic": False, "multi_buffer": False, "busy_poll": False, "busy_usecs": 0, "busy_budget": 0, "verify_udp": False,
}  # fmt: skip


class Parts:
    """A worker and what it lies on."""

    def __init__(self) -> None:
        self.stats = mmap.mmap(-1, lone.SIZE)
        self.bell = mmap.mmap(-1, 4096)
        self.worker = lib.Worker(index=0, stats=self.stats, bell=self.bell, **lone.OFFSETS)


@pytest.fixture
def parts() -> Iterator[Parts]:
    parts = Parts()
    yield parts
    parts.worker.close()


def udp() -> int:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def ring(slots: int = 4, slot_bytes: int = 512) -> mmap.mmap:
    memory = mmap.mmap(-1, RecordRing.SIZE + slots * slot_bytes)
    header = RecordRing(magic=RECORD_MAGIC, version=schema.VERSION, slot_bytes=slot_bytes, slots=slots)
    memory[: RecordRing.SIZE] = header.pack()
    return memory


# --- one owner ------------------------------------------------------------------------------------------------------------


def test_a_running_worker_lets_nobody_else_in(parts: Parts) -> None:
    worker, answers = parts.worker, []
    worker.set_sleeps(True)
    thread = threading.Thread(target=lambda: answers.append(worker.run()))
    thread.start()
    try:
        until = time.monotonic() + 10
        while not any(parts.stats[:8]) and time.monotonic() < until:  # its state: running
            time.sleep(0.001)
        refused: list[Callable[[], object]] = [
            worker.close,
            lambda: worker.run(1),
            lambda: worker.close_slot(0),
            lambda: worker.set_rules(b""),
            lambda: worker.set_records(None),
            lambda: worker.set_records(ring()),
            lambda: worker.set_sleeps(False),
            lambda: worker.set_state(1),
            lambda: worker.identify(1, 2, 3),
            lambda: worker.open_udp(0, udp()),
            lambda: worker.open_xsk(fd=udp(), **XSK),
        ]
        for call in refused:
            with pytest.raises(RuntimeError, match="in use by another thread"):
                call()
        with pytest.raises(BufferError):
            parts.stats.close()
    finally:
        parts.bell[:8] = (1).to_bytes(8, "little")
        thread.join(10)
    assert answers == [1]
    worker.close()
    parts.stats.close()


class Closes:
    """Closes the worker when it is asked for its value."""

    def __init__(self, worker: lib.Worker) -> None:
        self.worker = worker

    def __bool__(self) -> bool:
        self.worker.close()
        return True

    def __index__(self) -> int:
        self.worker.close()
        return 0


def test_an_argument_cannot_pull_the_worker_away_under_the_call(parts: Parts) -> None:
    with pytest.raises(ValueError, match="closed"):
        parts.worker.set_sleeps(Closes(parts.worker))  # type: ignore[arg-type]
    for name in ("generic", "huge_pages"):
        other = Parts()
        fd = udp()
        with pytest.raises(ValueError, match="closed"):
            other.worker.open_xsk(fd=fd, **XSK | {name: Closes(other.worker)})
        assert not is_open(fd)
    other = Parts()
    for call in (
        lambda: other.worker.run(Closes(other.worker)),  # type: ignore[arg-type]
        lambda: other.worker.set_state(Closes(other.worker)),  # type: ignore[arg-type]
        lambda: other.worker.close_slot(Closes(other.worker)),  # type: ignore[arg-type]
        lambda: other.worker.identify(1, 2, Closes(other.worker)),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            call()
    other.worker.run(1)  # was not closed
    other.worker.close()


# --- what it is given -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ({"worker_off": lone.SIZE}, "worker block: .* do not lie within"),
        ({"rule_off": lone.SIZE - 64}, "rule blocks: .* do not lie within"),
        ({"worker_off": (1 << 64) - 64}, "worker block: .* do not lie within"),
        ({"worker_off": 8}, "worker block: offset 8 .* not aligned"),
    ],
)
def test_blocks_that_do_not_lie_in_the_segment_are_refused_and_nothing_is_held(
    offsets: dict[str, int], message: str
) -> None:
    stats, bell = mmap.mmap(-1, lone.SIZE), mmap.mmap(-1, 4096)
    worker = lib.Worker.__new__(lib.Worker)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            worker.__init__(index=0, stats=stats, bell=bell, **lone.OFFSETS | offsets)  # type: ignore[misc]
    stats.close()  # BufferError where it is still held
    bell.close()


def test_a_worker_is_initialised_once(parts: Parts) -> None:
    stats, bell = mmap.mmap(-1, lone.SIZE), mmap.mmap(-1, 4096)
    with pytest.raises(RuntimeError, match="once"):
        parts.worker.__init__(index=0, stats=stats, bell=bell, **lone.OFFSETS)  # type: ignore[misc]
    stats.close()
    bell.close()
    parts.worker.run(1)
    parts.worker.close()
    parts.stats.close()
    parts.bell.close()


def test_memory_that_is_not_aligned_is_refused(parts: Parts) -> None:
    with pytest.raises(ValueError, match=r"worker block: offset \d+ of the buffer is not aligned"):
        lib.Worker(index=0, stats=memoryview(mmap.mmap(-1, lone.SIZE + 8))[8:], bell=parts.bell, **lone.OFFSETS)
    with pytest.raises(ValueError, match="doorbell: offset 0 of the buffer is not aligned"):
        lib.Worker(index=0, stats=parts.stats, bell=memoryview(mmap.mmap(-1, 4096))[1:], **lone.OFFSETS)
    laid_out = bytes(ring())
    memory = memoryview(mmap.mmap(-1, 8 + len(laid_out)))[8:]
    memory[:] = laid_out
    with pytest.raises(OSError, match="not aligned"):
        parts.worker.set_records(memory)


def test_numbers_do_not_wrap_around(parts: Parts) -> None:
    for call in (
        lambda: lib.Worker(index=1 << 16, stats=parts.stats, bell=parts.bell, **lone.OFFSETS),
        lambda: lib.Worker(index=0, stats=parts.stats, bell=parts.bell, **lone.OFFSETS | {"queue_stride": -256}),
        lambda: parts.worker.open_udp(1 << 32, -1),
        lambda: parts.worker.open_xsk(fd=-1, **XSK | {"frames": (1 << 32) + 64}),
        lambda: parts.worker.close_slot(1 << 32),
        lambda: parts.worker.run(-1),
        lambda: parts.worker.set_state(1 << 64),
    ):
        with pytest.raises(OverflowError):
            call()


@pytest.mark.parametrize("stride", [(1 << 64) - 256, 1 << 63, lone.SIZE])
def test_a_queue_block_outside_the_segment_is_refused(stride: int) -> None:
    stats, bell = mmap.mmap(-1, lone.SIZE), mmap.mmap(-1, 4096)
    worker = lib.Worker(index=0, stats=stats, bell=bell, **lone.OFFSETS | {"queue_stride": stride})
    with pytest.raises(ValueError, match=r"queue block: .* do not lie within"):
        worker.open_udp(2, udp())  # 2 * (2**64 - 256) and 2 * 2**63 wrap around into the segment
    assert bytes(stats) == bytes(lone.SIZE)
    worker.close()


def test_too_many_rules_are_refused(parts: Parts) -> None:
    rule = Rule(addr=bytes(16), port=1).pack()
    with pytest.raises(OSError, match="1048577 capture rules: 1048576 at most"):
        parts.worker.set_rules(rule * ((1 << 20) + 1))
    parts.worker.set_rules(rule * (1 << 20))  # all the same one


# --- descriptors ----------------------------------------------------------------------------------------------------------


def test_a_descriptor_is_taken_over_whatever_comes_of_it(parts: Parts) -> None:
    def taken(error: type[Exception], message: str, call: Callable[[int], object]) -> None:
        fd = udp()
        with pytest.raises(error, match=message):
            call(fd)
        assert not is_open(fd)

    worker = parts.worker
    worker.open_udp(3, udp())
    taken(ValueError, "slot 64: a worker has 64", lambda fd: worker.open_udp(64, fd))
    taken(ValueError, "slot 64: a worker has 64", lambda fd: worker.open_xsk(fd=fd, **XSK | {"slot": 64}))
    taken(OSError, "slot 3 is in use", lambda fd: worker.open_udp(3, fd))
    taken(OSError, "slot 3 is in use", lambda fd: worker.open_xsk(fd=fd, **XSK | {"slot": 3}))
    taken(OSError, "Protocol not available", lambda fd: worker.open_xsk(fd=fd, **XSK))  # no AF_XDP socket
    taken(OSError, "frames of 2048 or 4096", lambda fd: worker.open_xsk(fd=fd, **XSK | {"frame_size": 3000}))
    with pytest.raises(OSError, match="getsockname"):
        worker.open_udp(4, os.pipe()[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        worker.open_udp(4, -1)
    worker.open_udp(4, udp())  # a slot that failed can be used
    worker.close()
    taken(ValueError, "closed", lambda fd: worker.open_udp(0, fd))
    taken(ValueError, "closed", lambda fd: worker.open_xsk(fd=fd, **XSK))


def test_closing_gives_back_every_descriptor_and_every_buffer() -> None:
    def descriptors() -> set[str]:
        return {path.name for path in Path("/proc/self/fd").iterdir()}

    before = descriptors()
    for _ in range(3):
        parts, records = Parts(), ring()
        parts.worker.set_records(records)
        for slot in (0, 1, 63):
            parts.worker.open_udp(slot, udp())
        parts.worker.close_slot(63)
        parts.worker.run(3)
        parts.worker.close()
        parts.worker.close()
        for memory in (parts.stats, parts.bell, records):
            memory.close()
    assert descriptors() == before


def test_a_record_ring_is_held_while_it_is_in_use_and_not_longer(parts: Parts) -> None:
    first, second = ring(), ring()
    parts.worker.set_records(first)
    with pytest.raises(BufferError):
        first.close()
    with pytest.raises(OSError, match="do not fit"):
        parts.worker.set_records(memoryview(ring())[:-64])
    with pytest.raises(BufferError):  # what was refused has not replaced it
        first.close()
    parts.worker.set_records(second)
    first.close()
    parts.worker.set_records(None)
    second.close()
    parts.worker.run(1)


@pytest.mark.parametrize(("uid", "gid"), [(-2, -1), (-1, -2), (-(1 << 31), -1)])
def test_a_user_who_cannot_be_is_refused(uid: int, gid: int) -> None:
    code = (
        f"from afterburnerd.native import lib; lib.sandbox_drop({uid}, {gid})"  # were it done, it could not be undone
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"ValueError: user {uid}, group {gid}: -1 keeps" in done.stderr


# --- what it says ---------------------------------------------------------------------------------------------------------


def test_an_error_arrives_whatever_bytes_it_quotes() -> None:
    with pytest.raises(FileNotFoundError, match=r"no\\xffsuch"):
        lib.Bpf(os.fsdecode(b"/no\xffsuch"))
    for length in range(400, 480):  # the text is cut somewhere in one of these
        with pytest.raises(OSError, match="BPF object /"):
            lib.Bpf("/" + "x" * length + "\N{EURO SIGN}" * 40)


# --- batches of transactions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [lib.tx_instructions, lib.tx_lookups, lib.tx_sanitize, lib.tx_config])
def test_bytes_that_change_meanwhile_are_read_as_they_were(call: Callable[[bytes | bytearray], object]) -> None:
    """Making objects runs the garbage collector, which runs what it likes, between the decoder's checks and the walk."""

    class Vandal:
        def __init__(self, data: bytearray) -> None:
            self.data, self.itself = data, self

        def __del__(self) -> None:
            self.data[:] = b"\xff" * len(self.data)

    # Here: what it imports leaks, and the leak test imports this module.
    from afterburnerd.lab.transactions import Maker

    maker = Maker(1)
    for shape in ("swap-v0", "swap-v1"):
        whole = maker.make(shape)
        data = bytearray(whole)
        want = call(whole)
        threshold = gc.get_threshold()
        gc.collect()
        gc.disable()
        Vandal(data)  # garbage from here on
        try:
            gc.set_threshold(1)
            gc.enable()
            assert call(data) == want
        finally:
            gc.set_threshold(*threshold)
            gc.enable()
    with pytest.raises(TypeError):
        call([1, 2, 3])  # type: ignore[arg-type]


def test_a_batch_whose_results_lie_over_its_bounds_reads_what_was_given() -> None:
    count = 4096
    memory = bytearray(Tx.SIZE * count)
    bounds = array.array("I", range(1, count + 1)).tobytes()
    memory[: len(bounds)] = bounds
    good, _ = lib.tx_decode_many(bytes(count), memoryview(memory)[: len(bounds)], memory)
    assert good == 0
    assert memory == lib.tx_decode(b"\0") * count


def test_a_batch_whose_results_lie_over_what_is_read_is_refused() -> None:
    memory = bytearray(4 * Tx.SIZE)
    with pytest.raises(ValueError, match="lies over"):
        lib.tx_decode_many(memory, array.array("I", [1, 2]), memory)
    with pytest.raises(ValueError, match="lies over"):
        lib.tx_decode_many(memoryview(memory)[63:], array.array("I", [1, 2]), memoryview(memory)[: 2 * Tx.SIZE])
    lib.tx_decode_many(memoryview(memory)[64:], array.array("I", [1, 2]), memoryview(memory)[: 2 * Tx.SIZE])


def test_a_record_is_written_where_the_ring_says(parts: Parts) -> None:
    """With the largest slots there are, to the last byte of the ring."""
    memory = ring(slots=1, slot_bytes=1 << 20)
    parts.worker.set_records(memory)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    address = receiver.getsockname()
    mapped = bytes(10) + b"\xff\xff" + socket.inet_aton("127.0.0.1")
    parts.worker.set_rules(Rule(addr=mapped, port=address[1], decoder=1).pack())
    parts.worker.open_udp(0, receiver.detach())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes([7]) * 4096, address)
    parts.worker.run(5)
    record = Record.unpack(memory, RecordRing.SIZE)
    assert (record.seq, record.length, record.stored) == (2, 4096, 4096)
