"""Something that goes on beside a test, from another thread: traffic while the test looks at what it does to others."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeating(work: Callable[[], object], pause: float) -> Iterator[None]:
    """`work` again and again, with `pause` seconds in between, until the block ends. What it raises is raised there."""
    done = threading.Event()
    failed: list[BaseException] = []

    def go_on() -> None:
        try:
            while not done.is_set():
                work()
                time.sleep(pause)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failed:
        raise failed[0]
