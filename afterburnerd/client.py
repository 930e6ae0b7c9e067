"""What an application imports: the transactions and datagrams that Afterburner captures, as they come.

    from afterburnerd import client

    with client.follow("afterburner") as records:
        for record in records:
            if record.transaction:
                print(record.transaction.signature.hex(), record.transaction.program_ids, record.source)
        print(records.lost, "records came faster than they were read")

The records are read from shared memory; the daemon is not asked, and a slow reader costs it nothing: it loses records and
knows how many. Three ways to wait: `poll()` never does, `for` sleeps, `async for` lets the event loop do other things.
All three sleep between looks, the longer the quieter it is (50 us to 5 ms): a trading host's processors are not ours
to spin on. One who wants to spin calls `poll()` in a loop.

A follower outlives the daemon: it waits for the next one of the same name and goes on there. Records are ordered within a
worker, and merged by capture time within what one look found.

Everything in a record came from the network or from a ring that another process writes. Fields are decoded when
they are asked for, from the places that the data plane's decoder wrote down; a place outside the record is a RecordError.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from types import TracebackType

import msgspec

from .abi import layout, shm
from .abi.layout import RecordKind, TxReason
from .abi.records import RingReader, Start, rings_of
from .abi.shm import Forbidden, Invalid, NotThere, ShmError
from .abi.stats import StatsReader

__all__ = [
    "Config",
    "Follower",
    "Forbidden",
    "Instruction",
    "Invalid",
    "Lookup",
    "NotThere",
    "Record",
    "RecordError",
    "RecordKind",
    "ShmError",
    "Transaction",
    "TxReason",
    "follow",
]

SHORTEST_SLEEP = 50e-6  # what timers give anyway (slack of 50 us)
LONGEST_SLEEP = 5e-3  # 200 looks a second when nothing comes: about 0.3 % of a processor
RESCAN = 0.25  # seconds between looks for rings that appeared or went
BATCH = 256  # records copied at a time: 400 KiB of default slots

MONO = layout.Record.OFFSETS["mono_ns"]
SIGNATURE = 64
KEY = 32
LEGACY = 0xFF
V1 = 1
V1_HEAD = 4  # program, accounts, data (u16): the last two are counts

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RecordError(Exception):
    """A record does not hold what its head says: cut short by a small slot, or not written by a decoder of ours."""


class Instruction(msgspec.Struct, frozen=True):
    program_index: int  # into the account keys (static ones, then those that lookups load)
    program_id: bytes | None  # 32 bytes; None where the key comes from a lookup table
    accounts: bytes  # one index a byte
    data: bytes


class Lookup(msgspec.Struct, frozen=True):
    """Accounts that a v0 transaction takes from an address table."""

    table: bytes
    writable: bytes  # one index a byte
    readonly: bytes


class Config(msgspec.Struct, frozen=True):
    """What a v1 transaction says in place of calls to the compute budget program; None: it does not say."""

    priority_fee: int | None = None  # lamports, for the whole transaction
    compute_unit_limit: int | None = None
    loaded_accounts_size: int | None = None  # bytes
    heap_size: int | None = None  # bytes


class Transaction:
    """A view of a decoded transaction: parts are cut out of the payload where the decoder found them."""

    def __init__(self, tx: layout.Tx, payload: bytes) -> None:
        self.layout = tx
        self._payload = payload

    @property
    def version(self) -> int | None:
        """None: legacy."""
        return None if self.layout.version == LEGACY else self.layout.version

    @property
    def length(self) -> int:
        return self.layout.length

    @cached_property
    def signatures(self) -> list[bytes]:
        return self._cut(self.layout.signatures_off, SIGNATURE, self.layout.num_signatures)

    @property
    def signature(self) -> bytes:
        """The first one, by which the network knows the transaction; empty where there is none."""
        return self.signatures[0] if self.layout.num_signatures else b""

    @cached_property
    def account_keys(self) -> list[bytes]:
        """The static ones."""
        return self._cut(self.layout.accounts_off, KEY, self.layout.num_accounts)

    @property
    def blockhash(self) -> bytes:
        return self._cut(self.layout.blockhash_off, KEY, 1)[0]

    @cached_property
    def instructions(self) -> list[Instruction]:
        keys, cursor = self.account_keys, _Cursor(self._payload, self.layout.instructions_off)
        found = []
        # In v1, heads of fixed size stand in front of all bodies.
        v1, left = self.layout.version == V1, self.layout.num_instructions
        heads = [cursor.take(V1_HEAD) for _ in range(left)] if v1 else [b""] * left
        for head in heads:
            program = head[0] if v1 else cursor.take(1)[0]
            accounts = cursor.take(head[1] if v1 else cursor.count())
            data = cursor.take(int.from_bytes(head[2:], "little") if v1 else cursor.count())
            found.append(Instruction(program, keys[program] if program < len(keys) else None, accounts, data))
        return found

    @cached_property
    def config(self) -> Config:
        """Of v1; empty for the other versions."""
        cursor, mask = _Cursor(self._payload, self.layout.config_off), self.layout.config_mask
        said = ((0b11, 8), (0b100, 4), (0b1000, 4), (0b10000, 4))  # SIMD-0385: its bits, its bytes
        return Config(*(int.from_bytes(cursor.take(size), "little") if mask & bits else None for bits, size in said))

    @cached_property
    def lookups(self) -> list[Lookup]:
        cursor = _Cursor(self._payload, self.layout.lookups_off)
        return [
            Lookup(cursor.take(KEY), cursor.take(cursor.count()), cursor.take(cursor.count()))
            for _ in range(self.layout.num_lookups)
        ]

    @property
    def program_ids(self) -> list[bytes]:
        """Keys of the programs that it calls, each once, in order; those from lookup tables are not known here."""
        return list(dict.fromkeys(i.program_id for i in self.instructions if i.program_id is not None))

    def _cut(self, offset: int, size: int, count: int) -> list[bytes]:
        if offset + size * count > len(self._payload):
            raise RecordError(
                f"the record holds {len(self._payload)} bytes, the part asked for ends at {offset + size * count}: "
                "raise records.slot_bytes"
            )
        return [self._payload[at : at + size] for at in range(offset, offset + size * count, size)]


class _Cursor:
    """Walks through bytes that the decoder has walked through before."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) != size:
            raise RecordError(
                f"the record holds {len(self.data)} bytes, {self.at + size} are needed: raise records.slot_bytes"
            )
        self.at += size
        return part

    def count(self) -> int:
        """compact-u16: seven bits a byte, low ones first."""
        value = 0
        for shift in (0, 7, 14):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise RecordError(f"no compact-u16 at byte {self.at - 3}")


