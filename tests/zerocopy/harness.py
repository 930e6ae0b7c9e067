"""Runs in the guest, as its only program: two data planes on two linked NICs, and transactions through both.

    left namespace                                                        right namespace
    a plain UDP socket on port 8001
         |  N real transactions to right:8002
         +--(kernel)--> eth0 ------------------ the wire ------------------> eth1 == RX ==> data plane, rule `echo`
                                                                                               |
    data plane, rule `transactions` <== RX == eth0 <------ the wire ------ eth1 <===== TX =====+
    decodes what comes to left:8001

`==` is AF_XDP. A volley thus uses the receive path of both NICs and the transmit path of one, and every transaction
ends decoded or is missed; then the other side begins, and at last both at once, over IPv4 and IPv6, while the clock of
this machine is stepped by days on and back. Then one data plane is killed, and a last volley goes through the one that
its supervisor starts in its place. The left worker spins, the right one sleeps when idle: both ways of waiting meet the
driver.

The sender keeps at most WINDOW transactions under way, by looking at the receiver's statistics: queues in between never
overflow, so nothing may be lost, however slow the emulated machine. Both sides verify every UDP checksum, which the
sending kernel computed (the NICs offer no checksum offload): a byte damaged anywhere would be counted.

This program judges nothing. It writes what it measured as one JSON object to the report port; the test outside holds
it against what must be. The mode is not taken from our own statistics alone: the AF_XDP sockets are borrowed from the
data planes (pidfd_getfd) and the kernel is asked (XDP_OPTIONS, XDP_STATISTICS).
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from afterburnerd.abi.shm import ShmError
from afterburnerd.abi.stats import Snapshot, StatsReader
from afterburnerd.lab.transactions import SHAPES, Maker
from tests import netns

CAPTURE, ECHO = 8001, 8002  # ports of the two rules
# Zero-copy or nothing: no fall-back can pass for it. The times are those of an emulated processor.
CONFIG = f"""
[daemon]
name = "{{name}}"
run_dir = "{{directory}}"
[interface]
name = "{{device}}"
mode = "zero-copy"
verify_udp_checksum = true
[exporter]
listen = ""
[watch]
hang_ms = 30000
start_ms = 90000
[[worker]]
cpu = {{cpu}}
idle = "{{idle}}"
[[capture]]
name = "transactions"
port = {CAPTURE}
[[capture]]
name = "echo"
port = {ECHO}
decoder = "echo"
"""
VOLLEY = 2000  # transactions in a volley
WINDOW = 256  # of them under way at once: an eighth of the frames, as many as a virtio queue has descriptors
BURST = 64  # sent between two looks at the receiver's statistics
READY_S = 180.0  # longest wait for a daemon to serve; on a busy machine it takes 20 s, most of it imports
STALL_S = 20.0  # without an arrival: what is missing is lost

AF_XDP, SOL_XDP, XDP_STATISTICS, XDP_OPTIONS = 44, 283, 7, 8
SYS_PIDFD_GETFD = 438
DAY = 86400
STATISTICS = ("rx_dropped", "rx_invalid_descs", "tx_invalid_descs", "rx_ring_full", "rx_fill_ring_empty_descs",
              "tx_ring_empty_descs")  # fmt: skip


class Side:
    """One NIC in its namespace, and the daemon that serves it."""

    def __init__(self, name: str, device: str, host: int, cpu: int, idle: str) -> None:
        self.name = name
        self.cpu = cpu
        self.idle = idle
        netns.run("ip", "netns", "add", name)
        netns.run("ip", "link", "set", device, "netns", name)
        text = netns.run(
            "ip", "netns", "exec", name, "cat", *(f"/sys/class/net/{device}/{f}" for f in ("ifindex", "address"))
        )
        index, mac = text.split()
        self.end = netns.End(
            name, device, int(index), bytes.fromhex(mac.replace(":", "")), f"10.77.0.{host}", f"fd77::{host}"
        )
        self.daemon: subprocess.Popen[bytes] | None = None

    def join(self, other: Side) -> None:
        """Addresses of ours, and the other's as a permanent neighbour: no ARP in the counts."""
        ip, device = ("ip", "-n", self.name), self.end.ifname
        netns.run(*ip, "addr", "add", f"{self.end.ipv4}/24", "dev", device)
        netns.run(*ip, "addr", "add", f"{self.end.ipv6}/64", "dev", device, "nodad")
        netns.run(*ip, "link", "set", "lo", "up")
        netns.run(*ip, "link", "set", device, "up")
        for address in (other.end.ipv4, other.end.ipv6):
            netns.run(
                *ip, "neigh", "replace", address, "lladdr", other.end.mac.hex(":"), "dev", device, "nud", "permanent"
            )

    def start(self) -> None:
        directory = Path("/run", self.name)
        directory.mkdir()
        config = directory / "afterburner.toml"
        config.write_text(
            CONFIG.format(name=self.name, directory=directory, device=self.end.ifname, idle=self.idle, cpu=self.cpu)
        )
        command = [sys.executable, "-m", "afterburnerd.supervisor.main", "--config", str(config)]
        self.daemon = subprocess.Popen(["ip", "netns", "exec", self.name, *command])

    def serving(self) -> bool:
        """Program attached, every queue bound, the worker in its loop. A daemon that ended will never be."""
        assert self.daemon is not None
        if self.daemon.poll() is not None:
            raise RuntimeError(f"{self.name}: the daemon ended with {self.daemon.returncode}")
        try:
            return self.snapshot().daemon.state("state") == "serving"
        except ShmError:
            return False

    def worker_pid(self) -> int:
        return self.snapshot().rows("worker")[0].value("pid")

    def settled(self) -> bool:
        """Every frame that was sent has come back from the NIC, and the XDP program's count of redirected ones, which
        the supervisor copies now and then, has reached that of the queue."""
        snapshot = self.snapshot()
        queue = snapshot.rows("queue")[0]
        return queue.value("frames_tx") == 0 and queue.value("rx_packets") == redirected(snapshot)

    def snapshot(self) -> Snapshot:
        with StatsReader.open(self.name) as reader:
            return reader.read()

    def stop(self) -> int:
        assert self.daemon is not None
        self.daemon.terminate()
        return self.daemon.wait(READY_S)


