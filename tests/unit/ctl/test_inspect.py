"""inspect shows what solders reads in the same bytes, lets the right ones through, and owns up to what it missed."""

from __future__ import annotations

import ipaddress
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from afterburnerd.abi.layout import Record, RecordKind, Tx
from afterburnerd.abi.records import Ring
from afterburnerd.ctl import filters
from afterburnerd.ctl.main import build_parser
from tests.record_writer import Writer
from tests.unit.ctl.conftest import FakeDaemon, Tool

PAYER = Keypair.from_seed(bytes(range(32)))
SECOND = Keypair.from_seed(bytes(range(1, 33)))
PROGRAM, OTHER = Pubkey(bytes([7]) * 32), Pubkey(bytes([9]) * 32)
TARGET = Pubkey(bytes([20]) * 32)
SYSTEM = Pubkey(bytes(32))
TABLE = Pubkey(bytes([50]) * 32)


def legacy() -> VersionedTransaction:
    """Two signers, two programs."""
    metas = [AccountMeta(TARGET, False, True), AccountMeta(SECOND.pubkey(), True, False)]
    calls = [Instruction(PROGRAM, b"abc", metas), Instruction(SYSTEM, b"", [])]
    return VersionedTransaction(Message.new_with_blockhash(calls, PAYER.pubkey(), Hash.new_unique()), [PAYER, SECOND])


def version0() -> VersionedTransaction:
    """One lookup table."""
    loaded = [Pubkey(bytes([30 + i]) * 32) for i in range(4)]
    call = Instruction(OTHER, b"xyz", [AccountMeta(k, False, i % 2 == 0) for i, k in enumerate(loaded)])
    message = MessageV0.try_compile(
        PAYER.pubkey(), [call], [AddressLookupTableAccount(TABLE, loaded)], Hash.new_unique()
    )
    return VersionedTransaction(message, [PAYER])


def version1(config: TransactionConfig | None = None) -> VersionedTransaction:
    """Its signature comes last."""
    call = Instruction(OTHER, b"xyz" * 100, [AccountMeta(TARGET, False, True)])
    return VersionedTransaction(MessageV1.try_compile(PAYER.pubkey(), [call], Hash.new_unique(), config), [PAYER])


def mapped(address: str) -> bytes:
    ip = ipaddress.ip_address(address)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


class Rig:
    """A daemon with a record ring, filled by the test."""

    def __init__(self, daemon: FakeDaemon, slot_bytes: int = 1408) -> None:
        self.daemon = daemon
        self.ring = Ring.create(daemon.name, 0, 64, slot_bytes)
        self.writer = Writer.to(self.ring)

    def capture(self, payload: bytes, source: str = "192.0.2.1", sport: int = 5000, rule: int = 0) -> None:
        self.writer.capture(
            payload, src=mapped(source), sport=sport, dst=mapped("192.0.2.2"), dport=8001, rule=rule, queue=1
        )

    def datagram(self, payload: bytes) -> None:
        self.writer.write(
            payload, Record(tx=Tx(), kind=RecordKind.DATAGRAM, src=mapped("192.0.2.1"), dst=mapped("192.0.2.2"))
        )

    def close(self) -> None:
        self.writer.close()
        self.ring.close()


@pytest.fixture
def rig(daemon: FakeDaemon) -> Iterator[Rig]:
    rig = Rig(daemon)
    yield rig
    rig.close()


HISTORY = ("inspect", "--history", "--for", "0.01")


def documents(ctl: Tool) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in ctl.out.splitlines()]


@pytest.mark.parametrize("make", [legacy, version0, version1])
def test_json_says_what_solders_reads(rig: Rig, ctl: Tool, make: Any) -> None:
    transaction = make()
    message = transaction.message
    rig.capture(bytes(transaction))
    assert ctl(*HISTORY, "-j", "--full") == 0
    (found,) = documents(ctl)
    assert found["kind"] == "transaction"
    assert found["version"] == {legacy: "legacy", version0: "0", version1: "1"}[make]
    assert ("config" in found) is (make is version1)
    assert found["signatures"] == [str(s) for s in transaction.signatures]
    assert found["signature"] == str(transaction.signatures[0])
    assert found["accounts"] == [str(k) for k in message.account_keys]
    assert found["blockhash"] == str(message.recent_blockhash)
    assert [(i["program"], i["accounts"], i["data"]) for i in found["instructions"]] == [
        (str(message.account_keys[i.program_id_index]), list(i.accounts), bytes(i.data).hex())
        for i in message.instructions
    ]
    lookups = message.address_table_lookups if make is version0 else []
    assert [(x["table"], x["writable"], x["readonly"]) for x in found.get("lookups", [])] == [
        (str(x.account_key), list(x.writable_indexes), list(x.readonly_indexes)) for x in lookups
    ]
    assert found["payload"] == bytes(transaction).hex()
    assert (found["source"], found["destination"], found["rule"]) == ("192.0.2.1:5000", "192.0.2.2:8001", "tpu")
    assert found["size"] == len(bytes(transaction))


