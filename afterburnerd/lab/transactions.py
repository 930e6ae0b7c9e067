"""Real Solana transactions for the rig: compiled, serialized and signed here, from a seed.

A lab that sends look-alikes proves little, so these are the real thing: Ed25519 signatures that verify, well-known program
ids, indices that agree. Nothing of it needs a node or a Solana library; the tests hold every shape against one, verify
the signatures, and execute what is executable. The same seed gives the same bytes, so that a run can be repeated.

    Call, Call ...  --compile_message-->  Message  --Maker.sign-->  Transaction  --pack-->  bytes
    what to do                            what is signed             what is sent

A Transaction packs by sections (signatures, header, accounts ...): the breakers in broken.py cut and bend between them.
Versions differ in the order of sections, and in how a section is written: see Message.sections.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TARGET_BYTES = 235  # the size that all benchmarks of the project speak of; shapes "transfer" and "memo" have it
MAX_BYTES = 1232  # largest legacy or v0 transaction: IPv6 minimum MTU 1280, less 48 bytes of IPv6 and UDP headers
MAX_BYTES_V1 = 4096  # largest v1 transaction (SIMD-0296); more than a datagram carries where the MTU is 1,500

SYSTEM_PROGRAM = bytes(32)
# ComputeBudget111111111111111111111111111111
COMPUTE_BUDGET_PROGRAM = bytes.fromhex("0306466fe5211732ffecadba72c39be7bc8ce5bbc5f7126b2c439b3a40000000")
# MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr
MEMO_PROGRAM = bytes.fromhex("054a535a992921064d24e87160da387c7c35b5ddbc92bb81e41fa8404105448d")
# TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA
TOKEN_PROGRAM = bytes.fromhex("06ddf6e1d765a193d9cbe146ceeb79ac1cb485ed5f5b37913a8cf5857eff00a9")
# JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4
SWAP_PROGRAM = bytes.fromhex("0479d55bf231c06eee74c56ece681507fdb1b2dea3f48e5102b1cda256bc138f")

Encoder = Callable[[int], bytes]


def compact_u16(value: int) -> bytes:
    """Solana's short_vec length: seven bits a byte, low ones first, in as few bytes as it takes."""
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"compact-u16 holds 0 to 65,535, not {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Account(msgspec.Struct, frozen=True):
    """An account as a call names it."""

    key: bytes
    signer: bool = False
    writable: bool = False


class Call(msgspec.Struct, frozen=True):
    """What a program is asked to do, before keys become indices."""

    program: bytes
    accounts: tuple[Account, ...]
    data: bytes


class Instruction(msgspec.Struct, frozen=True):
    """A compiled call: indices into the keys of its message."""

    program: int
    accounts: bytes
    data: bytes


class Lookup(msgspec.Struct, frozen=True):
    """Accounts that a v0 message loads from an address table."""

    table: bytes
    writable: bytes
    readonly: bytes


class Table(msgspec.Struct, frozen=True):
    """An address table, as a sender knows it."""

    key: bytes
    entries: tuple[bytes, ...]


class Config(msgspec.Struct, frozen=True):
    """What a v1 message says instead of calling the compute budget program; None: nothing (SIMD-0385, TransactionConfigMask).

    On a cluster, a limit that is not said is zero: a transaction that shall be executed says both.
    """

    priority_fee: int | None = None  # lamports, for the whole transaction
    compute_unit_limit: int | None = None
    loaded_accounts_size: int | None = None  # bytes
    heap_size: int | None = None  # bytes

    @property
    def mask(self) -> int:
        said = (self.priority_fee, self.compute_unit_limit, self.loaded_accounts_size, self.heap_size)
        return sum(bits for bits, value in zip((0b11, 0b100, 0b1000, 0b10000), said, strict=True) if value is not None)

    def pack(self) -> bytes:
        out = b"" if self.priority_fee is None else self.priority_fee.to_bytes(8, "little")
        for value in (self.compute_unit_limit, self.loaded_accounts_size, self.heap_size):
            out += b"" if value is None else value.to_bytes(4, "little")
        return out


NO_CONFIG = Config()


