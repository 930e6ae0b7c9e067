"""From where to where a generator sends: device, MAC addresses, IP addresses, port.

By default from the sender's end of the rig to its daemon end. With `--interface DEV` from this namespace through DEV, to
wherever the kernel would route; the lab then is a tool for a real link. The kernel knows the way: it is asked
(`ip route get`, `ip neigh`) and not second-guessed. A sender by AF_XDP needs the next hop's MAC address, which the kernel
is told to find out (neighbour entry with `use`).
"""

from __future__ import annotations

import argparse
import ipaddress
import time
from typing import Any

import msgspec

from ..cli import ToolError
from . import exits, rig

DEFAULT_PORT = 8001  # of the capture rule in the example configuration


class Path(msgspec.Struct, frozen=True):
    netns: str  # "": this one
    device: str
    source: str
    target: str
    port: int
    smac: str = ""  # only where frames are built by hand
    dmac: str = ""

    @property
    def text(self) -> str:
        target = f"[{self.target}]" if ":" in self.target else self.target
        return f"{self.device}{f' in {self.netns}' if self.netns else ''} -> {target}:{self.port}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("from where to where")
    group.add_argument("--to", metavar="ADDRESS[:PORT]", help="target; default: the rig's daemon end, port 8001")
    group.add_argument("-6", "--ipv6", action="store_true", help="the rig's IPv6 address instead of its IPv4 address")
    group.add_argument("--name", default="afterburner", help="the rig to send from (default: %(default)s)")
    group.add_argument("--interface", metavar="DEV", help="send from this namespace through DEV instead of from a rig")


def split(text: str) -> tuple[str, int]:
    """ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT"""
    address, port = text, str(DEFAULT_PORT)
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ipaddress.ip_address(address)
        if not 1 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise ToolError(f"--to {text}: write an address, 198.18.0.1:8001 or [fd5a:ab1a:6::1]:8001", 64) from None
    return address, int(port)


def resolve(args: argparse.Namespace, by_frame: bool) -> Path:
    """The path that the arguments mean. `by_frame`: MAC addresses are wanted too."""
    if args.interface:
        if not args.to:
            raise ToolError("--interface needs --to: there is no rig to send to", 64)
        netns, device = "", args.interface
    else:
        standing = rig.plan(args.name)
        if rig.link(standing.sender) is None:
            raise ToolError(
                f"there is no rig {args.name!r}: run `afterburner-lab up{'' if args.name == 'afterburner' else ' --name ' + args.name}` first",
                69,
            )
        netns, device = standing.sender.netns, standing.sender.device
    address, port = split(args.to) if args.to else ("", DEFAULT_PORT)
    if not address:
        # The rig's subnet number is an option of `up` and is kept nowhere: the sender's own address tells it.
        own = _address(netns, device, 6 if args.ipv6 else 4)
        address = own.rpartition("." if "." in own else ":")[0] + ("." if "." in own else ":") + "1"
    route = _route(netns, device, address)
    hop = route.get("gateway", address)
    if not by_frame:
        return Path(netns, device, route["prefsrc"], address, port)
    found = rig.link(rig.End(netns, device, "", "", "", ""))
    assert found is not None
    return Path(netns, device, route["prefsrc"], address, port, found["address"], _neighbour(netns, device, hop))


def queues(way: Path) -> int:
    """How many queues its device sends by; 0: not known."""
    show = ("ls", f"/sys/class/net/{way.device}/queues")
    done = rig.run(*(("ip", "netns", "exec", way.netns) if way.netns else ()), *show, check=False)
    return sum(name.startswith("tx-") for name in done.stdout.split()) if done.returncode == 0 else 0


def _ip(netns: str, *args: str) -> list[dict[str, Any]]:
    done = rig.run("ip", *(["-n", netns] if netns else []), "-j", *args)
    found: list[dict[str, Any]] = msgspec.json.decode(done.stdout) if done.stdout.strip() else []
    return found


def _address(netns: str, device: str, family: int) -> str:
    found = _ip(netns, f"-{family}", "address", "show", "dev", device, "scope", "global")
    for one in found:
        for info in one.get("addr_info", ()):
            return str(info["local"])
    raise ToolError(f"{device} has no IPv{family} address", 69)


def _route(netns: str, device: str, address: str) -> dict[str, Any]:
    found = _ip(netns, "route", "get", address, "oif", device)
    if not found or "prefsrc" not in found[0]:
        raise ToolError(f"no route to {address} through {device}", 69)
    return found[0]


def _neighbour(netns: str, device: str, hop: str) -> str:
    until = time.monotonic() + 3
    asked = False
    while time.monotonic() < until:
        for entry in _ip(netns, "neigh", "show", "to", hop, "dev", device):
            if "lladdr" in entry and "FAILED" not in entry.get("state", ()):
                return str(entry["lladdr"])
        if not asked:
            rig.run("ip", *(["-n", netns] if netns else []), "neigh", "replace", hop, "dev", device, "use")
            asked = True
        exits.sleep(0.02)
    raise ToolError(f"{hop} does not answer on {device}: is it up, and does its program let ARP pass?", 69)
