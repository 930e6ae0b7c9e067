"""Reading statistics: with everybody dead, from another version, from a liar, across restarts, in the middle of a write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from afterburnerd.abi import shm
from afterburnerd.abi.description import Block, Description, Field, Geometry, Info, WorkerInfo
from afterburnerd.abi.layout import MAGIC
from afterburnerd.abi.layout import Segment as Header
from afterburnerd.abi.process import Identity
from afterburnerd.abi.segment import Segment
from afterburnerd.abi.stats import Delta, StatsReader

INFO = Info(
    version="0.1.0", interface="ve0", workers=(WorkerInfo(1, (0, 1)), WorkerInfo(2, (2,))), rules=("tx", "votes")
)


@pytest.fixture
def segment(name: str) -> Iterator[Segment]:
    segment = Segment.create(name, 2, 2, 4, INFO)
    yield segment
    segment.close()


def test_nothing_there_is_an_error_of_its_own(name: str) -> None:
    with pytest.raises(shm.NotThere, match=r"no daemon of this name is running") as e:
        StatsReader.open(name)
    assert e.value.exit_code == 3


@pytest.mark.privileged
def test_no_permission_is_an_error_of_its_own(name: str, segment: Segment) -> None:
    shm.path_of(f"{name}.stats").chmod(0o600)
    child = os.fork()
    if child == 0:
        os.setuid(4712)
        try:
            StatsReader.open(name)
        except shm.Forbidden as e:
            os._exit(e.exit_code)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77


@pytest.mark.privileged
def test_anyone_may_read(name: str, segment: Segment) -> None:
    segment.set("daemon", 0, "reload_ok", 5)
    child = os.fork()
    if child == 0:
        os.setuid(4712)
        snapshot = StatsReader.open(name).read()
        os._exit(0 if snapshot.daemon.value("reload_ok") == 5 and not snapshot.stale else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_it_reads_with_both_processes_dead(name: str) -> None:
    code = (
        "import sys, os, signal\n"
        "from afterburnerd.abi.segment import Segment\n"
        "from afterburnerd.abi.description import Info, WorkerInfo\n"
        "s = Segment.create(sys.argv[1], 1, 1, 1, Info(workers=(WorkerInfo(0, (0,)),)))\n"
        "s.set('worker', 0, 'decoded', 42)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, name]).returncode == -9
    with StatsReader.open(name) as reader:
        snapshot = reader.read()
    assert snapshot.stale
    assert snapshot.rows("worker")[0].value("decoded") == 42


def test_rows_are_those_that_stand_for_something(segment: Segment, name: str) -> None:
    with StatsReader.open(name) as reader:
        snapshot = reader.read()
    assert [r.labels for r in snapshot.rows("worker")] == [{"worker": "0"}, {"worker": "1"}]
    assert [r.labels for r in snapshot.rows("kernel")] == [
        {"worker": "0", "queue": "0"},
        {"worker": "0", "queue": "1"},
        {"worker": "1", "queue": "2"},
    ]
    assert [(r.labels["worker"], r.labels["rule"]) for r in snapshot.rows("rule")] == [
        ("0", "tx"),
        ("0", "votes"),
        ("1", "tx"),
        ("1", "votes"),
    ]
    reasons = snapshot.rows("xdp")
    assert {"verdict": "pass", "reason": "not_udp"} in [r.labels for r in reasons]
    assert len({tuple(r.labels.values()) for r in reasons}) == len(reasons)


def test_states_have_names_and_unknown_ones_are_shown_as_such(segment: Segment, name: str) -> None:
    with StatsReader.open(name) as reader:
        segment.set("worker", 0, "state", 2)
        assert reader.read().rows("worker")[0].state("state") == "running"
        segment.set("worker", 0, "state", 99)
        assert reader.read().rows("worker")[0].state("state") == "unknown_99"


def test_a_changed_description_is_noticed(segment: Segment, name: str) -> None:
    with StatsReader.open(name) as reader:
        assert reader.read().info.rules == ("tx", "votes")
        for i in range(5):
            segment.set_info(Info(rules=(f"r{i}",), workers=INFO.workers))
            assert reader.read().info.rules == (f"r{i}",)


def test_a_supervisor_killed_while_it_wrote_the_description_leaves_one(segment: Segment, name: str) -> None:
    words = memoryview(bytearray(os.pread(segment.fd, Header.SIZE, 0)))
    seq = Header.unpack(words).text_seq
    os.pwrite(segment.fd, (seq + 1).to_bytes(8, "little"), Header.OFFSETS["text_seq"])
    os.pwrite(segment.fd, (7).to_bytes(8, "little"), Header.OFFSETS["text_bytes"])
    with StatsReader.open(name) as reader:
        assert reader.read().info == INFO


def test_a_description_in_motion_is_never_seen_torn(name: str) -> None:
    code = (
        "import sys, time\n"
        "from afterburnerd.abi.segment import Segment\n"
        "from afterburnerd.abi.description import Info\n"
        "s = Segment.create(sys.argv[1], 1, 1, 1, Info())\n"
        "print('ready', flush=True)\n"
        "i = 0\n"
        "while True:\n"
        "    i += 1\n"
        "    time.sleep(0.0003)\n"
        "    s.set_info(Info(version=str(i), rules=(str(i) * (i % 7 + 1),)))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout
        writer.stdout.readline()
        seen = set()
        with StatsReader.open(name) as reader:
            for _ in range(300):
                info = reader.read().info
                if info.version:
                    seen.add(info.version)
                    assert set(info.rules) == {info.version * (int(info.version) % 7 + 1)}
        assert len(seen) > 1
    finally:
        writer.kill()
        writer.communicate()


def test_the_replaced_description_stays_whole_for_who_is_reading_it(segment: Segment) -> None:
    before = Header.unpack(os.pread(segment.fd, Header.SIZE, 0))
    segment.set_info(Info(version="next"))
    text = os.pread(segment.fd, before.text_bytes, before.text_offset)
    assert msgspec.json.decode(text, type=Description).info == INFO


def test_the_same_info_again_is_not_written_again(segment: Segment) -> None:
    before = os.pread(segment.fd, segment.size, 0)
    segment.set_info(Info(**{f: getattr(INFO, f) for f in INFO.__struct_fields__}))
    assert os.pread(segment.fd, segment.size, 0) == before


def foreign(name: str, description: Description, words: int, **header: int) -> None:
    """A segment of somebody else's making."""
    text = msgspec.json.encode(description)
    size = 128 + words * 8 + 8192
    fields = {"magic": MAGIC, "version": description.version, "total_bytes": size, "text_offset": 128 + words * 8}
    fields |= {"text_capacity": 8192, "text_bytes": len(text), "text_seq": 2} | header
    data = bytearray(size)
    data[:128] = Header(**fields).pack()
    for i in range(words):
        data[128 + i * 8 : 136 + i * 8] = (i + 1).to_bytes(8, "little")
    data[128 + words * 8 : 128 + words * 8 + len(text)] = text
    shm.path_of(f"{name}.stats").write_bytes(data)