class Message(msgspec.Struct, frozen=True):
    """What is signed. version: None for legacy, else 0 or 1."""

    version: int | None
    required: int  # signatures
    readonly_signed: int
    readonly_unsigned: int
    keys: tuple[bytes, ...]
    blockhash: bytes
    instructions: tuple[Instruction, ...]
    lookups: tuple[Lookup, ...] = ()  # v0
    config: Config = NO_CONFIG  # v1

    def sections(self, count: Encoder = compact_u16) -> Iterator[tuple[str, bytes]]:
        """The message in named pieces, in order. `count` writes the lengths: a liar can be passed for it (v1 has none)."""
        if self.version == 1:
            yield from self._sections_v1()
            return
        prefix = b"" if self.version is None else bytes([0x80 | self.version])
        yield "header", prefix + bytes([self.required, self.readonly_signed, self.readonly_unsigned])
        yield "accounts", count(len(self.keys)) + b"".join(self.keys)
        yield "blockhash", self.blockhash
        out = count(len(self.instructions))
        for ix in self.instructions:
            out += bytes([ix.program]) + count(len(ix.accounts)) + ix.accounts + count(len(ix.data)) + ix.data
        yield "instructions", out
        if self.version is not None:
            out = count(len(self.lookups))
            for lookup in self.lookups:
                out += lookup.table
                out += count(len(lookup.writable)) + lookup.writable + count(len(lookup.readonly)) + lookup.readonly
            yield "lookups", out

    def pack(self) -> bytes:
        return b"".join(piece for _, piece in self.sections())

    def _sections_v1(self) -> Iterator[tuple[str, bytes]]:
        """SIMD-0385, Transaction V1 Specification. Both counts belong to the accounts, since they stand in front of them."""
        header = bytes([0x81, self.required, self.readonly_signed, self.readonly_unsigned])
        yield "header", header + self.config.mask.to_bytes(4, "little")
        yield "blockhash", self.blockhash
        yield "accounts", bytes([len(self.instructions), len(self.keys)]) + b"".join(self.keys)
        yield "config", self.config.pack()
        heads = (bytes([ix.program, len(ix.accounts)]) + len(ix.data).to_bytes(2, "little") for ix in self.instructions)
        yield "instructions", b"".join(heads) + b"".join(ix.accounts + ix.data for ix in self.instructions)


class Transaction(msgspec.Struct, frozen=True):
    """A message and its signatures, as it goes over the wire."""

    signatures: tuple[bytes, ...]
    message: Message

    def sections(self, count: Encoder = compact_u16) -> Iterator[tuple[str, bytes]]:
        if self.message.version == 1:
            yield from self.message.sections()
            yield "signatures", b"".join(self.signatures)
            return
        yield "signatures", compact_u16(len(self.signatures)) + b"".join(self.signatures)
        yield from self.message.sections(count)

    def pack(self) -> bytes:
        return b"".join(piece for _, piece in self.sections())


def compile_message(
    payer: bytes,
    calls: Sequence[Call],
    blockhash: bytes,
    version: int | None = None,
    tables: Sequence[Table] = (),
    config: Config = NO_CONFIG,
) -> Message:
    """Turns calls into a message: each key once, the payer first, then by right (signs and writes, signs, writes, reads).

    With version 0, an account that is in a table, does not sign and is no program is loaded from the table. `config` is
    for version 1.
    """
    rights = {payer: (True, True)}
    for call in calls:
        for account in call.accounts:
            signer, writable = rights.get(account.key, (False, False))
            rights[account.key] = (signer or account.signer, writable or account.writable)
    programs = dict.fromkeys(call.program for call in calls)  # a set would give another order every run
    for program in programs:
        rights.setdefault(program, (False, False))

    loaded: dict[bytes, tuple[Table, int]] = {}
    for table in tables:
        for position, key in enumerate(table.entries):
            if key in rights and not rights[key][0] and key not in programs:
                loaded.setdefault(key, (table, position))
    # Sorted is stable: within a class the order of first mention remains, and the payer stays first in the first.
    static = sorted(
        (key for key in rights if key not in loaded), key=lambda key: (not rights[key][0], not rights[key][1])
    )
    lookups: list[Lookup] = []
    dynamic: dict[bool, list[bytes]] = {True: [], False: []}
    for table in tables:
        mine = {w: [k for k in loaded if loaded[k][0] is table and rights[k][1] is w] for w in (True, False)}
        if mine[True] or mine[False]:
            positions = {w: bytes(loaded[k][1] for k in mine[w]) for w in (True, False)}
            lookups.append(Lookup(table.key, positions[True], positions[False]))
            for w in (True, False):
                dynamic[w] += mine[w]

    index = {key: i for i, key in enumerate([*static, *dynamic[True], *dynamic[False]])}
    return Message(
        version=version,
        required=sum(rights[key][0] for key in static),
        readonly_signed=sum(rights[key] == (True, False) for key in static),
        readonly_unsigned=sum(rights[key] == (False, False) for key in static),
        keys=tuple(static),
        blockhash=blockhash,
        instructions=tuple(
            Instruction(index[call.program], bytes(index[a.key] for a in call.accounts), call.data) for call in calls
        ),
        lookups=tuple(lookups),
        config=config,
    )