def redirected(snapshot: Snapshot) -> int:
    """Frames that the XDP program gave to AF_XDP sockets, as it counted them."""
    return sum(row.value("packets") for row in snapshot.rows("xdp") if row.labels["verdict"] == "redirect")


def figures(snapshot: Snapshot) -> dict[str, Any]:
    """All counters and gauges, by block and row."""
    out: dict[str, Any] = {}
    for block in snapshot.blocks:
        for row in snapshot.rows(block):
            values = {
                f.name: row.state(f.name) if f.states else row.value(f.name)
                for f in row.fields
                if f.kind != "histogram"
            }
            out.setdefault(block, []).append({"labels": row.labels, **values})
    return out


def volley(source: Side, target: Side, family: socket.AddressFamily) -> dict[str, Any]:
    """VOLLEY transactions from a socket of the source to the target's echo, and home to the source's decoder."""
    mine, theirs = ((s.end.ipv4, s.end.ipv6)[family == socket.AF_INET6] for s in (source, target))
    maker = Maker(seed=VOLLEY)
    stock = [maker.make(shape) for shape in SHAPES]
    with source.end.entered():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock, StatsReader.open(source.name) as reader:
        sock.bind((mine, CAPTURE))
        sock.connect((theirs, ECHO))

        def home() -> int:
            row = next(r for r in reader.read().rows("rule") if r.labels["rule"] == "transactions")
            return row.value("packets")

        before, sent, seen = home(), 0, 0
        started = progress = time.monotonic()
        while seen < VOLLEY and time.monotonic() - progress < STALL_S:
            for _ in range(min(BURST, VOLLEY - sent, WINDOW - (sent - seen))):
                sock.send(stock[sent % len(stock)])
                sent += 1
            if (now := home() - before) != seen:
                seen, progress = now, time.monotonic()
            else:
                time.sleep(0.001)
    seconds = time.monotonic() - started
    print(f"harness: {source.name} over {family.name}: {sent} sent, {seen} came home, {seen / seconds:.0f} a second")
    return {"from": source.name, "family": family.name, "sent": sent, "home": seen, "seconds": seconds}


