"""The network device: is it there, can it do what is configured, and do its settings let packets through unchanged."""

from __future__ import annotations

from collections.abc import Iterator

from afterburnerd.config.model import MAX_QUEUES
from afterburnerd.ctl.doctor.machine import cpu_list, kernel_version
from afterburnerd.ctl.doctor.model import Facts, Finding
from afterburnerd.net.facts import Link

SECTION = "device"

# An XDP program's buffer begins with this much room for headers of its own (XDP_PACKET_HEADROOM, linux/bpf.h).
XDP_HEADROOM = 256
ETHERNET_HEADER = 14 + 2 * 4  # with two VLAN tags

# Published good start for AF_XDP with busy polling: two polls put off the interrupt, 200 us at most.
DEFER_HARD_IRQS, GRO_FLUSH_NS = 2, 200_000

# What iproute2 calls the places that a program can be attached to; plain "xdp off" leaves a generic one where it is.
_DETACH = {"native": ("xdpdrv",), "generic": ("xdpgeneric",), "offloaded": ("xdpoffload",)}
_DETACH_ALL = tuple(word for words in _DETACH.values() for word in words)

VIRTUAL = ("veth", "macvlan", "tun", "ifb", "dummy", "bridge", "bond", "team")


def check_presence(facts: Facts) -> Iterator[Finding]:
    """That there is a device, and that it is one to receive on."""
    device, link = facts.device, facts.link
    if not device.name:
        uplinks = (
            f"{len(device.uplinks)} uplinks ({', '.join(device.uplinks)})" if device.uplinks else "no default route"
        )
        yield Finding(
            id="device",
            section=SECTION,
            level="fail",
            what=f"no device is named, and this host has {uplinks}",
            why="the daemon refuses to guess which device it should take over.",
            fix=f"Set interface.name to one of {', '.join(device.others) or '(this host has no devices)'}.",
        )
        return
    if link is None:
        yield Finding(
            id="device",
            section=SECTION,
            level="fail",
            what=f"there is no device {device.name}; this host has {', '.join(device.others) or 'none'}",
            why="nothing can be received.",
            fix="Correct interface.name, or create the device.",
        )
        return
    if not link.ethernet:
        yield Finding(
            id="device",
            section=SECTION,
            level="fail",
            what=f"{link.name} is no Ethernet device",
            why="frames are parsed and built with Ethernet headers; loopback and tunnels are the kernel's business.",
            fix="Name the device that the packets really arrive on.",
        )
        return
    queues = f", {link.queues.rx} receive queue{'s' * (link.queues.rx != 1)}" if link.queues is not None else ""
    yield Finding(
        id="device",
        section=SECTION,
        level="ok",
        what=f"{link.name} is there: {link.driver or 'unknown driver'}, MTU {link.mtu}{queues}",
    )
    if not link.up:
        yield Finding(
            id="link",
            section=SECTION,
            level="fail",
            what=f"{link.name} is down",
            why="nothing is received or sent on it.",
            fix="Set it up.",
            commands=(f"ip link set dev {link.name} up",),
        )
    elif not link.carrier:
        yield Finding(
            id="link",
            section=SECTION,
            level="fail",
            what=f"{link.name} has no carrier",
            why="nothing is received or sent on it.",
            fix="Look at cable, transceiver and switch port (on veth: at the other end).",
            commands=(f"ethtool {link.name}",),
        )
    else:
        yield Finding(id="link", section=SECTION, level="ok", what=f"{link.name} is up and has carrier")
    if device.master is not None:
        yield Finding(
            id="master",
            section=SECTION,
            level="warn",
            what=f"{link.name} is a port of {device.master}",
            why=f"addresses and routes are those of {device.master}: rules for any address match nothing, and every path out is "
            "another device's.",
            fix=f"Take {link.name} out of {device.master}, or name addresses in the rules and expect the socket backend for sending.",
            commands=(f"ip link set dev {link.name} nomaster",),
        )


