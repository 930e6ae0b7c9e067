"""Rights and service: may the daemon do what it must, is it installed, and what has an earlier one left."""

from __future__ import annotations

from collections.abc import Iterator

from afterburnerd.ctl.doctor.model import Facts, Finding

MIN_FILES = 1024  # each queue, connection's socket and segment is one; Debian's default soft limit


def check_capabilities(facts: Facts) -> Iterator[Finding]:
    if not facts.uses_xdp:
        yield Finding(id="capabilities", section="rights", level="ok", what="the socket mode needs no capability")
        return
    process, config = facts.process, facts.config
    have = process.capabilities
    needed = {
        "CAP_NET_RAW": "make AF_XDP sockets",
        "CAP_NET_ADMIN": "attach the XDP program, fill the socket map, keep neighbours fresh",
        "CAP_BPF": "load the XDP program, make maps",
    }
    if process.memlock is not None:
        needed["CAP_IPC_LOCK"] = "lock packet memory beyond the limit"
    if any(worker.nice < 0 or worker.fifo for worker in config.workers):
        needed["CAP_SYS_NICE"] = "give workers their nice value or SCHED_FIFO"
    if "CAP_SYS_ADMIN" in have:  # it stands for CAP_BPF
        needed.pop("CAP_BPF")
    missing = {name: purpose for name, purpose in needed.items() if name not in have}
    if not missing:
        yield Finding(
            id="capabilities", section="rights", level="ok", what=f"{facts.whose} has every capability that is needed"
        )
        return
    lost = ", ".join(f"{name} ({purpose})" for name, purpose in missing.items())
    if process.pid is not None:
        yield Finding(
            id="capabilities",
            section="rights",
            level="fail",
            what=f"{facts.whose} lacks {lost}",
            why="it cannot do those things, and says so in its status.",
            fix="Give them back in the unit; look for a drop-in that takes them away.",
            commands=("systemctl cat afterburner", "systemctl edit afterburner"),
        )
    elif facts.daemon.unit is not None:
        yield Finding(
            id="capabilities",
            section="rights",
            level="info",
            what=f"this shell lacks {lost}; the systemd unit gives them",
            why="a daemon started by hand from here would fall back or refuse.",
            fix="Start it with systemd.",
            commands=("systemctl start afterburner",),
        )
    else:
        yield Finding(
            id="capabilities",
            section="rights",
            level="warn",
            what=f"this shell lacks {lost}",
            why="a daemon started from here falls back to the socket mode, or refuses.",
            fix="Start the daemon as root, or with the systemd unit, which gives it these and no more.",
            commands=("sudo afterburnerd",),
        )


def check_limits(facts: Facts) -> Iterator[Finding]:
    process = facts.process
    packet_memory = len(facts.queues) * facts.packet_memory
    if process.memlock is not None and "CAP_IPC_LOCK" not in process.capabilities and facts.uses_xdp:
        short = process.memlock < packet_memory
        yield Finding(
            id="memlock",
            section="rights",
            level="fail" if short else "warn",
            what=f"{facts.whose} may lock {process.memlock >> 10} KiB of memory; packet memory alone is {packet_memory >> 10} KiB",
            why="packet memory is locked, and so is all else of the data plane, lest a page fault stop it.",
            fix="Raise the limit: LimitMEMLOCK= of the unit, or ulimit in a shell.",
            commands=("systemctl edit afterburner  # [Service] LimitMEMLOCK=infinity", "ulimit -l unlimited"),
        )
    elif facts.uses_xdp:
        yield Finding(id="memlock", section="rights", level="ok", what=f"{facts.whose} may lock the memory it needs")
    if process.nofile is not None and process.nofile < MIN_FILES:
        yield Finding(
            id="nofile",
            section="rights",
            level="warn",
            what=f"{facts.whose} may open {process.nofile} files",
            why=f"sockets, rings and maps are files, some for each queue and client; {MIN_FILES} are enough for all of them.",
            fix="Raise the limit: LimitNOFILE= of the unit, or ulimit in a shell.",
            commands=("systemctl edit afterburner  # [Service] LimitNOFILE=16384", "ulimit -n 16384"),
        )


def check_unit(facts: Facts) -> Iterator[Finding]:
    daemon = facts.daemon
    if daemon.unit is not None:
        yield Finding(id="unit", section="service", level="ok", what=f"the systemd unit is installed: {daemon.unit}")
    elif daemon.systemd:
        yield Finding(
            id="unit",
            section="service",
            level="info",
            what="the systemd unit is not installed",
            why="it gives the daemon its user, its few rights, its watchdog, and a start at boot.",
            fix="Install it, from the source tree.",
            commands=("make install", "systemctl enable --now afterburner"),
        )


def check_segment(facts: Facts) -> Iterator[Finding]:
    daemon = facts.daemon
    if daemon.segment == "unreadable":
        yield Finding(
            id="segment",
            section="service",
            level="fail",
            what=f"shared memory of the name {daemon.name} is not a daemon's statistics",
            why=daemon.detail,
            fix="Look whose it is; the daemon does not start while it is there.",
            commands=(f"ls -l /dev/shm/{daemon.name}.stats",),
        )
    elif daemon.segment == "stale":
        yield Finding(
            id="segment",
            section="service",
            level="warn",
            what=f"the daemon {daemon.name} was killed; its statistics are still in shared memory",
            why="they can be read (afterburnerctl status); the next start replaces them.",
            fix="Start it again, or remove them.",
            commands=("systemctl start afterburner", "afterburnerd --clean-up"),
        )
    elif daemon.segment == "absent":
        yield Finding(
            id="segment",
            section="service",
            level="ok",
            what=f"no daemon {daemon.name} runs, and none has left anything",
        )
    elif daemon.state in ("serving", "starting"):
        yield Finding(
            id="segment",
            section="service",
            level="ok",
            what=f"the daemon {daemon.name} is {daemon.state} on {daemon.interface}",
        )
    else:
        yield Finding(
            id="segment",
            section="service",
            level="warn",
            what=f"the daemon {daemon.name} is {daemon.state}",
            why="something configured is not in force.",
            fix="See what.",
            commands=("afterburnerctl status", "journalctl -u afterburner -n 50"),
        )
    if daemon.segment == "alive" and facts.device.name and daemon.interface != facts.device.name:
        yield Finding(
            id="other-device",
            section="service",
            level="info",
            what=f"the daemon serves {daemon.interface}, this examination is about {facts.device.name}",
            why="the configuration names another device than the daemon was started with, or --interface does.",
        )


def check(facts: Facts) -> Iterator[Finding]:
    """All of the above."""
    yield from check_capabilities(facts)
    yield from check_limits(facts)
    yield from check_unit(facts)
    yield from check_segment(facts)
