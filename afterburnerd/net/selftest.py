"""Does AF_XDP work here? Tried on a private pair of virtual interfaces, so that nothing is sent to anybody.

    near: a worker's loop -> AF_XDP --- frames of ours ---> far: our XDP program -> AF_XDP -> a worker's loop, rule "echo"
          rule "count" <- AF_XDP <- our XDP program <---------------------------------------------------- AF_XDP <-'

It proves what no list of features says: that this kernel lets this process load the program, bind sockets, receive by them and
send by them, every frame with its checksum right. In a network namespace of its own where that may be made (CAP_SYS_ADMIN), else
beside the host's interfaces, without addresses, for some tenths of a second. `python -m afterburnerd.net.selftest` prints the
verdict as JSON; `run` starts that and waits, so that the namespace is the child's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import os
import socket
import sys
import time
from ipaddress import IPv4Address

import msgspec

from afterburnerd.abi import lone
from afterburnerd.abi.layout import Decoder, Path, PortKind, Rule
from afterburnerd.native import lib

from .xdp import LocalPort, Settings, Use, XdpProgram, mapped

FRAMES = 256
PORT = 4433
NEAR, FAR = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")  # documentation addresses (RFC 5737); on no interface
PATIENCE = 2.0  # seconds for the frames to come back
CLONE_NEWNET = 0x40000000
AF_XDP = 44


class Verdict(msgspec.Struct, frozen=True):
    works: bool | None  # None: it could not be tried, which says nothing of AF_XDP
    text: str  # what was found, for a person


class NotTried(Exception):
    """What the test needs and AF_XDP does not could not be had."""


async def run(timeout: float = 10.0) -> Verdict:
    """In a process of its own. Never raises: what goes wrong is the verdict."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "afterburnerd.net.selftest",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        return Verdict(None, f"the test cannot be started: {error.strerror}")
    try:
        out, _ = await asyncio.wait_for(process.communicate(), timeout)
        return msgspec.json.decode(out, type=Verdict)
    except (TimeoutError, msgspec.MsgspecError):
        return Verdict(None, f"the test came to no end within {timeout:g} s")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def main() -> None:
    print(msgspec.json.encode(judge()).decode())


def judge() -> Verdict:
    private = ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
    try:
        returned, microseconds = try_out()
    except NotTried as error:
        return Verdict(None, f"the test could not be made: {error}")
    except OSError as error:
        return Verdict(False, str(error.args[1] if len(error.args) > 1 else error))
    where = "a private pair" if private else "a pair of its own beside the host's interfaces"
    text = f"{returned} of {FRAMES} frames there and back on {where}, {microseconds:.0f} us each"
    return Verdict(returned == FRAMES, text)


def try_out() -> tuple[int, float]:
    """Frames that came back whole, and the time that each took."""
    from pyroute2 import IPRoute  # in this short-lived process alone (see rtnl.py)
    from pyroute2.netlink.exceptions import NetlinkError

    names = f"abt{os.getpid() % 1_000_000}a", f"abt{os.getpid() % 1_000_000}b"
    with IPRoute() as ip:
        try:
            ip.link("add", ifname=names[0], kind="veth", peer={"ifname": names[1]})
        except NetlinkError as error:
            raise NotTried(f"no pair of virtual interfaces: {error.args[1]}") from None
        try:
            indices = [ip.link_lookup(ifname=name)[0] for name in names]
            for index in indices:
                ip.link("set", index=index, state="up")
            macs = [
                bytes.fromhex(ip.link("get", index=i)[0].get_attr("IFLA_ADDRESS").replace(":", "")) for i in indices
            ]
            return _exchange(indices, macs)
        finally:
            ip.link("del", ifname=names[0])


class _End:
    """A worker on one end of the pair, with our program in front."""

    def __init__(self, index: int, mac: bytes, address: IPv4Address, decoder: Decoder) -> None:
        self.stats = mmap.mmap(-1, lone.SIZE)
        self.worker = lib.Worker(index=0, stats=self.stats, bell=mmap.mmap(-1, 4096), **lone.OFFSETS)
        self.worker.set_rules(Rule(addr=mapped(address), port=PORT, decoder=decoder).pack())
        self.program = XdpProgram()
        try:
            self.program.configure(Settings(mac=mac))
            self.program.set_ports({LocalPort(address, PORT): Use(PortKind.CAPTURE)})
            self.program.attach(index)
            with socket.socket(AF_XDP, socket.SOCK_RAW) as xsk:
                self.worker.open_xsk(
                    slot=0, fd=xsk.dup().detach(), ifindex=index, queue=0, frames=2 * FRAMES, frame_size=2048,
                    ring=FRAMES, huge_pages=2, mode=2, generic=False, multi_buffer=False, busy_poll=False, busy_usecs=0,
                    busy_budget=0, verify_udp=True,
                )  # fmt: skip
                self.program.set_xsk(0, xsk.fileno())
        except BaseException:
            self.close()
            raise

    @property
    def counted(self) -> int:
        """Datagrams that matched the rule."""
        return lone.read(self.stats, "rule", "packets")

    def close(self) -> None:
        self.worker.close()
        self.program.close()


def _exchange(indices: list[int], macs: list[bytes]) -> tuple[int, float]:
    far = _End(indices[1], macs[1], FAR, Decoder.ECHO)
    try:
        near = _End(indices[0], macs[0], NEAR, Decoder.COUNT)
        try:
            return _count(near, far, macs)
        finally:
            near.close()
    finally:
        far.close()


def _count(near: _End, far: _End, macs: list[bytes]) -> tuple[int, float]:
    path = Path(local=mapped(NEAR), remote=mapped(FAR), local_port=PORT, remote_port=PORT, dmac=macs[1], smac=macs[0],
                family=4, mtu=1452)  # fmt: skip
    began = time.monotonic()
    for number in range(FRAMES):
        payload = number.to_bytes(4, "big") * (3 + number)
        near.worker.send_frame(0, lib.frame_build(path.pack(), payload, 0))
        while near.counted <= number and time.monotonic() < began + PATIENCE:
            far.worker.run(4)
            near.worker.run(4)
    return near.counted, (time.monotonic() - began) / FRAMES * 1e6


if __name__ == "__main__":
    main()
