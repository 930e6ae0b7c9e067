"""What the three executables have in common: how arguments are read, and how a tool ends.

A tool is `main(argv) -> exit code`. It says what it wants through `Parser`, an argparse whose errors name the nearest
valid word and leave with 64. What goes wrong on purpose is a `ToolError` with an exit code; `run_tool` turns that, Ctrl-C
and a closed pipe (`| head`) into one clean line or none. Any other exception is a bug, and shows its traceback.

Imports nothing of ours, and nothing slow: `--help` and completion must be quick.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

EXIT_OK = 0
EXIT_DEGRADED = 1  # the daemon serves, but not as configured
EXIT_NOT_RUNNING = 3
EXIT_USAGE = 64  # sysexits.h EX_USAGE
EXIT_UNREACHABLE = 69  # EX_UNAVAILABLE
EXIT_PERMISSION = 77  # EX_NOPERM
EXIT_CONFIG = 78  # EX_CONFIG
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say
EXIT_PIPE = 141  # 128 + SIGPIPE

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (EXIT_OK, "all is well"),
    (EXIT_DEGRADED, "the daemon serves, but something configured is not in force, or a check found something"),
    (EXIT_NOT_RUNNING, "the daemon is not running"),
    (EXIT_USAGE, "the command line makes no sense"),
    (EXIT_UNREACHABLE, "the daemon does not answer, or something needed is not there"),
    (EXIT_PERMISSION, "permission denied"),
    (EXIT_CONFIG, "the configuration is wrong, or cannot be applied without a restart"),
)
"""For manual pages and help texts."""


class ToolError(Exception):
    """A tool cannot go on. The text says what was wrong, where, and what to do."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Parser(argparse.ArgumentParser):
    """An argparse that leaves with 64 and knows what was meant. Options are not abbreviated: scripts outlive options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """A command that is missing is told after an option that nobody knows: that may be what was meant as one."""
        required = [a for a in self._actions if isinstance(a, argparse._SubParsersAction) and a.required]
        for action in required:
            action.required = False
        try:
            values, rest = super().parse_known_args(args, namespace)
        finally:
            for action in required:
                action.required = True
        for action in required:
            if not rest and getattr(values, action.dest) is None:
                self.error(f"the following arguments are required: {action.metavar}")
        return values, rest

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        values, rest = self.parse_known_args(args, namespace)
        if rest:
            parser: Parser = getattr(values, "parser", self)
            word = rest[0].partition("=")[0]
            if word.startswith("-") and word != "-":
                parser.error(f"unknown option {word}{nearest(word, parser._option_string_actions)}")
            parser.error(f"unexpected argument {word!r}")
        return values

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        words = [str(choice) for choice in action.choices]
        what = "command" if isinstance(action, argparse._SubParsersAction) else f"value of {_label(action)}"
        hint = nearest(str(value), words) or f"; choose from {', '.join(words)}"
        raise argparse.ArgumentError(None, f"unknown {what} {value!r}{hint}")


def _label(action: argparse.Action) -> str:
    return "/".join(action.option_strings) or str(action.metavar or action.dest)


def nearest(word: str, among: Iterable[str]) -> str:
    """'; did you mean ...?' or nothing."""
    close = difflib.get_close_matches(word, list(among), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def run_tool(prog: str, body: Callable[[], int]) -> int:
    """Run the body of a tool and return its exit code, whatever ends it."""
    try:
        code = body()
        sys.stdout.flush()  # here, where a closed pipe is caught
        return code
    except SystemExit as leave:  # argparse, which has said what there was to say
        return leave.code if isinstance(leave.code, int) else EXIT_OK
    except ToolError as error:
        _say(f"{prog}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, which is its right. The interpreter would complain when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE


def _say(text: str) -> None:
    try:
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
