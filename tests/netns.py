"""Network namespaces and veth pairs for tests: names of their own, and gone afterwards whatever happened.

    with netns.pair(queues=2) as rig:            near, where the program under test sits   far, where frames come from
        with rig.near.entered():                 [ near.ifname ]===========================[ far.ifname ]
            sock = socket.socket(...)            10.77.0.2, fd77::2                         10.77.0.1, fd77::1
        rig.far.run("ss", "-lun")

A namespace is bound to a name (`ip netns list` shows it) only while the fixture lives. Sockets opened while it is
entered stay in it afterwards, so a test enters to open and leaves to work. Entering is a matter of the calling thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def run(*command: str) -> str:
    """Runs a command; on failure the exception says what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def sysctl(name: str, *settings: str) -> None:
    """Sets sysctls of a namespace. A container has /proc/sys read-only; `ip netns exec` has mounts of its own, so that
    making it writable there concerns nobody else."""
    run("ip", "netns", "exec", name, "sh", "-c",
        'mount -o remount,rw /proc/sys 2> /dev/null; exec sysctl -qw "$@"', "sysctl", *settings)  # fmt: skip


@dataclass(frozen=True)
class End:
    """One namespace and its end of the pair."""

    name: str  # of the namespace
    ifname: str
    ifindex: int
    mac: bytes
    ipv4: str
    ipv6: str

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(here)
        finally:
            os.close(here)

    def run(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.name, *command)

    def link(self, *words: str) -> str:
        return run("ip", "-n", self.name, "link", "set", "dev", self.ifname, *words)

    def ethtool(self, *words: str) -> str:
        return self.run("ethtool", words[0], self.ifname, *words[1:])


@dataclass(frozen=True)
class Pair:
    near: End
    far: End


@contextlib.contextmanager
def pair(
    queues: int = 1,
    mtu: int = 1500,
    addresses: bool = True,
    quiet: bool = False,
    macs: tuple[bytes, bytes] | None = None,
) -> Iterator[Pair]:
    """Two namespaces joined by a veth pair, both ends up.

    queues     receive and transmit queues of either end
    addresses  the documented addresses and static neighbours on both ends; none otherwise
    macs       of the near and the far end; random ones otherwise
    quiet      neither end says anything by itself (no IPv6 autoconfiguration, no ARP): for exact counts
    """
    sweep()
    tag = f"{os.getpid()}-{next(_serial)}"  # "abn-4194304-999" is the longest that an interface name may be
    near, far = f"abn-{tag}", f"abf-{tag}"
    made: list[str] = []
    try:
        for ns in (near, far):
            run("ip", "netns", "add", ns)
            made.append(ns)
            # Before the link exists, so that it never sends a router solicitation or a duplicate address probe.
            sysctl(ns, "net.ipv6.conf.default.accept_dad=0",
                "net.ipv6.conf.default.accept_ra=0", f"net.ipv6.conf.default.disable_ipv6={int(quiet and not addresses)}",
                f"net.ipv6.conf.default.addr_gen_mode={int(quiet)}")  # fmt: skip
            run("ip", "-n", ns, "link", "set", "lo", "up")
        many = ["numrxqueues", str(queues), "numtxqueues", str(queues)]
        words = [["mtu", str(mtu), *many, *(["address", mac.hex(":")] if mac else [])] for mac in macs or (b"", b"")]
        run("ip", "-n", near, "link", "add", near, *words[0], "type", "veth",
            "peer", "name", far, *words[1], "netns", far)  # fmt: skip
        for ns in (near, far):
            if quiet:
                run("ip", "-n", ns, "link", "set", "dev", ns, "arp", "off", "multicast", "off")
            run("ip", "-n", ns, "link", "set", "dev", ns, "up")
        ends = [_end(near, 2), _end(far, 1)]
        if addresses:
            for here, there in (ends, reversed(ends)):
                run("ip", "-n", here.name, "addr", "add", f"{here.ipv4}/24", "dev", here.ifname)
                run("ip", "-n", here.name, "addr", "add", f"{here.ipv6}/64", "dev", here.ifname, "nodad")
                for address in (there.ipv4, there.ipv6):
                    run("ip", "-n", here.name, "neigh", "replace", address, "lladdr", there.mac.hex(":"),
                        "dev", here.ifname, "nud", "permanent")  # fmt: skip
        yield Pair(*ends)
    finally:
        for ns in made:
            subprocess.run(["ip", "netns", "delete", ns], capture_output=True, timeout=60)


def _end(ns: str, host: int) -> End:
    text = run("ip", "netns", "exec", ns, "cat", f"/sys/class/net/{ns}/ifindex", f"/sys/class/net/{ns}/address")
    ifindex, mac = text.split()
    return End(ns, ns, int(ifindex), bytes.fromhex(mac.replace(":", "")), f"10.77.0.{host}", f"fd77::{host}")


def sweep() -> None:
    """Removes what a test run that was killed left behind: namespaces named after a process that is no more."""
    for path in Path("/run/netns").glob("ab[nf]-*-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            subprocess.run(["ip", "netns", "delete", path.name], capture_output=True, timeout=60)


def exists(name: str) -> bool:
    return Path(f"/run/netns/{name}").exists()