def check_addresses(facts: Facts) -> Iterator[Finding]:
    """That the capture rules can match."""
    network, link = facts.device.network, facts.link
    if network is None or link is None:
        return
    local = network.local_addresses()
    if local:
        listed = ", ".join(str(entry.address) for entry in local[:4]) + (" …" if len(local) > 4 else "")
        yield Finding(id="addresses", section=SECTION, level="ok", what=f"{link.name} has addresses: {listed}")
    else:
        yield Finding(
            id="addresses",
            section=SECTION,
            level="warn",
            what=f"{link.name} has no address",
            why='a rule for address "any" means every address of the device: none.',
            fix="Give it one.",
            commands=(f"ip address add ADDRESS/LENGTH dev {link.name}",),
        )
    for rule in facts.config.captures:
        if rule.ip is not None and not network.is_local(rule.ip):
            yield Finding(
                id="rule-address",
                section=SECTION,
                level="warn",
                what=f'rule "{rule.name}" captures {rule.ip}, which is not an address of this host',
                why="packets that are only forwarded are never taken: the rule matches nothing.",
                fix=f"Correct its address, or add it to {link.name}.",
                commands=(f"ip address add {rule.ip}/{rule.ip.max_prefixlen} dev {link.name}",),
            )
        known = {tuple(tag.vid for tag in entry.vlans) for entry in local}
        tags = tuple(vid for vid in rule.vlans if vid)
        if tags and tags not in known:
            yield Finding(
                id="rule-vlan",
                section=SECTION,
                level="info",
                what=f'rule "{rule.name}" captures VLAN {".".join(map(str, tags))}, for which {link.name} has no VLAN device',
                why="that is fine for capturing; the kernel answers neither ARP nor pings in that VLAN.",
            )


def check_program(facts: Facts) -> Iterator[Finding]:
    """That the place for the XDP program is free."""
    link = facts.link
    if link is None or link.xdp is None or not facts.uses_xdp:
        return
    if facts.daemon.segment == "alive" and facts.daemon.interface == link.name:
        yield Finding(
            id="xdp-program",
            section=SECTION,
            level="ok",
            what=f"the daemon's XDP program is attached ({link.xdp.mode})",
        )
        return
    yield Finding(
        id="xdp-program",
        section=SECTION,
        level="fail",
        what=f"somebody else's XDP program is attached to {link.name}: id {link.xdp.program}, {link.xdp.mode}",
        why="a device runs one program, and the daemon never replaces that of another.",
        fix="Find out whose it is, stop that, then detach what is left.",
        commands=(
            f"bpftool prog show id {link.xdp.program}",
            "bpftool link show type xdp",
            *(f"ip link set dev {link.name} {word} off" for word in _DETACH.get(link.xdp.mode, _DETACH_ALL)),
        ),
    )


def check_mode(facts: Facts) -> Iterator[Finding]:
    """That the driver can do the mode that is asked for."""
    link, xdp, mode = facts.link, facts.device.xdp, facts.config.interface.mode
    if link is None or not link.ethernet:
        return
    if mode in ("socket", "generic"):
        cost = (
            "through the kernel's UDP stack"
            if mode == "socket"
            else "after the kernel has made a socket buffer of them"
        )
        yield Finding(
            id="xdp-mode",
            section=SECTION,
            level="info",
            what=f'interface.mode = "{mode}": packets are taken {cost}',
            why="works on every device, and is slower than native XDP (afterburner-lab bench raw measures both).",
        )
        return
    if xdp is None:
        yield Finding(
            id="xdp-mode",
            section=SECTION,
            level="info",
            what="the kernel does not tell what the driver can do with XDP",
            why="it does since Linux 6.3; the daemon finds out by trying, and status shows the mode in force.",
        )
    elif not xdp.native:
        yield Finding(
            id="xdp-mode",
            section=SECTION,
            level="warn" if mode == "auto" else "fail",
            what=f"the driver of {link.name} ({link.driver}) has no native XDP",
            why="the program runs only after a socket buffer was made for each packet (generic mode)."
            if mode == "auto"
            else f'interface.mode = "{mode}" needs it, and the daemon refuses to start.',
            fix='Use a device whose driver has it, or live with interface.mode = "auto".',
        )
    elif not xdp.zero_copy:
        yield Finding(
            id="xdp-mode",
            section=SECTION,
            level="fail" if mode == "zero-copy" else "info",
            what=f"the driver of {link.name} ({link.driver}) has native XDP, without zero-copy",
            why='interface.mode = "zero-copy" needs it, and the daemon refuses to start.'
            if mode == "zero-copy"
            else "each packet is copied once between driver and packet memory.",
            fix='Set interface.mode = "auto".' if mode == "zero-copy" else "",
        )
    else:
        yield Finding(
            id="xdp-mode",
            section=SECTION,
            level="ok",
            what=f"the driver of {link.name} ({link.driver}) has native XDP and zero-copy",
        )
    yield from _check_virtio(facts, link)
    yield from _check_frame(facts, link)


