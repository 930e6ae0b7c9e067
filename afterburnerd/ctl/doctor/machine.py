"""Kernel, CPUs and memory: what of the machine stands in the way, or in the way of speed.

Checks take Facts and yield findings. They name what they found by the kernel's own names, so that it can be looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afterburnerd.ctl.doctor.model import Facts, Finding, IdleState

SYSCTL_FILE = "/etc/sysctl.d/60-afterburner.conf"
HUGE_PAGE = 2 << 20

# A clock that is read without a system call. With any other, each look at the clock costs a microsecond and more.
FAST_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "pvclock")

# Longest wake-up of a CPU that nobody notices beside a round trip of some microseconds (C1 takes 1 to 2).
EXIT_LIMIT_US = 10


def sysctl_commands(key: str, value: object) -> tuple[str, ...]:
    """Set now, and at each boot."""
    return (f"sysctl -w {key}={value}", f"echo '{key} = {value}' >> {SYSCTL_FILE}")


def cpu_list(cpus: Iterable[int]) -> str:
    """{0, 1, 2, 5} as "0-2,5"."""
    ordered = sorted(cpus)
    parts: list[str] = []
    while ordered:
        length = next((n for n in range(1, len(ordered)) if ordered[n] != ordered[0] + n), len(ordered))
        parts.append(str(ordered[0]) if length == 1 else f"{ordered[0]}-{ordered[length - 1]}")
        ordered = ordered[length:]
    return ",".join(parts)


def kernel_version(release: str) -> tuple[int, int]:
    numbers = release.split("-")[0].split(".")
    return int(numbers[0]), int(numbers[1])


def check_kernel(facts: Facts) -> Iterator[Finding]:
    version = kernel_version(facts.machine.release)
    what = f"Linux {facts.machine.release}"
    if not facts.uses_xdp:
        yield Finding(id="kernel-version", section="kernel", level="ok", what=f"{what}: the socket mode runs on any")
    elif version < (5, 18):
        yield Finding(
            id="kernel-version",
            section="kernel",
            level="fail",
            what=f"{what} is too old for the XDP program",
            why="the program is loaded as xdp.frags (Linux 5.18) and hangs on a bpf_link (5.9).",
            fix='Install a newer kernel (Debian 12 has 6.1), or set interface.mode = "socket".',
        )
    elif version < (6, 6):
        yield Finding(
            id="kernel-version",
            section="kernel",
            level="info",
            what=f"{what} has AF_XDP without packets in several frames",
            why="XDP_USE_SG came with Linux 6.6: a device whose MTU needs more than one frame is refused.",
        )
    else:
        yield Finding(id="kernel-version", section="kernel", level="ok", what=f"{what} has all that is used")


def check_af_xdp(facts: Facts) -> Iterator[Finding]:
    if not facts.uses_xdp:
        return
    config = facts.machine.config
    if facts.machine.af_xdp in ("", "EPERM"):
        yield Finding(id="af-xdp", section="kernel", level="ok", what="AF_XDP sockets are there")
        return
    known = f" (CONFIG_XDP_SOCKETS={config.get('XDP_SOCKETS', 'n')})" if config is not None else ""
    yield Finding(
        id="af-xdp",
        section="kernel",
        level="fail",
        what=f"this kernel has no AF_XDP sockets: {facts.machine.af_xdp}{known}",
        why="every mode but socket receives through them.",
        fix='Run a kernel built with CONFIG_XDP_SOCKETS=y, or set interface.mode = "socket".',
    )


def check_bpf(facts: Facts) -> Iterator[Finding]:
    machine = facts.machine
    always = (machine.config or {}).get("BPF_JIT_ALWAYS_ON") == "y"
    jit = machine.sysctls.get("net.core.bpf_jit_enable")
    if always or jit in ("1", "2"):
        yield Finding(id="bpf-jit", section="kernel", level="ok", what="BPF programs are compiled to machine code")
    elif jit == "0" and facts.uses_xdp:
        yield Finding(
            id="bpf-jit",
            section="kernel",
            level="warn",
            what="BPF programs are interpreted (net.core.bpf_jit_enable = 0)",
            why="the XDP program runs for every packet that the device receives, ours or not.",
            fix="Turn the compiler on.",
            commands=sysctl_commands("net.core.bpf_jit_enable", 1),
        )
    unprivileged = machine.sysctls.get("kernel.unprivileged_bpf_disabled")
    if unprivileged == "0":
        yield Finding(
            id="unprivileged-bpf",
            section="kernel",
            level="warn",
            what="any user may load BPF programs (kernel.unprivileged_bpf_disabled = 0)",
            why="that has been the way into several kernels; this daemon does not need it, it has CAP_BPF.",
            fix="Forbid it. 2 can be undone by root, 1 only by a reboot.",
            commands=sysctl_commands("kernel.unprivileged_bpf_disabled", 2),
        )
    elif unprivileged is not None:
        yield Finding(
            id="unprivileged-bpf", section="kernel", level="ok", what="only the privileged may load BPF programs"
        )
    if not machine.btf:
        yield Finding(
            id="btf",
            section="kernel",
            level="info",
            what="the kernel carries no type information (/sys/kernel/btf/vmlinux)",
            why="the XDP program does not need it; bpftool and live kernel tracing show less without.",
        )


def check_clock(facts: Facts) -> Iterator[Finding]:
    machine = facts.machine
    if not machine.clocksource:
        return
    if machine.clocksource in FAST_CLOCKS:
        yield Finding(id="clocksource", section="kernel", level="ok", what=f"the clock is {machine.clocksource}")
        return
    better = next((clock for clock in FAST_CLOCKS if clock in machine.clocksources), None)
    switch = f"echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource"
    yield Finding(
        id="clocksource",
        section="kernel",
        level="warn",
        what=f"the clock is {machine.clocksource}, which is read by a system call",
        why="the worker reads the clock each turn and the XDP program each packet; that should take 20 ns, not a microsecond.",
        fix=f"Take {better}." if better else "See in dmesg why the kernel gave up on tsc (grep -i tsc).",
        commands=(switch,) if better else (),
    )


def check_worker_cpus(facts: Facts) -> Iterator[Finding]:
    """That they are there, allowed, isolated, and near the device."""
    machine = facts.machine
    online = {cpu.index for cpu in machine.cpus}
    asked = {worker.cpu for worker in facts.config.workers if isinstance(worker.cpu, int)}
    for cpu in sorted(asked - online):
        yield Finding(
            id="worker-cpu",
            section="cpu",
            level="fail",
            what=f"worker.cpu = {cpu}, and this machine has CPUs {cpu_list(online)} online",
            why="the worker cannot be pinned there, and the daemon refuses to start.",
            fix='Set an online CPU in [[worker]] cpu, or "auto".',
        )
    forbidden = asked & online - facts.process.cpus if facts.process.cpus else set()
    for cpu in sorted(forbidden):
        yield Finding(
            id="worker-cpu",
            section="cpu",
            level="fail",
            what=f"worker.cpu = {cpu} is not among the CPUs that {facts.whose} may use ({cpu_list(facts.process.cpus)})",
            why="a cpuset or an affinity keeps it away: the worker cannot be pinned there.",
            fix="Widen AllowedCPUs= or CPUAffinity= of the unit (or of its slice), or choose another CPU.",
            commands=("systemctl show afterburner -p AllowedCPUs -p CPUAffinity",),
        )
    yield from _check_isolation(facts, online)
    node = _device_node(facts)
    nodes = {cpu.index: cpu.node for cpu in machine.cpus}
    far = [cpu for cpu in facts.worker_cpus if nodes.get(cpu) is not None and node is not None and nodes[cpu] != node]
    if far:
        near = [index for index in sorted(online) if nodes[index] == node]
        yield Finding(
            id="numa",
            section="cpu",
            level="warn",
            what=f"the worker's CPU {cpu_list(far)} is on NUMA node {nodes[far[0]]}, {facts.device.name} is on node {node}",
            why="every packet and every ring entry crosses the link between the sockets.",
            fix=f"Set [[worker]] cpu to one of {cpu_list(near)}.",
        )


def _device_node(facts: Facts) -> int | None:
    link = facts.link
    return link.numa_node if link is not None else None


def _check_isolation(facts: Facts, online: set[int]) -> Iterator[Finding]:
    machine = facts.machine
    spinning = any(worker.idle == "spin" for worker in facts.config.workers)
    cpus = [cpu for cpu in facts.worker_cpus if cpu in online]
    bare = [cpu for cpu in cpus if cpu not in machine.isolated]
    fifo = any(worker.fifo and worker.cpu not in machine.isolated for worker in facts.config.workers)
    if fifo:
        yield Finding(
            id="isolation",
            section="cpu",
            level="fail",
            what="a worker asks for SCHED_FIFO on a CPU that is not isolated",
            why="a spinning FIFO thread starves ksoftirqd of its CPU, and with it the packets it waits for; it is refused.",
            fix="Isolate its CPU, or set [[worker]] fifo = 0.",
            commands=_isolate(bare or [max(online)]),
        )
    elif cpus and not bare:
        yield Finding(id="isolation", section="cpu", level="ok", what=f"the worker's CPU {cpu_list(cpus)} is isolated")
    elif spinning and len(online) < 3:
        yield Finding(
            id="isolation",
            section="cpu",
            level="info",
            what=f"no CPU is isolated, and {len(online)} CPUs are too few to give one away",
            why="the scheduler puts other threads on the worker's CPU: its longest gaps are theirs (status: loop gap).",
        )
    elif spinning:
        wanted = bare or [_proposal(facts, online)]
        yield Finding(
            id="isolation",
            section="cpu",
            level="warn",
            what=f"the worker's CPU {cpu_list(bare)} is not isolated" if bare else "no CPU is isolated for the worker",
            why="the scheduler puts other threads on the CPU of a spinning worker: milliseconds, in which packets wait.",
            fix="Isolate it on the kernel's command line (takes a reboot).",
            commands=_isolate(wanted),
        )
    ticking = [cpu for cpu in cpus if cpu in machine.isolated and cpu not in machine.nohz_full]
    if ticking and spinning:
        yield Finding(
            id="nohz-full",
            section="cpu",
            level="info",
            what=f"the timer still ticks on the isolated CPU {cpu_list(ticking)}",
            why="each tick takes some microseconds from the worker, 250 or 1000 times a second.",
            fix="Add nohz_full= and rcu_nocbs= to the kernel's command line (takes a reboot).",
            commands=_isolate(ticking),
        )
    threads = {cpu.index: cpu.siblings - {cpu.index} for cpu in machine.cpus}
    shared = {cpu: threads.get(cpu, frozenset()) & online for cpu in cpus}
    busy = sorted(set().union(*shared.values()) - set(cpus) - machine.isolated) if shared else []
    if busy and spinning:
        yield Finding(
            id="smt",
            section="cpu",
            level="info",
            what=f"CPU {cpu_list(busy)} shares a core with the worker's CPU {cpu_list(cpus)} and runs other work",
            why="hardware threads of a core take turns: the worker's loop slows down when the other thread works.",
            fix="Take it offline, or keep work off it.",
            commands=tuple(f"echo 0 > /sys/devices/system/cpu/cpu{cpu}/online" for cpu in busy),
        )


def _proposal(facts: Facts, online: set[int]) -> int:
    """A CPU to isolate: near the device, not 0, not one that serves the device's interrupts."""
    node = _device_node(facts)
    serving = set().union(*(interrupt.effective for interrupt in facts.device.interrupts), {0})
    nodes = {cpu.index: cpu.node for cpu in facts.machine.cpus}
    near = {index for index in online if node is None or nodes[index] in (None, node)}
    return max(near - serving or online - serving or online)


