"""Looks at the machine and writes down what it sees (model.Facts). Judges nothing.

Files are read below a root that a test can replace. A file that is not there, or not ours to read, is a fact that is not
known: virtual machines hide most of what a server shows. What only the kernel can tell is asked through `net`.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import platform
import re
import socket
from pathlib import Path

from msgspec.structs import replace

from afterburnerd.abi import shm
from afterburnerd.abi.stats import StatsReader
from afterburnerd.config import Config
from afterburnerd.ctl.doctor.model import Cpu, Daemon, Device, Facts, IdleState, Machine, Process
from afterburnerd.net.default import default_interfaces
from afterburnerd.net.ethtool import Ethtool
from afterburnerd.net.facts import Facts as NetworkFacts
from afterburnerd.net.netdev import XdpFeatures, xdp_features
from afterburnerd.net.queues import interrupts, parse_cpu_list
from afterburnerd.net.watch import watch

SYSCTLS = (
    "kernel.sched_rt_runtime_us",
    "kernel.unprivileged_bpf_disabled",
    "net.core.bpf_jit_enable",
)
UNIT = "afterburner.service"
UNIT_DIRECTORIES = (
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)

# linux/capability.h; those a daemon of ours can have, and the one that stood for CAP_BPF before Linux 5.8
CAPABILITIES = {
    12: "CAP_NET_ADMIN",
    13: "CAP_NET_RAW",
    14: "CAP_IPC_LOCK",
    21: "CAP_SYS_ADMIN",
    23: "CAP_SYS_NICE",
    39: "CAP_BPF",
}


def gather(config: Config, name: str, *, interface: str | None = None, root: Path = Path("/")) -> Facts:
    """Everything. `name` is the daemon's, `interface` goes before that of the configuration."""
    daemon, pid = read_daemon(name, root)
    return Facts(
        config=config,
        machine=read_machine(root, platform.release(), platform.machine(), _af_xdp()),
        device=asyncio.run(read_device(interface or config.interface.name, root)),
        process=read_process(pid, root),
        daemon=daemon,
    )


def read_machine(root: Path, release: str, architecture: str, af_xdp: str) -> Machine:
    cpus = root / "sys/devices/system/cpu"
    huge = root / "sys/kernel/mm/hugepages/hugepages-2048kB"
    clock = root / "sys/devices/system/clocksource/clocksource0"
    return Machine(
        release=release,
        architecture=architecture,
        config=_kernel_config(root, release),
        btf=(root / "sys/kernel/btf/vmlinux").exists(),
        af_xdp=af_xdp,
        sysctls={
            key: text for key in SYSCTLS if (text := _text(root / "proc/sys" / key.replace(".", "/"))) is not None
        },
        clocksource=_text(clock / "current_clocksource") or "",
        clocksources=tuple((_text(clock / "available_clocksource") or "").split()),
        cpus=tuple(_cpu(cpus / f"cpu{index}", index) for index in sorted(_cpus(cpus / "online"))),
        isolated=_cpus(cpus / "isolated"),
        nohz_full=_cpus(cpus / "nohz_full"),
        huge_total=_number(huge / "nr_hugepages"),
        huge_free=_number(huge / "free_hugepages"),
        irqbalance=any(_text(path) == "irqbalance" for path in (root / "proc").glob("[0-9]*/comm")),
    )


def _cpu(path: Path, index: int) -> Cpu:
    states = []
    for state in sorted((path / "cpuidle").glob("state*"), key=lambda state: int(state.name[5:])):
        exit_us = _number(state / "latency")
        if exit_us is not None:
            disabled = _number(state / "disable") != 0
            name = _text(state / "name") or state.name
            states.append(IdleState(index=int(state.name[5:]), name=name, exit_us=exit_us, disabled=disabled))
    nodes = [int(node.name[4:]) for node in path.glob("node[0-9]*")]
    return Cpu(
        index=index,
        governor=_text(path / "cpufreq/scaling_governor"),
        idle_states=tuple(states),
        siblings=_cpus(path / "topology/thread_siblings_list"),
        node=nodes[0] if nodes else None,
    )


