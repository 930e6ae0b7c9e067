"""Which packets are taken: the rules (`[[capture]]`), and what XDP lets through to the slow path (`[xdp]`)."""

from ipaddress import IPv6Address, ip_address
from typing import Annotated, Literal

from afterburnerd.config.key import NAME, Address, Table, VlanId, key


class Capture(Table, frozen=True):
    """A rule: datagrams to this local address and port are ours, and this is what is done with them."""

    name: Annotated[
        str,
        key(
            "Name of the rule, in metrics and records. Unique.",
            reload="live",
            example='"tpu"',
            shape=NAME,
        ),
    ]
    port: Annotated[
        int,
        key("Local UDP port.", reload="live", example="8001", ge=1, le=65_535),
    ]
    address: Annotated[
        str,
        key(
            'Local address, IPv4 or IPv6, or "any": every address of the device, followed as they change. Where both '
            "match, the rule with the address wins.",
            reload="live",
            why="only packets to the host itself are ever taken, never forwarded or multicast ones",
        ),
    ] = "any"
    vlan: Annotated[
        # Not tuple[VlanId, VlanId]: msgspec 0.22 crashes in the garbage collector on a union of a bounded integer and
        # a tuple of fixed length. check.py sees to the length.
        VlanId | tuple[VlanId, ...],
        key(
            "VLAN of the packets as they arrive: 0 for untagged, an ID, or [outer, inner]. A NIC that strips tags "
            "(ethtool rxvlan) makes them untagged.",
            reload="live",
            why="untagged",
        ),
    ] = 0
    decoder: Annotated[
        Literal["solana-tx", "raw", "count", "echo"],
        key(
            "What is done with the datagrams: `solana-tx` decodes a Solana transaction, `raw` records them as they "
            "are, `count` counts them and nothing else, `echo` sends them back to their sender (for measuring; never "
            "on an open network).",
            reload="live",
            why="transactions are what this daemon is for",
        ),
    ] = "solana-tx"

    @property
    def vlans(self) -> tuple[int, int]:
        """(outer, inner) VLAN IDs, 0 where there is no tag."""
        outer, inner = (self.vlan, 0) if isinstance(self.vlan, int) else self.vlan
        return outer, inner

    @property
    def ip(self) -> Address | None:
        """The address, or None for "any". An IPv4-mapped IPv6 address is the IPv4 address it means."""
        if self.address == "any":
            return None
        ip = ip_address(self.address)
        return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


class Xdp(Table, frozen=True):
    """Protection of the slow path: token buckets in the XDP program, before a packet costs the host anything."""

    initial_rate: Annotated[
        int,
        key(
            "Connection attempts (QUIC Initial and 0-RTT packets on a listening port) admitted a second, from all "
            "sources together. 0: no limit.",
            reload="live",
            unit="packets/second",
            why="several times what the supervisor can shake hands with; above it Retry is on anyway",
            ge=0,
            le=10_000_000,
        ),
    ] = 2_000
    initial_burst: Annotated[
        int,
        key(
            "Connection attempts admitted at once, from all sources together.",
            reload="live",
            unit="packets",
            why="a cluster's validators reconnecting together after a restart",
            ge=1,
            le=10_000_000,
        ),
    ] = 4_000
    source_rate: Annotated[
        int,
        key(
            "Connection attempts admitted a second from one source (IPv4 address or IPv6 /64). 0: no limit.",
            reload="live",
            unit="packets/second",
            why="an honest peer needs two or three packets a handshake",
            ge=0,
            le=10_000_000,
        ),
    ] = 50
    source_burst: Annotated[
        int,
        key(
            "Connection attempts admitted at once from one source.",
            reload="live",
            unit="packets",
            why="a peer that opens its eight connections together, with repeats",
            ge=1,
            le=10_000_000,
        ),
    ] = 100
    short_rate: Annotated[
        int,
        key(
            "Packets of unknown connections (short header) that reach the supervisor a second. 0: no limit.",
            reload="live",
            unit="packets/second",
            why="strays deserve a stateless reset, floods of them do not",
            ge=0,
            le=10_000_000,
        ),
    ] = 1_000
    short_burst: Annotated[
        int,
        key(
            "Packets of unknown connections that reach the supervisor at once.",
            reload="live",
            unit="packets",
            why="the peers of a restarted daemon all send at once",
            ge=1,
            le=10_000_000,
        ),
    ] = 2_000
    max_cids: Annotated[
        int,
        key(
            "Size of the table of local connection IDs. Each connection has up to eight, and retired ones stay for "
            "three probe timeouts.",
            reload="restart",
            unit="entries",
            why="some eight thousand connections",
            ge=256,
            le=16_777_216,
        ),
    ] = 65_536
