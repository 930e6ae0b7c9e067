"""The rig: two ends of a veth pair, so that frames really cross a device, an XDP program and a queue.

      daemon end                                   sender end
      host namespace (or <name>-host)              namespace <name>-lab
      <name>0   198.18.S.1  fd5a:ab1a:6::S:1  ---  lab0   198.18.S.2  fd5a:ab1a:6::S:2

198.18.0.0/15 is set aside for measuring (RFC 2544), so nobody's network is covered by it; S is the `subnet` option.

What the settings are for:
  - transmit checksums are off at both ends: veth otherwise leaves UDP checksums half done, and whoever reads frames by
    AF_XDP sees a wrong one;
  - GRO is off: it would merge what we want to count. Native XDP on veth needs NAPI on the receiving end, which comes with
    GRO or with the program itself: attaching it there is enough for frames that a peer's stack or AF_XDP sends;
  - threaded NAPI (an option) has the daemon end's poll run in a kernel thread and not on the sender's core; veth has a
    poll to put there only with GRO or a program, so GRO stays on with it (XDP sees frames before GRO does);
  - queues are equal both ways: veth refuses a program on an end with fewer receive queues than its peer transmits on;
  - IPv6 addresses come without duplicate address detection: a rig is ready when `up` returns.

Nothing is kept in files: the rig is found again by its names, and recognised by the alias of its devices, so that `down`
never removes what somebody else made. `ip` and `ethtool` do the work rather than pyroute2: namespaces, offloads and
veth in one vocabulary, messages made for people, and what is done can be repeated by hand (`up -v` shows the commands).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..cli import ToolError
from . import exits

ALIAS = "afterburner-lab"  # ifalias of our devices
MAX_NAME = 11  # an interface name has 15 bytes at most
Trace = Callable[[str], None]


class RigError(ToolError):
    """The rig cannot be made, or is not ours."""

    def __init__(self, message: str, exit_code: int = 69) -> None:
        super().__init__(message, exit_code)


class End(msgspec.Struct, frozen=True):
    netns: str  # "" is the namespace that we run in
    device: str
    mac: str
    ipv4: str
    ipv6: str
    link_local: str

    def inside(self, *command: str) -> list[str]:
        """The command, run at this end."""
        return ["ip", "netns", "exec", self.netns, *command] if self.netns else list(command)

    @property
    def place(self) -> str:
        return f"namespace {self.netns}" if self.netns else "host namespace"


class Rig(msgspec.Struct, frozen=True):
    """What a rig consists of: made by `plan`, the same every time for the same arguments."""

    name: str
    daemon: End
    sender: End
    queues: int
    mtu: int
    threaded_napi: bool


def plan(
    name: str = "afterburner",
    *,
    isolated: bool = False,
    queues: int = 1,
    mtu: int = 1500,
    subnet: int = 0,
    threaded_napi: bool = False,
) -> Rig:
    """`isolated` puts the daemon's end into a namespace of its own as well: nothing of the host is touched."""
    if not name.isascii() or not name.replace("-", "").isalnum() or len(name) > MAX_NAME:
        raise RigError(
            f"--name {name!r}: letters, digits and dashes, {MAX_NAME} at most (it becomes an interface name)", 64
        )
    if not 1 <= queues <= 64:
        raise RigError(f"--queues {queues}: 1 to 64", 64)
    if not 1280 <= mtu <= 9000:
        raise RigError(f"--mtu {mtu}: 1280 (the least that IPv6 allows) to 9000", 64)
    if not 0 <= subnet <= 255:
        raise RigError(f"--subnet {subnet}: 0 to 255", 64)

    def end(netns: str, device: str, n: int) -> End:
        return End(
            netns,
            device,
            f"02:ab:1a:00:{subnet:02x}:0{n}",
            f"198.18.{subnet}.{n}",
            f"fd5a:ab1a:6::{subnet:x}:{n}",
            f"fe80::{n}",
        )

    return Rig(
        name=name,
        daemon=end(f"{name}-host" if isolated else "", f"{name}0", 1),
        sender=end(f"{name}-lab", "lab0", 2),
        queues=queues,
        mtu=mtu,
        threaded_napi=threaded_napi,
    )


def require() -> None:
    """Root and tools, or a RigError that says what to do."""
    if os.geteuid() != 0:
        raise RigError("making network namespaces needs root: run it with sudo", 77)
    for tool, package in (("ip", "iproute2"), ("ethtool", "ethtool"), ("sysctl", "procps")):
        if not shutil.which(tool):
            raise RigError(f"{tool} is not installed: apt install {package} (or make setup)")


