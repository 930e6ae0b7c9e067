"""A small network for tests of network facts: two hosts on one wire, and more wires where a test wants them.

    here [ ab0: 192.0.2.1/24, 2001:db8::1/64 ]=====[ peer0: 192.0.2.2/24, 2001:db8::2/64 ] there

Built on tests.netns, which makes the namespaces and removes them. Neighbours are not static here, queues can be changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests import netns

HERE_MAC = bytes.fromhex("020000000001")
THERE_MAC = bytes.fromhex("020000000002")


class Host:
    """One namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def ip(self, command: str) -> str:
        return netns.run("ip", "-n", self.namespace, *command.split())

    def batch(self, *commands: str) -> None:
        """Several ip commands in one process, as fast as the kernel takes them."""
        netns.run(
            "ip",
            "netns",
            "exec",
            self.namespace,
            "sh",
            "-c",
            f"printf '%s\\n' '{chr(10).join(commands)}' | ip -batch -",
        )

    def run(self, command: str) -> str:
        return netns.run("ip", "netns", "exec", self.namespace, *command.split())

    def sysctl(self, key: str, value: object) -> None:
        """Set a key of net."""
        netns.sysctl(self.namespace, f"net/{key}={value}")


class Lan:
    """Both hosts."""

    def __init__(self, here: str, there: str) -> None:
        self.here, self.there = Host(here), Host(there)

    def wire(self, near: str, far: str, prefix4: str, prefix6: str) -> None:
        """A veth pair, addresses ending in 1 here and 2 there. Two queues of four are in use."""
        self.here.ip(
            f"link add {near} address {HERE_MAC.hex(':')} numtxqueues 4 numrxqueues 4 type veth"
            f" peer name {far} address {THERE_MAC.hex(':')} netns {self.there.namespace}"
        )
        self.here.run(f"ethtool -L {near} rx 2 tx 2")
        for host, device, number in ((self.here, near, 1), (self.there, far, 2)):
            host.ip(f"addr add {prefix4}.{number}/24 dev {device}")
            host.ip(f"addr add {prefix6}:{number}/64 dev {device} nodad")
            host.ip(f"link set {device} up")


@contextmanager
def lan() -> Iterator[Lan]:
    """The network, and this thread inside `here`."""
    with netns.pair(addresses=False) as pair, pair.near.entered():
        made = Lan(pair.near.name, pair.far.name)
        made.here.ip(f"link del {pair.near.ifname}")  # ours have names that a test can read
        made.wire("ab0", "peer0", "192.0.2", "2001:db8:")
        yield made
