"""What differs between two states of the network becomes exactly the events that a consumer needs."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from afterburnerd.net.facts import (
    Address,
    AddressesChanged,
    Facts,
    Link,
    LinkBack,
    LinkChanged,
    LinkGone,
    LocalAddress,
    NeighbourChanged,
    Path,
    Queues,
    QueuesChanged,
    Reason,
    Rings,
    RouteChanged,
    VlanTag,
    changes,
)

MAC = bytes.fromhex("020000000001")
QUEUES = Queues(rx=2, tx=2, max_rx=8, max_tx=8)
LINK = Link(index=2, name="eth0", mac=MAC, mtu=1500, up=True, carrier=True, operstate="UP", queues=QUEUES)
VLAN = Link(
    index=5,
    name="v",
    mac=MAC,
    mtu=1500,
    up=True,
    carrier=True,
    operstate="UP",
    kind="vlan",
    lower=2,
    vlan=VlanTag(vid=9),
)
ADDRESS = Address(index=2, address=ip_address("192.0.2.1"), prefix_length=24, scope="global")
PATH = Path(
    destination=ip_address("203.0.113.5"),
    source=ip_address("192.0.2.1"),
    index=2,
    mtu=1500,
    source_mac=MAC,
    mac=b"\2" * 6,
)
FACTS = Facts(interface="eth0", link=LINK, addresses=(ADDRESS,), paths=(PATH,))


def but(old: Facts = FACTS, **fields: object) -> Facts:
    return msgspec.structs.replace(old, **fields)


def link(**fields: object) -> Link:
    return msgspec.structs.replace(LINK, **fields)


def way(**fields: object) -> Path:
    return msgspec.structs.replace(PATH, **fields)


def test_nothing_differs_nothing_happened() -> None:
    assert list(changes(FACTS, but())) == []


def test_a_changed_link_names_its_fields() -> None:
    new = link(mtu=1400, operstate="DOWN")
    assert list(changes(FACTS, but(link=new))) == [
        LinkChanged(old=LINK, new=new, fields=frozenset({"mtu", "operstate"})),
    ]


def test_queues_and_rings_have_their_own_event() -> None:
    more, rings = (
        link(queues=Queues(rx=4, tx=4, max_rx=8, max_tx=8)),
        link(rings=Rings(rx=512, tx=512, max_rx=4096, max_tx=4096)),
    )
    assert list(changes(FACTS, but(link=more))) == [QueuesChanged(old=LINK, new=more)]
    assert list(changes(FACTS, but(link=rings))) == [QueuesChanged(old=LINK, new=rings)]


def test_a_flap_between_two_looks_is_still_seen() -> None:
    flapped = link(carrier_changes=2, restarts=2)
    (event,) = changes(FACTS, but(link=flapped))
    assert isinstance(event, LinkChanged) and event.fields == {"carrier_changes", "restarts"}
    (event,) = changes(FACTS, but(link=link(restarts=2)))
    assert isinstance(event, LinkChanged) and event.fields == {"restarts"}


def test_a_link_that_went_and_came() -> None:
    there, other = but(addresses=()), but(addresses=(), link=link(index=7))
    assert other.link is not None
    gone = but(link=None, addresses=())
    assert list(changes(there, gone)) == [LinkGone(link=LINK)]
    assert list(changes(gone, there)) == [LinkBack(link=LINK)]
    assert list(changes(there, other)) == [LinkGone(link=LINK), LinkBack(link=other.link)]


def test_addresses_that_came_and_went_with_what_rules_expand_to() -> None:
    new = Address(index=2, address=ip_address("2001:db8::1"), prefix_length=64, scope="global")
    assert list(changes(FACTS, but(addresses=(new,)))) == [
        AddressesChanged(
            added=frozenset({new}),
            removed=frozenset({ADDRESS}),
            local=(LocalAddress(address=ip_address("2001:db8::1")),),
        )
    ]


def test_a_vlan_device_that_appears_changes_what_rules_expand_to() -> None:
    """The address was there before, on a link that was not known to be on top of ours."""
    inner = Address(index=5, address=ip_address("198.51.100.1"), prefix_length=24, scope="global")
    before = but(addresses=(ADDRESS, inner))
    (event,) = changes(before, but(before, stacked=(VLAN,)))
    assert isinstance(event, AddressesChanged) and not event.added and not event.removed
    assert event.local == (
        LocalAddress(address=ip_address("192.0.2.1")),
        LocalAddress(address=ip_address("198.51.100.1"), vlans=(VlanTag(vid=9),)),
    )


def test_local_addresses_are_those_of_our_interface_that_are_proven() -> None:
    addresses = (
        ADDRESS,
        Address(index=1, address=ip_address("127.0.0.1"), prefix_length=8, scope="host"),
        Address(index=3, address=ip_address("10.0.0.1"), prefix_length=8, scope="global"),
        Address(index=2, address=ip_address("fe80::1"), prefix_length=64, scope="link", tentative=True),
    )
    facts = but(addresses=addresses)
    assert facts.local_addresses() == (LocalAddress(address=ip_address("192.0.2.1")),)
    assert facts.is_local(ip_address("10.0.0.1")) and not facts.is_local(ip_address("10.0.0.2"))


def test_a_vlan_whose_lower_link_is_in_another_namespace_is_not_on_ours() -> None:
    stranger = msgspec.structs.replace(VLAN, lower_namespace=0)
    assert but(stacked=(VLAN,)).vlans(5) == (VlanTag(vid=9),)
    assert but(stacked=(stranger,)).vlans(5) is None


def test_a_new_mac_is_the_neighbours_and_a_new_next_hop_the_routes() -> None:
    moved, rerouted = way(mac=b"\4" * 6), way(next_hop=ip_address("192.0.2.254"), mac=b"\6" * 6)
    assert list(changes(FACTS, but(paths=(moved,)))) == [NeighbourChanged(old=PATH, new=moved)]
    assert list(changes(FACTS, but(paths=(rerouted,)))) == [RouteChanged(old=PATH, new=rerouted)]


def test_a_failed_neighbour_is_the_neighbours_and_a_lost_route_the_routes() -> None:
    failed, lost = way(mac=b"", reason=Reason.NEIGHBOUR_FAILED), way(mac=b"", reason=Reason.NO_ROUTE)
    assert list(changes(FACTS, but(paths=(failed,)))) == [NeighbourChanged(old=PATH, new=failed)]
    assert list(changes(FACTS, but(paths=(lost,)))) == [RouteChanged(old=PATH, new=lost)]


def test_a_destination_just_followed_or_no_longer_is_no_event() -> None:
    more = way(destination=ip_address("203.0.113.6"))
    assert list(changes(FACTS, but(paths=(PATH, more)))) == []
    assert list(changes(FACTS, but(paths=()))) == []


def test_the_same_destination_from_two_sources_is_two_paths() -> None:
    one, two = way(asked_source=ip_address("192.0.2.1")), way(asked_source=ip_address("192.0.2.3"))
    moved = msgspec.structs.replace(two, mac=b"\4" * 6)
    assert list(changes(but(paths=(one, two)), but(paths=(one, moved)))) == [NeighbourChanged(old=two, new=moved)]
