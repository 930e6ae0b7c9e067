"""A machine with a systemd of its own, made from this one and gone without a trace: the rig of the systemd tests.

    pytest -+- this machine: its root directory, only ever read (lower layer)
            |
            +- nspawn process, in a mount namespace and a control group of its own
                 tmpfs: upper layer, over it the installed product (make install DESTDIR=..)
                 +- PID 1: the real systemd, with its own network, /dev/shm, /run, journal, machine ID

Everything that could outlive a test lives in a namespace of the nspawn process: mounts, interfaces, shared memory, processes.
When that process ends, however it ends, they are gone; and it ends with the thread that started it (PR_SET_PDEATHSIG).
What is left to remove is an empty directory and an empty control group.

Commands run inside through nsenter, not through machinectl: that would need a bus on both sides and a registered machine.
The rig also works where this machine is such a container itself. Two of them at a time must not share a
control group, or one's systemd would end the other's services: hence the group of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = "afterburner-rig.target"
BOOT_TIMEOUT = 120  # seconds; it takes one
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "cat",
}
_numbers = itertools.count()

# The container's /tmp is its own: a checkout that lies there is put in by itself.
CHECKOUT = f"--bind={ROOT}" if ROOT.is_relative_to("/tmp") else ""

# Runs in a mount namespace of its own. $1: directory, $2: installed product, $3: name, $4: TARGET, $5: CHECKOUT
BOOT = """
set -eu
mount -t tmpfs -o mode=755 rig "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay rig -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
# this machine's own daemon, had it one, is not the subject
rm -rf etc/afterburner etc/systemd/system/afterburner.service* usr/local/lib/afterburner var/log/journal
cp -a "$2/." . && chmod 755 .
rm -f etc/machine-id etc/resolv.conf
systemd-id128 new > etc/machine-id
mkdir -p etc/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\nRateLimitIntervalSec=0\\nForwardToConsole=no\\n' > etc/systemd/journald.conf.d/rig.conf
# As small as a system can be: what multi-user.target holds here (databases, timers) stays off.
printf '[Unit]\\nRequires=basic.target\\nAfter=basic.target\\nAllowIsolate=yes\\n' > "etc/systemd/system/$4"
ln -sfn /dev/null etc/systemd/system/timers.target
ln -sfn /dev/null etc/systemd/system/systemd-timesyncd.service
# nspawn leaves directories in there
mkdir -p /run/systemd/nspawn
mount -t tmpfs rig /run/systemd/nspawn
exec systemd-nspawn -b -D "$1/root" --machine="$3" --hostname=rig --link-journal=no --register=no --keep-unit \\
    --capability=all --system-call-filter=bpf --private-network --resolv-conf=off $5 -- "systemd.unit=$4"
