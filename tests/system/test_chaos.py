"""Everything at once, in an order that nobody chose: kills, stops, reloads and changes of the interface under traffic.

The tests of single faults know what they broke and wait for its cure; here the next blow falls while the daemon is still
busy with the one before. After each round the blows cease, and what must always hold is asked for: the daemon serves, the
frames add up, one program hangs on the interface, every packet that is sent is counted, and nothing was kept that should
have been given back.

    AFTERBURNER_SEED=n             the same blows again
    AFTERBURNER_CHAOS_SECONDS=600  longer than the 15 s of the test command
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afterburnerd import client
from afterburnerd.abi import control
from tests import netns
from tests.system.daemonrig import PORT, RAW, Daemon, alive

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

SECONDS = float(os.environ.get("AFTERBURNER_CHAOS_SECONDS") or 15)
BLOWS = 6  # between two moments of peace
MEMORY_GROWTH = 8 << 20  # of the supervisor, in bytes: Python's own pools, not a leak, which grows with the rounds
QUEUES = 2


class Chaos:
    """The blows. Each returns at once; what it takes back later, `peace` takes back."""

    def __init__(self, daemon: Daemon, rng: random.Random) -> None:
        self.daemon, self.rng = daemon, rng
        self.done: list[str] = []
        self.blows: tuple[Callable[[], object], ...] = (
            self.kill, self.hang, self.stop_the_supervisor, self.reload_rules, self.reload_memory, self.reload_nonsense,
            self.hang_up, self.ask_rudely, self.link_down_and_up, self.mtu, self.queues, self.address,
        )  # fmt: skip

    def strike(self) -> None:
        blow = self.rng.choice(self.blows)
        self.done.append(blow.__name__)
        blow()
        time.sleep(self.rng.choice((0, 0, 0.02, 0.1, 0.4)))

    def _plane(self) -> int:
        # What happens between looking and striking is part of the game; a process ID that is free again is not.
        pid = self.daemon.plane_pid_from_stats()
        return pid if pid and b"afterburnerd.dataplane" in _command(pid) else 0

    def kill(self) -> None:
        if pid := self._plane():
            _signal(pid, signal.SIGKILL)

    def hang(self) -> None:
        if pid := self._plane():
            _signal(pid, signal.SIGSTOP)

    def stop_the_supervisor(self) -> None:
        os.kill(self.daemon.pid, signal.SIGSTOP)
        time.sleep(self.rng.choice((0.05, 0.6)))
        if self.rng.random() < 0.5:
            self.kill()
        os.kill(self.daemon.pid, signal.SIGCONT)

    def _reload(self, **parts: str) -> None:
        self.daemon.write_config(**parts)
        if self.rng.random() < 0.5:
            self.hang_up()
            return
        with contextlib.suppress(control.ControlError):
            self.daemon.reload()

    def reload_rules(self) -> None:
        more = (
            f'[[capture]]\nname = "more{n}"\nport = {9000 + n}\ndecoder = "raw"\n' for n in range(self.rng.randrange(9))
        )
        self._reload(captures=RAW + "".join(more))

    def reload_memory(self) -> None:
        self._reload(memory=f"frames = {self.rng.choice((512, 1024, 4096))}\nring = 512")

    def reload_nonsense(self) -> None:
        good = self.daemon.parts["rest"]
        self._reload(rest=good + self.rng.choice(("\n[[nonsense", "\nnonsense = 1", "\n[xdp]\nmax_cids = 4711\n")))
        self.daemon.write_config(rest=good)

    def hang_up(self) -> None:
        for _ in range(self.rng.randrange(1, 4)):
            os.kill(self.daemon.pid, signal.SIGHUP)

    def ask_rudely(self) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1)
            sock.connect(str(self.daemon.directory / "run" / "control.sock"))
            sock.sendall(self.rng.choice((b"", b'{"type":"status"', b'{"type":"reload"}\n', b"\xff" * 4096)))

    def link_down_and_up(self) -> None:
        self.daemon.rig.near.link("down")
        time.sleep(self.rng.choice((0, 0.1)))
        self.daemon.rig.near.link("up")

    def mtu(self) -> None:
        self.daemon.rig.near.link("mtu", str(self.rng.choice((1300, 1400, 1500))))

    def queues(self) -> None:
        with contextlib.suppress(RuntimeError):  # the kernel takes no queue away that has a socket
            self.daemon.rig.near.ethtool("-L", "rx", str(self.rng.randint(1, QUEUES)), "tx", str(QUEUES))

    def address(self) -> None:
        near = self.daemon.rig.near
        with contextlib.suppress(RuntimeError):  # it may be there, or not be there
            netns.run(
                "ip", "-n", near.name, "addr", self.rng.choice(("add", "del")), "10.78.0.1/32", "dev", near.ifname
            )

    def peace(self) -> None:
        """What is configured is what is there, and nobody is held."""
        self.daemon.write_config()
        self.daemon.rig.near.ethtool("-L", "rx", str(QUEUES), "tx", str(QUEUES))
        self.daemon.rig.near.link("up")
        self.daemon.wait(self._settled, "the daemon to be at rest", 30)

    def _settled(self) -> bool:
        status = self.daemon.status()
        worker = status.workers[0]
        return (
            status.state == "serving"
            and alive(worker.pid)
            and _state(worker.pid) != "T"
            and worker.queues == tuple(range(QUEUES))
            and len(self.daemon.queues()) == QUEUES
        )


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextlib.contextmanager
def _traffic(daemon: Daemon) -> Iterator[Callable[[], None]]:
    """Some thousand packets a second until told to pause: what is called in between is not disturbed by them."""
    over, quiet = threading.Event(), threading.Event()

    def send() -> None:
        while not over.wait(0.005):
            # No route and no neighbour while the link is down: part of the game.
            with contextlib.suppress(OSError):
                if not quiet.is_set():
                    for n in range(16):
                        sock.sendto(b"chaos %d" % n * 20, (daemon.rig.near.ipv4, PORT))

    with daemon.rig.far.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lambda: quiet.clear() if quiet.is_set() else quiet.set()
    finally:
        over.set()
        thread.join()
        sock.close()


def test_whatever_falls_on_it_it_comes_to_rest_and_serves(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with netns.pair(queues=QUEUES) as rig, Daemon(rig, tmp_path, memory="frames = 1024\nring = 512",
            rest="[watch]\nhang_ms = 200\nbackoff_min_ms = 20\nbackoff_max_ms = 200\nsteady_ms = 500") as daemon:  # fmt: skip
        chaos = Chaos(daemon, rng)
        with _traffic(daemon) as pause, client.follow(daemon.name) as follower:
            ends, rounds, descriptors, memory = time.monotonic() + SECONDS, 0, 0, 0
            while time.monotonic() < ends or rounds < 3:
                chaos.done.clear()
                for _ in range(BLOWS):
                    chaos.strike()
                chaos.peace()
                pause()
                said = f"round {rounds}, after {', '.join(chaos.done)}"
                print(said)
                daemon.recovers(30)  # nothing but what is counted here is sent now
                daemon.assert_frames_add_up()
                assert daemon.attached() > 0, said
                assert len(_children(daemon.pid)) == 1, said
                follower.poll()
                if rounds < 2:  # what is made once, lazily, has been made by now
                    descriptors, memory = _descriptors(daemon.pid), _resident(daemon.pid)
                # A connection of a moment ago may still be open: what leaks would not go away.
                daemon.wait(
                    lambda most=descriptors: _descriptors(daemon.pid) <= most, f"descriptors to be closed, {said}"
                )  # type: ignore[misc]
                assert _resident(daemon.pid) < memory + MEMORY_GROWTH, said
                rounds += 1
                pause()
        assert daemon.stop() == 0, daemon.log()
        assert "Traceback" not in daemon.log(), daemon.log()
        assert daemon.attached() == 0
        assert not list(Path("/dev/shm").glob(f"{daemon.name}.*"))
