"""Which interfaces the default routes leave by: what an empty `interface.name` stands for, if it is one.

Asked over rtnetlink, for /proc/net/route shows but the first next hop of a multipath route, and /proc/net/ipv6_route the
routes of every table, without saying which.
"""

from __future__ import annotations

from afterburnerd.net import link as links
from afterburnerd.net import rtnl


async def default_interface() -> str:
    """The one device of all default routes, IPv4 and IPv6; empty where there is none, or more than one."""
    found = await default_interfaces()
    return found[0] if len(found) == 1 else ""


async def default_interfaces() -> list[str]:
    """The devices of all default routes of the main table, IPv4 and IPv6, every next hop, sorted."""
    requests = rtnl.Requests()
    try:
        names = {link.index: link.name for message in await requests.links() if (link := links.parse_link(message))}
        indices: set[int] = set()
        for route in await requests.default_routes():
            hops = route.get_attr("RTA_MULTIPATH") or []
            indices |= {hop["oif"] for hop in hops} | {route.get_attr("RTA_OIF")}
        return sorted(names[index] for index in indices if index in names)
    finally:
        requests.close()