class Record:
    """One captured datagram."""

    __slots__ = ("_head", "_rules", "_slot", "_transaction")

    def __init__(self, slot: bytes, rules: tuple[str, ...] = ()) -> None:
        self._head: layout.Record | None = None
        self._slot = slot
        self._rules = rules
        self._transaction: Transaction | None = None

    @property
    def head(self) -> layout.Record:
        """Everything in front of the payload, as it lies in the slot."""
        if self._head is None:
            self._head = layout.Record.unpack(self._slot)
        return self._head

    @property
    def number(self) -> int:
        """Counts the records of a worker from 0, over restarts of the data plane."""
        return self.head.seq // 2 - 1

    @property
    def worker(self) -> int:
        return self.head.worker

    @property
    def queue(self) -> int:
        return self.head.queue

    @property
    def kind(self) -> RecordKind:
        try:
            return RecordKind(self.head.kind)
        except ValueError:
            raise RecordError(f"a record of kind {self.head.kind}, which this client does not know") from None

    @property
    def reason(self) -> TxReason:
        """Why it is no transaction; OK where it is one, or where nobody tried."""
        try:
            return TxReason(self.head.reason)
        except ValueError:
            raise RecordError(f"a record with reason {self.head.reason}, which this client does not know") from None

    @property
    def rule(self) -> str:
        """Name of the capture rule, from the configuration now in force."""
        i = self.head.rule
        return self._rules[i] if i < len(self._rules) else f"#{i}"

    @property
    def time_ns(self) -> int:
        """Unix time at which a worker took it off the queue."""
        return self.head.time_ns

    @property
    def mono_ns(self) -> int:
        """The same on CLOCK_MONOTONIC."""
        return int.from_bytes(self._slot[MONO : MONO + 8], "little")

    @property
    def latency_ns(self) -> int | None:
        """From the XDP program to the worker; None where XDP did not stamp it."""
        return self.head.mono_ns - self.head.stamp_ns if self.head.stamp_ns else None

    @property
    def source(self) -> tuple[Address, int]:
        return _address(self.head.src), self.head.sport

    @property
    def destination(self) -> tuple[Address, int]:
        return _address(self.head.dst), self.head.dport

    @property
    def length(self) -> int:
        """Bytes of the datagram, also of those that did not fit the slot."""
        return self.head.length

    @property
    def payload(self) -> bytes:
        """The datagram, or what of it fitted the slot (`truncated`)."""
        return self._slot[layout.Record.SIZE : layout.Record.SIZE + self.head.stored]

    @property
    def truncated(self) -> bool:
        return self.head.stored < self.head.length

    @property
    def transaction(self) -> Transaction | None:
        """The decoded transaction; None where the record holds none."""
        if self._transaction is None and self.head.kind == RecordKind.TRANSACTION:
            self._transaction = Transaction(self.head.tx, self.payload)
        return self._transaction

    @property
    def quic(self) -> layout.QuicData | None:
        """Connection, stream, offset and end of what a QUIC peer sent; None where the record is no such thing."""
        if self.head.kind not in (RecordKind.STREAM, RecordKind.QUIC_DATAGRAM):
            return None
        return layout.QuicData.unpack(self._slot, layout.Record.OFFSETS["tx"])

    def __repr__(self) -> str:
        address, port = self.source
        return (
            f"<Record {self.worker}/{self.number} {self.kind.name.lower()} {self.length} B from {address} port {port}>"
        )