# --- calls of well-known programs -------------------------------------------------------------------------------------


def transfer(source: bytes, target: bytes, lamports: int, pad: int = 0) -> Call:
    """The system program's transfer. `pad` zero bytes behind its data: the program ignores what it does not read."""
    data = (2).to_bytes(4, "little") + lamports.to_bytes(8, "little") + bytes(pad)
    return Call(SYSTEM_PROGRAM, (Account(source, signer=True, writable=True), Account(target, writable=True)), data)


def memo(text: bytes, *signers: bytes) -> Call:
    return Call(MEMO_PROGRAM, tuple(Account(key, signer=True) for key in signers), text)


def compute_unit_limit(units: int) -> Call:
    return Call(COMPUTE_BUDGET_PROGRAM, (), b"\x02" + units.to_bytes(4, "little"))


def compute_unit_price(micro_lamports: int) -> Call:
    return Call(COMPUTE_BUDGET_PROGRAM, (), b"\x03" + micro_lamports.to_bytes(8, "little"))


# --- the maker --------------------------------------------------------------------------------------------------------


class Signer:
    """An Ed25519 key pair; `key` is the account that it signs for."""

    def __init__(self, secret: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.secret = secret
        self.key = self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


class Maker:
    """Makes transactions, no two alike, from a seed.

    Signing costs some 50 us each; a sender that needs more a second makes a stock first and sends it round and round.
    """

    SIGNERS = 8  # payers and co-signers; few, as with a real sender

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.signers = tuple(Signer(self.random.randbytes(32)) for _ in range(self.SIGNERS))
        self._by_key = {signer.key: signer for signer in self.signers}
        self.blockhash = self.random.randbytes(32)  # replace by a recent one where a real cluster shall take them
        self._made = 0

    def make(self, shape: str) -> bytes:
        """One packed transaction of the given shape (see SHAPES and LARGE_SHAPES)."""
        return self.transaction(shape).pack()

    def transaction(self, shape: str) -> Transaction:
        shapes = SHAPES | LARGE_SHAPES
        if shape not in shapes:
            raise ValueError(f"no shape {shape!r}: there are {', '.join(shapes)}")
        return self.sign(shapes[shape](self))

    def sign(self, message: Message) -> Transaction:
        """Signs for the first `required` keys of the message; keys of strangers get a signature that does not verify."""
        packed = message.pack()
        signatures = []
        for key in message.keys[: message.required]:
            signer = self._by_key.get(key)
            signatures.append(signer.sign(packed) if signer else self.random.randbytes(64))
        return Transaction(tuple(signatures), message)

    def serial(self) -> int:
        """A number that no other transaction of this maker has, large enough for a transfer to be worth the rent."""
        self._made += 1
        return 1_000_000 + self._made

    def payer(self) -> bytes:
        return self.random.choice(self.signers).key

    def key(self) -> bytes:
        return self.random.randbytes(32)

    def compile(
        self,
        *calls: Call,
        version: int | None = None,
        tables: Sequence[Table] = (),
        config: Config = NO_CONFIG,
    ) -> Message:
        """compile_message with the first signing account of the calls as payer."""
        payer = next(account.key for call in calls for account in call.accounts if account.signer)
        return compile_message(payer, calls, self.blockhash, version, tables, config)


def _bare_transfer(maker: Maker) -> Message:
    return maker.compile(transfer(maker.payer(), maker.key(), maker.serial()))


def _transfer(maker: Maker) -> Message:
    return maker.compile(transfer(maker.payer(), maker.key(), maker.serial(), pad=TARGET_BYTES - 215))


def _memo(maker: Maker) -> Message:
    payer, serial = maker.payer(), maker.serial()
    room = TARGET_BYTES - 64 - 1 - len(maker.compile(memo(b"", payer)).pack())
    return maker.compile(memo((b"%d " % serial).ljust(room, b"."), payer))


def _multisig(maker: Maker) -> Message:
    first, second, third = maker.random.sample([signer.key for signer in maker.signers], 3)
    target = maker.key()
    return maker.compile(
        transfer(first, target, maker.serial()),
        transfer(second, target, maker.serial()),
        memo(b"both of us, and a witness", first, second, third),
    )


def _swap_calls(maker: Maker) -> tuple[list[Call], list[bytes]]:
    """A swap over three pools: the limit and price of a serious sender, and the accounts that make such messages long."""
    payer = maker.payer()
    pools = [maker.key() for _ in range(21)]
    route = maker.random.randbytes(8) + maker.serial().to_bytes(8, "little") + maker.random.randbytes(19)
    accounts = (
        Account(TOKEN_PROGRAM),
        Account(payer, signer=True, writable=True),
        *(Account(key, writable=i % 3 != 2) for i, key in enumerate(pools)),
    )
    calls = [compute_unit_limit(400_000), compute_unit_price(25_000), Call(SWAP_PROGRAM, accounts, route)]
    return calls, pools


def _swap(maker: Maker) -> Message:
    return maker.compile(*_swap_calls(maker)[0])


def _swap_v0(maker: Maker) -> Message:
    calls, pools = _swap_calls(maker)
    tables = [
        Table(maker.key(), tuple(maker.random.sample([*pools[:10], *(maker.key() for _ in range(30))], 40))),
        Table(maker.key(), tuple(maker.random.sample([*pools[10:18], *(maker.key() for _ in range(200))], 208))),
    ]
    return maker.compile(*calls, version=0, tables=tables)


def _v0_transfer(maker: Maker) -> Message:
    return maker.compile(transfer(maker.payer(), maker.key(), maker.serial()), version=0)


def _v1_transfer(maker: Maker) -> Message:
    config = Config(priority_fee=5_000, compute_unit_limit=450, loaded_accounts_size=65_536)
    return maker.compile(transfer(maker.payer(), maker.key(), maker.serial()), version=1, config=config)


def _swap_v1(maker: Maker) -> Message:
    config = Config(10_000, 400_000, 2 * 1024 * 1024, 64 * 1024)
    return maker.compile(_swap_calls(maker)[0][-1], version=1, config=config)


def _max(maker: Maker) -> Message:
    """A memo that fills the largest transaction to the last byte."""
    payer, serial = maker.payer(), maker.serial()
    room = MAX_BYTES - 64 - 1 - len(maker.compile(memo(b"", payer)).pack()) - 1  # its length takes a second byte
    return maker.compile(memo((b"%d " % serial).ljust(room, b"."), payer))


def _max_v1(maker: Maker) -> Message:
    """The same in version 1, to which a larger size was given."""
    payer, serial = maker.payer(), maker.serial()
    config = Config(compute_unit_limit=1_400_000, loaded_accounts_size=2 * 1024 * 1024)
    room = MAX_BYTES_V1 - 64 - len(maker.compile(memo(b"", payer), version=1, config=config).pack())
    return maker.compile(memo((b"%d " % serial).ljust(room, b"."), payer), version=1, config=config)


# Name -> what it is. The size of each is what the tests say. All of these fit one datagram.
SHAPES: dict[str, Callable[[Maker], Message]] = {
    "transfer": _transfer,  # 235 bytes: a transfer of lamports with 20 ignored bytes behind its data
    "transfer-bare": _bare_transfer,  # 215 bytes: the same without them, the smallest transfer there is
    "transfer-v0": _v0_transfer,  # 217 bytes: that as a v0 message, no lookups
    "memo": _memo,  # 235 bytes: a memo, signed by its payer
    "multisig": _multisig,  # three signers, two transfers, a memo
    "swap": _swap,  # compute budget, then a call with 23 accounts
    "swap-v0": _swap_v0,  # the same, most accounts from two address tables
    "transfer-v1": _v1_transfer,  # 236 bytes: that as a v1 message, with fee and limits
    "swap-v1": _swap_v1,  # the swap as a v1 message: all accounts named, every configuration value
    "max": _max,  # 1,232 bytes: the largest of legacy and v0
}
# For streams: too large for a datagram of an ordinary link.
LARGE_SHAPES: dict[str, Callable[[Maker], Message]] = {
    "max-v1": _max_v1,  # 4,096 bytes: the largest of all
}
