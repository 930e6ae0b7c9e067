"""What happens to the interface under QUIC on AF_XDP: connections go on, or end with a reason and are dialled again; nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import netns
from tests.system import routed
from tests.system.routed import Run, Two
from tests.system.router import TO_SERVER

pytestmark = [pytest.mark.privileged, pytest.mark.bpf, pytest.mark.timeout(300)]

SEED = 20_251_121
SOON = 20.0  # seconds: below the idle timeout of 30 s, far above what is needed


# A sealed worker's queue that is bound anew counts against the limit of locked memory of its user, 8 MiB on many machines, together
# with that of the other daemon; where it does not fit, the worker is replaced, and its connections with it.
MEMORY = "frames = 512\nring = 512"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with routed.two(tmp_path_factory.mktemp("interface"), memory=MEMORY) as made:
        yield made


def ip(namespace: str, *words: str) -> None:
    netns.run("ip", "-n", namespace, *words)


def settled_soon(run: Run, began: float, settle: Callable[[], None]) -> None:
    """Without waiting for an idle timeout."""
    settle()
    assert (took := time.monotonic() - began) < SOON, f"it took {took:.1f} s\n{run.both.ends[0].daemon.log()}"


def same(run: Run, first: list[int]) -> None:
    """No connection was lost over it."""
    assert numbers(run) == first, "".join(end.daemon.log()[-3000:] for end in run.both.ends)


def numbers(run: Run) -> list[int]:
    return [call.status().number for call in run.calls.values()]


def test_the_next_hop_has_another_mac(both: Two) -> None:
    """A gateway is replaced, and says so."""
    port = both.way.ports[0]
    netns.sysctl(port.name, f"net.ipv4.conf.{port.ifname}.arp_notify=1")
    with both.run(SEED) as run:
        first = numbers(run)
        for last in (b"\x0a", port.mac[-1:]):
            run.send(50)
            began = time.monotonic()
            ip(port.name, "link", "set", "dev", port.ifname, "address", (port.mac[:-1] + last).hex(":"))
            run.send(50)
            settled_soon(run, began, run.settle_anew)
        same(run, first)


def test_the_route_leads_to_another_gateway(both: Two) -> None:
    """On the same interface: packets go to its MAC, and to no other."""
    port, client = both.way.ports[0], both.way.client
    netns.sysctl(port.name, f"net.ipv4.conf.{port.ifname}.arp_ignore=1")  # or it would answer for the other one as well
    ip(port.name, "link", "add", "other", "link", port.ifname, "type", "macvlan", "mode", "bridge")
    ip(port.name, "addr", "add", "10.77.1.9/24", "dev", "other")
    ip(port.name, "link", "set", "dev", "other", "up")
    try:
        with both.run(SEED, directions=(TO_SERVER,)) as run:
            first = numbers(run)
            run.send(50)
            began = time.monotonic()
            ip(client.name, "route", "replace", "default", "via", "10.77.1.9")
            run.send(50)
            settled_soon(run, began, run.settle_anew)
            sends_until(run, lambda: received(port.name, "other") > 10)
            same(run, first)
    finally:
        ip(client.name, "route", "replace", "default", "via", "10.77.1.1")
        ip(port.name, "link", "del", "other")


def sends_until(run: Run, there: Callable[[], bool]) -> None:
    """The change is known to the daemon a moment after it was made; messages go on meanwhile."""
    deadline = time.monotonic() + SOON
    while not there():
        assert time.monotonic() < deadline, "".join(end.daemon.log()[-3000:] for end in run.both.ends)
        run.send(10)
        run.settle_anew()


def received(namespace: str, ifname: str) -> int:
    return int(netns.run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{ifname}/statistics/rx_packets"))


def test_the_route_leads_through_another_interface(tmp_path: Path) -> None:
    """One that is not ours: the connection goes on by a socket."""
    with routed.two(tmp_path, memory=MEMORY) as both:
        port, client = both.way.ports[0], both.way.client
        ip(client.name, "link", "add", "spare", "type", "veth", "peer", "name", "spare", "netns", port.name)
        for namespace, last in ((client.name, 2), (port.name, 1)):
            ip(namespace, "addr", "add", f"10.77.3.{last}/24", "dev", "spare")
            ip(namespace, "link", "set", "dev", "spare", "up")
        with both.run(SEED, directions=(TO_SERVER,)) as run:
            first = numbers(run)
            run.send(50)
            began = time.monotonic()
            ip(port.name, "route", "add", f"{client.ipv4}/32", "via", "10.77.3.2")
            ip(client.name, "route", "replace", "default", "via", "10.77.3.1", "src", client.ipv4)
            run.send(50)
            settled_soon(run, began, run.settle_anew)
            sends_until(run, lambda: run.calls[TO_SERVER].status().io == "socket")
            before = received(port.name, "spare")
            sends_until(run, lambda: received(port.name, "spare") > before)
            same(run, first)


def test_the_address_of_a_dial_goes(tmp_path: Path) -> None:
    """The connection has lost its ground; the next one comes from an address that is there."""
    with routed.two(tmp_path, memory=MEMORY) as both:
        client = both.way.client
        with both.run(SEED, directions=(TO_SERVER,)) as run:
            run.send(50)
            began = time.monotonic()
            ip(client.name, "addr", "del", f"{client.ipv4}/24", "dev", client.ifname)
            ip(client.name, "addr", "add", "10.77.1.22/24", "dev", client.ifname)
            ip(client.name, "route", "replace", "default", "via", "10.77.1.1")
            run.send(50)
            settled_soon(run, began, run.settle_anew)
            sends_until(run, lambda: run.calls[TO_SERVER].status().local == "10.77.1.22")


def test_the_address_of_a_listener_goes_and_comes_back(both: Two) -> None:
    """Its clients are told, and dial until it is there again."""
    server = both.way.server
    with both.run(SEED, directions=(TO_SERVER,)) as run:
        first = numbers(run)
        run.send(50)
        ip(server.name, "addr", "del", f"{server.ipv4}/24", "dev", server.ifname)
        run.calls[TO_SERVER].ours.daemon.wait(lambda: numbers(run) != first, "the end of the connection", SOON)
        run.send(50)
        began = time.monotonic()
        ip(server.name, "addr", "add", f"{server.ipv4}/24", "dev", server.ifname)
        ip(server.name, "route", "replace", "default", "via", "10.77.2.1")
        settled_soon(run, began, run.settle_anew)
