"""The watcher's facts follow a real kernel: links, queues, addresses, routes and neighbours, in network namespaces.

Every test waits for a condition with a generous bound, never for a time to pass.
"""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from afterburnerd.net.facts import (
    AddressesChanged,
    Event,
    LinkBack,
    LinkChanged,
    LinkGone,
    NeighbourChanged,
    Queues,
    QueuesChanged,
    Reason,
    RouteChanged,
)
from afterburnerd.net.watch import Watcher, watch
from tests.net.rig import THERE_MAC, Lan, lan
from tests.waiting import BOUND, eventually

pytestmark = pytest.mark.privileged

THERE = ip_address("192.0.2.2")
THERE_6 = ip_address("2001:db8::2")


@pytest.fixture
def network() -> Iterator[Lan]:
    with lan() as made:
        yield made


class Recorder:
    """A watcher and every event since it began."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.events: list[Event] = []
        self._more = asyncio.Event()

    async def record(self) -> None:
        async for event in self.watcher.events():
            self.events.append(event)
            self._more.set()

    async def expect(self, kind: Any, condition: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first event of the kind that meets the condition, waited for."""
        looked = 0
        async with asyncio.timeout(BOUND):
            while True:
                for event in self.events[looked:]:
                    looked += 1
                    if isinstance(event, kind) and condition(event):
                        return event
                self._more.clear()
                await self._more.wait()

    def forget(self) -> None:
        self.events.clear()


@asynccontextmanager
async def recording(interface: str = "ab0", **options: Any) -> AsyncIterator[Recorder]:
    async with watch(interface, **options) as watcher:
        recorder = Recorder(watcher)
        task = asyncio.create_task(recorder.record())
        try:
            yield recorder
        finally:
            task.cancel()


async def quiet(recorder: Recorder) -> None:
    """Until the kernel has done all it does by itself after a link came up; link-local addresses are the last."""

    def settled() -> bool:
        return any(a.scope == "link" and a.index != 1 and not a.tentative for a in recorder.watcher.facts.addresses)

    await eventually(settled, "a link-local address")
    recorder.forget()


def usable(event: RouteChanged | NeighbourChanged) -> bool:
    return event.new.usable


async def test_the_first_facts_are_whole(network: Lan) -> None:
    async with watch("ab0") as watcher:
        link = watcher.facts.link
        assert link is not None
        assert (link.name, link.mac.hex(), link.mtu, link.up, link.carrier) == ("ab0", "020000000001", 1500, True, True)
        assert (link.kind, link.driver, link.peer_mtu) == ("veth", "veth", 1500)
        assert link.queues == Queues(rx=2, tx=2, max_rx=4, max_tx=4)
        local = {str(entry.address) for entry in watcher.facts.local_addresses()}
        assert {"192.0.2.1", "2001:db8::1"} <= local and "127.0.0.1" not in local
        assert watcher.facts.is_local(ip_address("127.0.0.1"))


async def test_link_down_and_up(network: Lan) -> None:
    async with recording() as recorder:
        network.here.ip("link set ab0 down")
        event = await recorder.expect(LinkChanged, lambda e: not e.new.up)
        assert not event.new.carrier and {"up", "carrier", "restarts"} <= event.fields
        network.here.ip("link set ab0 up")
        event = await recorder.expect(LinkChanged, lambda e: e.new.usable)
        assert event.new.restarts >= 2


async def test_carrier_loss_at_the_far_end(network: Lan) -> None:
    async with recording() as recorder:
        network.there.ip("link set peer0 down")
        event = await recorder.expect(LinkChanged, lambda e: not e.new.carrier)
        assert event.new.up and not event.new.usable


async def test_mtu_change_reaches_link_and_paths(network: Lan) -> None:
    async with recording() as recorder:
        assert (await recorder.watcher.follow(THERE)).mtu == 1500
        network.here.ip("link set ab0 mtu 1400")
        assert (await recorder.expect(LinkChanged, lambda e: "mtu" in e.fields)).new.mtu == 1400
        assert (await recorder.expect(RouteChanged)).new.mtu == 1400


