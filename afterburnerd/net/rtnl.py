"""The one door to pyroute2: rtnetlink requests and rtnetlink notifications.

Everything this package knows about the network it hears from the kernel over rtnetlink, and pyroute2 speaks that
protocol for us. This module is the only one that imports it, for three reasons.

Memory. `import pyroute2` executes the package's __init__, which imports its database, nftables, wireless, 9P and a
dozen other parts: 13.2 MiB of the supervisor's 80. We need AsyncIPRoute and one generic netlink socket. So the package
is entered by the back door: its module object is put into sys.modules with its search path, but its __init__ does not
run until somebody asks the package for a name that is not a submodule (module `__getattr__`, PEP 562 in a class). That
leaves 7.2 MiB, and `from pyroute2 import IPRoute` elsewhere in the process still works.

Sharp edges of pyroute2 0.9 that nobody else should have to know:

  - A multicast overflow (ENOBUFS) poisons the socket for good: `Notifications` raises it, its owner opens a new one and
    takes a new snapshot.
  - Answers are waited for on a queue by sequence number with no bound on time: every request here has one.
  - A dump that the kernel marks as interrupted (NLM_F_DUMP_INTR: the table changed while it was read) is returned as if
    it were whole: we look at the flag and dump again.
  - `route("get")` also asks for an ACK, which nobody collects: we send the bare request.

Untyped. pyroute2 carries no annotations; `Message` below is all that the parsers in link.py and route.py rely on.

                 requests (one socket, no groups)               notifications (one socket, no requests)
    watch.py ──► Requests.links/addresses/route/…  ◄─ kernel ─► Notifications ──► watch.py
"""

from __future__ import annotations

import asyncio
import errno
import functools
import importlib
import importlib.util
import os
import socket
import sys
import types
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol

IPAddress = IPv4Address | IPv6Address


class _DeferredPackage(types.ModuleType):
    """A package whose __init__ runs only when a name is asked for that is not one of its submodules."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        qualified = f"{self.__name__}.{name}"
        if importlib.util.find_spec(qualified) is not None:
            return importlib.import_module(qualified)
        object.__setattr__(
            self, "__class__", types.ModuleType
        )  # first, so that the __init__ below runs in an ordinary module
        spec = self.__spec__
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def _defer_package(name: str) -> None:
    """Put package `name` into sys.modules without running its __init__ (see the essay above)."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"{name} is not installed; `make setup` installs it", name=name)
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _DeferredPackage
    sys.modules[name] = module


_defer_package("pyroute2")

from pyroute2.iproute.linux import AsyncIPRoute  # noqa: E402
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError  # noqa: E402
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: E402
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: E402
from pyroute2.netlink.rtnl.ndmsg import ndmsg  # noqa: E402
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # noqa: E402

# Message types (linux/rtnetlink.h). Spelled out because pyroute2 knows nothing of the nexthop ones.
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE = 32, 33
RTM_NEWNEXTHOP, RTM_DELNEXTHOP = 104, 105

NLM_F_DUMP_INTR = 0x10
NTF_USE = 0x01
_RT_TABLE_MAIN, _RTN_UNICAST, _RTM_F_CLONED = 254, 1, 0x200

# Groups (linux/rtnetlink.h, enum rtnetlink_groups): link, neigh, v4 address, route, rule, v6 address, route, rule.
_GROUPS = sum(1 << (group - 1) for group in (1, 3, 5, 7, 8, 9, 11, 19))
_GROUP_NEXTHOP = 32  # past the 32 bits of bind(); Linux 5.3

# A dump of an ordinary host is some hundred milliseconds on a busy machine; ten times that is a kernel in trouble.
REQUEST_TIMEOUT = 5.0
_DUMP_ATTEMPTS = 8


class Message(Protocol):
    """What a parser may do with a decoded netlink message or nested attribute."""

    def __getitem__(self, field: str, /) -> Any: ...

    def get_attr(self, name: str, default: Any = None) -> Any: ...


def message_type(message: Message) -> int:
    """The RTM_… number of a message."""
    return int(message["header"]["type"])


def _family(address: IPAddress) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _bare(address: IPAddress) -> str:
    """The address without its scope, which travels as an interface index."""
    return str(address).partition("%")[0]