class Follower:
    """All workers' rings of a daemon, merged. Made by `follow`."""

    def __init__(self, name: str, *, oldest: bool, timeout: float | None, wait: bool) -> None:
        self.name = name
        self.timeout = timeout
        self._rings: list[RingReader] = []
        self._lost = 0  # of rings that are gone
        self._pending: deque[Record] = deque()  # read, and not yet handed out by an iteration
        self._rules: tuple[str, ...] = ()
        self._scanned = 0.0
        self._stats: StatsReader | None = None
        self._scan("oldest" if oldest else "next")
        if not self._rings and not wait:
            raise NotThere(
                f"{shm.path_of(name)}.records.*: there are no records: no daemon named {name!r} is running, "
                "or its configuration has no [[capture]] rule"
            )

    @property
    def lost(self) -> int:
        """Records that were overwritten before they were read here, exactly."""
        return self._lost + sum(ring.lost for ring in self._rings)

    @property
    def present(self) -> bool:
        """Whether there is a daemon's ring to read; False while it is gone and a next one is being waited for."""
        return bool(self._rings)

    def poll(self, limit: int = BATCH) -> list[Record]:
        """What is there now, up to `limit` records of each worker. Never waits."""
        if self._pending:  # an iteration was left in the middle
            found = list(self._pending)
            self._pending.clear()
            return found
        if time.monotonic() - self._scanned >= RESCAN:
            self._scan("first")
        rules = self._rules
        found = [Record(slot, rules) for ring in self._rings for slot in ring.read(limit)]
        if len(self._rings) > 1:
            found.sort(key=lambda record: record.mono_ns)  # stable: a worker's own order stays
        return found

    def __iter__(self) -> Iterator[Record]:
        """Ends when nothing came for `timeout` seconds (None: never)."""
        pace, pending = _Pace(self.timeout), self._pending
        while not pace.over:
            pending.extend(self.poll())
            pace.looked(bool(pending))
            while pending:
                yield pending.popleft()
            if pace.sleep:
                time.sleep(pace.sleep)

    async def __aiter__(self) -> AsyncIterator[Record]:
        pace, pending = _Pace(self.timeout), self._pending
        while not pace.over:
            pending.extend(self.poll())
            pace.looked(bool(pending))
            while pending:
                yield pending.popleft()
            await asyncio.sleep(pace.sleep)  # also 0: a flood must not starve the rest of the loop

    def close(self) -> None:
        for ring in self._rings:
            self._lost += ring.lost
            ring.close()
        self._rings = []
        self._scanned = float("inf")
        if self._stats is not None:
            self._stats.close()
            self._stats = None

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _scan(self, start: Start) -> None:
        """Opens rings that appeared and drops those that are gone and read to their end.

        A ring that appears later has only records that came since, so its first one is the one to begin with.
        """
        self._scanned = time.monotonic()
        gone = [ring for ring in self._rings if ring.removed and ring.behind <= 0]
        for ring in gone:
            self._lost += ring.lost
            ring.close()
            self._rings.remove(ring)
        known = {ring.worker for ring in self._rings}
        for worker in rings_of(self.name):
            if worker not in known:
                try:
                    self._rings.append(RingReader(self.name, worker, start))
                except NotThere:
                    continue  # removed since it was listed
        try:
            if self._stats is None:
                self._stats = StatsReader.open(self.name)
            self._rules = self._stats.read().info.rules
        except ShmError:
            pass  # records can be read without the names of their rules


class _Pace:
    """How long to sleep before the next look: not at all while records come, then twice as long each time."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.sleep = 0.0
        self.over = False
        self._idle_since: float | None = None

    def looked(self, found: bool) -> None:
        """After each look: whether there was anything."""
        if found:
            self.sleep, self._idle_since = 0.0, None
            return
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        self.sleep = min(max(self.sleep * 2, SHORTEST_SLEEP), LONGEST_SLEEP)
        if self.timeout is not None:
            left = self._idle_since + self.timeout - now
            self.over = left <= 0
            self.sleep = min(self.sleep, max(left, 0.0))


def follow(
    name: str = "afterburner", *, oldest: bool = False, timeout: float | None = None, wait: bool = False
) -> Follower:
    """Follows the records of the daemon called `name`.

    oldest   begin with what the rings still hold, instead of with what comes next
    timeout  end an iteration when nothing came for so many seconds; None: never
    wait     where no such daemon runs yet, wait for it instead of raising NotThere
    """
    return Follower(name, oldest=oldest, timeout=timeout, wait=wait)


def _address(raw: bytes) -> Address:
    v6 = ipaddress.IPv6Address(raw)
    return v6.ipv4_mapped or v6
