"""Why the daemon will not start, or not do what it is asked: a sentence for a person and an exit code for a script."""

from __future__ import annotations


class Refusal(Exception):
    """`final`: no fallback may paper over it."""

    def __init__(self, text: str, code: int, *, final: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.final = final