def other_version(**change: object) -> Description:
    daemon = Block(
        "daemon", "daemon", "supervisor", "", 128, 32, 1, (Field("warp", 1, "counter"), Field("pid", 2, "x"))
    )
    hist = Block("engine", "worker", "data plane", "", 160, 16 * 8, 1, (Field("lag", 0, "histogram", "ns"),))
    description = Description(
        version=77,
        workers=1,
        queues=0,
        rules=0,
        histogram=Geometry(1, 3, 6),
        blocks=(daemon, hist),
        info=Info(workers=(WorkerInfo(),)),
    )
    return msgspec.structs.replace(description, **change)


def test_a_segment_of_another_schema_version_is_read_by_its_own_description(name: str) -> None:
    foreign(name, other_version(), 20)
    with StatsReader.open(name) as reader:
        snapshot = reader.read()
    assert snapshot.header.version == 77
    assert snapshot.blocks == ("daemon", "engine")
    assert snapshot.daemon.value("warp") == 2
    assert snapshot.daemon.get("reload_ok", -1) == -1
    assert snapshot.rows("engine")[0].histogram("lag").buckets == (9, 10, 11, 12, 13, 14)


def misplaced(**change: object) -> Description:
    good = other_version()
    return msgspec.structs.replace(good, blocks=(msgspec.structs.replace(good.blocks[0], **change), good.blocks[1]))


@pytest.mark.parametrize(
    "description",
    [
        misplaced(offset=-8),
        misplaced(offset=1 << 40),
        misplaced(offset=129),
        misplaced(stride=0),
        misplaced(stride=8),
        misplaced(count=1 << 40),
        misplaced(count=0),
        misplaced(fields=(Field("pid", -1, "gauge"),)),
        misplaced(fields=(Field("pid", 1, "histogram"),)),
        other_version(blocks=()),
        other_version(workers=5),
        other_version(histogram=Geometry(1, 3, 600)),
        other_version(histogram=Geometry(60, 3, 1)),
    ],
    ids=lambda d: "",
)
def test_a_description_that_lies_is_refused(name: str, description: Description) -> None:
    foreign(name, description, 20)
    with pytest.raises(shm.Invalid), StatsReader.open(name) as reader:
        reader.read().rows("engine")


