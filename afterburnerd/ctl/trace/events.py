"""What is told of: the record that trace.c writes, made into words.

Actions, errnos and drop reasons come as numbers. The kernel names its reasons itself, in tracefs; numbers change from
version to version, so there is no table of them here.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import struct
from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct

KINDS = {1: "xdp_exception", 2: "xdp_redirect_err", 3: "xdp_devmap_xmit", 4: "kfree_skb"}
ACTIONS = ("aborted", "drop", "pass", "tx", "redirect")  # enum xdp_action, linux/bpf.h
RECORD = struct.Struct("<QQIiIiIiiIIIHHHH16s16s")  # struct event in trace.c

# Why a frame could not be given to an AF_XDP socket (net/xdp/xsk.c): xsk_rcv_check, __xsk_rcv, and the drivers' counterparts.
REDIRECT_HINTS = {
    "ENOBUFS": "its RX ring is full: the worker is behind, or stands still",
    "ENOMEM": "no free frame: its FILL ring is empty (more memory.frames for bursts)",
    "ENOSPC": "longer than a frame of packet memory (interface.jumbo, memory.frame_size)",
    "ENXIO": "the socket is not bound",
    "EINVAL": "the socket is another queue's or device's, or the redirect makes no sense",
    "ENETDOWN": "the target device is down",
}


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that the kernel told."""

    time_ns: int  # CLOCK_REALTIME
    event: str  # name of the tracepoint
    interface: str = ""  # where the frame came in
    ifindex: int = 0
    action: str = ""
    error: str = ""  # name of the errno
    program: int = 0  # ID of the XDP program
    to: str = ""  # interface that it was redirected to
    map: int = 0  # ID of the map that it was redirected by
    index: int | None = None  # entry of that map: the queue, for AF_XDP sockets
    drops: int = 0  # frames
    reason: str = ""  # of a dropped datagram, in the kernel's words
    location: str = ""  # function of the kernel that dropped it
    source: str = ""
    destination: str = ""
    hint: str = ""


class Names(Struct, frozen=True):
    """How numbers become names."""

    interface: Callable[[int], str]
    symbol: Callable[[int], str]
    reasons: Mapping[int, str]
    offset_ns: int = 0  # CLOCK_REALTIME - CLOCK_MONOTONIC


def reasons_of(format_: str) -> dict[int, str]:
    """Drop reasons, from the `format` file of skb:kfree_skb."""
    return {int(number): name for number, name in re.findall(r"\{ (\d+), \"(\w+)\" \}", format_)}


def decode(data: bytes, names: Names) -> Event:
    (
        time_ns, location, kind, ifindex, action, error, reason, program, to, map_, index, drops, family, sport, dport,
        _, source, destination,
    ) = RECORD.unpack_from(data)  # fmt: skip
    event = KINDS.get(kind, str(kind))
    failed = errno.errorcode.get(-error, str(error)) if error else ""
    datagram = event == "kfree_skb"
    redirect = event == "xdp_redirect_err"
    return Event(
        time_ns=time_ns + names.offset_ns,
        event=event,
        interface=names.interface(ifindex) if ifindex else "",
        ifindex=ifindex,
        action="" if datagram else ACTIONS[action] if action < len(ACTIONS) else str(action),
        error=failed,
        program=program,
        to=names.interface(to) if to else "",
        map=map_,
        index=index if redirect and map_ else None,
        drops=drops,
        reason=names.reasons.get(reason, str(reason) if reason else "") if datagram else "",
        location=names.symbol(location) if location else "",
        source=_endpoint(family, source, sport),
        destination=_endpoint(family, destination, dport),
        hint=REDIRECT_HINTS.get(failed, "") if redirect and not to else "",
    )


def line(event: Event) -> str:
    """For a person: time, event, interface, and what there is to say."""
    when = datetime.fromtimestamp(event.time_ns / 1e9).strftime("%H:%M:%S.%f")
    return f"{when}  {event.event:<16}  {event.interface or '-':<15}  {text(event)}"


def text(event: Event) -> str:
    match event.event:
        case "xdp_exception":
            return f"program {event.program} answered {event.action}, and the frame was given up"
        case "xdp_redirect_err":
            whom = f"entry {event.index} of map {event.map}" if event.index is not None else event.to or "nowhere"
            return f"not redirected to {whom}: {_error(event)}" + (f"; {event.hint}" if event.hint else "")
        case "xdp_devmap_xmit":
            return f"{event.drops} not sent on {event.to or '?'}" + (f": {_error(event)}" if event.error else "")
        case _:
            where = f" in {event.location}" if event.location else ""
            return f"{event.source} > {event.destination} dropped: {event.reason or 'no reason told'}{where}"


def _error(event: Event) -> str:
    number = getattr(errno, event.error, 0)
    return f"{event.error} ({os.strerror(number)})" if number else event.error or "no error told"


def _endpoint(family: int, address: bytes, port: int) -> str:
    if family == 4:
        return f"{ipaddress.IPv4Address(address[:4])}:{port}"
    return f"[{ipaddress.IPv6Address(address)}]:{port}" if family == 6 else ""
