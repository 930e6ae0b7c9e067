"""Connection IDs, keys and ends: what is given back, what is wiped, and in which order it is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from afterburnerd.abi.layout import QuicClose, QuicEventKind, QuicRole, QuicSend
from tests.sim import wire
from tests.sim.hostile import ID, MS, Victim, cid, token

SECOND = 1_000 * MS


def ncid(sequence: int, retire: int = 0) -> bytes:
    return wire.new_connection_id(sequence, retire, cid(1, sequence), token(1, sequence))


# --- connection IDs ----------------------------------------------------------------------------------------------------


def test_a_peer_may_give_as_many_connection_ids_as_we_said_and_not_one_more() -> None:
    """RFC 9000 5.1.1: the one of the handshake counts."""
    victim = Victim(ours={"active_connection_id_limit": 4})
    victim.say(ncid(1), ncid(2), ncid(3))
    assert victim.closed is None
    victim.say(ncid(5, 1))  # one goes for it
    assert victim.closed is None and [f.sequence for f in victim.of("retire_connection_id")] == [0]
    victim.say(ncid(6))
    assert victim.closed and victim.closed.code == wire.CONNECTION_ID_LIMIT_ERROR


def test_a_connection_id_that_comes_too_late_is_retired_once() -> None:
    """RFC 9000 19.15: at once, whatever retire_prior_to was in between; and the same frame again changes nothing."""
    victim = Victim()
    victim.say(ncid(3, 3))
    victim.say(ncid(4, 0))
    for _ in range(3):
        victim.say(ncid(1, 0))
    assert [f.sequence for f in victim.of("retire_connection_id")] == [0, 1]
    victim.acknowledge()
    victim.say(ncid(2, 0))
    assert [f.sequence for f in victim.of("retire_connection_id")] == [0, 1, 2] and victim.alive()


# --- keys --------------------------------------------------------------------------------------------------------------


def test_a_newer_key_on_an_older_packet_is_a_key_update_error() -> None:
    """RFC 9001 6.4."""
    victim = Victim()
    victim.say(wire.PING, number=20)
    victim.say(wire.PING, number=15, generation=1)
    assert victim.closed and victim.closed.code == wire.KEY_UPDATE_ERROR


@pytest.mark.parametrize("follows", [True, False])
def test_who_acknowledges_our_new_keys_in_old_ones_makes_a_key_update_error(follows: bool) -> None:
    """RFC 9001 6.2."""
    victim = Victim(QuicRole.CLIENT)
    victim.engine.send(ID, QuicSend.UNI, b"old", victim.now)
    victim.drain()
    victim.acknowledge()
    old = victim.opener.least - 1
    assert victim.engine.update_keys(ID, victim.now) == 0
    victim.drain()
    assert victim.opener.generation == 1
    victim.say(wire.ack((old, old)))  # about packets under the old keys: it may not know of the new ones
    assert victim.closed is None
    victim.sealer.generation = int(follows)
    victim.say(wire.ack((victim.adopted.next_pn, victim.opener.least - 1)))
    assert (victim.closed.code if victim.closed else None) == (None if follows else wire.KEY_UPDATE_ERROR)


def in_engines(secret: bytes) -> int:
    """How often it lies in memory of engines: maps that go into no core file."""
    found = begin = end = 0
    with Path("/proc/self/smaps").open() as maps, Path("/proc/self/mem").open("rb") as memory:
        for line in maps:
            if bounds := re.match("([0-9a-f]+)-([0-9a-f]+) rw-p", line):
                begin, end = (int(at, 16) for at in bounds.groups())
            elif line.startswith("VmFlags:") and "dd" in line.split() and end - begin <= 1 << 28:  # not a sanitizer's
                memory.seek(begin)
                found += memory.read(end - begin).count(secret)
    return found


def test_secrets_are_gone_with_the_connection_and_with_what_told_them() -> None:
    victim = Victim(seed=4711)
    assert victim.engine.trace(ID, 2)
    victim.drain()
    tx, rx = (body for _, body in victim.event(QuicEventKind.KEYS))  # ours, and the peer's that is derived ahead
    assert tx == bytes(victim.adopted.tx_secret)[: len(tx)] and len(tx) == len(rx) == 32
    assert (in_engines(tx), in_engines(rx)) == (1, 1), "what told them has kept them"
    victim.engine.drop(ID, victim.now)
    victim.drain()
    assert victim.engine.totals()["connections"] == 0
    assert (in_engines(tx), in_engines(rx)) == (0, 0)


# --- the end -----------------------------------------------------------------------------------------------------------


def test_what_is_closed_stays_for_three_probe_timeouts_and_is_forgotten_at_once_where_that_is_asked_for() -> None:
    """RFC 9000 10.2: what comes late is known for what it is. Without a sample a PTO is 1,024 ms."""
    for by_peer in (False, True):
        victim = Victim()
        if by_peer:
            victim.say(wire.connection_close(0, None), after=MS)
        else:
            victim.engine.close(ID, True, 0, b"", victim.now)
        victim.wait(2_900 * MS)
        assert victim.engine.totals()["connections"] == 1
        victim.wait(200 * MS)
        assert victim.engine.totals()["connections"] == 0
    victim = Victim()
    victim.engine.close(ID, True, 0, b"", victim.now)
    victim.drain()
    victim.engine.drop(ID, victim.now)
    victim.drain()
    assert victim.engine.totals()["connections"] == 0


def test_what_came_before_the_end_is_told_before_it() -> None:
    victim = Victim(QuicRole.CLIENT, confirmed=False, settle=False)
    victim.drain()
    victim.events.clear()
    victim.say(wire.HANDSHAKE_DONE, wire.new_token(b"for the next time"), wire.connection_close(0, None, b"bye"))
    kinds = [kind for kind, _, _ in victim.events]
    assert kinds == [QuicEventKind.CONFIRMED, QuicEventKind.TOKEN, QuicEventKind.CLOSED]
    ended = victim.ended()
    assert ended and ended.by == QuicClose.PEER


def test_the_last_forged_packet_that_is_allowed_closes() -> None:
    """RFC 9001 6.6: the limit itself is too many."""
    victim = Victim(integrity_limit=4)
    for n in range(1, 5):
        packet = victim.sealer.seal(wire.PING)
        victim.arrive(packet[:-1] + bytes([packet[-1] ^ 1]))
        victim.drain()
        assert (victim.closed is not None) is (n == 4)


def test_who_goes_on_sending_to_what_is_closed_hears_it_again_at_ever_longer_intervals() -> None:
    """RFC 9000 10.2.1. Without a sample a PTO is 1,024 ms: the first pause is an eighth of it."""
    victim = Victim()
    victim.engine.close(ID, True, 3, b"enough", victim.now)
    victim.drain()
    begin, said = victim.now, []
    while victim.engine.totals()["connections"]:
        victim.now += 10 * MS
        victim.arrive(victim.sealer.seal(wire.PING))
        if any(f.kind == "connection_close" for f in victim.drain()):
            said.append((victim.now - begin) // MS)
    assert said == [130, 390, 910, 1940]
