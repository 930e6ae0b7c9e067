"""The service manager hears from us where it listens, and its silence stops nothing."""

from __future__ import annotations

from collections.abc import Callable

from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.observe.notify import NotifyError


def tell(what: Callable[..., bool], *words: str) -> None:
    """Calls a method of Notifier. A manager that cannot be reached is no reason to stop serving: it is said, and that is all."""
    try:
        what(*words)
    except NotifyError as error:
        say(messages.MANAGER_UNREACHABLE, reason=str(error))