def _check_virtio(facts: Facts, link: Link) -> Iterator[Finding]:
    """That frames sent zero-copy do not carry twelve bytes of something else in front: `xsk_hdr` in
    drivers/net/virtio/virtio_net.c is a static variable, and mapped as if it lay in the kernel's linear map (tests/zerocopy)."""
    xdp, mode = facts.device.xdp, facts.config.interface.mode
    module = (facts.machine.config or {}).get("VIRTIO_NET", "m") == "m"
    if (
        link.driver != "virtio_net"
        or xdp is None
        or not xdp.zero_copy
        or mode not in ("auto", "zero-copy")
        or not module
    ):
        return
    yield Finding(
        id="virtio-zero-copy",
        section=SECTION,
        level="warn",
        what=f"{link.name} is a virtio_net, and frames would be sent on it zero-copy",
        why="where the driver is a module, the kernel (seen with 7.2.13) maps the header in front of such frames at a wrong "
        "address: a hypervisor that looks at it reads twelve bytes of something else, and may drop the frame.",
        fix='Set interface.mode = "copy" until that is mended. Where nothing is sent by AF_XDP it may stay: receiving is right.',
    )


def _check_frame(facts: Facts, link: Link) -> Iterator[Finding]:
    """That the largest packet fits into one frame, or that it may take several."""
    frame = facts.config.memory.frame_size
    room = frame - XDP_HEADROOM
    far = max(link.mtu, link.peer_mtu or 0)
    needed = far + ETHERNET_HEADER
    whose = f"the far end of {link.name}" if far > link.mtu else link.name
    if needed <= room:
        yield Finding(
            id="mtu", section=SECTION, level="ok", what=f"packets of MTU {far} fit into frames of {frame} bytes"
        )
        return
    smaller = (f"ip link set dev {link.name} mtu {room - ETHERNET_HEADER}",)
    xdp, old = facts.device.xdp, kernel_version(facts.machine.release) < (6, 6)
    if facts.config.interface.jumbo == "off" or old or (xdp is not None and not xdp.fragments):
        because = (
            "interface.jumbo is off"
            if facts.config.interface.jumbo == "off"
            else "this kernel cannot"
            if old
            else "the driver cannot"
        )
        yield Finding(
            id="mtu",
            section=SECTION,
            level="fail",
            what=f"{whose} has MTU {far}: its packets need {needed} bytes, a frame has room for {room}, and {because} use several",
            why="native XDP refuses such a device, or drops the packet.",
            fix="Lower the MTU on both ends"
            + (", or set memory.frame_size = 4096." if frame < 4096 else ', or set interface.mode = "socket".'),
            commands=smaller,
        )
        return
    yield Finding(
        id="mtu",
        section=SECTION,
        level="info",
        what=f"{whose} has MTU {far}: packets above {room} bytes take several frames",
        why="each costs a descriptor a frame; Solana's packets are 1,232 bytes at most.",
        fix="Lower the MTU where nothing else needs it.",
        commands=smaller,
    )


