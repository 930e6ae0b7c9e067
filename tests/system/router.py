"""Three namespaces: a client, a server, and between them a router that does to packets what a test asks for.

    client 10.77.1.2 ====== 10.77.1.1  router  10.77.2.1 ====== 10.77.2.2 server
                            from_client ─► forwarding ─► to_server
                            to_client ◄── forwarding ◄── from_server
                                     └──► shelf ──┘

The router forwards as any Linux router does. BPF programs at its two ports (router.bpf.c) decide by a seed what becomes of each UDP
packet, and count; this kernel has no netem. What is to come later waits with a thread here, for BPF cannot wait.

    with router.between() as way:
        way.to_server.loss = 0.1                   at run time, for packets that come from now on
        way.rebind()                               the client's NAT forgets: another port, and another address
        way.counts(0, SHORT).lost                  to the server, of 1-RTT packets

Both ends have their offloads off, so that a packet here is a packet there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import heapq
import itertools
import mmap
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tests import netns
from tests.interop.wire import NO_OFFLOADS

SOURCE = Path(__file__).with_name("router.bpf.c")
MILLION = 1_000_000
TO_SERVER, TO_CLIENT = 0, 1
LONG, SHORT = 0, 1
INGRESS, EGRESS = 1, 2  # enum bpf_tc_attach_point
ETH_P_ALL = 3
PAGE = mmap.PAGESIZE
HOST_MACS = (b"\x02\0\0\0\x77\x02", b"\x02\0\0\0\x77\x03")
ROUTER_MAC = b"\x02\0\0\0\x77\x01"
NAT_ADDRESSES = tuple(f"10.77.2.{n}" for n in range(101, 105))  # of the router, for its client

PARTS = ("loss", "duplicate", "corrupt", "delay", "mark")
TIMES = ("delay_us", "jitter_us", "again_us")
SWITCHES = ("mtu", "dark", "bleach", "repaired", "skip")
COUNTS = ("into", "out", "lost", "dark", "oversize", "corrupted", "duplicated", "delayed", "marked", "bleached",
          "unbound", "ect", "lost_big", "foreign")  # fmt: skip


class _Faults(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in (*PARTS, *TIMES, *SWITCHES)]


class _Config(ctypes.Structure):
    _fields_ = [
        ("faults", _Faults * 2),
        ("seed", ctypes.c_uint64),
        ("shelf", ctypes.c_uint32),
        ("nat", ctypes.c_uint32),
        ("nat_addr", ctypes.c_uint32),
        ("nat_change", ctypes.c_uint32),
    ]


class _Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in COUNTS]


class _State(ctypes.Structure):
    _fields_ = [("counts", (_Counts * 2) * 2), ("drawn", ctypes.c_uint64 * 2)]


class _Hook(ctypes.Structure):
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    ]


class _Options(ctypes.Structure):
    _fields_ = [("sz", ctypes.c_size_t), ("fd", ctypes.c_int), ("flags", ctypes.c_uint32), ("id", ctypes.c_uint32),
                ("handle", ctypes.c_uint32), ("priority", ctypes.c_uint32)]  # fmt: skip


class Faults:
    """What happens to packets of one direction: parts of 1, seconds, bytes, switches. See struct faults."""

    def __init__(self, memory: _Faults) -> None:
        object.__setattr__(self, "_memory", memory)

    def __setattr__(self, name: str, value: float) -> None:
        if name in PARTS:
            setattr(self._memory, name, round(value * MILLION))
        elif name in ("delay_s", "jitter_s", "again_s"):
            setattr(self._memory, name[:-2] + "_us", round(value * MILLION))
        elif name in SWITCHES:
            setattr(self._memory, name, int(value))
        else:
            raise AttributeError(name)

    def set(self, **values: float) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def clear(self) -> None:
        ctypes.memset(ctypes.addressof(self._memory), 0, ctypes.sizeof(_Faults))


class Counts:
    """What was counted of one direction and kind of header, or of several together."""

    def __init__(self, values: dict[str, int]) -> None:
        self.values = values

    def __getattr__(self, name: str) -> int:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __sub__(self, other: Counts) -> Counts:
        return Counts({name: value - other.values[name] for name, value in self.values.items()})

    def __add__(self, other: Counts) -> Counts:
        return Counts({name: value + other.values[name] for name, value in self.values.items()})

    @property
    def gone(self) -> int:
        """Packets that were not let through."""
        return self.lost + self.dark + self.oversize + self.unbound

    @property
    def zero(self) -> bool:
        return not any(self.values.values())

    def __repr__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values.items() if value)


@functools.cache
def _libbpf() -> Any:
    lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    for name in ("bpf_object__open_file", "bpf_object__find_program_by_name"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.bpf_object__open_file.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    lib.bpf_object__find_program_by_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.bpf_program__fd.argtypes = lib.bpf_object__load.argtypes = lib.bpf_object__close.argtypes = [ctypes.c_void_p]
    lib.bpf_object__find_map_fd_by_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return lib


def compiled(folder: Path) -> Path:
    made = folder / "router.bpf.o"
    subprocess.run(
        ["clang", "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror",
         "-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu", "-c", SOURCE, "-o", made],
        check=True,
    )  # fmt: skip
    return made


class Programs:
    """The object, loaded; its programs hang at the router's ports until the ports are gone."""

    def __init__(self, path: Path) -> None:
        self._lib = _libbpf()
        self._object = self._lib.bpf_object__open_file(str(path).encode(), None)
        if not self._object or self._lib.bpf_object__load(self._object) < 0:
            raise OSError(ctypes.get_errno(), f"loading {path}: {os.strerror(ctypes.get_errno())}")
        self._config_memory, self._state_memory = self._mapped("config"), self._mapped("state")
        self.config = _Config.from_buffer(self._config_memory)
        self.state = _State.from_buffer(self._state_memory)

    def _mapped(self, name: str) -> mmap.mmap:
        fd = self._lib.bpf_object__find_map_fd_by_name(self._object, name.encode())
        return mmap.mmap(fd, PAGE)

    def attach(self, ifindex: int, ingress: str, egress: str) -> None:
        """In the network namespace of the interface, entered."""
        hook = _Hook(ctypes.sizeof(_Hook), ifindex, INGRESS | EGRESS, 0)
        self._must(self._lib.bpf_tc_hook_create(ctypes.byref(hook)), f"clsact on interface {ifindex}")
        for point, name in ((INGRESS, ingress), (EGRESS, egress)):
            program = self._lib.bpf_object__find_program_by_name(self._object, name.encode())
            hook.point = point
            options = _Options(sz=ctypes.sizeof(_Options), fd=self._lib.bpf_program__fd(program))
            self._must(self._lib.bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options)), f"{name} on {ifindex}")

    @staticmethod
    def _must(code: int, what: str) -> None:
        if code < 0:
            raise OSError(-code, f"{what}: {os.strerror(-code)}")

    def close(self) -> None:
        self._lib.bpf_object__close(self._object)


