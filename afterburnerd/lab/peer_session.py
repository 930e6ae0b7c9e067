"""A session that a client can resume, in a file: what `afterburner-lab peer client --resume FILE` keeps between two runs.

The ticket as it is in memory, in JSON with bytes in base64. Whoever reads it can resume the session, so it is our user's
alone (0600); it is good once, and is written anew with the ticket that the next connection brings.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from ..cli import EXIT_CONFIG, ToolError
from ..quic.tickets import Ticket


def load(path: Path) -> Ticket | None:
    """None: there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ticket)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolError(f"--resume {path}: {error.strerror}", EXIT_CONFIG) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ToolError(f"--resume {path}: not a session of ours ({error}); remove the file", EXIT_CONFIG) from None


def save(path: Path, ticket: Ticket) -> None:
    """In one step: a run that is interrupted leaves the former file."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(ticket))
        fresh.replace(path)
    except OSError as error:
        raise ToolError(f"--resume {path}: {error.strerror}", EXIT_CONFIG) from None
