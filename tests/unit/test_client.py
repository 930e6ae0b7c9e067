"""What an application sees: transactions as solders sees them, merged rings, exact losses, a daemon that comes and goes."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import Iterator

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta
from solders.instruction import Instruction as SoldersInstruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from afterburnerd import client
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.layout import Record, RecordKind, Tx, TxReason
from afterburnerd.abi.records import Ring
from afterburnerd.abi.segment import Segment
from tests.record_writer import Writer

PAYER = Keypair.from_seed(bytes(range(32)))
PROGRAM = Pubkey.from_bytes(bytes([7]) * 32)
OTHER = Pubkey.from_bytes(bytes([9]) * 32)


def instruction(program: Pubkey, data: bytes, accounts: int = 2) -> SoldersInstruction:
    metas = [AccountMeta(Pubkey.from_bytes(bytes([20 + i]) * 32), False, True) for i in range(accounts)]
    return SoldersInstruction(program, data, metas)


def legacy() -> VersionedTransaction:
    instructions = [instruction(PROGRAM, b"abc"), instruction(OTHER, b"x" * 200), instruction(PROGRAM, b"")]
    message = Message.new_with_blockhash(instructions, PAYER.pubkey(), Hash.new_unique())
    return VersionedTransaction(message, [PAYER])


def version0() -> VersionedTransaction:
    table = AddressLookupTableAccount(
        Pubkey.from_bytes(bytes([50]) * 32), [Pubkey.from_bytes(bytes([20 + i]) * 32) for i in range(4)]
    )
    message = MessageV0.try_compile(PAYER.pubkey(), [instruction(PROGRAM, b"abc", 4)], [table], Hash.new_unique())
    return VersionedTransaction(message, [PAYER])


def version1() -> VersionedTransaction:
    instructions = [instruction(PROGRAM, b"abc"), instruction(OTHER, b"x" * 300, 1), instruction(PROGRAM, b"")]
    config = TransactionConfig(priority_fee=2**40, loaded_accounts_data_size_limit=65_536, heap_size=64 * 1024)
    return VersionedTransaction(MessageV1.try_compile(PAYER.pubkey(), instructions, Hash.new_unique(), config), [PAYER])


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    ring = Ring.create(name, 0, 64, 1408)
    writer = Writer.to(ring)
    yield writer
    writer.close()
    ring.close()


def datagram(writer: Writer, number: int, mono_ns: int = 0) -> None:
    writer.write(number.to_bytes(4, "little"), Record(tx=Tx(), kind=RecordKind.DATAGRAM, mono_ns=mono_ns))


def payloads(records: list[client.Record]) -> list[int]:
    return [int.from_bytes(r.payload, "little") for r in records]


@pytest.mark.parametrize("make", [legacy, version0, version1])
def test_a_transaction_is_what_solders_reads(name: str, writer: Writer, make: object) -> None:
    sent = make()  # type: ignore[operator]
    with client.follow(name) as records:
        writer.capture(bytes(sent))
        (record,) = records.poll()
    tx, message = record.transaction, sent.message
    assert tx is not None
    assert tx.signatures == [bytes(s) for s in sent.signatures]
    assert tx.signature == bytes(sent.signatures[0])
    assert tx.version == {legacy: None, version0: 0, version1: 1}[make]
    assert tx.account_keys == [bytes(k) for k in message.account_keys]
    assert tx.blockhash == bytes(message.recent_blockhash)
    assert [(i.program_index, i.accounts, i.data) for i in tx.instructions] == [
        (i.program_id_index, bytes(i.accounts), bytes(i.data)) for i in message.instructions
    ]
    lookups = message.address_table_lookups if make is version0 else []
    assert [(x.table, x.writable, x.readonly) for x in tx.lookups] == [
        (bytes(x.account_key), bytes(x.writable_indexes), bytes(x.readonly_indexes)) for x in lookups
    ]
    assert tx.program_ids == ([bytes(PROGRAM)] if make is version0 else [bytes(PROGRAM), bytes(OTHER)])
    assert tx.config == (client.Config(2**40, None, 65_536, 64 * 1024) if make is version1 else client.Config())
    assert tx.length == record.length == len(bytes(sent))


def test_what_stands_beside_the_bytes(name: str, writer: Writer) -> None:
    info = Info(rules=("swaps", "votes"), workers=(WorkerInfo(),))
    segment = Segment.create(name, 1, 1, 4, info)
    with client.follow(name) as records:
        src = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7])
        dst = ipaddress.IPv6Address("2001:db8::1").packed
        fields = {"src": src, "sport": 4000, "dst": dst, "dport": 8001, "rule": 1, "worker": 0, "queue": 3}
        writer.capture(bytes(legacy()), **fields, stamp_ns=1000, mono_ns=3500, time_ns=17)
        writer.capture(b"\x05rubbish", rule=9)
        good, bad = records.poll()
    assert good.source == (ipaddress.IPv4Address("192.0.2.7"), 4000)
    assert good.destination == (ipaddress.IPv6Address("2001:db8::1"), 8001)
    assert (good.rule, good.queue, good.number, good.latency_ns, good.time_ns) == ("votes", 3, 0, 2500, 17)
    assert (good.kind, good.reason, good.truncated) == (RecordKind.TRANSACTION, TxReason.OK, False)
    assert (bad.kind, bad.reason, bad.rule) == (RecordKind.MALFORMED, TxReason.TRUNCATED_SIGNATURES, "#9")
    assert (bad.payload, bad.transaction, bad.latency_ns) == (b"\x05rubbish", None, None)
    assert "transaction" in repr(good)
    segment.close()


def test_a_record_cut_short_says_so_instead_of_returning_half_a_key(name: str) -> None:
    ring = Ring.create(name, 0, 8, 256)
    writer = Writer.to(ring)
    with client.follow(name) as records:
        writer.capture(bytes(legacy()))
        (record,) = records.poll()
    tx = record.transaction
    assert tx is not None
    assert record.truncated
    assert len(tx.signature) == 64  # this much fits
    for part in ("account_keys", "blockhash", "instructions", "program_ids"):
        with pytest.raises(client.RecordError, match=r"raise records\.slot_bytes"):
            getattr(tx, part)
    writer.close()
    ring.close()


def test_a_v1_record_cut_short_has_no_signature_and_the_parts_in_front_of_it(name: str) -> None:
    ring = Ring.create(name, 0, 8, 704)  # all but a part of the signature
    writer = Writer.to(ring)
    sent = version1()
    with client.follow(name) as records:
        writer.capture(bytes(sent))
        (record,) = records.poll()
    tx = record.transaction
    assert tx is not None and record.truncated
    assert [i.data for i in tx.instructions] == [bytes(i.data) for i in sent.message.instructions]
    assert tx.config.priority_fee == 2**40
    with pytest.raises(client.RecordError, match=r"raise records\.slot_bytes"):
        _ = tx.signature
    writer.close()
    ring.close()


def test_offsets_that_lie_never_reach_outside(name: str, writer: Writer) -> None:
    tx = Tx(
        num_signatures=9, num_accounts=3, num_instructions=2, num_lookups=1, signatures_off=65000, accounts_off=65500
    )
    tx = Tx(**{f: getattr(tx, f) for f in tx.__struct_fields__} | {"instructions_off": 65535, "lookups_off": 3})
    v1 = Tx(version=1, num_instructions=2, instructions_off=10, config_mask=0xFF, config_off=3)
    with client.follow(name) as records:
        writer.write(b"\xff" * 20, Record(tx=tx, kind=RecordKind.TRANSACTION))
        writer.write(b"\xff" * 20, Record(tx=v1, kind=RecordKind.TRANSACTION))
        writer.write(b"", Record(tx=Tx(), kind=77, reason=77))
        liar, liar1, unknown = records.poll()
    for part in ("signature", "account_keys", "instructions", "lookups"):
        with pytest.raises(client.RecordError):
            getattr(liar.transaction, part)
    for part in ("instructions", "config"):
        with pytest.raises(client.RecordError):
            getattr(liar1.transaction, part)
    for part in ("kind", "reason"):
        with pytest.raises(client.RecordError, match="does not know"):
            getattr(unknown, part)


def test_workers_are_merged_by_time_and_each_keeps_its_order(name: str) -> None:
    rings = [Ring.create(name, worker, 64, 256) for worker in range(3)]
    writers = [Writer.to(ring) for ring in rings]
    with client.follow(name) as records:
        for number in range(60):
            datagram(writers[number % 3], number, mono_ns=1000 + number)
        assert payloads(records.poll()) == list(range(60))
    for w, r in zip(writers, rings, strict=True):
        w.close()
        r.close()


def test_nothing_running_is_an_error_unless_one_waits_for_it(name: str) -> None:
    with pytest.raises(client.NotThere, match="no daemon named"):
        client.follow(name)
    with client.follow(name, wait=True) as records:
        assert (records.poll(), records.present) == ([], False)
        ring = Ring.create(name, 0, 64, 256)
        writer = Writer.to(ring)
        for number in range(70):  # more than the ring holds, before the follower can have looked
            datagram(writer, number)
        seen = wait_for(records, 63)
        assert payloads(seen) == list(range(7, 70))
        assert (records.lost, records.present) == (7, True)
        writer.close()
        ring.close()


def wait_for(records: client.Follower, count: int) -> list[client.Record]:
    seen: list[client.Record] = []
    until = time.monotonic() + 30
    while len(seen) < count and time.monotonic() < until:
        seen += records.poll()
        time.sleep(0.001)
    return seen


def test_a_follower_goes_on_with_the_next_daemon(name: str) -> None:
    first = Ring.create(name, 0, 64, 256)
    writer = Writer.to(first)
    with client.follow(name) as records:
        for number in range(70):
            datagram(writer, number)
        second = Ring.create(name, 0, 64, 512)  # in place of the first, with 63 records in there unread
        later = Writer.to(second)
        for number in range(100, 170):
            datagram(later, number)
        assert payloads(wait_for(records, 126)) == [*range(7, 70), *range(107, 170)]
        assert records.lost == 14
        second.unlink()
        until = time.monotonic() + 30
        while records.present and time.monotonic() < until:
            assert records.poll() == []
        assert not records.present
        assert records.lost == 14
    for x in (writer, later, first, second):
        x.close()


def test_a_ring_laid_out_anew_in_place_is_read_from_its_beginning(name: str, writer: Writer) -> None:
    with client.follow(name) as records:
        for number in range(5):
            datagram(writer, number)
        assert payloads(records.poll()) == [0, 1, 2, 3, 4]
        writer.words[5] += 1  # created_ns
        writer.head = 0
        datagram(writer, 77)
        assert payloads(wait_for(records, 1)) == [77]


def test_the_oldest_on_request(name: str, writer: Writer) -> None:
    for number in range(10):
        datagram(writer, number)
    with client.follow(name) as new, client.follow(name, oldest=True) as old:
        assert payloads(new.poll()) == []
        assert payloads(old.poll()) == list(range(10))


def test_blocking_iteration_delivers_and_ends_after_its_timeout(name: str, writer: Writer) -> None:
    def write() -> None:
        for number in range(5):
            time.sleep(0.02)
            datagram(writer, number)

    thread = threading.Thread(target=write)
    with client.follow(name, timeout=1.0) as records:
        thread.start()
        assert payloads(list(records)) == [0, 1, 2, 3, 4]
    thread.join()


def test_an_iteration_left_in_the_middle_loses_nothing(name: str, writer: Writer) -> None:
    with client.follow(name, timeout=0.0) as records:
        for number in range(10):
            datagram(writer, number)
        for record in records:
            if record.number == 3:
                break
        assert payloads(list(records)) == [4, 5, 6, 7, 8, 9]
        for number in range(10, 20):
            datagram(writer, number)
        assert next(iter(records)).number == 10
        assert payloads(records.poll()) == list(range(11, 20))


def test_waiting_costs_next_to_no_processor_time(name: str, writer: Writer) -> None:
    with client.follow(name, timeout=1.0) as records:
        before = time.thread_time()
        assert list(records) == []
        assert time.thread_time() - before < 0.2  # a busy loop takes all of the second


async def test_asyncio_iteration_leaves_the_loop_to_others(name: str, writer: Writer) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        for number in range(20):
            datagram(writer, number)
            turns += 1
            await asyncio.sleep(0.001)

    with client.follow(name, timeout=1.0) as records:
        async with asyncio.TaskGroup() as group:
            group.create_task(other())
            seen = [record async for record in records]
    assert payloads(seen) == list(range(20))
    assert turns == 20


async def test_asyncio_iteration_under_a_flood_yields_to_the_loop(name: str, writer: Writer) -> None:
    with client.follow(name) as records:
        datagram(writer, 0)
        ticks = 0

        async def ticker() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(ticker())
        count = 0
        async for _ in records:
            datagram(writer, 0)  # there is always one more
            count += 1
            if count == 50:
                break
        task.cancel()
    assert ticks >= 40
