"""A lasting relation to a server: every message has one fate, and pauses grow only where the peer failed."""

from __future__ import annotations

from afterburnerd.abi.layout import QuicOutcome, QuicSend
from afterburnerd.quic.dial import EarlyMessage, Target
from afterburnerd.quic.link import (
    ATTEMPTS_MAX,
    CLOSING,
    NO_ROOM,
    NO_STREAM,
    PAUSE_MAX,
    PAUSE_MIN,
    STEADY,
    Link,
    Message,
    State,
)


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
    a.configured(a.target, 1, kept=False)
    assert len(a) == 2 and not a.submit(Message(3, b"x"), None)
    a.configured(a.target, 3, kept=False)
    assert a.submit(Message(3, b"x"), None)


def kept_link() -> tuple[Link, list[Message]]:
    a = Link("a", Target(("192.0.2.1", 1)), kept=True)
    a.dialling(1)
    a.opened((), lambda m: None, 0.0)
    return a, []


def test_messages_take_turns_on_four_streams_that_are_kept_open() -> None:
    a, given = kept_link()

    def give(m: Message) -> None:
        given.append(Message(m.token, m.data, m.how, m.stream))

    for token in range(1, 6):
        a.submit(Message(token, b"x"), give)
    assert [(m.token, m.how) for m in given] == [(n, QuicSend.BIDI_OPEN) for n in range(1, 5)], "four at most"
    assert a.pushed == 1, "the fifth waits for a stream"
    for token, stream in ((1, 0), (2, 4), (3, 8), (4, 12)):
        a.stream_opened(token, stream)
    a.push(give)
    for token in range(6, 11):
        a.submit(Message(token, b"x"), give)
    assert [(m.token, m.how, m.stream) for m in given[4:]] == [
        (token, QuicSend.STREAM, stream) for token, stream in zip(range(5, 11), (0, 4, 8, 12, 0, 4), strict=True)
    ]
    assert a.early() == () and a.pushed == 0


def test_a_kept_stream_that_ends_is_replaced() -> None:
    a, given = kept_link()
    for token in range(1, 5):
        a.submit(Message(token, b"x"), given.append)
        a.stream_opened(token, 4 * (token - 1))
    a.done(2, QuicOutcome.STOPPED, 1)
    a.submit(Message(5, b"y"), given.append)
    assert given[-1].how == QuicSend.BIDI_OPEN
    a.stream_opened(5, 16)
    a.submit(Message(6, b"z"), given.append)
    stream = given[-1].stream
    a.refused(6, NO_STREAM, 1.0)  # ended, and the message that was on it is not told yet
    assert a.pushed == 1 and stream not in a.kept.streams  # type: ignore[union-attr]
    a.push(given.append)
    assert (given[-1].token, given[-1].how) == (6, QuicSend.BIDI_OPEN)


def test_a_kept_stream_that_could_not_be_opened_is_tried_again() -> None:
    a, given = kept_link()
    a.submit(Message(1, b"x"), given.append)
    a.refused(1, NO_ROOM, 1.0)
    a.push(given.append)
    assert [m.how for m in given] == [QuicSend.BIDI_OPEN, QuicSend.BIDI_OPEN]
    a.stream_opened(1, 0)
    assert a.kept is not None and a.kept.streams == [0]


def test_kept_streams_go_with_their_connection() -> None:
    a, given = kept_link()
    a.submit(Message(1, b"x"), given.append)
    a.stream_opened(1, 0)
    a.ended(1.0)
    a.dialling(2)
    a.opened((), given.append, 2.0)
    assert [m.how for m in given] == [QuicSend.BIDI_OPEN, QuicSend.BIDI_OPEN]
    a.configured(a.target, 10, kept=False)
    a.submit(Message(2, b"x"), given.append)
    assert given[-1].how == QuicSend.UNI