class Shelf:
    """What is to come later: taken from one end of a veth pair, and put back there when its time has come."""

    def __init__(self, host: netns.End, ifname: str) -> None:
        with host.entered():
            self._sock = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL)
            )
            self._sock.bind((ifname, ETH_P_ALL))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._stop = threading.Event()
        self._late: list[tuple[float, int, bytes]] = []
        self.passed = 0
        self._thread = threading.Thread(target=self._run, name="shelf", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        serial = itertools.count()
        while not self._stop.is_set():
            pause = max(0.0, min(0.05, self._late[0][0] - time.monotonic())) if self._late else 0.05
            if select.select([self._sock], [], [], pause)[0]:
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        frame, where = self._sock.recvfrom(65_536)
                        if where[2] != socket.PACKET_OUTGOING and frame[6] == 2 and frame[7] == 0:
                            after = int.from_bytes(frame[8:12]) / MILLION
                            heapq.heappush(self._late, (time.monotonic() + after, next(serial), frame))
            while self._late and self._late[0][0] <= time.monotonic():
                self._sock.send(heapq.heappop(self._late)[2])
                self.passed += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._sock.close()


class Way:
    """Client, router and server, and what the router does."""

    def __init__(self, client: netns.End, server: netns.End, ports: tuple[netns.End, netns.End], programs: Programs,
                 shelf: Shelf) -> None:  # fmt: skip
        self.client, self.server, self.ports = client, server, ports
        self._programs, self.shelf = programs, shelf
        self.to_server = Faults(programs.config.faults[TO_SERVER])
        self.to_client = Faults(programs.config.faults[TO_CLIENT])

    def seeded(self, seed: int) -> None:
        """From here on the draws of this seed."""
        self._programs.config.seed = seed
        for direction in (TO_SERVER, TO_CLIENT):
            self._programs.state.drawn[direction] = 0

    def both(self, **values: float) -> None:
        self.to_server.set(**values)
        self.to_client.set(**values)

    def clear(self) -> None:
        """A good wire again, without NAT."""
        self.to_server.clear()
        self.to_client.clear()
        self._programs.config.nat = 0

    def rebind(self, address: str = "") -> None:
        """The client's NAT has other bindings from now on; what comes to its old ones is lost."""
        config = self._programs.config
        number = config.nat + 1
        config.nat = 0  # not with half of what follows
        config.nat_addr = int.from_bytes(IPv4Address(address).packed, "little") if address else 0
        config.nat_change = 0x2A55 ^ number << 8 & 0x1F00
        config.nat = number

    def counts(self, direction: int, *kinds: int) -> Counts:
        found = Counts(dict.fromkeys(COUNTS, 0))
        for kind in kinds or (LONG, SHORT):
            memory = self._programs.state.counts[direction][kind]
            found += Counts({name: getattr(memory, name) for name in COUNTS})
        return found

    def dropped_by_devices(self) -> int:
        """Frames that no BPF program of ours took away: full queues of the veth pairs."""
        total = 0
        for end in (self.client, self.server, *self.ports):
            files = [f"/sys/class/net/{end.ifname}/statistics/{what}_dropped" for what in ("rx", "tx")]
            total += sum(map(int, end.run("cat", *files).split()))
        return total


def _named(namespace: str, ifname: str, address: str) -> netns.End:
    text = netns.run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{ifname}/ifindex",
                     f"/sys/class/net/{ifname}/address")  # fmt: skip
    ifindex, mac = text.split()
    return netns.End(namespace, ifname, int(ifindex), bytes.fromhex(mac.replace(":", "")), address, "")


