"""Neighbours: the MAC address of a next hop, and how it is kept fresh.

The kernel's entry for a neighbour is a small machine (linux/neighbour.h, RFC 4861 7.3.2):

    (none) ─use─► INCOMPLETE ─answer─► REACHABLE ─15..45 s unconfirmed─► STALE ─use─► DELAY ─5 s─► PROBE ─answer─► REACHABLE
                      └─3 s, nobody─► FAILED ◄────────────────────── 3 s, nobody ──────────────────┘

What moves it on is a packet that the kernel sends. AF_XDP's packets pass the kernel by, so left alone an entry would stay
STALE for ever (or be collected), and a gateway that changed its MAC would take our packets with it. Somebody must `use`
it. The ways to do that, and why it is NTF_USE:

  NTF_USE in RTM_NEWNEIGH   does exactly what sending a packet does (neigh_event_send), without a packet. It starts
                            resolution where there is none, and confirmation where it is stale. Nothing of it stays in
                            the kernel. Needs CAP_NET_ADMIN, which whoever attaches XDP programs has.       ◄─ chosen
  NTF_EXT_MANAGED (5.16)    has the kernel keep the entry fresh by itself, every 5 s, and for ever: the flag outlives a
                            killed daemon, and the host goes on asking for a neighbour that nobody wants.
  state NUD_PROBE           confirms an entry that has a MAC, at once; it cannot start a resolution.
  a datagram to discard/UDP is traffic that firewalls and intrusion detection of others see, and the stack decides on
                            source and route of it anew.

When to use it follows from the state (`next_step`): at once when there is no entry or a stale one; again with growing
pauses while nobody answers; never while the kernel is at it. The kernel reports STALE, REACHABLE, FAILED and removal to
the neighbour group, so the clock below is only a safety net. Static entries (PERMANENT, NOARP) are nobody's to refresh.
A MAC with the group bit (broadcast and multicast) or of zeros is never used, whatever the entry says.
"""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from afterburnerd.net.facts import Neighbour, Reason
from afterburnerd.net.rtnl import RTM_DELNEIGH, Message, message_type, packed_mac

NUD_NONE = 0x00
NUD_INCOMPLETE = 0x01
NUD_REACHABLE = 0x02
NUD_STALE = 0x04
NUD_DELAY = 0x08
NUD_PROBE = 0x10
NUD_FAILED = 0x20
NUD_NOARP = 0x40
NUD_PERMANENT = 0x80

_STATIC = NUD_NOARP | NUD_PERMANENT
_VALID = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | _STATIC

# How long to rely on a notification before looking for oneself, seconds. An entry stays REACHABLE for at most 45 s with the
# kernel's default base_reachable_time of 30 s, and is five seconds in DELAY and three in PROBE.
CHECK_REACHABLE = 60.0
CHECK_WORKING = 10.0
# Pauses between attempts at a neighbour that does not answer; each attempt is three broadcasts by the kernel, in three seconds.
RETRY_FIRST, RETRY_LAST = 1.0, 30.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about a neighbour in some state."""

    use: bool  # tell the kernel that it is being used
    look_in: float | None  # seconds until its state should be read again, should nothing be heard; None: never


def next_step(neighbour: Neighbour | None, failures: int = 0, *, paused: bool = False) -> Step:
    """What to do about a neighbour that we use and that failed to answer `failures` times in a row.

    Asked when its state was heard to change, and again, with `paused`, when the time to `look_in` has come.
    """
    state = neighbour.state if neighbour is not None else NUD_NONE
    if state & _STATIC:
        return Step(use=False, look_in=None)
    if state & NUD_FAILED or (state == NUD_NONE and failures):
        # The first failure may be that of a unicast probe to a MAC that has changed: ask everybody, at once.
        pause = min(RETRY_FIRST * 2 ** max(0, failures - 2), RETRY_LAST)
        return Step(
            use=paused or failures == 1, look_in=max(pause, CHECK_WORKING) if paused or failures == 1 else pause
        )
    if state & (NUD_INCOMPLETE | NUD_DELAY | NUD_PROBE):
        return Step(use=False, look_in=CHECK_WORKING)
    if state & NUD_REACHABLE:
        return Step(use=False, look_in=CHECK_REACHABLE)
    return Step(use=True, look_in=CHECK_WORKING)


def reason(neighbour: Neighbour | None) -> Reason | None:
    """Why no frame can be sent to the neighbour; None if one can."""
    if neighbour is None or neighbour.state in (NUD_NONE, NUD_INCOMPLETE):
        return Reason.NEIGHBOUR_PENDING
    if neighbour.state & NUD_FAILED:
        return Reason.NEIGHBOUR_FAILED
    if not neighbour.state & _VALID or not is_unicast(neighbour.mac):
        return Reason.NEIGHBOUR_UNUSABLE
    return None


def is_unicast(mac: bytes) -> bool:
    """Whether a frame may be sent to this MAC: six bytes, not all zero, without the group bit."""
    return len(mac) == 6 and any(mac) and not mac[0] & 1


def parse_neighbour(message: Message) -> Neighbour | None:
    """The entry that a RTM_NEWNEIGH or RTM_DELNEIGH speaks of (state NONE in the latter); None: not of IPv4 or IPv6."""
    text = message.get_attr("NDA_DST")
    if message["family"] not in (2, 10) or text is None:  # bridges report their forwarding tables here, too
        return None
    gone = message_type(message) == RTM_DELNEIGH
    return Neighbour(
        index=message["ifindex"],
        address=ip_address(text),
        mac=b"" if gone else packed_mac(message.get_attr("NDA_LLADDR")),
        state=NUD_NONE if gone else message["state"],
    )
