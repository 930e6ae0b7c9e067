"""A session that a client can resume, in a file: what `afterburner-lab peer client --resume FILE` keeps between two runs.

JSON with bytes in base64. Whoever reads it can resume the session, so it is our user's alone (0600); it is good once, and is
written anew with the ticket that the next connection brings.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path

import msgspec
from aioquic.tls import CipherSuite, SessionTicket

from ..cli import EXIT_CONFIG, ToolError
from ..quic.identity import PeerIdentity
from ..quic.tickets import Ticket


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ticket with what belongs to it."""

    name: str  # of the server, as it was dialled
    ticket: bytes
    secret: bytes
    age_add: int
    cipher_suite: int
    not_before: datetime.datetime
    not_after: datetime.datetime
    early_data: int | None  # TLS's max_early_data_size
    extensions: list[tuple[int, bytes]]  # the server's transport parameters among them
    peer: bytes  # key that the server proved
    alpn: str

    @classmethod
    def of(cls, ticket: Ticket) -> Session:
        session = ticket.session
        return cls(
            name=session.server_name,
            ticket=session.ticket,
            secret=session.resumption_secret,
            age_add=session.age_add,
            cipher_suite=int(session.cipher_suite),
            not_before=session.not_valid_before,
            not_after=session.not_valid_after,
            early_data=session.max_early_data_size,
            extensions=list(session.other_extensions),
            peer=ticket.peer.public,
            alpn=ticket.alpn,
        )

    def made(self) -> Ticket:
        session = SessionTicket(
            age_add=self.age_add,
            cipher_suite=CipherSuite(self.cipher_suite),
            max_early_data_size=self.early_data,
            not_valid_after=self.not_after,
            not_valid_before=self.not_before,
            other_extensions=list(self.extensions),
            resumption_secret=self.secret,
            server_name=self.name,
            ticket=self.ticket,
        )
        return Ticket(session, PeerIdentity(self.peer), self.alpn)


def load(path: Path) -> Ticket | None:
    """None: there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Session).made()
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
            file.write(msgspec.json.encode(Session.of(ticket)))
        fresh.replace(path)
    except OSError as error:
        raise ToolError(f"--resume {path}: {error.strerror}", EXIT_CONFIG) from None