def asked(side: Side) -> list[dict[str, Any]]:
    """What the kernel says of the AF_XDP sockets that processes of this side's namespace hold."""
    there = Path("/run/netns", side.name).stat().st_ino
    found: dict[int, dict[str, Any]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/net").stat().st_ino != there:
                continue
            held = [(int(fd.name), fd.readlink().name) for fd in (process / "fd").iterdir()]
        except FileNotFoundError:
            continue  # it ended meanwhile
        for number, target in held:
            inode = re.fullmatch(r"socket:\[(\d+)\]", target)
            if inode is None or int(inode[1]) in found:
                continue
            with socket.socket(AF_XDP, socket.SOCK_RAW, 0, fileno=_borrowed(int(process.name), number)) as sock:
                try:
                    options = struct.unpack("I", sock.getsockopt(SOL_XDP, XDP_OPTIONS, 4))[0]
                except OSError:
                    continue  # no AF_XDP socket
                values = struct.unpack("6Q", sock.getsockopt(SOL_XDP, XDP_STATISTICS, 48))
            found[int(inode[1])] = {"zero_copy": bool(options & 1), **dict(zip(STATISTICS, values, strict=True))}
    return list(found.values())


def _borrowed(pid: int, number: int) -> int:
    """A descriptor of another process, in this one."""
    pidfd = os.pidfd_open(pid)
    try:
        fd = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
    finally:
        os.close(pidfd)
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"pidfd_getfd of {number} in process {pid}")
    return int(fd)


def wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {READY_S:.0f} s")
        time.sleep(0.1)


def measure() -> dict[str, Any]:
    left, right = Side("left", "eth0", host=1, cpu=0, idle="spin"), Side("right", "eth1", host=2, cpu=1, idle="sleep")
    left.join(right)
    right.join(left)
    for side in (left, right):
        side.start()
    for side in (left, right):
        wait(side.serving, f"{side.name} serving")
    print(f"harness: both data planes serve, up {time.clock_gettime(time.CLOCK_BOOTTIME):.1f} s")
    volleys = [volley(left, right, socket.AF_INET), volley(right, left, socket.AF_INET6)]
    steps: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        both = [
            pool.submit(volley, a, b, f) for a, b, f in ((left, right, socket.AF_INET6), (right, left, socket.AF_INET))
        ]
        stepping = pool.submit(step_clock, steps, lambda: all(future.done() for future in both))
        volleys += [future.result() for future in both]
        stepping.result()
    killed = kill(left)
    volleys.append(volley(left, right, socket.AF_INET))
    for side in (left, right):
        wait(side.settled, f"{side.name}: frames home and counted")
    report: dict[str, Any] = {"kernel": platform.release(), "volleys": volleys, "killed": killed, "steps": steps}
    report["sides"] = {side.name: look(side) for side in (left, right)}
    for side in (left, right):
        report["sides"][side.name] |= end(side)
    return report


def step_clock(steps: list[int], over: Callable[[], bool]) -> None:
    """The wall clock of this machine, which is nobody else's, a day on and two days back by turns, until it is `over`."""
    while not over() or len(steps) < 4:
        seconds = 2 * DAY if steps and steps[-1] < 0 else DAY if not steps else -2 * DAY
        time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
        steps.append(seconds)
        time.sleep(0.25)


def kill(side: Side) -> dict[str, int]:
    """SIGKILL for the data plane. Its supervisor binds the queue anew, while the driver may still clean up the old one."""
    wait(side.settled, f"{side.name}: frames home before the kill")
    before = side.worker_pid()
    os.kill(before, signal.SIGKILL)
    wait(lambda: side.worker_pid() not in (0, before) and side.serving(), f"{side.name} serving again")
    return {"before": before, "after": side.worker_pid()}


def look(side: Side) -> dict[str, Any]:
    """What the kernel, and what the daemon says."""
    snapshot = side.snapshot()
    return {
        "xdp_mode": attached(side),
        "sockets": asked(side),
        "redirected": redirected(snapshot),
        "statistics": figures(snapshot),
    }


def end(side: Side) -> dict[str, Any]:
    """Stops the daemon and looks for what it left."""
    code = side.stop()
    shared = sorted(path.name for path in Path("/dev/shm").glob(f"*{side.name}*"))
    return {"exit": code, "left": {"xdp": attached(side), "shared_memory": shared, "sockets": asked(side)}}


def attached(side: Side) -> int:
    """How an XDP program hangs on the NIC: 0 not at all, 1 in the driver, 2 generic (linux/if_link.h)."""
    link = json.loads(netns.run("ip", "-n", side.name, "-j", "-d", "link", "show", side.end.ifname))[0]
    return int(link["xdp"]["mode"]) if "xdp" in link else 0


if __name__ == "__main__":
    text = json.dumps(measure())
    Path("/dev/ttyS1").write_text(text + "\n")
