"""When a restart of the link calls for binding the queues anew, and when it is our own doing.

Drivers rebuild their rings when the link goes down and up, so sockets bound before may be dead: they are bound again.
Some drivers (igb) restart the link *because* a socket was bound or a program attached; following that would go round for
ever. A restart that comes soon after a binding of ours is a suspect: it is followed once, and if the next binding is
answered in the same way, the binding stands.
"""

from __future__ import annotations

# A link that restarts because of a binding does so within a few seconds (autonegotiation of 1000BASE-T takes up to 3).
SUSPECT_SECONDS = 5.0
FOLLOWED = 1


class FlapGuard:
    """Time comes in as seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._bound_at: float | None = None
        self._suspects = 0

    def bound(self, now: float) -> None:
        """Queues were bound."""
        self._bound_at = now

    def follow(self, now: float) -> bool:
        """The link restarted: bind anew?"""
        if self._bound_at is None or now - self._bound_at > SUSPECT_SECONDS:
            self._suspects = 0
            return True
        self._suspects += 1
        return self._suspects <= FOLLOWED