def check_queues(facts: Facts) -> Iterator[Finding]:
    """That the queues that are asked for are there, and that every queue has somebody."""
    link = facts.link
    if link is None or link.queues is None:
        return
    count, wanted = link.queues.rx, facts.config.interface.queues
    if wanted == "all":
        if count > MAX_QUEUES:
            yield Finding(
                id="queues",
                section=SECTION,
                level="fail",
                what=f"{link.name} has {count} receive queues, at most {MAX_QUEUES} can be served",
                why="packets on the others would be dropped.",
                fix="Have the device use fewer.",
                commands=(_channels(link, MAX_QUEUES),),
            )
        return
    absent = [queue for queue in wanted if queue >= count]
    if absent:
        yield Finding(
            id="queues",
            section=SECTION,
            level="fail",
            what=f"interface.queues names {cpu_list(absent)}, and {link.name} has queues 0-{count - 1}",
            why="the daemon refuses to start.",
            fix=f"Correct interface.queues, or have the device use more (up to {link.queues.max_rx}).",
            commands=(_channels(link, max(absent) + 1),) if max(absent) < link.queues.max_rx else (),
        )
        return
    left = sorted(set(range(count)) - set(wanted))
    if left:
        first = tuple(wanted) == tuple(range(len(wanted)))
        steer = tuple(
            f"ethtool -N {link.name} flow-type udp{'6' if rule.ip is not None and rule.ip.version == 6 else '4'} "
            f"dst-port {rule.port} action {wanted[0]}"
            for rule in facts.config.captures
        )
        yield Finding(
            id="queues",
            section=SECTION,
            level="warn",
            what=f"queue {cpu_list(left)} of {link.name} is not served",
            why="packets for us that the device puts there are dropped and counted, unless it is told to put them elsewhere.",
            fix="Steer them to the served queues (if that is not done already: ethtool -x, ethtool -n).",
            commands=(f"ethtool -X {link.name} equal {len(wanted)}",) if first else steer,
        )


def _channels(link: Link, count: int) -> str:
    kind = "combined" if link.queues is None or link.queues.combined else "rx"
    return f"ethtool -L {link.name} {kind} {count}"


def check_offloads(facts: Facts) -> Iterator[Finding]:
    """That nothing on the way changes packets before the program sees them."""
    link, on = facts.link, facts.device.offloads
    if link is None or not on:
        return
    tagged = any(any(rule.vlans) for rule in facts.config.captures)
    stacked = bool(facts.device.network and facts.device.network.stacked)
    merging = [name for name in ("rx-lro", "rx-gro-hw", "rx-gro-list", "rx-udp-gro-forwarding") if on.get(name)]
    fine = True
    if on.get("rx-vlan-hw-parse") and link.kind not in VIRTUAL and (tagged or stacked):
        fine = False
        yield Finding(
            id="rxvlan",
            section=SECTION,
            level="fail" if tagged else "warn",
            what=f"{link.name} strips VLAN tags before the XDP program sees the packet (rx-vlan-offload)",
            why="a rule for a VLAN never matches then, and packets of every VLAN look untagged to a rule without one.",
            fix="Turn it off.",
            commands=(f"ethtool -K {link.name} rxvlan off",),
        )
    if merging:
        fine = False
        short = {"rx-lro": "lro", "rx-gro-hw": "rx-gro-hw", "rx-gro-list": "rx-gro-list"}
        yield Finding(
            id="merging",
            section=SECTION,
            level="warn",
            what=f"{link.name} merges packets ({', '.join(merging)})",
            why="one datagram of a peer must stay one; drivers refuse native XDP with it, or turn it off themselves.",
            fix="Turn it off.",
            commands=tuple(f"ethtool -K {link.name} {short.get(name, name)} off" for name in merging),
        )
    if link.kind == "veth" and facts.config.interface.verify_udp_checksum:
        fine = False
        yield Finding(
            id="tx-checksum",
            section=SECTION,
            level="warn",
            what=f"interface.verify_udp_checksum is on, and {link.name} is a veth",
            why="its far end leaves UDP checksums unfinished unless told to finish them: such packets are all dropped.",
            fix="Turn checksum offload off at the far end (in its namespace), or the verification.",
            commands=("ethtool -K FAR_END tx off",),
        )
    if fine:
        yield Finding(
            id="offloads", section=SECTION, level="ok", what="no offload changes packets before the XDP program"
        )


def check_rings(facts: Facts) -> Iterator[Finding]:
    link = facts.link
    if link is None or link.rings is None or link.rings.rx >= link.rings.max_rx:
        return
    wanted = min(link.rings.max_rx, facts.config.memory.ring)
    if link.rings.rx < wanted:
        yield Finding(
            id="rings",
            section=SECTION,
            level="info",
            what=f"the receive rings of {link.name} have {link.rings.rx} of {link.rings.max_rx} entries",
            why="the device drops a burst that is longer than its ring, however large memory.ring is.",
            fix="Make them as deep as memory.ring (the link goes down for a moment).",
            commands=(f"ethtool -G {link.name} rx {wanted}",),
        )


