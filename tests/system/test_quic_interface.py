"""What happens to the interface under QUIC on AF_XDP: connections go on, or end with a reason and are dialled again; nothing is lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afterburnerd.abi import control
from tests import netns
from tests.interop.ours import Ours
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


# --- in mid-transfer -----------------------------------------------------------------------------------------------------

FAMILIES = {4: ("", ""), 6: ("fd77:2::2", "fd77:1::2")}  # addresses of server and client; none: their IPv4
LARGE = 20_000  # bytes: full packets


def give_ipv6(both: Two) -> None:
    """To all three namespaces, as the rig has IPv4."""
    way = both.way
    netns.sysctl(way.ports[0].name, "net.ipv6.conf.all.forwarding=1")
    for net, host, port in ((1, way.client, way.ports[0]), (2, way.server, way.ports[1])):
        for end, last in ((host, 2), (port, 1)):
            of_it = f"net.ipv6.conf.{end.ifname}"
            # A link-local address is what neighbours are asked for from.
            netns.sysctl(
                end.name, f"{of_it}.addr_gen_mode=0", f"{of_it}.disable_ipv6=0", f"{of_it}.keep_addr_on_down=1"
            )
            ip(end.name, "link", "set", "dev", end.ifname, "multicast", "on")
            ip(end.name, "addr", "add", f"fd77:{net}::{last}/64", "dev", end.ifname, "nodad")
    for end in both.ends:
        end.daemon.wait(
            lambda end=end: any(one.address.startswith("fd77:") for one in listeners(end)), "IPv6 listeners"
        )
    give_routes(both)


def listeners(end: Ours) -> tuple[control.ListenerStatus, ...]:
    with end.daemon.client() as asked:
        return asked.ask(control.ConnectionsRequest(), control.Connections).listeners


def give_routes(both: Two) -> None:
    """The kernel forgets them with the link."""
    for net, host in ((1, both.way.client), (2, both.way.server)):
        ip(host.name, "route", "replace", "default", "via", f"10.77.{net}.1")
        if "fd77" in netns.run("ip", "-n", host.name, "-6", "addr", "show", "dev", host.ifname):
            ip(host.name, "-6", "route", "replace", "default", "via", f"fd77:{net}::1")


@pytest.fixture(scope="module")
def dual(both: Two) -> Two:
    give_ipv6(both)
    return both


def link_down_and_up(both: Two, run: Run, size: int = routed.SMALL) -> None:
    """Of the client's interface; the queues are bound anew, by the same worker or, where its memory cannot be had, by another."""
    client = both.way.client
    run.send(50, size)
    ip(client.name, "link", "set", "dev", client.ifname, "down")
    run.send(50, size)
    both.ends[0].daemon.wait(lambda: both.ends[0].daemon.state() == "degraded", "it to be noticed")
    began = time.monotonic()
    ip(client.name, "link", "set", "dev", client.ifname, "up")
    give_routes(both)
    run.send(50, size)
    # Before anything is looked at or closed: a CONNECTION_CLOSE is sent once, and would be lost while queues are bound anew.
    daemon = both.ends[0].daemon
    daemon.wait(
        lambda: daemon.log().count(" is up\n") == daemon.log().count(" went down:") and daemon.state() == "serving",
        "the queues to be bound",
    )
    settled_soon(run, began, lambda: run.settle_anew(size))


def bindings(both: Two) -> int:
    """How often the client's queue was bound anew, by the same worker or by another."""
    daemon = both.ends[0].daemon
    return daemon.value("daemon", "rebinds") + daemon.value("daemon", "restart_config")


def plane_killed(both: Two, run: Run, victim: int) -> None:
    """What was not acknowledged goes again on the next connection."""
    call = run.calls[TO_SERVER]
    first = call.status().number
    run.send(300)
    began = time.monotonic()
    both.ends[victim].kill_plane(meanwhile=lambda: run.send(100))
    call.wait_open(after=first)
    took = time.monotonic() - began
    run.send(50)
    settled_soon(run, began, run.settle_anew)
    halves_go(both, run)
    print(f"worker of end {victim} killed in mid-transfer: open again after {took * 1000:.0f} ms")


def halves_go(both: Two, run: Run) -> None:
    """A server that nobody tells keeps its half until its idle timeout: its client's first connection ID has no reset token."""
    for end in both.ends:
        mine = {call.status().number for call in run.calls.values() if call.ours is end}
        theirs = [c.number for c in end.connections() if c.number not in mine]
        with end.daemon.client() as asked:
            for number in sorted(theirs)[:-1]:
                with contextlib.suppress(control.ControlError):  # it has ended a moment ago
                    asked.ask(control.CloseRequest(connection=str(number)), control.Accepted)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_link_goes_down_and_up_in_mid_transfer(dual: Two, family: int) -> None:
    with dual.run(SEED, addresses=FAMILIES[family]) as run:
        link_down_and_up(dual, run)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mtu_changes_in_mid_transfer(dual: Two, family: int) -> None:
    """Of the client's interface, down and up again: full packets follow it."""
    client, daemon = dual.way.client, dual.ends[0].daemon
    try:
        with dual.run(SEED, addresses=FAMILIES[family]) as run:
            for mtu in (1400, 1500):
                run.send(20, LARGE)
                before, began = bindings(dual), time.monotonic()
                ip(client.name, "link", "set", "dev", client.ifname, "mtu", str(mtu))
                run.send(20, LARGE)
                daemon.wait(lambda before=before: bindings(dual) > before and daemon.state() == "serving", "new queues")
                settled_soon(run, began, lambda: run.settle_anew(LARGE))
    finally:
        ip(client.name, "link", "set", "dev", client.ifname, "mtu", "1500")


@pytest.mark.parametrize("victim", [0, 1], ids=["client", "server"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_data_plane_is_killed_in_mid_transfer(dual: Two, family: int, victim: int) -> None:
    with dual.run(SEED, addresses=FAMILIES[family]) as run:
        plane_killed(dual, run, victim)


def test_in_generic_mode(tmp_path: Path) -> None:
    with routed.two(tmp_path, mode="generic", memory=MEMORY) as both:
        with both.run(SEED) as run:
            link_down_and_up(both, run)
        with both.run(SEED) as run:
            plane_killed(both, run, 0)
