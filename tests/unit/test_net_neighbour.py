"""Neighbours are refreshed when their state asks for it, and a MAC that is no unicast one is never used."""

from __future__ import annotations

import pytest

from afterburnerd.net import neighbour as nb
from afterburnerd.net import rtnl
from afterburnerd.net.facts import Neighbour, Reason
from afterburnerd.net.neighbour import next_step, parse_neighbour, reason
from tests.unit import netlink_bytes as wire

MAC = bytes.fromhex("020000000009")


def entry(state: int, mac: bytes = MAC) -> Neighbour:
    found = parse_neighbour(wire.neighbour(2, "192.0.2.9", mac or None, state))
    assert found is not None
    return found


def test_an_entry_of_each_family() -> None:
    four, six = entry(nb.NUD_REACHABLE), parse_neighbour(wire.neighbour(3, "fe80::1", MAC, nb.NUD_STALE))
    assert (four.index, str(four.address), four.mac, four.state) == (2, "192.0.2.9", MAC, nb.NUD_REACHABLE)
    assert six is not None and (six.index, str(six.address), six.state) == (3, "fe80::1", nb.NUD_STALE)


def test_a_removed_entry_has_neither_mac_nor_state() -> None:
    gone = parse_neighbour(wire.neighbour(2, "192.0.2.9", MAC, nb.NUD_REACHABLE, kind=rtnl.RTM_DELNEIGH))
    assert gone is not None and (gone.mac, gone.state) == (b"", nb.NUD_NONE)
    assert reason(gone) is Reason.NEIGHBOUR_PENDING


def test_a_bridge_forwarding_entry_is_no_neighbour() -> None:
    assert parse_neighbour(wire.neighbour(2, "192.0.2.9", MAC, nb.NUD_REACHABLE, family=7)) is None


@pytest.mark.parametrize("state", [nb.NUD_REACHABLE, nb.NUD_STALE, nb.NUD_DELAY, nb.NUD_PROBE, nb.NUD_PERMANENT])
def test_every_state_with_a_mac_can_be_sent_to(state: int) -> None:
    assert reason(entry(state)) is None


@pytest.mark.parametrize(
    "mac", ["ffffffffffff", "010000000001", "333300000001", "000000000000", "0200"], ids=lambda mac: str(mac)
)
@pytest.mark.parametrize("state", [nb.NUD_REACHABLE, nb.NUD_PERMANENT, nb.NUD_NOARP])
def test_a_mac_that_is_not_unicast_is_refused_whatever_the_state(mac: str, state: int) -> None:
    assert reason(entry(state, bytes.fromhex(mac))) is Reason.NEIGHBOUR_UNUSABLE


def test_pending_and_failed_are_told_apart() -> None:
    assert reason(None) is Reason.NEIGHBOUR_PENDING
    assert reason(entry(nb.NUD_INCOMPLETE, b"")) is Reason.NEIGHBOUR_PENDING
    assert reason(entry(nb.NUD_FAILED, b"")) is Reason.NEIGHBOUR_FAILED


def test_a_stale_or_absent_entry_is_used_at_once() -> None:
    assert next_step(None).use
    assert next_step(entry(nb.NUD_STALE)).use


@pytest.mark.parametrize("state", [nb.NUD_REACHABLE, nb.NUD_INCOMPLETE, nb.NUD_DELAY, nb.NUD_PROBE])
def test_the_kernel_is_left_alone_while_it_works(state: int) -> None:
    step = next_step(entry(state))
    assert not step.use and step.look_in is not None and 0 < step.look_in <= 60


@pytest.mark.parametrize("state", [nb.NUD_PERMANENT, nb.NUD_NOARP])
def test_a_static_entry_is_never_refreshed(state: int) -> None:
    step = next_step(entry(state))
    assert not step.use and step.look_in is None


def test_a_neighbour_that_does_not_answer_is_asked_in_growing_pauses() -> None:
    """The timeline of a dead neighbour, each attempt taking the kernel three seconds, heard to fail each time."""
    now, failures, asked = 0.0, 0, []
    state: Neighbour | None = None
    paused = True
    while now < 150:
        step = next_step(state, failures, paused=paused)
        if step.use:
            asked.append(now)
            now, failures, state, paused = now + 3, failures + 1, entry(nb.NUD_FAILED, b""), False
        else:
            assert step.look_in is not None
            now, paused = now + step.look_in, True
    assert asked == [0, 3, 7, 12, 19, 30, 49, 82, 115, 148]


def test_a_removed_failed_entry_does_not_restart_the_pauses() -> None:
    gone = parse_neighbour(wire.neighbour(2, "192.0.2.9", None, 0, kind=rtnl.RTM_DELNEIGH))
    assert not next_step(gone, failures=4).use
    assert next_step(gone, failures=0).use
