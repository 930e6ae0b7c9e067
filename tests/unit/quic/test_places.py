"""Places in the engines' tables: the worker that is wanted, or one that has room."""

from __future__ import annotations

from afterburnerd.quic.places import Places, rows_for


def test_there_are_rows_for_those_that_are_ending() -> None:
    assert [rows_for(n) for n in (1, 128, 4096)] == [17, 144, 4608]


def test_places_are_taken_and_given_back() -> None:
    places = Places()
    assert places.free
    places.each, places.workers = 2, 2
    for _ in range(4):
        assert places.free
        places.take()
    assert not places.free
    places.give_back()
    assert places.free


def test_a_full_worker_passes_on_to_the_emptiest() -> None:
    places = Places()
    places.each, places.workers = 2, 3
    for worker in (0, 0, 1):
        places.settle(worker)
    assert places.choose(0, {0, 1, 2}) == 2
    assert places.choose(0, {0, 1}) == 1, "2 is not up"
    assert places.choose(0, ()) == 0 and places.choose(1, {0, 1, 2}) == 1
    places.leave(0)
    assert places.choose(0, {0, 1, 2}) == 0