def _isolate(cpus: list[int]) -> tuple[str, ...]:
    these = cpu_list(cpus)
    words = f"isolcpus=managed_irq,domain,{these} nohz_full={these} rcu_nocbs={these}"
    return (
        f"""sed -i 's/^GRUB_CMDLINE_LINUX="/&{words} /' /etc/default/grub""",
        "update-grub",
        "reboot",
    )


def check_power(facts: Facts) -> Iterator[Finding]:
    """Clock frequency and sleep of the CPUs that packets pass."""
    cpus = {cpu.index: cpu for cpu in facts.machine.cpus}
    serving = set().union(*(interrupt.effective for interrupt in facts.device.interrupts))
    concerned = (serving | set(facts.worker_cpus)) & set(cpus) or set(cpus)
    slow = sorted(index for index in concerned if cpus[index].governor not in (None, "performance"))
    if slow:
        names = ", ".join(sorted({cpus[index].governor or "" for index in slow}))
        yield Finding(
            id="governor",
            section="cpu",
            level="warn",
            what=f"the frequency governor of CPU {cpu_list(slow)} is {names}",
            why="a clock that is slow at first costs sparse traffic most: each packet finds the CPU slowed down again.",
            fix="Set it to performance (and keep it: cpupower's or tuned's service).",
            commands=tuple(
                f"echo performance > /sys/devices/system/cpu/cpu{index}/cpufreq/scaling_governor" for index in slow
            ),
        )
    elif any(cpus[index].governor for index in concerned):
        yield Finding(id="governor", section="cpu", level="ok", what=f"CPU {cpu_list(concerned)} runs at full speed")
    sleeping = all(worker.idle == "sleep" for worker in facts.config.workers)
    sleepers = sorted((concerned if sleeping else concerned - set(facts.worker_cpus)) & set(cpus))
    deep: dict[int, list[IdleState]] = {}
    for index in sleepers:
        states = [state for state in cpus[index].idle_states if not state.disabled and state.exit_us > EXIT_LIMIT_US]
        if states:
            deep[index] = states
    if deep:
        worst = max((state for states in deep.values() for state in states), key=lambda state: state.exit_us)
        yield Finding(
            id="c-states",
            section="cpu",
            level="warn",
            what=f"CPU {cpu_list(deep)} may sleep as deep as {worst.name}, {worst.exit_us} us to wake from",
            why=f"a packet that interrupts a sleeping CPU waits that long; a round trip takes single microseconds without "
            f"(afterburner-lab bench raw). States of up to {EXIT_LIMIT_US} us do no harm.",
            fix="Turn the deeper states off (until the next boot).",
            commands=tuple(
                f"echo 1 > /sys/devices/system/cpu/cpu{index}/cpuidle/state{state.index}/disable"
                for index, states in deep.items()
                for state in states
            ),
        )
    elif any(cpus[index].idle_states for index in sleepers):
        yield Finding(
            id="c-states", section="cpu", level="ok", what=f"CPU {cpu_list(sleepers)} wakes within {EXIT_LIMIT_US} us"
        )


