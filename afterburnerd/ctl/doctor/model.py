"""What the doctor looked at, and what it says: two frozen trees.

Facts are complete before the first check runs, so every check is a pure function and every finding has a test that needs
neither the hardware nor the fault. A fact that could not be read is None, and checks say nothing about it.

    level   means                                                      exit code
    ok      looked at, and as it should be                             0
    info    worth knowing; changing it is a matter of taste            0
    warn    works, but slower, or not as configured, or unsafely       1
    fail    the daemon will not start, or will not serve what it is    1
            configured for, until this is changed
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from afterburnerd.config import Config
from afterburnerd.net.facts import Facts as NetworkFacts
from afterburnerd.net.facts import Link
from afterburnerd.net.netdev import XdpFeatures
from afterburnerd.net.queues import Interrupt

Level = Literal["ok", "info", "warn", "fail"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    id: str  # stable, for scripts: "bpf-jit"
    section: str  # kernel, cpu, memory, device, rights, service
    level: Level
    what: str  # what is the case
    why: str = ""  # why it matters
    fix: str = ""  # what to change
    commands: tuple[str, ...] = ()  # exactly how, as root


class IdleState(Struct, frozen=True, kw_only=True):
    """A sleep state of a CPU."""

    index: int
    name: str
    exit_us: int  # time to wake from it
    disabled: bool


class Cpu(Struct, frozen=True, kw_only=True):
    """One online CPU."""

    index: int
    governor: str | None = None  # None: no frequency scaling to be seen
    idle_states: tuple[IdleState, ...] = ()
    siblings: frozenset[int] = frozenset()  # hardware threads of the same core, itself included
    node: int | None = None  # NUMA


class Machine(Struct, frozen=True, kw_only=True):
    """Kernel, CPUs and memory."""

    release: str
    architecture: str
    config: dict[str, str] | None = (
        None  # CONFIG_… without its prefix -> "y", "m", …; None: the kernel's is not to be read
    )
    btf: bool = False
    af_xdp: str = ""  # "" if such a socket can be made, else the name of the errno
    sysctls: dict[str, str] = {}  # "net.core.bpf_jit_enable" -> text; absent: there is none, or it may not be read
    clocksource: str = ""
    clocksources: tuple[str, ...] = ()
    cpus: tuple[Cpu, ...] = ()
    isolated: frozenset[int] = frozenset()
    nohz_full: frozenset[int] = frozenset()
    huge_total: int | None = None  # pages of 2 MiB; None: this kernel has none
    huge_free: int | None = None
    irqbalance: bool = False  # it runs


class Device(Struct, frozen=True, kw_only=True):
    """The network device."""

    name: str  # "" if none was named and there is not exactly one uplink
    uplinks: tuple[str, ...] = ()  # devices of default routes
    others: tuple[str, ...] = ()  # every device of the host but lo
    network: NetworkFacts | None = None  # None: no name
    master: str | None = None  # name of the bond, bridge or VRF it belongs to
    offloads: dict[str, bool] = {}  # by the kernel's names
    xdp: XdpFeatures | None = None  # None: the kernel does not tell (before 6.3)
    interrupts: tuple[Interrupt, ...] = ()
    defer_hard_irqs: int | None = None
    gro_flush_ns: int | None = None


class Process(Struct, frozen=True, kw_only=True):
    """Whose rights count: the running daemon's, else those of this shell, from which one would be started by hand."""

    pid: int | None  # of the daemon; None: this shell
    capabilities: frozenset[str] = frozenset()  # effective
    memlock: int | None = None  # bytes; None: no limit
    nofile: int | None = None
    cpus: frozenset[int] = frozenset()  # allowed (cpuset)


class Daemon(Struct, frozen=True, kw_only=True):
    """What runs, or has run."""

    name: str
    segment: Literal["absent", "alive", "stale", "unreadable"] = "absent"
    detail: str = ""  # why it is unreadable
    state: str = ""  # serving, degraded, …
    interface: str = ""
    worker_cpus: tuple[int, ...] = ()  # that its workers are pinned to
    huge_pages: bool = False  # its packet memory lies in them
    unit: str | None = None  # path of the systemd unit
    systemd: bool = False  # this machine was booted with it


class Facts(Struct, frozen=True, kw_only=True):
    """All that the doctor looked at."""

    config: Config
    machine: Machine
    device: Device
    process: Process
    daemon: Daemon

    @property
    def uses_xdp(self) -> bool:
        return self.config.interface.mode != "socket"

    @property
    def link(self) -> Link | None:
        """The device as the kernel describes it; None: there is none."""
        return self.device.network.link if self.device.network is not None else None

    @property
    def whose(self) -> str:
        """Whose rights `process` is."""
        return f"the daemon (process {self.process.pid})" if self.process.pid is not None else "this shell"

    @property
    def queues(self) -> tuple[int, ...]:
        """Receive queues that the configuration asks for on this device."""
        wanted = self.config.interface.queues
        count = self.link.queues.rx if self.link is not None and self.link.queues is not None else 0
        return tuple(range(count)) if wanted == "all" else tuple(wanted)

    @property
    def worker_cpus(self) -> tuple[int, ...]:
        """CPUs that workers are pinned to, or would be: those of the running daemon, else what can be told beforehand."""
        if self.daemon.segment == "alive":
            return self.daemon.worker_cpus
        isolated = sorted(self.machine.isolated)
        cpus = set()
        for index, worker in enumerate(self.config.workers):
            if isinstance(worker.cpu, int):
                cpus.add(worker.cpu)
            elif isolated:  # as supervisor/cpu.py chooses
                cpus.add(isolated[-1 - index % len(isolated)])
        return tuple(sorted(cpus))

    @property
    def packet_memory(self) -> int:
        """Bytes of packet memory of one queue."""
        return self.config.memory.frames * self.config.memory.frame_size