"""


class RigError(AssertionError):
    """The rig itself failed: not the product under test."""


class Container:
    """A booted machine. Use `booted()`, which always ends it."""

    def __init__(self, directory: Path, stage: Path) -> None:
        self.name = f"rig-{os.getpid()}-{next(_numbers)}"
        self.directory = directory
        self.console = directory.with_suffix(".console")
        self._groups = _make_control_groups(self.name)
        with self.console.open("wb") as out:
            self._nspawn = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "TERM", "unshare", "--mount"),
                    *("bash", "-c", _joining(self._groups) + BOOT),
                    *("rig", str(directory), str(stage), self.name, TARGET, CHECKOUT),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.leader = 0  # PID 1 of the container as this machine counts

    def wait_until_booted(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while not (self.leader and self._is_running()):
            if self._nspawn.poll() is not None or time.monotonic() > deadline:
                raise RigError(f"the container did not boot; its console:\n{self.console.read_text(errors='replace')}")
            time.sleep(0.05)
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
            # before the exec of nspawn the children are those of the shell
            self.leader = next((int(pid) for pid in children if _command(int(pid)) == "systemd"), 0)

    def _is_running(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def run(
        self, *command: str | Path, check: bool = True, timeout: float = 60, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside, as root; its output is text. With `check`, a failure shows what it printed."""
        settings = [f"{key}={value}" for key, value in {**ENVIRONMENT, **(env or {})}.items()]
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", "--wd=/", "env", "-i", *settings, *map(str, command)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def path(self, inside: str) -> Path:
        """A path of the container as this machine reaches it."""
        return Path(f"/proc/{self.leader}/root") / inside.lstrip("/")

    def write(self, inside: str, text: str) -> None:
        self.run("mkdir", "-p", str(Path(inside).parent))
        self.path(inside).write_text(text)

    def journal(self, *match: str, since: int = 0) -> list[dict[str, str]]:
        """Entries of the journal, oldest first; `match` as journalctl takes it, `since`: only those after that `now()`.

        Not by --after-cursor: with a match it also leaves out the first entry that does match (systemd 252).
        """
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--output=json", "--all", "--no-pager", *match).stdout.splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if int(entry["__MONOTONIC_TIMESTAMP"]) > since]

    @staticmethod
    def now() -> int:
        """The present as the journal writes it down (us of CLOCK_MONOTONIC, which a container shares with its machine)."""
        return time.monotonic_ns() // 1000

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as systemd reports them."""
        wanted = [f"--property={name}" for name in properties]
        pairs = (line.partition("=") for line in self.run("systemctl", "show", unit, *wanted).stdout.splitlines())
        return {key: value for key, _, value in pairs}

    def processes(self, unit: str) -> list[int]:
        """Process IDs in the unit's control group, as the container counts."""
        group = self.show(unit, "ControlGroup")["ControlGroup"]
        if not group:
            return []
        lists = (f"/sys/fs/cgroup/{hierarchy}{group}/cgroup.procs" for hierarchy in ("", "unified", "systemd"))
        # read inside: the kernel translates the IDs for the reader
        return sorted({int(pid) for pid in self.run("cat", *lists, check=False).stdout.split()})

    def status(self, pid: int) -> dict[str, str]:
        """/proc/PID/status of a process of the container; empty when there is no such process."""
        try:
            text = self.path(f"/proc/{pid}/status").read_text()
        except OSError:
            return {}
        return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}

    def shut_down(self) -> None:
        """Ends it in an orderly way, and by force where that takes too long; afterwards nothing of it exists."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._nspawn.pid, signal.SIGTERM)
        try:
            self._nspawn.wait(timeout=30)
        except subprocess.TimeoutExpired:
            for pid in (self.leader, self._nspawn.pid):
                with contextlib.suppress(ProcessLookupError):
                    if pid:
                        os.kill(pid, signal.SIGKILL)
            self._nspawn.wait(timeout=30)
        for group in self._groups:
            _remove_control_group(group)
        with contextlib.suppress(FileNotFoundError):
            self.directory.rmdir()
            self.console.unlink()


@contextlib.contextmanager
def booted(stage: Path) -> Iterator[Container]:
    """A machine with the product of `stage` installed, up until the block ends."""
    missing = [tool for tool in ("systemd-nspawn", "nsenter", "unshare", "setpriv") if not shutil.which(tool)]
    if missing:
        raise RigError(f"{', '.join(missing)} not found: make setup installs what deploy/debian/packages.txt lists")
    container = Container(Path(tempfile.mkdtemp(prefix="afterburner-rig-", dir="/run")), stage)
    try:
        container.wait_until_booted()
        yield container
    finally:
        container.shut_down()


def installed(into: Path) -> Path:
    """The product installed below `into` by the command that the documents name."""
    done = subprocess.run(
        [ROOT / "deploy/debian/install.sh"], env={**os.environ, "DESTDIR": str(into)}, capture_output=True, text=True
    )
    if done.returncode:
        raise AssertionError(f"install.sh: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return into


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _make_control_groups(name: str) -> list[Path]:
    """A group below our own in each hierarchy that systemd uses: the v2 one, and beside v1 controllers the named one."""
    groups = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            v2 = Path("/sys/fs/cgroup")
            parent = v2 if (v2 / "cgroup.controllers").exists() else v2 / "unified"
        elif controllers == "name=systemd":
            parent = Path("/sys/fs/cgroup/systemd")
        else:
            continue
        group = parent / own.lstrip("/") / name
        if group.parent.is_dir():
            group.mkdir()
            groups.append(group)
    return groups


def _joining(groups: Sequence[Path]) -> str:
    return "".join(f"echo $$ > {group}/cgroup.procs\n" for group in groups)


def _remove_control_group(group: Path) -> None:
    for directory, _, _ in os.walk(group, topdown=False):
        for _ in range(100):  # the kernel empties it a moment after the last process was reaped
            try:
                Path(directory).rmdir()
                break
            except OSError:
                time.sleep(0.02)