def _kernel_config(root: Path, release: str) -> dict[str, str] | None:
    try:
        text = gzip.decompress((root / "proc/config.gz").read_bytes()).decode()
    except (OSError, EOFError):
        text = _text(root / "boot" / f"config-{release}") or ""
    found = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE))
    return found or None


def _af_xdp() -> str:
    """Whether this kernel has AF_XDP sockets: the name of the errno if making one fails. EPERM says that it has."""
    try:
        socket.socket(44, socket.SOCK_RAW).close()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return ""


async def read_device(name: str, root: Path) -> Device:
    uplinks = await default_interfaces()
    if not name and len(uplinks) == 1:
        name = uplinks[0]
    others = tuple(other for _, other in socket.if_nameindex() if other != "lo")
    if not name:
        return Device(name="", uplinks=tuple(uplinks), others=others)
    async with watch(name, sysfs=root / "sys") as watcher:
        network: NetworkFacts = watcher.facts
        names = {link.index: link.name for link in watcher.links()}
    features: XdpFeatures | None = None
    offloads: dict[str, bool] = {}
    if network.link is not None:
        features = await xdp_features(network.link.index)
        with Ethtool() as ethtool:
            offloads = ethtool.features(name)
    directory = root / "sys/class/net" / name
    return Device(
        name=name,
        uplinks=tuple(uplinks),
        others=others,
        network=network,
        master=names.get(network.link.master) if network.link is not None and network.link.master else None,
        offloads=offloads,
        xdp=features,
        interrupts=interrupts(name, root / "proc", root / "sys"),
        defer_hard_irqs=_number(directory / "napi_defer_hard_irqs"),
        gro_flush_ns=_number(directory / "gro_flush_timeout"),
    )


def read_process(pid: int | None, root: Path) -> Process:
    """Rights of a process; of this one if `pid` is None. What another user's process hides is taken as granted."""
    directory = root / "proc" / (str(pid) if pid is not None else "self")
    status = dict(re.findall(r"^(\w+):\s*(.*)$", _text(directory / "status") or "", re.MULTILINE))
    limits = {
        match[1]: None if match[2] == "unlimited" else int(match[2])
        for match in re.finditer(
            r"^(Max [a-z ]+?)\s{2,}(unlimited|\d+)", _text(directory / "limits") or "", re.MULTILINE
        )
    }
    effective = int(status.get("CapEff", "0"), 16)
    return Process(
        pid=pid,
        capabilities=frozenset(name for bit, name in CAPABILITIES.items() if effective >> bit & 1),
        memlock=limits.get("Max locked memory"),
        nofile=limits.get("Max open files"),
        cpus=parse_cpu_list(status.get("Cpus_allowed_list", "")),
    )


def read_daemon(name: str, root: Path) -> tuple[Daemon, int | None]:
    """What the statistics segment says, and the process ID of the daemon if it lives."""
    unit = next((path for place in UNIT_DIRECTORIES if (path := root / place / UNIT).exists()), None)
    daemon = Daemon(
        name=name,
        unit=f"/{unit.relative_to(root)}" if unit is not None else None,
        systemd=(root / "run/systemd/system").is_dir(),
    )
    try:
        with StatsReader.open(name) as reader:
            snapshot = reader.read()
    except shm.NotThere:
        return daemon, None
    except shm.ShmError as error:
        return replace(daemon, segment="unreadable", detail=str(error)), None
    daemon = replace(
        daemon,
        segment="stale" if snapshot.stale else "alive",
        state=snapshot.daemon.state("state"),
        interface=snapshot.info.interface,
        worker_cpus=tuple(sorted(worker.cpu for worker in snapshot.info.workers if worker.cpu >= 0)),
        huge_pages=any(row.get("huge_pages") for row in snapshot.rows("worker")),
    )
    return daemon, None if snapshot.stale else snapshot.identity.pid


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:  # not there, or not ours to read
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None


def _cpus(path: Path) -> frozenset[int]:
    return parse_cpu_list(_text(path) or "")
