"""`--clean-up` removes what dead daemons left, whatever their names, and nothing of a living one."""

from __future__ import annotations

import io

import pytest

from afterburnerd.abi import shm
from afterburnerd.abi.connections import Table
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.process import Identity
from afterburnerd.abi.records import Ring
from afterburnerd.abi.segment import Segment
from afterburnerd.supervisor import cleanup

DEAD = Identity(pid=(1 << 22) + 1, start_ticks=5)  # above the largest pid_max


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Other daemons of this machine are not the tests' to clean up."""
    every = cleanup.names
    monkeypatch.setattr(cleanup, "names", lambda: [n for n in every() if n.startswith(name)])


def daemon(name: str, *, dead: bool, rings: int = 2) -> None:
    segment = Segment.create(name, 1, 1, 1, Info(version="0", interface="ve0", workers=(WorkerInfo(0, (0,)),)))
    for worker in range(rings):
        Ring.create(name, worker, 64, 512).close()
    if dead:
        segment.identify(DEAD)
    segment.close()


def left(name: str) -> list[str]:
    return sorted(path.name.removeprefix(name) for path in shm.DIRECTORY.glob(f"{name}*"))


def clean_up() -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return cleanup.clean_up(out, err), out.getvalue(), err.getvalue()


def test_a_dead_daemons_memory_goes_and_is_named(name: str) -> None:
    daemon(name, dead=True)
    code, out, err = clean_up()
    assert (code, err) == (0, "")
    assert left(name) == []
    assert sorted(out.splitlines()) == [
        f"removed /dev/shm/{name}{end}, left by a daemon that is dead" for end in (".records.0", ".records.1", ".stats")
    ]


def test_a_living_daemons_memory_stays_without_a_word(name: str) -> None:
    daemon(name, dead=False)
    assert clean_up() == (0, "", "")
    assert left(name) == [".records.0", ".records.1", ".stats"]


def test_each_name_is_judged_by_itself(name: str) -> None:
    daemon(f"{name}-a", dead=True)
    daemon(f"{name}-b", dead=False, rings=1)
    assert clean_up()[0] == 0
    assert left(name) == ["-b.records.0", "-b.stats"]


def test_rings_without_a_segment_go(name: str) -> None:
    Ring.create(name, 3, 64, 512).close()
    assert clean_up()[0] == 0
    assert left(name) == []


def test_tables_of_connections_go_as_well(name: str) -> None:
    daemon(name, dead=True, rings=1)
    Table.create(name, 0, 8).close()
    Table.create(f"{name}-b", 0, 8).close()
    daemon(f"{name}-b", dead=False, rings=0)
    assert clean_up()[0] == 0
    assert left(name) == ["-b.connections.0", "-b.stats"]


@pytest.mark.parametrize("end", [".connections.0", ".txt", ".records.x", ".stats", ".records.0"])
def test_other_software_may_call_its_files_alike(name: str, end: str) -> None:
    (shm.DIRECTORY / f"{name}{end}").write_bytes(b"something else")
    assert clean_up() == (0, "", "")
    assert left(name) == [end]


def test_a_ring_made_anew_while_the_old_one_is_judged_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon(name, dead=True, rings=1)
    inspect = Segment.inspect

    def starting_meanwhile(name: str) -> object:
        found = inspect(name)
        Ring.create(name, 0, 64, 512).close()
        return found

    monkeypatch.setattr(Segment, "inspect", staticmethod(starting_meanwhile))
    assert clean_up()[0] == 0
    assert left(name) == [".records.0"]


def test_nothing_there_is_fine(name: str) -> None:
    assert clean_up() == (0, "", "")