def run(*command: str, trace: Trace | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    if trace:
        trace(shlex.join(command))
    # A process group of its own: a Ctrl-C of the terminal does not reach it, half of a rig helps nobody.
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, process_group=0)
    if check and done.returncode:
        why = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise RigError(f"{shlex.join(command)}: {why}")
    return done


def ip(end: End | None, *args: str, trace: Trace | None = None) -> None:
    run("ip", *(["-n", end.netns] if end and end.netns else []), *args, trace=trace)


def link(end: End) -> dict[str, Any] | None:
    """The device of this end as `ip -j` shows it, or None."""
    if end.netns and not netns_exists(end.netns):
        return None
    prefix = ["-n", end.netns] if end.netns else []
    done = run("ip", *prefix, "-d", "-j", "-s", "link", "show", "dev", end.device, check=False)
    found: list[dict[str, Any]] = (
        msgspec.json.decode(done.stdout) if done.returncode == 0 and done.stdout.strip() else []
    )
    return found[0] if found else None


def netns_exists(name: str) -> bool:
    return Path("/run/netns", name).exists()


def _alias(rig: Rig) -> str:
    return f"{ALIAS} {rig.name}"


def _ours(rig: Rig, end: End) -> dict[str, Any] | None:
    """The device of this end if it is the rig's; refuses a stranger's of the same name.

    An alias is given after a device is made (the kernel takes none with it): who was killed in between left a pair that
    has none, and is known by being one: each end's peer is the other end.
    """
    found = link(end)
    if found is None or found.get("ifalias") == _alias(rig):
        return found
    other = link(rig.sender if end == rig.daemon else rig.daemon)
    paired = other and (other.get("link_index"), found.get("link_index")) == (found["ifindex"], other["ifindex"])
    if "ifalias" in found or not paired:
        raise RigError(
            f"{end.device} in the {end.place} exists and is not a lab device: choose another --name, or remove it yourself"
        )
    return found


def _check_netns(rig: Rig, end: End) -> None:
    """An existing namespace is the rig's if it holds the rig's device or nothing (`up` was killed half way)."""
    if not end.netns or not netns_exists(end.netns):
        return
    done = run("ip", "-n", end.netns, "-j", "link", "show")
    strangers = [
        one["ifname"]
        for one in msgspec.json.decode(done.stdout)
        if one["ifname"] not in ("lo", end.device) and one.get("link_type") == "ether"
    ]
    if strangers:
        raise RigError(
            f"namespace {end.netns} holds {', '.join(strangers)}, which is not the lab's: choose another --name, or remove it yourself"
        )


def up(rig: Rig, trace: Trace | None = None) -> bool:
    """Makes the rig, or brings what is there into shape. False: it stood already. A failure leaves nothing behind."""
    require()
    for end in (rig.daemon, rig.sender):
        _check_netns(rig, end)
    devices = [_ours(rig, end) for end in (rig.daemon, rig.sender)]
    stood = all(device and device["num_rx_queues"] == rig.queues for device in devices)
    try:
        if not stood:
            _remove(rig, trace)  # half a rig, or one with another number of queues, which veth fixes at creation
            _create(rig, trace)
        for end in (rig.daemon, rig.sender):
            _configure(rig, end, trace)
        _await_carrier(rig)
    except BaseException:
        if not stood:
            _remove(rig, trace)
        raise
    return not stood


def _create(rig: Rig, trace: Trace | None) -> None:
    for end in (rig.daemon, rig.sender):
        if end.netns:
            ip(None, "netns", "add", end.netns, trace=trace)
    queues = ("numtxqueues", str(rig.queues), "numrxqueues", str(rig.queues))
    peer = ("peer", "name", rig.sender.device, *queues, "netns", rig.sender.netns)
    ip(rig.daemon, "link", "add", rig.daemon.device, *queues, "type", "veth", *peer, trace=trace)
    for end in (rig.daemon, rig.sender):
        ip(end, "link", "set", "dev", end.device, "alias", _alias(rig), trace=trace)