class Requests:
    """Questions to the kernel, and the one thing we tell it: `use`.

    A refusal by the kernel is an OSError with its errno; silence is a TimeoutError, after which the owner should `close`
    and open a new one.
    """

    def __init__(self, timeout: float = REQUEST_TIMEOUT) -> None:
        self._socket = AsyncIPRoute(groups=0, strict_check=True)
        self._timeout = timeout

    def close(self) -> None:
        self._socket.close()

    async def links(self) -> list[Message]:
        """Every link of this network namespace."""
        return await self._dump(lambda: ifinfmsg(), RTM_GETLINK)

    async def link(self, index: int, nsid: int | None = None) -> Message | None:
        """One link by index, in the namespace that ours knows as `nsid`; None if there is none (or it is not ours to see)."""
        message = ifinfmsg()
        message["index"] = index
        if nsid is not None:
            message["attrs"].append(["IFLA_IF_NETNSID", nsid])
        try:
            return await self._get(message, RTM_GETLINK)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EINVAL, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
                return None
            raise

    async def addresses(self) -> list[Message]:
        """Every address of this network namespace, both families."""
        return await self._dump(lambda: ifaddrmsg(), RTM_GETADDR)

    async def route(self, destination: IPAddress, source: IPAddress | None = None, oif: int | None = None) -> Message:
        """The route that a datagram of ours to `destination` takes now, rules and nexthop selection included.

        Asked without RTM_F_FIB_MATCH, so that the answer is the resolved route (one next hop of a multipath route,
        learned path MTU) and not the table entry. The errno of a refusal is the route's type: EINVAL blackhole,
        EHOSTUNREACH unreachable, EACCES prohibit, ENETUNREACH none.
        """
        message = rtmsg()
        message["family"] = _family(destination)
        message["dst_len"] = destination.max_prefixlen
        message["attrs"].append(["RTA_DST", _bare(destination)])
        if source is not None:
            message["src_len"] = source.max_prefixlen
            message["attrs"].append(["RTA_SRC", _bare(source)])
        if oif is not None:
            message["attrs"].append(["RTA_OIF", oif])
        return await self._get(message, RTM_GETROUTE)

    async def default_routes(self) -> list[Message]:
        """The default routes of both families in the main table, multipath ones included."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in await self._dump(functools.partial(_route_dump, family), RTM_GETROUTE):
                if route["dst_len"] == 0 and route["type"] == _RTN_UNICAST and not route["flags"] & _RTM_F_CLONED:
                    found.append(route)
        return found

    async def neighbour(self, index: int, address: IPAddress) -> Message | None:
        """One neighbour entry, None if the kernel has none."""
        message = ndmsg()
        message["family"] = _family(address)
        message["ifindex"] = index
        message["attrs"].append(["NDA_DST", _bare(address)])
        try:
            return await self._get(message, RTM_GETNEIGH)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return None
            raise

    async def use_neighbour(self, index: int, address: IPAddress) -> None:
        """Treat the neighbour as if the kernel had just sent a packet to it (NTF_USE): see neighbour.py."""
        message = ndmsg()
        message["family"] = _family(address)
        message["ifindex"] = index
        message["flags"] = NTF_USE
        message["attrs"].append(["NDA_DST", _bare(address)])
        await self._request(message, RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE)

    async def _get(self, message: Any, kind: int) -> Message:
        answers = await self._request(message, kind, NLM_F_REQUEST)
        if len(answers) != 1:
            raise OSError(errno.EBADMSG, f"the kernel answered rtnetlink request {kind} with {len(answers)} messages")
        return answers[0]

    async def _dump(self, message: Any, kind: int) -> list[Message]:
        for _ in range(_DUMP_ATTEMPTS):
            answers = await self._request(message(), kind, NLM_F_REQUEST | NLM_F_DUMP)
            if not any(answer["header"]["flags"] & NLM_F_DUMP_INTR for answer in answers):
                return answers
        raise OSError(
            errno.EINTR,
            f"the kernel's table changed under {_DUMP_ATTEMPTS} readings in a row (rtnetlink request {kind})",
        )

    async def _request(self, message: Any, kind: int, flags: int) -> list[Message]:
        try:
            async with asyncio.timeout(self._timeout):
                answers = await self._socket.nlm_request(message, msg_type=kind, msg_flags=flags)
                return [answer async for answer in answers]
        except TimeoutError:
            raise TimeoutError(f"no answer from the kernel to rtnetlink request {kind} in {self._timeout} s") from None
        except NetlinkError as error:
            raise OSError(error.code, f"rtnetlink request {kind}: {os.strerror(error.code)}") from None


class Notifications:
    """What the kernel tells everybody: links, addresses, routes, rules, neighbours, next hops.

    Iterate `batches()`; OSError(ENOBUFS) says that some were lost and that this object is spent.
    """

    def __init__(self, receive_buffer: int = 1 << 20) -> None:
        self._socket = AsyncIPRoute(groups=_GROUPS, rcvbuf=receive_buffer)

    async def open(self) -> None:
        await self._socket.bind()
        try:
            self._socket.add_membership(_GROUP_NEXTHOP)
        except OSError as error:  # before Linux 5.3 there are no next-hop objects to hear of
            if error.errno != errno.EINVAL:
                raise

    def close(self) -> None:
        self._socket.close()

    async def batches(self) -> AsyncIterator[list[Message]]:
        while True:
            yield [message async for message in self._socket.get()]


def _route_dump(family: int) -> Any:
    """Ask for the routes of the main table; a kernel before 4.20 sends those of all tables."""
    message = rtmsg()
    message["family"] = family
    message["table"] = _RT_TABLE_MAIN
    return message


def packed_mac(text: str | None) -> bytes:
    """ "02:00:00:00:00:01" as six bytes; no bytes for no address."""
    return bytes.fromhex(text.replace(":", "")) if text else b""