def test_a_line_has_signature_and_programs_whole(rig: Rig, ctl: Tool) -> None:
    transaction = legacy()
    rig.capture(bytes(transaction), source="2001:db8::7")
    assert ctl(*HISTORY) == 0
    (line,) = ctl.out.splitlines()
    assert line.endswith(f"legacy    2    5  {PROGRAM}, system  {transaction.signatures[0]}")
    assert "tpu         [2001:db8::7]:5000" in line
    assert "1 record seen, 1 shown" in ctl.err


def test_full_shows_rights_and_instructions(rig: Rig, ctl: Tool) -> None:
    transaction = legacy()
    message = transaction.message
    rig.capture(bytes(transaction))
    assert ctl(*HISTORY, "--full") == 0
    # as they were made: see legacy()
    rights = {PAYER.pubkey(): "signer writable", SECOND.pubkey(): "signer", TARGET: "writable", PROGRAM: "", SYSTEM: ""}
    lines = ctl.out.splitlines()
    for number, key in enumerate(message.account_keys):
        assert f"    account {number:>3} {key} {rights[key]}".rstrip() in lines
    assert f"{PROGRAM}  accounts " in ctl.out
    assert "data 616263" in ctl.out


def test_malformed_ones_have_their_reason(rig: Rig, ctl: Tool) -> None:
    whole = bytes(legacy())
    rig.capture(whole[:100])
    assert ctl(*HISTORY) == 0
    assert "malformed: truncated_signatures at byte" in ctl.out
    assert ctl(*HISTORY, "-j") == 0
    (found,) = documents(ctl)
    assert (found["kind"], found["reason"]) == ("malformed", "truncated_signatures")
    assert "signature" not in found


def test_datagrams_are_shown_as_bytes(rig: Rig, ctl: Tool) -> None:
    rig.datagram(b"hello")
    rig.datagram(b"x" * 100)
    assert ctl(*HISTORY) == 0
    assert "datagram: 68656c6c6f\n" in ctl.out
    assert f"datagram: {'78' * 32}..." in ctl.out
    assert ctl(*HISTORY, "--full") == 0
    assert f"payload {'78' * 100}" in ctl.out


def test_what_a_newer_daemon_writes_is_shown_by_number(rig: Rig, ctl: Tool) -> None:
    rig.writer.write(b"?", Record(tx=Tx(), kind=99, reason=77))
    rig.writer.write(b"?", Record(tx=Tx(), kind=RecordKind.MALFORMED, reason=77))
    assert ctl(*HISTORY) == 0
    assert "kind_99: 3f" in ctl.out
    assert "malformed: reason_77" in ctl.out
    assert ctl(*HISTORY, "-j", "--full") == 0


def test_a_record_cut_by_a_small_slot_shows_what_is_there(daemon: FakeDaemon, ctl: Tool) -> None:
    rig = Rig(daemon, slot_bytes=256)
    transaction = version0()
    rig.capture(bytes(transaction))
    assert ctl(*HISTORY, "--full") == 0
    assert "(cut short: raise records.slot_bytes)" in ctl.out
    assert str(transaction.signatures[0]) in ctl.out
    assert ctl(*HISTORY, "-j") == 0
    (found,) = documents(ctl)
    assert found["cut"] is True
    assert found["signature"] == str(transaction.signatures[0])
    assert ctl(*HISTORY, "-j", "--program", str(OTHER)) == 0
    assert ctl.out == ""
    rig.close()


def test_the_limits_of_a_v1_transaction_are_shown(rig: Rig, ctl: Tool) -> None:
    rig.capture(bytes(version1(TransactionConfig(priority_fee=2**40, compute_unit_limit=450))))
    rig.capture(bytes(version1()))
    assert ctl(*HISTORY, "--full") == 0
    assert "    config      priority fee 1099511627776 lamports  compute 450 units\n" in ctl.out
    assert "    config      none\n" in ctl.out
    assert ctl(*HISTORY, "-j", "--full") == 0
    silent = {"priority_fee": None, "compute_unit_limit": None, "loaded_accounts_size": None, "heap_size": None}
    assert [d["config"] for d in documents(ctl)] == [
        silent | {"priority_fee": 2**40, "compute_unit_limit": 450},
        silent,
    ]


