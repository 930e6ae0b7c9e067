"""A lasting relation to a server: every message has one fate, and pauses grow only where the peer failed."""

from __future__ import annotations

from afterburnerd.abi.layout import QuicOutcome, QuicSend
from afterburnerd.quic.dial import EarlyMessage, Target
from afterburnerd.quic.link import ATTEMPTS_MAX, CLOSING, NO_ROOM, PAUSE_MAX, PAUSE_MIN, STEADY, Link, Message, State


def link(**more: int) -> tuple[Link, list[tuple[int, QuicOutcome]], list[int]]:
    told: list[tuple[int, QuicOutcome]] = []
    made = Link("a", Target(("192.0.2.1", 1)), told=lambda token, outcome, first: told.append((token, outcome)), **more)
    return made, told, []


def test_what_died_with_a_connection_goes_again() -> None:
    a, told, given = link()
    give = lambda m: given.append(m.token)  # noqa: E731
    a.submit(Message(1, b"x"), give)
    assert not given and a.wants_dial(0.0)
    a.dialling(5)
    assert not a.wants_dial(0.0)
    a.opened((), give, 0.0)
    a.submit(Message(2, b"y"), give)
    assert given == [1, 2]
    a.done(1, QuicOutcome.ACKNOWLEDGED, 7)
    a.done(2, QuicOutcome.CLOSED, 7)
    assert told == [(1, QuicOutcome.ACKNOWLEDGED)] and len(a) == 1
    a.ended(1.0)
    a.dialling(6)
    a.opened((), give, 2.0)
    assert given == [1, 2, 2]
    a.done(2, QuicOutcome.ACKNOWLEDGED, 9)
    assert told == [(1, QuicOutcome.ACKNOWLEDGED), (2, QuicOutcome.ACKNOWLEDGED)] and len(a) == 0


def test_what_travelled_in_0rtt_is_not_given_twice() -> None:
    a, _, given = link()
    give = lambda m: given.append(m.token)  # noqa: E731
    for token in (1, 2, 3):
        a.submit(Message(token, b"x"), None)
    assert [m.token for m in a.early()] == [1, 2, 3]
    a.dialling(1)
    a.opened((EarlyMessage(1, b"x"), EarlyMessage(2, b"x")), give, 0.0)
    assert given == [3]


def test_pauses_double_and_are_forgotten_after_a_steady_connection() -> None:
    a, _, _ = link()
    pauses = []
    for n in range(8):
        a.dialling(n)
        a.ended(100.0)
        pauses.append(a.pause_until - 100.0)
    assert abs(pauses[0] - PAUSE_MIN) < 1e-9 and abs(pauses[1] - 2 * PAUSE_MIN) < 1e-9 and pauses[-1] == PAUSE_MAX
    a.dialling(9)
    a.opened((), lambda m: None, 100.0)
    a.ended(100.0 + STEADY)
    assert a.pause_until - 100.0 - STEADY <= PAUSE_MIN + 1e-9


def test_after_the_death_of_our_own_data_plane_there_is_no_pause() -> None:
    a, _, _ = link()
    a.dialling(1)
    a.ended(5.0, ours=True)
    assert a.state is State.PAUSED and a.wants_dial(5.0)


def test_a_full_link_pushes_back_and_a_closed_one_takes_nothing() -> None:
    a, told, _ = link(room=2)
    assert a.submit(Message(1, b""), None) and a.submit(Message(2, b""), None)
    assert not a.submit(Message(3, b""), None) and not a.submit(Message(2, b""), None)
    a.close()
    assert told == [(1, QuicOutcome.CLOSED), (2, QuicOutcome.CLOSED)] and not a.submit(Message(4, b""), None)
    assert not a.wants_dial(1e9)


def test_a_message_that_kills_connections_is_given_up() -> None:
    a, told, _ = link()
    a.submit(Message(1, b"x"), None)
    for n in range(ATTEMPTS_MAX):
        a.dialling(n)
        a.opened((), lambda m: None, 0.0)
        a.ended(0.0)
    assert told == [(1, QuicOutcome.CLOSED)] and len(a) == 0


def test_datagrams_are_not_repeated() -> None:
    a, told, _ = link()
    a.submit(Message(1, b"x", QuicSend.DATAGRAM), None)
    a.dialling(1)
    a.opened((), lambda m: None, 0.0)
    a.ended(0.0)
    assert told == [(1, QuicOutcome.CLOSED)]


def test_what_the_engine_had_no_room_for_is_offered_again() -> None:
    a, told, given = link()
    give = lambda m: given.append(m.token)  # noqa: E731
    for token in (1, 2, 3):
        a.submit(Message(token, b"x"), give)
    a.dialling(1)
    a.opened((), give, 10.0)
    a.refused(2, NO_ROOM, 10.0)
    assert a.pushed == 1 and a.push_at > 10.0
    a.push(give)
    assert given == [1, 2, 3, 2] and a.pushed == 0
    a.refused(3, CLOSING, 10.0)
    a.refused(1, NO_ROOM, 10.0)
    a.ended(11.0)
    assert a.pushed == 0
    a.dialling(2)
    a.opened((), give, 12.0)
    assert sorted(given[4:]) == [1, 2, 3]
    a.refused(1, 1023, 12.0)  # longer than can ever be sent
    assert told == [(1, QuicOutcome.CLOSED)] and len(a) == 2


def test_a_changed_room_holds_for_what_comes_from_then_on() -> None:
    a, _, _ = link(room=2)
    assert a.submit(Message(1, b"x"), None) and a.submit(Message(2, b"x"), None)
    a.configured(a.target, 1)
    assert len(a) == 2 and not a.submit(Message(3, b"x"), None)
    a.configured(a.target, 3)
    assert a.submit(Message(3, b"x"), None)
