"""Where the engine's datagrams go when a peer moves: a connection ID of their own, one question more, and the way back.

RFC 9000 8.2 and 9. What an address may get before it is validated is in tests/sim/test_threats.py.
"""

from __future__ import annotations

from afterburnerd.abi.layout import Path, QuicCid, QuicClose, QuicEventKind, QuicRole, QuicSend
from tests.sim import wire
from tests.sim.hostile import ID, MS, REMOTE_PORT, Victim, cid, token

SECOND = 1_000 * MS
ELSEWHERE = 9999


def server_with_ids(peers: int = 1) -> Victim:
    """A server that has given its client two connection IDs, and has `peers` of the client's more than the first."""
    victim = Victim(QuicRole.SERVER, local_cids=2)
    for n in range(1, peers + 1):
        victim.say(wire.new_connection_id(n, 0, cid(1, n), token(1, n)))
    victim.acknowledge()
    victim.frames.clear()
    victim.sent.clear()
    victim.sent_to.clear()
    victim.events.clear()
    return victim


def to(victim: Victim, port: int, kind: str) -> list[wire.Frame]:
    """The frames of one kind that went there."""
    return [f for (_, frames), at in zip(victim.sent, victim.sent_to, strict=True) if at == port for f in frames if f.kind == kind]  # fmt: skip


def test_who_moves_with_another_connection_id_of_ours_is_written_to_with_another_one_of_its_own() -> None:
    """RFC 9000 9.5: or whoever sees both ways could tell that they are one connection."""
    victim = server_with_ids()
    victim.say(wire.PING + bytes(1000), port=ELSEWHERE, cid=cid(0, 1))
    assert victim.opener.cid == cid(1, 1)
    assert [f.sequence for f in victim.of("retire_connection_id")] == [0]
    gone = [QuicCid.unpack(body).seq for e, body in victim.event(QuicEventKind.RESET_TOKEN) if e.code]
    taken = [QuicCid.unpack(body).seq for e, body in victim.event(QuicEventKind.RESET_TOKEN) if not e.code]
    assert (gone, taken) == ([0], [1]), "whose reset token counts"


def test_a_late_packet_to_the_former_connection_id_makes_the_present_one_no_new_one() -> None:
    victim = server_with_ids()
    late = victim.sealer.seal(wire.PING)
    victim.say(wire.PING, cid=cid(0, 1))
    victim.arrive(late)
    victim.say(wire.PING + bytes(1000), port=ELSEWHERE, cid=cid(0, 1))
    assert ELSEWHERE in victim.sent_to and not victim.of("retire_connection_id")


def test_who_is_moved_by_its_nat_is_written_to_as_before() -> None:
    """It knows nothing of the move and took no other connection ID: there is nothing to hide, and none to be used up."""
    victim = server_with_ids()
    victim.say(wire.PING, port=ELSEWHERE)
    assert ELSEWHERE in victim.sent_to and victim.opener.cid == cid(1, 0)
    assert not victim.of("retire_connection_id")


def test_who_changes_its_connection_id_where_it_is_changes_nothing_of_ours() -> None:
    victim = server_with_ids()
    victim.say(wire.PING, cid=cid(0, 1))
    assert victim.opener.cid == cid(1, 0) and not victim.of("retire_connection_id")


def test_who_has_given_no_other_connection_id_is_written_to_with_the_same_one() -> None:
    victim = server_with_ids(peers=0)
    victim.say(wire.PING, port=ELSEWHERE, cid=cid(0, 1))
    assert ELSEWHERE in victim.sent_to and victim.opener.cid == cid(1, 0) and victim.alive()


def test_an_address_that_does_not_answer_is_given_up_for_the_former_one() -> None:
    """RFC 9000 9.3.2: whoever copies a packet and sends it from elsewhere moves the connection for 3 PTO, and no longer."""
    victim = server_with_ids()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)), port=ELSEWHERE)
    victim.wait(2 * SECOND)
    victim.sent_to.clear()
    victim.engine.send(ID, QuicSend.UNI, b"to whoever is there", victim.now)
    victim.drain()
    assert victim.sent_to == [ELSEWHERE]
    victim.wait(5 * SECOND)
    victim.sent_to.clear()
    victim.engine.send(ID, QuicSend.UNI, b"home", victim.now)
    victim.drain()
    assert set(victim.sent_to) == {REMOTE_PORT} and not victim.closed and victim.info()["migrations"] == 0
    assert victim.alive()


def test_without_a_former_address_that_was_good_the_connection_ends() -> None:
    """RFC 9000 9.3.2, 8.2.4: of two moves in a row the first address never answered either; the last good one is there still."""
    victim = server_with_ids()
    for port in (ELSEWHERE, ELSEWHERE + 1):
        victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)), port=port)
        victim.wait(100 * MS)
    victim.wait(6 * SECOND)
    victim.sent_to.clear()
    victim.engine.send(ID, QuicSend.UNI, b"home", victim.now)
    victim.drain()
    assert set(victim.sent_to) == {REMOTE_PORT} and not victim.closed


def test_a_challenge_that_was_lost_is_asked_again_and_its_answer_counts() -> None:
    """RFC 9000 8.2.1."""
    victim = server_with_ids()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1100)), port=ELSEWHERE)
    first = to(victim, ELSEWHERE, "path_challenge") if victim.drain() else []
    assert len(first) == 1
    assert not to(victim, ELSEWHERE, "path_challenge")[1:], "twice at once"
    victim.wait(2 * SECOND)
    asked = to(victim, ELSEWHERE, "path_challenge")
    assert len(asked) == 2 or len(asked) == 3, "as many as 3 times 1,100 bytes carry"
    victim.say(wire.path_response(asked[-1].data), port=ELSEWHERE)
    assert victim.event(QuicEventKind.MIGRATED) and victim.info()["migrations"] == 1


