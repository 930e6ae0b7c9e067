"""What `inspect` says of one record: a line, a block with `--full`, or a JSON document.

    13:00:01.123456  tpu  192.0.2.1:50001  235 B  v0  1 sig  5 acc  compute-budget, system  5VERv8NMvzbJMEkV8xnrLkEaWR...

What is variable in length stands last, so that columns stay columns. Signature and keys are never shortened: one wants
to copy them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

import msgspec
from msgspec import Struct

from afterburnerd import base58
from afterburnerd.client import Config, Instruction, Record, RecordError, RecordKind, Transaction
from afterburnerd.ctl import units
from afterburnerd.ctl.programs import label

HEADER = f"{'time':15}  {'rule':10}  {'source':21}  {'size':>6}  {'ver':6}  {'sig':>3}  {'acc':>3}  programs  signature"


class InstructionView(Struct, frozen=True):
    """One instruction, for JSON."""

    program: str | None  # None: from a lookup table
    accounts: tuple[int, ...]  # indices
    data: str  # hex


class LookupView(Struct, frozen=True):
    """One address-table lookup, for JSON."""

    table: str
    writable: tuple[int, ...]
    readonly: tuple[int, ...]


class RecordView(Struct, frozen=True, omit_defaults=True):
    """One record, for JSON. Fields of a transaction are left out of what is none."""

    kind: str  # transaction, malformed, datagram
    time_ns: int
    rule: str
    source: str
    destination: str
    size: int
    worker: int
    queue: int
    number: int
    latency_ns: int | None = None
    reason: str = ""  # of malformed ones
    stopped_at: int | None = None  # of malformed ones: the byte at which reading stopped
    version: str = ""  # legacy, 0, 1
    signature: str = ""
    signatures: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    blockhash: str = ""
    instructions: tuple[InstructionView, ...] = ()
    lookups: tuple[LookupView, ...] = ()
    config: Config | None = None  # of v1
    payload: str = ""  # hex
    cut: bool = False  # the slot was too small for the datagram


def document(record: Record, *, full: bool) -> RecordView:
    """A record as JSON; `full` adds instructions, lookups, configuration, blockhash and payload."""
    view = RecordView(
        kind=kind(record),
        time_ns=record.time_ns,
        rule=record.rule,
        source=endpoint(record.source),
        destination=endpoint(record.destination),
        size=record.length,
        worker=record.worker,
        queue=record.queue,
        number=record.number,
        latency_ns=record.latency_ns,
        reason=reason(record) if record.head.kind == RecordKind.MALFORMED else "",
        stopped_at=record.head.tx.length if record.head.kind == RecordKind.MALFORMED else None,
        payload=record.payload.hex() if full else "",
        cut=record.truncated,
    )
    transaction = record.transaction
    if transaction is None:
        return view
    parts: dict[str, Callable[[], object]] = {
        "signature": lambda: base58.encode(transaction.signature),
        "signatures": lambda: tuple(base58.encode(s) for s in transaction.signatures),
        "accounts": lambda: tuple(base58.encode(k) for k in transaction.account_keys),
        "programs": lambda: tuple(base58.encode(p) for p in transaction.program_ids),
    }
    if full:
        parts["blockhash"] = lambda: base58.encode(transaction.blockhash)
        parts["instructions"] = lambda: tuple(_instruction(i) for i in transaction.instructions)
        parts["lookups"] = lambda: tuple(
            LookupView(base58.encode(x.table), tuple(x.writable), tuple(x.readonly)) for x in transaction.lookups
        )
        if transaction.version == 1:
            parts["config"] = lambda: transaction.config
    fields: dict[str, object] = {"version": version(transaction).removeprefix("v")}
    for name, part in parts.items():
        with suppress(RecordError):  # `cut` says it; what stands in front of the cut is shown
            fields[name] = part()
    return msgspec.structs.replace(view, **fields)


def _instruction(instruction: Instruction) -> InstructionView:
    program = instruction.program_id
    return InstructionView(
        base58.encode(program) if program else None, tuple(instruction.accounts), instruction.data.hex()
    )


def line(record: Record) -> str:
    """A record on one line."""
    when = datetime.fromtimestamp(record.time_ns / 1e9).strftime("%H:%M:%S.%f")
    head = f"{when}  {record.rule:10}  {endpoint(record.source):21}  {record.length:>4} B"
    transaction = record.transaction
    if transaction is None:
        return f"{head}  {_other(record)}"
    try:
        programs = ", ".join(label(p) for p in transaction.program_ids) or "-"
    except RecordError:
        programs = "(cut short: raise records.slot_bytes)"
    counts = f"{transaction.layout.num_signatures:>3}  {transaction.layout.num_accounts:>3}"
    try:
        signature = base58.encode(transaction.signature) or "(unsigned)"
    except RecordError:
        signature = ""
    return f"{head}  {version(transaction):6}  {counts}  {programs}  {signature}".rstrip()


def _other(record: Record) -> str:
    if record.head.kind == RecordKind.MALFORMED:
        return f"malformed: {reason(record)} at byte {record.head.tx.length}"
    shown = record.payload[:32].hex()
    return f"{kind(record)}: {shown}{'...' if record.length > 32 else ''}"


def block(record: Record) -> Iterator[str]:
    """Everything about a record, indented below its line."""
    latency = f", {units.duration(record.latency_ns)} after XDP saw it" if record.latency_ns is not None else ""
    yield f"    to {endpoint(record.destination)}, worker {record.worker} queue {record.queue} record {record.number}{latency}"
    transaction = record.transaction
    if transaction is None:
        yield f"    payload {record.payload.hex()}{' (cut)' if record.truncated else ''}"
        return
    # In the order of the bytes, so that all in front of a cut is shown.
    sections = (_body, _signatures) if transaction.version == 1 else (_signatures, _body)
    try:
        for section in sections:
            yield from section(transaction)
    except RecordError as error:
        yield f"    {error}"


def _signatures(transaction: Transaction) -> Iterator[str]:
    for signature in transaction.signatures:
        yield f"    signature   {base58.encode(signature)}"


def _body(transaction: Transaction) -> Iterator[str]:
    yield f"    blockhash   {base58.encode(transaction.blockhash)}"
    for number, key in enumerate(transaction.account_keys):
        yield f"    account {number:>3} {base58.encode(key)} {_rights(transaction, number)}".rstrip()
    if transaction.version == 1:
        yield f"    config      {_config(transaction.config)}"
    for number, instruction in enumerate(transaction.instructions):
        known = instruction.program_id
        program = label(known) if known else f"account {instruction.program_index} (from a lookup table)"
        accounts = ",".join(str(a) for a in instruction.accounts) or "none"
        yield f"    instr. {number:>4} {program}  accounts {accounts}  data {instruction.data.hex() or 'none'}"
    for lookup in transaction.lookups:
        writable = ",".join(str(i) for i in lookup.writable) or "none"
        readonly = ",".join(str(i) for i in lookup.readonly) or "none"
        yield f"    lookup      {base58.encode(lookup.table)}  writable {writable}  read-only {readonly}"


def _config(config: Config) -> str:
    """What a v1 transaction says of its fee and limits; nothing where it does not say."""
    said = (
        ("priority fee", config.priority_fee, "lamports"),
        ("compute", config.compute_unit_limit, "units"),
        ("loaded accounts", config.loaded_accounts_size, "B"),
        ("heap", config.heap_size, "B"),
    )
    return "  ".join(f"{name} {value} {unit}" for name, value, unit in said if value is not None) or "none"


def _rights(transaction: Transaction, number: int) -> str:
    """What the message header says about an account."""
    tx = transaction.layout
    signer = number < tx.num_required
    read_only = (
        tx.num_required - tx.num_ro_signed <= number if signer else tx.num_accounts - tx.num_ro_unsigned <= number
    )
    return f"{'signer ' if signer else ''}{'' if read_only else 'writable'}".rstrip()


def kind(record: Record) -> str:
    """transaction, malformed, datagram; of a newer daemon's kinds the number."""
    try:
        return record.kind.name.lower()
    except RecordError:
        return f"kind_{record.head.kind}"


def reason(record: Record) -> str:
    """Why it is no transaction; of a newer daemon's reasons the number."""
    try:
        return record.reason.name.lower()
    except RecordError:
        return f"reason_{record.head.reason}"


def version(transaction: Transaction) -> str:
    """legacy, v0, v1."""
    return "legacy" if transaction.version is None else f"v{transaction.version}"


def endpoint(address: tuple[object, int]) -> str:
    """192.0.2.1:5000, [2001:db8::1]:5000."""
    host = str(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
