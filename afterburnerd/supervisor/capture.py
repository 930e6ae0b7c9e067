"""From capture rules of the configuration to exact local addresses: what XDP matches and what a worker looks up.

A rule for "any" becomes one entry for each address of the interface; so only packets to this host itself are ever taken.
Where a rule names the address and another says "any", the named one wins. Pure functions: addresses in, tables out.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from afterburnerd.abi import layout
from afterburnerd.config import Capture
from afterburnerd.net.facts import LocalAddress

Address = IPv4Address | IPv6Address

DECODERS = {
    "raw": layout.Decoder.RAW,
    "solana-tx": layout.Decoder.SOLANA_TX,
    "count": layout.Decoder.COUNT,
    "echo": layout.Decoder.ECHO,
}


class Entry(msgspec.Struct, frozen=True):
    """One exact match: local address, port and VLAN tags of a rule."""

    address: Address
    port: int
    vlans: tuple[int, int]
    rule: int  # index in the configuration
    decoder: layout.Decoder


def mapped(address: Address) -> bytes:
    """16 bytes as the shared layouts want them: IPv4 mapped into IPv6."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def expand(captures: Iterable[Capture], local: Iterable[LocalAddress]) -> tuple[Entry, ...]:
    """All exact matches. Rules of an address that the host does not have (yet) expand to nothing."""
    found: dict[tuple[Address, int, tuple[int, int]], tuple[bool, Entry]] = {}
    for index, capture in enumerate(captures):
        decoder = DECODERS[capture.decoder]
        for here in local:
            if capture.address != "any" and ip_address(capture.address) != here.address:
                continue
            tags = tuple(tag.vid for tag in here.vlans)
            own = (tags[0] if tags else 0, tags[1] if len(tags) > 1 else 0)
            # A rule without a VLAN follows the address to the VLAN device that has it; a rule with one insists.
            vlans = capture.vlans if capture.vlans != (0, 0) else own
            entry = Entry(here.address, capture.port, vlans, index, decoder)
            key = (entry.address, entry.port, entry.vlans)
            named = capture.address != "any"
            if key not in found or (named and not found[key][0]):
                found[key] = (named, entry)
    return tuple(entry for _, entry in found.values())


def unmatched(captures: Iterable[Capture], local: Iterable[LocalAddress]) -> tuple[Capture, ...]:
    """Rules that name an address which the interface does not have."""
    have = {here.address for here in local}
    return tuple(c for c in captures if c.address != "any" and ip_address(c.address) not in have)


def pack(entries: Iterable[Entry]) -> bytes:
    """The worker's table."""
    return b"".join(
        layout.Rule(
            addr=mapped(e.address), port=e.port, vlan_outer=e.vlans[0], vlan_inner=e.vlans[1], rule=e.rule,
            decoder=e.decoder,
        ).pack()
        for e in entries
    )  # fmt: skip


def pack_for_sockets(captures: Iterable[Capture]) -> bytes:
    """The worker's table where sockets receive: what the kernel delivered is matched by port, and by address if named."""
    return b"".join(
        layout.Rule(
            addr=bytes(16) if c.address == "any" else mapped(ip_address(c.address)),
            port=c.port,
            rule=index,
            decoder=DECODERS[c.decoder],
        ).pack()
        for index, c in enumerate(captures)
    )
