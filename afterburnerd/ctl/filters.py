"""Which records `inspect` shows: filters of different kinds must all match, of one kind given several times one must.

A filter is made once from the command line and asked for each record, cheapest question first: size and source stand in
the head of a record, programs and accounts have to be cut out of its payload.
"""

from __future__ import annotations

import ipaddress
from argparse import Namespace
from collections.abc import Sequence

from msgspec import Struct

from afterburnerd import base58
from afterburnerd.client import Record, RecordError, RecordKind, Transaction
from afterburnerd.ctl.programs import PROGRAMS

SIGNATURE_BYTES = 64
KEY_BYTES = 32

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class FilterError(ValueError):
    """What was asked for cannot be: the text says which option and why."""


class Source(Struct, frozen=True):
    """Where a datagram came from: a network (None: any), a port (0: any)."""

    network: Network | None
    port: int

    def matches(self, record: Record) -> bool:
        """Whether a record came from there."""
        address, port = record.source
        if self.port and port != self.port:
            return False
        return self.network is None or address in self.network


class Filter(Struct, frozen=True):
    """What to show. Empty tuples and zeros: anything."""

    min_size: int = 0
    max_size: int = 0
    malformed: bool = False
    rules: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    signatures: tuple[bytes, ...] = ()  # whole ones
    prefixes: tuple[str, ...] = ()  # beginnings, base58
    programs: frozenset[bytes] = frozenset()
    accounts: frozenset[bytes] = frozenset()

    def matches(self, record: Record) -> bool:
        """Whether a record is to be shown. One that is cut short before what is asked for does not match."""
        if record.length < self.min_size or (self.max_size and record.length > self.max_size):
            return False
        if self.malformed and record.head.kind != RecordKind.MALFORMED:
            return False
        if self.rules and record.rule not in self.rules and str(record.head.rule) not in self.rules:
            return False
        if self.sources and not any(s.matches(record) for s in self.sources):
            return False
        if not (self.signatures or self.prefixes or self.programs or self.accounts):
            return True
        transaction = record.transaction
        try:
            return transaction is not None and self._inside(transaction)
        except RecordError:
            return False

    def _inside(self, transaction: Transaction) -> bool:
        if (self.signatures or self.prefixes) and not self._signed(transaction):
            return False
        if self.programs and self.programs.isdisjoint(transaction.program_ids):
            return False
        if not self.accounts or not self.accounts.isdisjoint(transaction.account_keys):
            return True
        return any(lookup.table in self.accounts for lookup in transaction.lookups)

    def _signed(self, transaction: Transaction) -> bool:
        if any(s in self.signatures for s in transaction.signatures):
            return True
        return bool(self.prefixes) and any(base58.encode(s).startswith(self.prefixes) for s in transaction.signatures)


def from_args(args: Namespace) -> Filter:
    """Make the filter that the command line means. Raises FilterError."""
    if args.min_size and args.max_size and args.min_size > args.max_size:
        raise FilterError(f"--min-size {args.min_size} is larger than --max-size {args.max_size}")
    whole, prefixes = [], []
    for text in args.signature or ():
        data = _base58("--signature", text)
        if len(data) == SIGNATURE_BYTES:
            whole.append(data)
        elif len(text) < 88:
            prefixes.append(text)
        else:
            raise FilterError(f"--signature {text}: {len(text)} digits are more than a signature has (88)")
    return Filter(
        min_size=args.min_size or 0,
        max_size=args.max_size or 0,
        malformed=args.malformed,
        rules=tuple(args.rule or ()),
        sources=tuple(source(text) for text in args.source or ()),
        signatures=tuple(whole),
        prefixes=tuple(prefixes),
        programs=frozenset(_program(text) for text in args.program or ()),
        accounts=frozenset(_key("--account", text) for text in args.account or ()),
    )


def unknown_rules(wanted: Filter, rules: Sequence[str]) -> tuple[str, ...]:
    """Rules that are asked for by a name or an index that nobody has; none where it is not known who is there."""
    known = {*rules, *(str(index) for index in range(len(rules)))}
    return tuple(rule for rule in wanted.rules if rules and rule not in known)


def source(text: str) -> Source:
    """Read 10.0.0.1, 10.0.0.0/8, 2001:db8::1, any of these with :port ([v6]:port), or :port alone."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise FilterError(f"--source {text}: write an IPv6 address with a port as [address]:port")
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise FilterError(f"--source {text}: {port!r} is not a port")
    if not host and not port:
        raise FilterError(f"--source {text!r}: neither an address nor a port")
    try:
        network = ipaddress.ip_network(host) if host else None
    except ValueError as error:
        raise FilterError(f"--source {text}: {error}") from None
    return Source(network, int(port or 0))


def _program(text: str) -> bytes:
    return PROGRAMS[text] if text in PROGRAMS else _key("--program", text)


def _key(option: str, text: str) -> bytes:
    data = _base58(option, text)
    if len(data) != KEY_BYTES:
        names = f", nor one of {', '.join(PROGRAMS)}" if option == "--program" else ""
        raise FilterError(f"{option} {text}: {len(data)} bytes; not a key, which has {KEY_BYTES}{names}")
    return data


def _base58(option: str, text: str) -> bytes:
    try:
        return base58.decode(text)
    except ValueError as error:
        names = f", nor one of {', '.join(PROGRAMS)}" if option == "--program" else ""
        raise FilterError(f"{option} {text}: {error}{names}") from None