async def test_addresses_added_and_removed(network: Lan) -> None:
    async with recording() as recorder:
        network.here.ip("addr add 198.51.100.7/24 dev ab0")
        event = await recorder.expect(
            AddressesChanged, lambda e: any(str(a.address) == "198.51.100.7" for a in e.added)
        )
        assert "198.51.100.7" in {str(entry.address) for entry in event.local}
        network.here.ip("addr del 198.51.100.7/24 dev ab0")
        event = await recorder.expect(
            AddressesChanged, lambda e: any(str(a.address) == "198.51.100.7" for a in e.removed)
        )
        assert "198.51.100.7" not in {str(entry.address) for entry in event.local}


async def test_queue_count_change_by_the_monitor(network: Lan) -> None:
    network.here.ip("link set ab0 down")  # or veth drops and regains carrier for it, and the link's event would do
    async with recording() as recorder:
        network.here.run("ethtool -L ab0 rx 1 tx 1")
        await recorder.expect(QueuesChanged)  # perhaps read when the group was joined; the next one is heard
        network.here.run("ethtool -L ab0 rx 3")
        event = await recorder.expect(QueuesChanged, lambda e: e.new.queues.rx == 3)
        assert (event.old.queues, event.new.queues) == (
            Queues(rx=1, tx=1, max_rx=4, max_tx=4),
            Queues(rx=3, tx=1, max_rx=4, max_tx=4),
        )


