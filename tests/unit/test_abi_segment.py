"""The statistics segment: who may take a name, what is replaced, and that nothing found there is believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afterburnerd.abi import layout, shm
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.process import Identity
from afterburnerd.abi.segment import Segment, Standing
from afterburnerd.abi.stats import StatsReader

INFO = Info(version="0.1.0", interface="ve0", workers=(WorkerInfo(1, (0, 3)),), rules=("tx",))
DEAD = Identity(pid=(1 << 22) + 1, start_ticks=5)  # above the largest pid_max


def make(name: str, workers: int = 1, queues: int = 2, rules: int = 4, info: Info = INFO) -> Segment:
    return Segment.create(name, workers, queues, rules, info)


def kill_writer(segment: Segment) -> None:
    """Leaves the segment as a killed daemon would."""
    segment.identify(DEAD)
    segment.close()


def test_what_is_written_is_read(name: str) -> None:
    segment = make(name)
    segment.set("daemon", 0, "reload_ok", 7)
    segment.add("daemon", 0, "reload_ok", 2)
    segment.set("queue", segment.queue_row(0, 1), "rx_packets", (1 << 64) - 1)
    segment.add("queue", segment.queue_row(0, 1), "rx_packets", 2)
    with StatsReader.open(name) as reader:
        snapshot = reader.read()
    assert snapshot.daemon.value("reload_ok") == 9
    assert [row.labels for row in snapshot.rows("queue")] == [
        {"worker": "0", "queue": "0"},
        {"worker": "0", "queue": "3"},
    ]
    assert [row.value("rx_packets") for row in snapshot.rows("queue")] == [0, 1]
    assert not snapshot.stale
    segment.close()


def test_offsets_are_where_c_would_write(name: str) -> None:
    segment = make(name, workers=3, queues=2, rules=2, info=INFO)
    for block in segment.description.blocks:
        for index in range(block.count):
            offset = segment.offset(block.name, index)
            assert offset % 128 == 0
            os.pwrite(segment.fd, (offset + 1).to_bytes(8, "little"), offset)
            assert segment.words(block.name, index)[0] == offset + 1
    with pytest.raises(IndexError, match="block worker has 3 rows, no row 3"):
        segment.offset("worker", 3)
    segment.close()


def test_blocks_and_text_do_not_overlap(name: str) -> None:
    segment = make(name, workers=3, queues=2, rules=2)
    end = layout.Segment.SIZE
    for block in segment.description.blocks:
        assert block.offset >= end
        end = block.offset + block.stride * block.count
    assert layout.Segment.unpack(os.pread(segment.fd, 128, 0)).text_offset >= end
    segment.close()


def test_the_file_may_be_read_by_all_and_written_by_its_owner(name: str) -> None:
    before = os.umask(0o077)
    try:
        segment = make(name)
    finally:
        os.umask(before)
    assert shm.path_of(f"{name}.stats").stat().st_mode & 0o7777 == 0o644
    segment.close()


def test_a_dead_daemons_segment_is_replaced(name: str) -> None:
    first = make(name)
    kill_writer(first)
    assert Segment.inspect(name).standing is Standing.STALE
    second = make(name)
    assert Segment.inspect(name).standing is Standing.LIVE
    assert (first.replaced, "is gone" in second.replaced) == ("", True)
    assert [p.name for p in shm.DIRECTORY.glob(f"{name}*")] == [f"{name}.stats"]
    second.close()


def test_a_reused_process_id_is_not_taken_for_the_daemon(name: str) -> None:
    segment = make(name)
    own = Identity.own()
    segment.identify(Identity(own.pid, own.start_ticks - 1, own.namespace))
    segment.close()
    assert Segment.inspect(name).standing is Standing.STALE


def test_a_zombie_counts_as_dead(name: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        segment = make(name)
        own = Identity.own()
        ticks = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        segment.identify(Identity(child.pid, int(ticks), own.namespace))
        segment.close()
        assert Segment.inspect(name).standing is Standing.LIVE
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Segment.inspect(name).standing is Standing.STALE
    finally:
        child.kill()
        child.wait()


def test_from_another_pid_namespace_the_heartbeat_decides(name: str) -> None:
    segment = make(name)
    segment.identify(Identity(DEAD.pid, 1, namespace=1))
    assert Segment.inspect(name).standing is Standing.LIVE
    segment.set("daemon", 0, "heartbeat_ns", time.monotonic_ns() - 11_000_000_000)
    assert Segment.inspect(name).standing is Standing.STALE
    segment.close()


def test_a_living_daemons_segment_is_not_touched(name: str) -> None:
    first = make(name)
    first.set("daemon", 0, "reload_ok", 3)
    with pytest.raises(shm.InUse, match=f"running already .process {os.getpid()}"):
        make(name)
    with StatsReader.open(name) as reader:
        assert reader.read().daemon.value("reload_ok") == 3
    first.close()


def test_of_many_starters_exactly_one_gets_the_name_of_a_dead_one(name: str) -> None:
    kill_writer(make(name))
    code = (
        "import sys, time\n"
        "from afterburnerd.abi import shm\n"
        "from afterburnerd.abi.segment import Segment\n"
        "from afterburnerd.abi.description import Info\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    Segment.create(sys.argv[1], 1, 1, 1, Info())\n"
        "    print('mine', flush=True)\n"
        "except shm.InUse:\n"
        "    print('in use', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(8)
    ]
    try:
        for s in starters:
            assert s.stdin
            s.stdin.write("go\n")
        answers = [s.stdout.readline().strip() for s in starters if s.stdout]
    finally:
        for s in starters:
            s.kill()
            s.communicate()
    assert sorted(answers) == ["in use"] * 7 + ["mine"]
    assert [p.name for p in shm.DIRECTORY.glob(f"{name}*")] == [f"{name}.stats"]


def test_one_that_came_to_life_after_it_was_judged_dead_keeps_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_writer(make(name))
    judge, others = Segment.inspect, []

    def slow_judge(name: str) -> object:
        verdict = judge(name)
        if not others:
            others.append(None)  # once: a rival replaces the dead one between our look and our deed
            others[0] = make(name)
            others[0].set("daemon", 0, "reload_ok", 11)
        return verdict

    monkeypatch.setattr(Segment, "inspect", staticmethod(slow_judge))
    with pytest.raises(shm.InUse):
        make(name)
    with StatsReader.open(name) as reader:
        assert reader.read().daemon.value("reload_ok") == 11
    assert [p.name for p in shm.DIRECTORY.glob(f"{name}*")] == [f"{name}.stats"]
    others[0].close()


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 4096, b"\xff" * 4097])
def test_our_own_garbage_is_replaced(name: str, content: bytes) -> None:
    shm.path_of(f"{name}.stats").write_bytes(content)
    assert Segment.inspect(name).standing is Standing.STALE
    make(name).close()


def test_a_symbolic_link_is_refused_and_not_followed(name: str, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    shm.path_of(f"{name}.stats").symlink_to(target)
    with pytest.raises(shm.Invalid, match=r"symbolic link.*rm "):
        make(name)
    assert target.read_text() == "precious"


def test_a_fifo_is_refused_without_waiting(name: str) -> None:
    os.mkfifo(shm.path_of(f"{name}.stats"))
    with pytest.raises(shm.Invalid, match="not a regular file"):
        make(name)
    with pytest.raises(shm.Invalid, match="not a regular file"):
        StatsReader.open(name)


def test_a_directory_is_refused(name: str) -> None:
    shm.path_of(f"{name}.stats").mkdir()
    with pytest.raises(shm.Invalid):
        make(name)


@pytest.mark.parametrize("bad", ["", "a/b", "../x", ".hidden", "x" * 300, "a b"])
def test_names_that_leave_the_directory_are_refused(bad: str) -> None:
    with pytest.raises(shm.Invalid, match="is no name"):
        make(bad)


@pytest.mark.privileged
def test_a_strangers_file_is_neither_believed_nor_removed(name: str) -> None:
    path = shm.path_of(f"{name}.stats")
    path.write_bytes(b"")
    os.chown(path, 4711, 4711)
    child = os.fork()
    if child == 0:
        os.setuid(4712)
        try:
            make(name)
        except shm.Invalid as e:
            os._exit(0 if "belongs to uid 4711, not to uid 4712" in str(e) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.stat().st_uid == 4711


@pytest.mark.privileged
def test_root_is_not_kept_out_by_a_strangers_file_that_names_a_living_process(name: str) -> None:
    segment = make(name)
    segment.identify(Identity(1, int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])))
    segment.close()
    assert Segment.inspect(name).standing is Standing.LIVE
    os.chown(shm.path_of(f"{name}.stats"), 4711, 4711)
    assert Segment.inspect(name).standing is Standing.STALE
    make(name).close()


def test_a_row_whose_meaning_changed_is_cleared(name: str) -> None:
    segment = make(name)
    for rule in (0, 1):
        segment.set("rule", rule, "packets", 5)
    segment.clear("rule", 0)
    assert segment.get("rule", 0, "packets") == 0
    assert segment.get("rule", 1, "packets") == 5
    segment.close()


def test_info_that_does_not_fit_is_refused_and_the_old_one_stays(name: str) -> None:
    segment = make(name)
    with pytest.raises(shm.ShmError, match="shorten rule names"):
        segment.set_info(Info(rules=("x" * 40_000,)))
    with StatsReader.open(name) as reader:
        assert reader.read().info == INFO
    segment.close()


def test_unlink_takes_only_its_own_file(name: str) -> None:
    first = make(name)
    first.identify(DEAD)
    second = make(name)
    first.unlink()
    assert shm.path_of(f"{name}.stats").exists()
    second.unlink()
    assert not shm.path_of(f"{name}.stats").exists()
    second.unlink()  # twice is no error
    first.close()
    second.close()


def test_a_failed_start_leaves_nothing(name: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    first = make(name)
    with pytest.raises(shm.InUse):
        make(name)
    first.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_directory_in_its_place_is_named(name: str) -> None:
    path = shm.path_of(name)
    path.mkdir()
    try:
        with pytest.raises(shm.Invalid, match=f"{path}: a directory .* rmdir {path}"):
            shm.unlink(name)
    finally:
        path.rmdir()
