"""A link that restarts because queues were bound is not followed round and round."""

from __future__ import annotations

from afterburnerd.supervisor.flap import FlapGuard


def test_a_restart_long_after_a_binding_is_followed_every_time() -> None:
    guard = FlapGuard()
    for now in (0.0, 100.0, 200.0, 300.0):
        guard.bound(now)
        assert guard.follow(now + 50)


def test_a_restart_that_answers_a_binding_is_followed_once() -> None:
    guard = FlapGuard()
    guard.bound(0)
    assert guard.follow(2)  # a coincidence, perhaps
    guard.bound(2.1)
    assert not guard.follow(4)  # the driver's answer to a binding: it stands


def test_a_later_restart_is_followed_again() -> None:
    guard = FlapGuard()
    guard.bound(0)
    guard.follow(1)
    guard.bound(1.1)
    assert not guard.follow(2)
    assert guard.follow(60)


def test_before_anything_is_bound_every_restart_is_followed() -> None:
    assert FlapGuard().follow(0)