def check_interrupts(facts: Facts) -> Iterator[Finding]:
    """That interrupts and spinning workers do not share CPUs."""
    device, link = facts.device, facts.link
    if link is None or not device.interrupts:
        return
    spinning = {worker.idle for worker in facts.config.workers} == {"spin"} and not facts.config.interface.busy_poll
    workers = set(facts.worker_cpus)
    on_worker = [interrupt for interrupt in device.interrupts if interrupt.effective & workers]
    others = {cpu.index for cpu in facts.machine.cpus} - workers - facts.machine.isolated
    served = set().union(*(interrupt.effective for interrupt in device.interrupts))
    if on_worker and spinning and others:
        near = {cpu.index for cpu in facts.machine.cpus if link.numa_node in (None, cpu.node)} & others or others
        yield Finding(
            id="irq-affinity",
            section=SECTION,
            level="warn",
            what=f"interrupts of {link.name} are served on the worker's CPU {cpu_list(workers & served)}: "
            + ", ".join(f"{interrupt.name} ({interrupt.number})" for interrupt in on_worker),
            why="receiving in the kernel and the spinning worker take turns there; a packet waits for the scheduler to change them.",
            fix="Serve them on other CPUs near the device.",
            commands=tuple(
                f"echo {cpu_list(near)} > /proc/irq/{interrupt.number}/smp_affinity_list" for interrupt in on_worker
            ),
        )
    else:
        yield Finding(
            id="irq-affinity",
            section=SECTION,
            level="ok",
            what=f"interrupts of {link.name} are served on CPU {cpu_list(served)}",
        )
    if facts.machine.irqbalance:
        yield Finding(
            id="irqbalance",
            section=SECTION,
            level="info",
            what="irqbalance is running",
            why="it moves interrupts when it thinks fit, also those that were placed by hand (it leaves isolated CPUs alone).",
            fix="Stop it on a machine whose interrupts are placed by hand.",
            commands=("systemctl disable --now irqbalance",),
        )


def check_busy_poll(facts: Facts) -> Iterator[Finding]:
    device, link = facts.device, facts.link
    if link is None or not facts.config.interface.busy_poll:
        return
    if link.kind in VIRTUAL:
        yield Finding(
            id="busy-poll",
            section=SECTION,
            level="info",
            what=f"interface.busy_poll is on, and {link.name} is a virtual device ({link.kind})",
            why="it has no NAPI worth driving: every poll is a system call that finds nothing.",
            fix="Set interface.busy_poll = false.",
        )
    elif not device.defer_hard_irqs or not device.gro_flush_ns:
        yield Finding(
            id="busy-poll",
            section=SECTION,
            level="warn",
            what=f"interface.busy_poll is on, and {link.name} still interrupts for each packet "
            f"(napi_defer_hard_irqs {device.defer_hard_irqs or 0}, gro_flush_timeout {device.gro_flush_ns or 0})",
            why="the worker's polling and the interrupts then fight for the same queue; preferred busy polling needs both.",
            fix="Put interrupts off.",
            commands=(
                f"echo {DEFER_HARD_IRQS} > /sys/class/net/{link.name}/napi_defer_hard_irqs",
                f"echo {GRO_FLUSH_NS} > /sys/class/net/{link.name}/gro_flush_timeout",
            ),
        )
    else:
        yield Finding(
            id="busy-poll",
            section=SECTION,
            level="ok",
            what=f"{link.name} leaves its queues to the worker's polling",
        )


def check(facts: Facts) -> Iterator[Finding]:
    """All of the above."""
    yield from check_presence(facts)
    yield from check_addresses(facts)
    yield from check_program(facts)
    yield from check_mode(facts)
    yield from check_queues(facts)
    yield from check_offloads(facts)
    yield from check_rings(facts)
    yield from check_interrupts(facts)
    yield from check_busy_poll(facts)
