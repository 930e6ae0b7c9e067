"""A machine in good health, and how to make it ill: tests replace one fact and look for one finding."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from msgspec.structs import replace

from afterburnerd.config import Capture, Config, Interface, Memory, Worker
from afterburnerd.ctl.doctor.model import Cpu, Daemon, Device, Facts, Finding, IdleState, Machine, Process
from afterburnerd.ctl.doctor.report import examine
from afterburnerd.net.facts import Address, Link, Queues, Rings
from afterburnerd.net.facts import Facts as NetworkFacts
from afterburnerd.net.netdev import XdpFeatures
from afterburnerd.net.queues import Interrupt

IDLE = (
    IdleState(index=0, name="POLL", exit_us=0, disabled=False),
    IdleState(index=1, name="C1", exit_us=2, disabled=False),
    IdleState(index=2, name="C6", exit_us=133, disabled=True),
)


def cpu(index: int, **fields: Any) -> Cpu:
    """CPUs 0-3 on node 0, 4-7 on node 1; no hardware threads."""
    known = {"governor": "performance", "idle_states": IDLE, "siblings": frozenset({index}), "node": index // 4}
    return Cpu(index=index, **{**known, **fields})


LINK = Link(
    index=2,
    name="eth0",
    mac=bytes.fromhex("020000000001"),
    mtu=1500,
    up=True,
    carrier=True,
    operstate="UP",
    driver="ice",
    queues=Queues(rx=2, tx=2, max_rx=16, max_tx=16, combined=True),
    rings=Rings(rx=2048, tx=2048, max_rx=8160, max_tx=8160),
    numa_node=0,
)
ADDRESS = Address(index=2, address=ip_address("192.0.2.1"), prefix_length=24, scope="global")
NETWORK = NetworkFacts(interface="eth0", link=LINK, addresses=(ADDRESS,))

HEALTHY = Facts(
    config=Config(
        interface=Interface(name="eth0"),
        workers=(Worker(cpu=3),),
        captures=(Capture(name="tpu", port=8001),),
    ),
    machine=Machine(
        release="6.12.48-amd64",
        architecture="x86_64",
        config={"XDP_SOCKETS": "y", "BPF_JIT": "y"},
        btf=True,
        sysctls={"net.core.bpf_jit_enable": "1", "kernel.unprivileged_bpf_disabled": "2"},
        clocksource="tsc",
        clocksources=("tsc", "hpet", "acpi_pm"),
        cpus=tuple(cpu(index) for index in range(8)),
        isolated=frozenset({3}),
        nohz_full=frozenset({3}),
        huge_total=64,
        huge_free=64,
    ),
    device=Device(
        name="eth0",
        uplinks=("eth0",),
        others=("eth0", "eth1"),
        network=NETWORK,
        offloads={"rx-lro": False, "rx-gro-hw": False, "rx-vlan-hw-parse": True, "rx-gro": True},
        xdp=XdpFeatures(native=True, transmit=True, zero_copy=True, fragments=True, zero_copy_fragments=5),
        interrupts=tuple(
            Interrupt(number=120 + n, name=f"ice-eth0-TxRx-{n}", cpus=frozenset({n}), effective=frozenset({n}))
            for n in (0, 1)
        ),
        defer_hard_irqs=0,
        gro_flush_ns=0,
    ),
    process=Process(
        pid=None,
        capabilities=frozenset({"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_SYS_NICE"}),
        memlock=None,
        nofile=16384,
        cpus=frozenset(range(8)),
    ),
    daemon=Daemon(name="afterburner", unit="/usr/lib/systemd/system/afterburner.service", systemd=True),
)


def machine(**fields: Any) -> Facts:
    return replace(HEALTHY, machine=replace(HEALTHY.machine, **fields))


def device(**fields: Any) -> Facts:
    return replace(HEALTHY, device=replace(HEALTHY.device, **fields))


def link(facts: Facts = HEALTHY, **fields: Any) -> Facts:
    network = facts.device.network
    assert network is not None and network.link is not None
    network = replace(network, link=replace(network.link, **fields))
    return replace(facts, device=replace(facts.device, network=network))


def process(**fields: Any) -> Facts:
    return replace(HEALTHY, process=replace(HEALTHY.process, **fields))


def daemon(**fields: Any) -> Facts:
    return replace(HEALTHY, daemon=replace(HEALTHY.daemon, **fields))


def configured(
    facts: Facts = HEALTHY,
    *,
    interface: dict[str, Any] | None = None,
    worker: dict[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    captures: tuple[Capture, ...] | None = None,
) -> Facts:
    config = facts.config
    return replace(
        facts,
        config=replace(
            config,
            interface=replace(config.interface, **(interface or {})),
            workers=tuple(replace(each, **(worker or {})) for each in config.workers),
            memory=replace(config.memory, **(memory or {})) if memory else Memory(),
            captures=config.captures if captures is None else captures,
        ),
    )


def found(facts: Facts, id: str) -> Finding:
    """The one finding of this id."""
    findings = [finding for finding in examine(facts) if finding.id == id]
    assert len(findings) == 1, findings
    return findings[0]


def absent(facts: Facts, id: str) -> bool:
    return all(finding.id != id for finding in examine(facts))


def troubles(facts: Facts) -> set[str]:
    """Ids of all that is not well: a test that makes one thing ill expects this one alone."""
    return {finding.id for finding in examine(facts) if finding.level != "ok"}
