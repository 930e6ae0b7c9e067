"""What a device can do with XDP, by the kernel's own word: the "netdev" netlink family (Linux 6.3).

A hint for people and for messages, never for decisions: whether zero-copy works is found out by trying to bind (a driver
can advertise it and refuse for this ring size or that many queues). `afterburnerctl doctor` shows it.
"""

from __future__ import annotations

import errno

import msgspec

from afterburnerd.net import rtnl  # noqa: F401  (prepares the import of pyroute2; see there)

from pyroute2.netlink import NLM_F_REQUEST, genlmsg  # isort: skip
from pyroute2.netlink.exceptions import NetlinkError  # isort: skip
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket  # isort: skip

_DEV_GET = 1  # linux/netdev.h, NETDEV_CMD_DEV_GET
_BASIC, _REDIRECT, _TRANSMIT, _ZERO_COPY, _FRAGMENTS = 0x01, 0x02, 0x04, 0x08, 0x20  # enum netdev_xdp_act


class XdpFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """enum netdev_xdp_act, as far as it concerns AF_XDP."""

    native: bool  # programs run in the driver, and may redirect into sockets
    transmit: bool  # programs of other devices may redirect frames to it (AF_XDP does not need that)
    zero_copy: bool
    fragments: bool  # packets larger than one buffer reach the program
    zero_copy_fragments: int  # most buffers of one zero-copy packet; 1: no fragments there


class _Device(genlmsg):  # type: ignore[misc]
    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
        ("NETDEV_A_DEV_XDP_ZC_MAX_SEGS", "uint32"),
    )


async def xdp_features(index: int) -> XdpFeatures | None:
    """The features of a device of this network namespace; None where the kernel does not tell."""
    socket = AsyncGenericNetlinkSocket()
    socket.module_err_level = "debug"
    try:
        await socket.bind("netdev", _Device)
        request = _Device()
        request["cmd"], request["version"] = _DEV_GET, 1
        request["attrs"].append(["NETDEV_A_DEV_IFINDEX", index])
        answers = await socket.nlm_request(request, msg_type=socket.prid, msg_flags=NLM_F_REQUEST)
        (answer,) = [message async for message in answers]
    except NetlinkError as error:
        if error.code in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise
    finally:
        socket.close()
    bits = answer.get_attr("NETDEV_A_DEV_XDP_FEATURES") or 0
    return XdpFeatures(
        native=bits & (_BASIC | _REDIRECT) == _BASIC | _REDIRECT,
        transmit=bool(bits & _TRANSMIT),
        zero_copy=bool(bits & _ZERO_COPY),
        fragments=bool(bits & _FRAGMENTS),
        zero_copy_fragments=answer.get_attr("NETDEV_A_DEV_XDP_ZC_MAX_SEGS") or 1,
    )