def _configure(rig: Rig, end: End, trace: Trace | None) -> None:
    if end.netns:
        # Spares the wire router solicitations. A container has /proc/sys read-only: `ip netns exec` has mounts of its
        # own, so it may be writable there; and where it may not, nobody answers the solicitations.
        quiet = "sysctl -q -w net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0"
        run(*end.inside("sh", "-c", f"mount -o remount,rw /proc/sys; {quiet}"), trace=trace, check=False)
        ip(end, "link", "set", "dev", "lo", "up", trace=trace)
    # addrgenmode none: the link-local address is given below, without duplicate address detection
    wanted = ("address", end.mac, "mtu", str(rig.mtu), "addrgenmode", "none")
    ip(end, "link", "set", "dev", end.device, *wanted, trace=trace)
    threaded = rig.threaded_napi and end == rig.daemon
    run(*end.inside("ethtool", "-K", end.device, "tx", "off", "gro", "on" if threaded else "off"), trace=trace)
    ip(end, "address", "replace", f"{end.ipv4}/24", "dev", end.device, trace=trace)
    if ipv6_works(end):
        for address in (f"{end.ipv6}/112", f"{end.link_local}/64"):
            ip(end, "address", "replace", address, "dev", end.device, "nodad", trace=trace)
    ip(end, "link", "set", "dev", end.device, "up", trace=trace)
    if threaded:
        run(*end.inside("sh", "-c", f"echo 1 > /sys/class/net/{end.device}/threaded"), trace=trace)


def ipv6_works(end: End) -> bool:
    if not Path("/proc/sys/net/ipv6").exists():
        return False
    done = run(*end.inside("cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6"), check=False)
    return done.stdout.strip() == "0"


def _await_carrier(rig: Rig) -> None:
    until = time.monotonic() + 5
    for end in (rig.daemon, rig.sender):
        while (found := link(end)) is None or found["operstate"] != "UP":
            if time.monotonic() > until:
                raise RigError(f"{end.device} does not come up: {found and found['operstate']}")
            time.sleep(0.01)


def _remove(rig: Rig, trace: Trace | None) -> bool:
    """Removes what is there of the rig. The device first: it goes at once, even while processes still hold a namespace."""
    removed = False
    for end in (rig.daemon, rig.sender):
        if _ours(rig, end):
            ip(end, "link", "delete", "dev", end.device, trace=trace)
            removed = True
    for end in (rig.daemon, rig.sender):
        if end.netns and netns_exists(end.netns):
            ip(None, "netns", "delete", end.netns, trace=trace)
            removed = True
    return removed


def down(rig: Rig, trace: Trace | None = None) -> bool:
    """Removes the rig. False: there was none."""
    require()
    for end in (rig.daemon, rig.sender):
        _check_netns(rig, end)
    return _remove(rig, trace)


def occupants(rig: Rig) -> list[int]:
    """Processes that run in the rig's namespaces."""
    pids: list[int] = []
    for end in (rig.daemon, rig.sender):
        if end.netns and netns_exists(end.netns):
            pids += [int(pid) for pid in run("ip", "netns", "pids", end.netns, check=False).stdout.split()]
    return sorted(set(pids))


@contextmanager
def standing(rig: Rig, trace: Trace | None = None) -> Iterator[Rig]:
    """The rig for the time of a `with`: gone after it, whichever way it ends. A signal ends it where the body says
    `exits.interruptible`, or at its end."""
    with exits.unwinding():
        try:
            up(rig, trace)
            yield rig
        finally:
            down(rig, trace)


def describe(rig: Rig, made: bool) -> str:
    """What stands there now, and what to do with it."""
    rows = [
        f"  {what:12} {end.place:28} {end.device:16} {end.mac}  {end.ipv4:14} {end.ipv6}"
        for what, end in (("daemon end", rig.daemon), ("sender end", rig.sender))
    ]
    queues = f"{rig.queues} queue{'s' if rig.queues > 1 else ''} each way, MTU {rig.mtu}, checksums complete"
    name = "" if rig.name == "afterburner" else f" --name {rig.name}"
    inside = f"ip netns exec {rig.daemon.netns} " if rig.daemon.netns else ""
    uses = (
        (f"{inside}afterburnerd --config FILE", f"FILE with [interface] name = {rig.daemon.device!r}"),
        (f"afterburner-lab emit{name}", f"Solana transactions to {rig.daemon.ipv4}:8001"),
        (f"afterburner-lab flood{name} --rate max", "UDP through AF_XDP"),
        (f"ip netns exec {rig.sender.netns} COMMAND", "anything else at the sender's end"),
        (f"afterburner-lab down{name}{' --isolated' if inside else ''}", "remove it"),
    )
    width = max(len(command) for command, _ in uses)
    return "\n".join(
        [
            f"rig {rig.name!r} {'is up' if made else 'was up already'}: {queues}",
            *rows,
            "use it:",
            *(f"  {command:{width}}   {what}" for command, what in uses),
        ]
    )