@pytest.mark.parametrize(
    "header",
    [
        {"magic": 1},
        {"total_bytes": 1 << 40},
        {"text_offset": 1 << 40},
        {"text_offset": (1 << 64) - 1},
        {"text_capacity": 0},
        {"text_offset": 128},
    ],
)
def test_a_header_that_lies_is_refused(name: str, header: dict[str, int]) -> None:
    foreign(name, other_version(), 20, **header)
    with pytest.raises(shm.Invalid, match="not the statistics of a daemon"), StatsReader.open(name) as reader:
        reader.read()


def test_a_file_cut_short_under_the_reader_does_not_kill_it(segment: Segment, name: str) -> None:
    with StatsReader.open(name) as reader:
        reader.read()
        os.truncate(shm.path_of(f"{name}.stats"), 4096)
        with pytest.raises(shm.Invalid):
            reader.read()
        os.truncate(shm.path_of(f"{name}.stats"), 3)
        with pytest.raises(shm.Invalid):
            reader.read()


def test_a_reader_follows_the_next_daemon(name: str) -> None:
    first = Segment.create(name, 1, 1, 1, INFO)
    with StatsReader.open(name) as reader:
        before = reader.read()
        first.identify(Identity(pid=1 << 23, start_ticks=1))
        first.close()
        second = Segment.create(name, 2, 2, 1, INFO)
        second.set("worker", 1, "decoded", 8)
        after = reader.read()
        assert after.created_ns > before.created_ns
        assert after.rows("worker")[1].value("decoded") == 8
        second.unlink()
        with pytest.raises(shm.NotThere):
            reader.read()
        second.close()


def test_what_happened_between_two_snapshots(segment: Segment, name: str) -> None:
    base = segment.description.blocks
    gap = next(f.word for b in base if b.name == "worker" for f in b.fields if f.name == "gap")
    with StatsReader.open(name) as reader:
        segment.set("worker", 0, "run_ns", 1000)
        segment.set("queue", 0, "rx_packets", 100)
        segment.words("worker", 0)[gap + 4 + 10] = 5
        before = reader.read()
        segment.set("worker", 0, "run_ns", 3000)
        segment.set("worker", 0, "busy_ns", 500)
        segment.set("queue", 0, "rx_packets", 160)
        segment.set("queue", segment.queue_row(1, 0), "rx_packets", 40)
        segment.words("worker", 0)[gap + 4 + 10] = 6
        segment.words("worker", 0)[gap + 4 + 31] = 1
        segment.words("worker", 0)[gap + 3] = 31
        after = reader.read()
    after.taken_ns = before.taken_ns + 2_000_000_000
    delta = Delta(before, after)
    worker = after.rows("worker")[0]
    assert delta.ratio(worker, "busy_ns", "run_ns") == 0.25
    assert delta.rate("queue", "rx_packets") == 50.0
    assert delta.change(after.rows("queue")[2], "rx_packets") == 40
    assert delta.histogram(worker, "gap").count == 2
    assert delta.histogram(worker, "gap").quantile(0.99) == 31


def test_a_restart_between_two_snapshots_is_no_negative_rate(name: str) -> None:
    first = Segment.create(name, 1, 1, 1, INFO)
    with StatsReader.open(name) as reader:
        first.set("worker", 0, "decoded", 1000)
        before = reader.read()
        first.identify(Identity(pid=1 << 23, start_ticks=1))
        first.close()
        second = Segment.create(name, 1, 1, 1, INFO)
        second.set("worker", 0, "decoded", 3)
        delta = Delta(before, reader.read())
        assert delta.restarted
        assert delta.change(delta.after.rows("worker")[0], "decoded") == 3
        second.close()


def test_the_age_of_a_heartbeat(segment: Segment, name: str) -> None:
    with StatsReader.open(name) as reader:
        snapshot = reader.read()
        assert snapshot.heartbeat_age_ns(snapshot.rows("worker")[0]) is None
        segment.set("worker", 0, "heartbeat_ns", snapshot.taken_ns)
        age = reader.read().heartbeat_age_ns(reader.read().rows("worker")[0])
        assert age is not None
        assert age < 60_000_000_000