def check_huge_pages(facts: Facts) -> Iterator[Finding]:
    policy, machine, queues = facts.config.memory.huge_pages, facts.machine, facts.queues
    if policy == "off" or not queues or not facts.uses_xdp:
        return
    needed = len(queues) * -(-facts.packet_memory // HUGE_PAGE)
    size = f"{len(queues)} queue{'s' * (len(queues) > 1)} x {facts.packet_memory / (1 << 20):g} MiB"
    serving = facts.daemon.segment == "alive" and facts.daemon.interface == facts.device.name
    if serving and facts.daemon.huge_pages:
        yield Finding(id="huge-pages", section="memory", level="ok", what="packet memory lies in huge pages")
        return
    total, free = machine.huge_total or 0, machine.huge_free or 0
    if free >= needed and not serving:
        yield Finding(
            id="huge-pages", section="memory", level="ok", what=f"{free} huge pages are free, {needed} needed ({size})"
        )
        return
    if free >= needed:
        yield Finding(
            id="huge-pages",
            section="memory",
            level="warn",
            what="packet memory lies in normal pages, though huge pages are free by now",
            why="8 MiB in normal pages are 2,048 TLB entries, in huge pages 4.",
            fix="Have the data plane set up again.",
            commands=("systemctl restart afterburner",),
        )
        return
    missing = needed - free
    yield Finding(
        id="huge-pages",
        section="memory",
        level="fail" if policy == "require" else "warn",
        what=f"{free} of {total} huge pages (2 MiB) are free, packet memory needs {needed} ({size})",
        why='8 MiB in normal pages are 2,048 TLB entries, in huge pages 4. memory.huge_pages = "require" does not start without.'
        if policy == "require"
        else "8 MiB in normal pages are 2,048 TLB entries, in huge pages 4. The daemon falls back to normal pages.",
        fix=f"Reserve {missing} more (early: memory fragments)."
        if machine.huge_total is not None
        else "Run a kernel with hugetlbfs.",
        commands=sysctl_commands("vm.nr_hugepages", total + missing) if machine.huge_total is not None else (),
    )


def check(facts: Facts) -> Iterator[Finding]:
    """All of the above."""
    yield from check_kernel(facts)
    yield from check_af_xdp(facts)
    yield from check_bpf(facts)
    yield from check_clock(facts)
    yield from check_worker_cpus(facts)
    yield from check_power(facts)
    yield from check_huge_pages(facts)