async def test_queue_count_change_by_looking(network: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel without ethtool's netlink family."""

    async def absent(_: object) -> bool:
        return False

    network.here.ip("link set ab0 down")  # as above
    monkeypatch.setattr("afterburnerd.net.watch.QueueNotifications.open", absent)
    async with recording(poll=0.1) as recorder:
        network.here.run("ethtool -L ab0 rx 4")
        assert (await recorder.expect(QueuesChanged)).new.queues == Queues(rx=4, tx=2, max_rx=4, max_tx=4)


async def test_device_deleted_and_created_again(network: Lan) -> None:
    async with recording() as recorder:
        await recorder.watcher.follow(THERE)
        network.here.ip("link del ab0")
        gone = await recorder.expect(LinkGone)
        lost = await recorder.expect(RouteChanged)
        assert lost.new.reason is Reason.NO_ROUTE and recorder.watcher.facts.link is None
        assert recorder.watcher.facts.local_addresses() == ()
        recorder.forget()
        network.here.ip("link add other type veth peer name ab9")  # takes the next indices
        network.wire("ab0", "peer0", "192.0.2", "2001:db8:")
        back = await recorder.expect(LinkBack)
        assert back.link.index != gone.link.index
        assert (await recorder.expect(RouteChanged | NeighbourChanged, usable)).new.mac == THERE_MAC


async def test_a_renamed_device_is_gone(network: Lan) -> None:
    async with recording() as recorder:
        network.here.ip("link set ab0 down")
        network.here.ip("link set ab0 name elsewhere")
        await recorder.expect(LinkGone)
        network.here.ip("link set elsewhere name ab0")
        await recorder.expect(LinkBack)


async def test_an_interface_that_comes_later(network: Lan) -> None:
    async with recording("later") as recorder:
        assert recorder.watcher.facts.link is None
        network.here.ip("link set ab0 down")
        network.here.ip("link set ab0 name later")
        assert (await recorder.expect(LinkBack)).link.driver == "veth"


@pytest.mark.parametrize(("target", "source"), [(THERE, "192.0.2.1"), (THERE_6, "2001:db8::1")], ids=["ipv4", "ipv6"])
async def test_a_neighbour_is_resolved(network: Lan, target: Any, source: str) -> None:
    async with watch("ab0") as watcher:
        path = await watcher.resolve(target)
    assert path.usable, path
    assert (path.mac, path.source_mac.hex(), str(path.source), path.mtu) == (THERE_MAC, "020000000001", source, 1500)


async def test_a_link_local_next_hop(network: Lan) -> None:
    network.there.ip("addr add fe80::2/64 dev peer0 nodad")
    network.here.ip("route add 2001:db8:ffff::/48 via fe80::2 dev ab0")
    network.here.ip("route add 203.0.113.0/24 via inet6 fe80::2 dev ab0")
    async with watch("ab0") as watcher:
        for target in ("2001:db8:ffff::1", "203.0.113.5"):
            path = await watcher.resolve(target)
            assert path.usable, path
            assert (path.next_hop, path.mac) == (ip_address("fe80::2"), THERE_MAC)
        path = await watcher.resolve("fe80::2")
        assert path.usable and path.mac == THERE_MAC


async def test_nobody_there_is_a_reason_and_a_latecomer_is_noticed(network: Lan) -> None:
    async with recording() as recorder:
        path = await recorder.watcher.follow("192.0.2.77", wait=BOUND)
        assert path.reason is Reason.NEIGHBOUR_FAILED and path.mac == b""
        network.there.ip("addr add 192.0.2.77/24 dev peer0")
        assert (await recorder.expect(NeighbourChanged, usable)).new.mac == THERE_MAC


async def test_what_cannot_be_reached_through_the_rings_has_its_reason(network: Lan) -> None:
    network.wire("ab1", "peer1", "198.51.100", "2001:db8:1:")
    network.here.ip("route add blackhole 10.1.0.0/16")
    network.here.ip("route add unreachable 10.2.0.0/16")
    network.here.ip("route add prohibit 10.3.0.0/16")
    network.here.ip("-6 route add blackhole fd01::/16")
    network.here.ip("-6 route add unreachable fd02::/16")
    network.here.ip("-6 route add prohibit fd03::/16")
    network.here.ip("tuntap add mode tun name tun0")
    network.here.ip("link set tun0 up")
    network.here.ip("route add 10.4.0.0/16 dev tun0")
    expected = {
        "10.1.0.1": Reason.BLACKHOLE,
        "10.2.0.1": Reason.UNREACHABLE,
        "10.3.0.1": Reason.PROHIBITED,
        "10.4.0.1": Reason.TUNNEL,
        "10.5.0.1": Reason.NO_ROUTE,
        "fd01::1": Reason.BLACKHOLE,
        "fd02::1": Reason.UNREACHABLE,
        "fd03::1": Reason.PROHIBITED,
        "fd05::1": Reason.NO_ROUTE,
        "192.0.2.1": Reason.LOCAL,
        "127.0.0.1": Reason.LOCAL,
        "::1": Reason.LOCAL,
        "2001:db8::1": Reason.LOCAL,
        "198.51.100.2": Reason.OTHER_DEVICE,
        "2001:db8:1::2": Reason.OTHER_DEVICE,
        "192.0.2.255": Reason.MULTICAST,
        "255.255.255.255": Reason.MULTICAST,
        "224.0.0.1": Reason.MULTICAST,
        "ff02::1": Reason.MULTICAST,
        "0.0.0.0": Reason.MULTICAST,
        "::": Reason.MULTICAST,
    }
    async with watch("ab0") as watcher:
        assert {target: (await watcher.resolve(target)).reason for target in expected} == expected


async def test_policy_routing_by_source(network: Lan) -> None:
    network.here.ip("addr add 192.0.2.100/24 dev ab0")
    network.here.ip("rule add from 192.0.2.100 table 77")
    network.here.ip("route add blackhole 192.0.2.2 table 77")
    async with recording() as recorder:
        watcher = recorder.watcher
        assert (await watcher.follow(THERE)).usable
        assert (await watcher.follow(THERE, ip_address("192.0.2.100"))).reason is Reason.BLACKHOLE
        assert (await watcher.follow(THERE, ip_address("192.0.2.200"))).reason is Reason.BAD_SOURCE
        network.here.ip("rule del from 192.0.2.100 table 77")
        event = await recorder.expect(RouteChanged | NeighbourChanged, usable)
        assert event.new.asked_source == ip_address("192.0.2.100") and str(event.new.source) == "192.0.2.100"


async def test_a_route_that_flips_to_another_device_and_back(network: Lan) -> None:
    network.wire("ab1", "peer1", "198.51.100", "2001:db8:1:")
    network.here.ip("route add 203.0.113.0/24 via 192.0.2.2")
    async with recording() as recorder:
        path = await recorder.watcher.follow("203.0.113.5")
        assert path.usable and path.next_hop == THERE
        network.here.ip("route replace 203.0.113.0/24 via 198.51.100.2")
        event = await recorder.expect(RouteChanged)
        assert event.new.reason is Reason.OTHER_DEVICE and event.new.detail == "device ab1 (veth)"
        recorder.forget()
        network.here.ip("route replace 203.0.113.0/24 via 192.0.2.2")
        await recorder.expect(RouteChanged | NeighbourChanged, usable)
        recorder.forget()
        network.here.ip("route replace 203.0.113.0/24 via 192.0.2.2 mtu 1280")
        assert (await recorder.expect(RouteChanged)).new.mtu == 1280
        recorder.forget()
        network.here.ip("route del 203.0.113.0/24")
        assert (await recorder.expect(RouteChanged)).new.reason is Reason.NO_ROUTE


async def test_a_route_replaced_through_a_next_hop_object(network: Lan) -> None:
    """The kernel announces the object alone, not the routes that use it."""
    network.there.ip("addr add 192.0.2.3/24 dev peer0")
    network.here.ip("nexthop add id 5 via 192.0.2.2 dev ab0")
    network.here.ip("route add 203.0.113.0/24 nhid 5")
    network.here.sysctl("ipv4/nexthop_compat_mode", 0)
    async with recording() as recorder:
        await quiet(recorder)
        assert (await recorder.watcher.follow("203.0.113.5")).next_hop == THERE
        network.here.ip("nexthop replace id 5 via 192.0.2.3 dev ab0")
        assert (await recorder.expect(RouteChanged)).new.next_hop == ip_address("192.0.2.3")


async def test_unrelated_routes_are_no_events(network: Lan) -> None:
    async with recording() as recorder:
        await recorder.watcher.follow(THERE)
        await eventually(
            lambda: not any(a.tentative for a in recorder.watcher.facts.addresses), "IPv6 addresses are settled"
        )
        recorder.forget()
        for third in range(50):
            network.here.ip(f"route add 10.0.{third}.0/24 via 192.0.2.2")
        network.here.ip("addr add 198.51.100.7/32 dev ab0")  # comes after them all
        await recorder.expect(AddressesChanged)
        assert [type(event) for event in recorder.events] == [AddressesChanged]


def hasten(network: Lan, family: str) -> None:
    """Have the kernel's neighbour machine run in tenths of seconds."""
    for key, value in (("base_reachable_time_ms", 300), ("delay_first_probe_time", 0), ("retrans_time_ms", 100)):
        network.here.sysctl(f"{family}/neigh/ab0/{key}", value)


def neighbour_state(network: Lan, target: object) -> str:
    return (network.here.ip(f"neigh show {target} dev ab0").split() or ["absent"])[-1]


@pytest.mark.parametrize(("target", "family"), [(THERE, "ipv4"), (THERE_6, "ipv6")], ids=["ipv4", "ipv6"])
async def test_a_silent_change_of_a_neighbours_mac_is_found_out(network: Lan, target: Any, family: str) -> None:
    """The peer announces nothing and nobody sends a packet: only the watcher's use of the entry makes the kernel ask."""
    hasten(network, family)
    async with recording() as recorder:
        await recorder.watcher.follow(target)  # may fail at first: the kernel is hurried, and the link just came up
        await eventually(lambda: recorder.watcher.facts.paths[0].mac == THERE_MAC, "resolved")
        network.there.ip("link set peer0 address 02:00:00:00:00:22")
        await recorder.expect(NeighbourChanged, lambda e: e.new.mac.hex() == "020000000022")


async def test_an_announced_change_of_a_neighbours_mac_is_taken_at_once(network: Lan) -> None:
    network.there.sysctl("ipv4/conf/peer0/arp_notify", 1)
    async with recording() as recorder:
        await recorder.watcher.follow(THERE)
        network.there.ip("link set peer0 address 02:00:00:00:00:22")
        event = await recorder.expect(NeighbourChanged)
        assert event.new.usable and event.new.mac.hex() == "020000000022"


@pytest.mark.parametrize(("target", "family"), [(THERE, "ipv4"), (THERE_6, "ipv6")], ids=["ipv4", "ipv6"])
async def test_a_followed_neighbour_is_kept_fresh_and_a_left_one_is_not(network: Lan, target: Any, family: str) -> None:
    hasten(network, family)
    async with watch("ab0") as watcher:
        await watcher.follow(target)
        for _ in range(3):  # round after round, without a packet from anybody
            await eventually(lambda: neighbour_state(network, target) != "REACHABLE", "the entry grows old")
            await eventually(lambda: neighbour_state(network, target) == "REACHABLE", "it is confirmed")
        watcher.unfollow(target)
        await eventually(lambda: neighbour_state(network, target) == "STALE", "nobody uses it any more")
        stale_since = time.monotonic()
        while time.monotonic() < stale_since + 1.0:  # three times its reachable time
            assert neighbour_state(network, target) == "STALE"
            await asyncio.sleep(0.1)


async def test_a_removed_neighbour_entry_is_resolved_again(network: Lan) -> None:
    async with watch("ab0") as watcher:
        await watcher.follow(THERE)
        network.here.ip("neigh flush dev ab0")
        assert neighbour_state(network, THERE) == "absent"
        await eventually(lambda: neighbour_state(network, THERE) == "REACHABLE", "asked for again")
        await eventually(lambda: watcher.facts.paths[0].mac == THERE_MAC, "known again")


async def test_a_broadcast_mac_of_a_static_entry_is_refused(network: Lan) -> None:
    network.here.ip("neigh add 192.0.2.50 lladdr ff:ff:ff:ff:ff:ff dev ab0 nud permanent")
    async with watch("ab0") as watcher:
        path = await watcher.resolve("192.0.2.50")
        assert path.reason is Reason.NEIGHBOUR_UNUSABLE and path.mac == b""


async def test_lost_notifications_cost_a_snapshot_and_no_change(network: Lan) -> None:
    async with recording(receive_buffer=4096) as recorder:
        network.here.batch(  # blocks this thread, and with it the event loop: the receive buffer overflows
            *(f"addr add 10.{n // 250}.{n % 250}.1/32 dev ab0" for n in range(500)),
            "link set ab0 mtu 1300",
            "addr del 192.0.2.1/24 dev ab0",
        )
        await recorder.expect(LinkChanged, lambda e: e.new.mtu == 1300)
        await eventually(lambda: len(recorder.watcher.facts.local_addresses()) >= 500, "all addresses are known")
        await eventually(lambda: not recorder.watcher.facts.is_local(ip_address("192.0.2.1")), "the removed one is not")
        assert recorder.watcher.overflows >= 1
        network.here.ip("link set ab0 mtu 1200")  # and the new socket hears
        await recorder.expect(LinkChanged, lambda e: e.new.mtu == 1200)


async def overflowed(watcher: Watcher) -> None:
    await eventually(lambda: watcher.overflows == 1, "an overflow was handled")


async def test_everything_is_closed_again(network: Lan) -> None:
    def descriptors() -> int:
        return sum(1 for _ in pathlib.Path("/proc/self/fd").iterdir())

    before = descriptors()
    for _ in range(3):
        async with recording(receive_buffer=4096) as recorder:
            await recorder.watcher.resolve(THERE)
            recorder.watcher._notifications._socket.protocol.error_received(OSError(105, "No buffer space available"))
            await overflowed(recorder.watcher)
    await asyncio.sleep(0)
    assert descriptors() == before


async def test_a_body_that_fails_ends_the_watcher(network: Lan) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with watch("ab0"):
            raise LookupError("body")
    assert caught.group_contains(LookupError)


async def test_a_silent_kernel_is_asked_once_more_and_then_given_up(network: Lan) -> None:
    async with watch("ab0") as watcher:
        asked = 0

        async def silence(*_: object) -> None:
            nonlocal asked
            asked += 1
            raise TimeoutError("no answer")

        with pytest.raises(TimeoutError, match="no answer"):
            await watcher._patiently(silence)
        assert asked == 2
