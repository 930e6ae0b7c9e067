"""Which interface the default route leaves by: what an empty `interface.name` stands for."""

from __future__ import annotations

from pathlib import Path

RTF_UP = 0x1
RTF_REJECT = 0x200  # the kernel's own "nowhere" route of IPv6, on lo


def default_interface(proc: Path = Path("/proc/net")) -> str:
    """The one device of all default routes, IPv4 and IPv6; empty where there is none, or more than one."""
    found: set[str] = set()
    try:
        for line in (proc / "route").read_text().splitlines()[1:]:
            name, destination, _gateway, flags, _ref, _use, _metric, mask, *_ = line.split()
            if destination == "00000000" and mask == "00000000" and int(flags, 16) & RTF_UP:
                found.add(name)
    except FileNotFoundError:  # a kernel without IPv4
        pass
    try:
        for line in (proc / "ipv6_route").read_text().splitlines():
            fields = line.split()
            if fields[1] == "00" and int(fields[8], 16) & RTF_UP and not int(fields[8], 16) & RTF_REJECT:
                found.add(fields[9])
    except FileNotFoundError:  # a kernel without IPv6
        pass
    return found.pop() if len(found) == 1 else ""