def test_the_former_address_is_asked_too_and_its_answer_alone_ends_nothing() -> None:
    """RFC 9000 9.3.3: the answer of the old address does not validate the new one."""
    victim = server_with_ids()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)), port=ELSEWHERE)
    victim.drain()
    [old] = to(victim, REMOTE_PORT, "path_challenge")
    [new] = to(victim, ELSEWHERE, "path_challenge")
    assert old.data != new.data
    victim.say(wire.path_response(old.data), port=ELSEWHERE)
    assert not victim.event(QuicEventKind.MIGRATED)


def test_all_eight_bytes_of_the_challenge_must_come_back() -> None:
    victim = server_with_ids()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)), port=ELSEWHERE)
    victim.drain()
    [new] = to(victim, ELSEWHERE, "path_challenge")
    for at in range(8):
        wrong = bytearray(new.data)
        wrong[at] ^= 1
        victim.say(wire.path_response(bytes(wrong)), port=ELSEWHERE, after=MS)
    assert not victim.event(QuicEventKind.MIGRATED)
    victim.say(wire.path_response(new.data), port=ELSEWHERE, after=MS)
    assert len(victim.event(QuicEventKind.MIGRATED)) == 1


def test_an_address_that_was_left_for_good_is_a_new_one_when_it_comes_again() -> None:
    """Behind a NAT somebody else may have it by now."""
    victim = server_with_ids()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)), port=ELSEWHERE)
    victim.drain()
    [new] = to(victim, ELSEWHERE, "path_challenge")
    victim.say(wire.path_response(new.data), port=ELSEWHERE, after=MS)
    victim.frames.clear()
    victim.sent.clear()
    victim.sent_to.clear()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)))
    victim.drain()
    assert to(victim, REMOTE_PORT, "path_challenge")


def test_each_way_that_the_engine_takes_is_told_from_the_one_before_by_its_generation() -> None:
    """By it whoever sends knows that what it has prepared for the path is of no use any more."""
    victim = server_with_ids()
    generations: list[int] = []

    def note() -> None:
        victim.engine.ping(ID)
        while out := victim.engine.tx(victim.now, 16):
            for data, path, *_ in out:
                victim.opener.open(data)
                generations.append(Path.unpack(path).generation)

    note()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1100)), port=ELSEWHERE)
    note()
    moved = generations[-1]
    victim.wait(6 * SECOND)
    note()
    assert generations[0] < moved < generations[-1] or generations[-1] not in (generations[0], moved), generations


def test_who_comes_back_to_the_former_address_is_there_at_once() -> None:
    """It was validated: nothing is bounded, nothing has moved, and the address left behind is forgotten."""
    victim = server_with_ids()
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)), port=ELSEWHERE)
    victim.drain()
    victim.sent.clear()
    victim.sent_to.clear()
    for n in range(10):
        victim.engine.send(ID, QuicSend.UNI, b"x" * 1000, victim.now, token=n)
    victim.say(wire.PING)
    assert victim.sent_to.count(REMOTE_PORT) >= 10 and ELSEWHERE not in victim.sent_to
    victim.acknowledge()
    victim.wait(6 * SECOND)
    assert ELSEWHERE not in victim.sent_to and victim.alive() and victim.info()["migrations"] == 0


def test_a_client_that_is_gone_from_its_new_address_as_from_the_old_one_times_out() -> None:
    victim = server_with_ids()
    victim.arrive(victim.sealer.seal(wire.PING), port=ELSEWHERE)
    victim.wait(120 * SECOND)
    ended = victim.ended()
    assert ended and ended.by == QuicClose.IDLE


def test_an_address_has_the_time_that_a_path_of_which_nothing_is_known_may_take() -> None:
    """RFC 9000 8.2.4: three times the PTO of the initial round trip of 333 ms, though the former path's was 2 ms."""
    victim = server_with_ids()
    for n in range(20):
        victim.engine.send(ID, QuicSend.UNI, b"how far?", victim.now, token=n)
        victim.drain()
        victim.now += 2 * MS
        victim.acknowledge()
    victim.drain()
    assert victim.info()["srtt_ns"] < 5 * MS
    victim.arrive(victim.sealer.seal(wire.PING + bytes(1000)), port=ELSEWHERE)
    victim.drain()
    challenge = to(victim, ELSEWHERE, "path_challenge")[0]
    victim.wait(2500 * MS)
    victim.say(wire.path_response(challenge.data), port=ELSEWHERE)
    assert victim.event(QuicEventKind.MIGRATED) and victim.info()["migrations"] == 1


def test_a_supervisor_that_does_not_listen_is_no_fault_of_a_peer_that_changes_its_connection_ids() -> None:
    """Those that are gone keep their places until it has heard of it; what comes then comes again."""
    victim = server_with_ids(peers=0)
    victim.engine.room(0)
    packets = []
    for n in range(1, 25):
        packets.append(wire.new_connection_id(n, n, cid(1, n), token(1, n)))
        victim.arrive(victim.sealer.seal(packets[-1]))
        victim.drain()
        victim.acknowledge()
    assert not victim.closed, victim.closed
    victim.engine.room(1 << 60)
    for packet in packets:
        victim.say(packet)
    assert victim.opener.cid == cid(1, 24) and victim.alive()
    assert sorted(f.sequence for f in victim.of("retire_connection_id")) == list(range(24))