@contextlib.contextmanager
def between(folder: Path, queues: int = 1, mtu: int = 1500) -> Iterator[Way]:
    """Such a network, which forwards faithfully until it is told otherwise."""
    with contextlib.ExitStack() as stack:
        # The near ends are the hosts; the far ends become the router's ports, in one namespace.
        one, two = (
            stack.enter_context(netns.pair(queues=queues, mtu=mtu, addresses=False, quiet=True, macs=(mac, ROUTER_MAC)))
            for mac in HOST_MACS
        )
        router = one.far.name
        netns.run("ip", "-n", two.far.name, "link", "set", "dev", two.far.ifname, "netns", router)
        netns.sysctl(router, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
                     "net.ipv4.conf.all.send_redirects=0")  # fmt: skip
        ends, ports = [], []
        for net, host, port in ((1, one.near, one.far), (2, two.near, two.far)):
            for end, namespace, number in ((host, host.name, 2), (port, router, 1)):
                netns.run("ip", "-n", namespace, "link", "set", "dev", end.ifname, "up", "arp", "on")
                netns.run("ip", "-n", namespace, "addr", "add", f"10.77.{net}.{number}/24", "dev", end.ifname)
            netns.run("ip", "-n", host.name, "route", "add", "default", "via", f"10.77.{net}.1")
            ends.append(_named(host.name, host.ifname, f"10.77.{net}.2"))
            ports.append(_named(router, port.ifname, f"10.77.{net}.1"))
            ends[-1].ethtool(*NO_OFFLOADS)
        for address in NAT_ADDRESSES:
            netns.run("ip", "-n", router, "addr", "add", f"{address}/32", "dev", ports[1].ifname)
        # What comes back from the shelf is addressed to one of the ports, so all three have one MAC.
        netns.run("ip", "-n", router, "link", "add", "shelf", "address", ROUTER_MAC.hex(":"), "type", "veth",
                  "peer", "name", "behind")  # fmt: skip
        for name in ("shelf", "behind"):
            netns.sysctl(router, f"net.ipv4.conf.{name}.rp_filter=0", f"net.ipv6.conf.{name}.disable_ipv6=1")
            netns.run("ip", "-n", router, "link", "set", "dev", name, "arp", "off", "up")
        programs = Programs(compiled(folder))
        stack.callback(programs.close)
        shelf = _named(router, "shelf", "")
        programs.config.shelf = shelf.ifindex
        with ports[0].entered():
            programs.attach(ports[0].ifindex, "from_client", "to_client")
            programs.attach(ports[1].ifindex, "from_server", "to_server")
        held = Shelf(shelf, "behind")
        stack.callback(held.close)
        yield Way(ends[0], ends[1], (ports[0], ports[1]), programs, held)