def test_a_v1_record_without_its_end_shows_all_but_signatures(daemon: FakeDaemon, ctl: Tool) -> None:
    transaction = version1()
    whole = len(bytes(transaction))
    rig = Rig(daemon, slot_bytes=(Record.SIZE + whole) // 64 * 64)
    rig.capture(bytes(transaction))
    assert ctl(*HISTORY, "--full") == 0
    assert f"v1        1    3  {OTHER}\n" in ctl.out and f"account   0 {PAYER.pubkey()} signer writable" in ctl.out
    assert ctl.out.rstrip().endswith("raise records.slot_bytes") and f"data {(b'xyz' * 100).hex()}" in ctl.out
    assert ctl(*HISTORY, "-j") == 0
    (found,) = documents(ctl)
    assert found["cut"] is True and "signature" not in found and found["programs"] == [str(OTHER)]
    assert ctl(*HISTORY, "-j", "--program", str(OTHER)) == 0
    assert len(documents(ctl)) == 1
    rig.close()


@pytest.fixture
def mixture(rig: Rig) -> Rig:
    """0 legacy, 1 version 0 from another source, 2 malformed under another rule, 3 raw."""
    rig.capture(bytes(legacy()), source="192.0.2.1", sport=5000)
    rig.capture(bytes(version0()), source="2001:db8::1", sport=6000)
    rig.capture(bytes(legacy())[:50], source="10.1.2.3", sport=5000, rule=1)
    rig.datagram(b"x")
    return rig


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], [0, 1, 2, 3]),
        (["--program", str(PROGRAM)], [0]),
        (["--program", "system"], [0]),
        (["--program", str(TARGET)], []),
        (["--program", str(PROGRAM), "--program", str(OTHER)], [0, 1]),
        (["--program", str(PROGRAM), "--source", "2001:db8::1"], []),
        (["--account", str(TARGET)], [0]),
        (["--account", str(PAYER.pubkey())], [0, 1]),
        (["--account", str(TABLE)], [1]),
        (["--account", str(TABLE), "--account", str(SECOND.pubkey())], [0, 1]),
        (["--rule", "votes"], [2]),
        (["--rule", "1"], [2]),
        (["--rule", "tpu"], [0, 1, 3]),
        (["--source", "192.0.2.1"], [0, 3]),
        (["--source", "192.0.2.0/24", "--source", "10.0.0.0/8"], [0, 2, 3]),
        (["--source", ":5000"], [0, 2]),
        (["--source", "192.0.2.1:5000"], [0]),
        (["--source", "[2001:db8::/32]:6000"], [1]),
        (["--source", "[2001:db8::1]"], [1]),
        (["--source", "2001:db8::/32"], [1]),
        (["--source", "[2001:db8::/32]:6001"], []),
        (["--malformed"], [2]),
        (["--min-size", "51"], [0, 1]),
        (["--max-size", "50"], [2, 3]),
        (["--min-size", "50", "--max-size", "50"], [2]),
        (["--count", "2"], [0, 1]),
        (["--count", "1", "--malformed"], [2]),
    ],
)
def test_filters(mixture: Rig, ctl: Tool, options: list[str], shown: list[int]) -> None:
    assert ctl(*HISTORY, "-j", *options) == 0
    assert [d["number"] for d in documents(ctl)] == shown


def test_signatures_whole_or_by_their_beginning(rig: Rig, ctl: Tool) -> None:
    transactions = [legacy(), version0()]
    for transaction in transactions:
        rig.capture(bytes(transaction))
    for number, transaction in enumerate(transactions):
        for signature in transaction.signatures:  # also one that is not the first
            for text in (str(signature), str(signature)[:12]):
                assert ctl(*HISTORY, "-j", "--signature", text) == 0
                assert [d["number"] for d in documents(ctl)] == [number]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--program", "vtoe"], "--program vtoe: 3 bytes; not a key, which has 32, nor one of system, vote"),
        (["--program", "0x12"], "--program 0x12: '0' at place 1 is not a base58 digit, nor one of system"),
        (["--account", "abc"], "--account abc: 3 bytes; not a key, which has 32"),
        (["--signature", "O0"], "--signature O0: 'O' at place 1 is not a base58 digit"),
        (["--signature", "1" * 90], "more than a signature has (88)"),
        (["--source", "10.0.0.256"], "--source 10.0.0.256: '10.0.0.256' does not appear to be an IPv4 or IPv6 network"),
        (["--source", "10.0.0.1/8"], "--source 10.0.0.1/8: 10.0.0.1/8 has host bits set"),
        (["--source", "10.0.0.1:http"], "--source 10.0.0.1:http: 'http' is not a port"),
        (["--source", "[::1"], "write an IPv6 address with a port as [address]:port"),
        (["--source", ""], "neither an address nor a port"),
        (["--min-size", "9", "--max-size", "8"], "--min-size 9 is larger than --max-size 8"),
    ],
)
def test_filters_that_cannot_be_are_usage_errors(ctl: Tool, options: list[str], message: str) -> None:
    assert ctl("inspect", *options) == 64
    assert message in ctl.err
    assert "Try 'afterburnerctl inspect --help'" in ctl.err


def test_without_filters_everything_matches_unlooked_at() -> None:
    args = build_parser().parse_args(["inspect"])
    assert filters.from_args(args) == filters.Filter()


def test_only_what_comes_from_now_on_unless_history_is_asked_for(rig: Rig, ctl: Tool) -> None:
    rig.capture(bytes(legacy()))
    assert ctl("inspect", "--for", "0.01", "-j") == 0
    assert ctl.out == ""


def test_a_rule_that_nobody_has_is_told(rig: Rig, ctl: Tool) -> None:
    options = ("--rule", "tpo", "--rule", "tpu", "--rule", "0", "--rule", "2")
    assert ctl("inspect", "--for", "0.01", *options) == 0
    lines = ctl.err.splitlines()
    assert [line for line in lines if "no rule" in line] == [
        f"afterburnerctl: there is no rule {rule!r} (yet): the daemon has tpu, votes" for rule in ("tpo", "2")
    ]


def test_losses_are_counted_exactly(rig: Rig, ctl: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring has 64 slots; 1000 records pass between the start and the first look."""
    from afterburnerd import client

    follow = client.follow

    def follow_late(*args: Any, **kwargs: Any) -> client.Follower:
        follower = follow(*args, **kwargs)
        for _ in range(1000):
            rig.datagram(b"x")
        return follower

    monkeypatch.setattr(client, "follow", follow_late)
    assert ctl("inspect", "--for", "0.05", "-j") == 0
    found = documents(ctl)
    lost = sum(d["count"] for d in found if d["kind"] == "lost")
    shown = [d["number"] for d in found if d["kind"] == "datagram"]
    assert lost + len(shown) == 1000
    assert lost > 900
    assert shown == list(range(lost, 1000))
    assert ctl("inspect", "--for", "0.05") == 0
    assert "records lost: they came faster than they could be shown" in ctl.err


def test_the_dead_leave_their_records(rig: Rig, ctl: Tool) -> None:
    rig.capture(bytes(legacy()))
    rig.daemon.die()
    assert ctl("inspect") == 3
    assert "--history shows the records that it left" in ctl.err
    assert ctl("inspect", "--history", "-j") == 0  # and ends by itself
    assert len(documents(ctl)) == 1


def test_nothing_there_is_3(ctl: Tool) -> None:
    assert ctl("inspect") == 3
    assert "there are no records: no daemon named" in ctl.err


@contextmanager
def process(rig: Rig, *options: str) -> Iterator[subprocess.Popen[str]]:
    """inspect in a process of its own, as an operator has it; never left behind."""
    command = [sys.executable, "-m", "afterburnerd.ctl.main", "inspect", "--history", "--name", rig.daemon.name]
    command += ["--run-dir", str(rig.daemon.run_dir), *options]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    inspect = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    with inspect:
        try:
            yield inspect
        finally:
            inspect.kill()


def first_line(inspect: subprocess.Popen[str]) -> str:
    """What it shows at once, not when a buffer is full."""
    assert inspect.stdout is not None
    assert select.select([inspect.stdout], [], [], 30)[0], "nothing was shown"
    return inspect.stdout.readline()


def test_ctrl_c_ends_it_well(rig: Rig) -> None:
    rig.capture(bytes(legacy()))
    with process(rig) as inspect:
        assert inspect.stderr is not None
        assert "legacy" in first_line(inspect)
        inspect.send_signal(signal.SIGINT)
        assert inspect.wait(30) == 0
        assert inspect.stderr.read() == "afterburnerctl: 1 record seen, 1 shown\n"


def test_head_may_leave(rig: Rig) -> None:
    rig.capture(bytes(legacy()))
    with process(rig) as inspect:
        assert inspect.stdout is not None
        assert inspect.stderr is not None
        first_line(inspect)
        inspect.stdout.close()
        rig.capture(bytes(legacy()))
        assert inspect.wait(30) == 141
        assert inspect.stderr.read() == ""


@pytest.mark.privileged
def test_without_permission_is_77(rig: Rig, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(4711)
        os.setuid(4712)
        from afterburnerd.ctl.main import main

        os._exit(main(["inspect", "--name", rig.daemon.name, "--run-dir", "/"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77
