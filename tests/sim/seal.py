"""Packet protection of RFC 9001 by `cryptography`, for peers that are not ours: it seals what no honest sender would.

`Sealer` makes packets (any number, any key generation, reserved bits, no frames at all); `Opener` reads what the engine
sent, follows its key updates, and holds that no packet number comes twice, which is half of invariant 1.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

# As the engine names them (enum ab_quic_suite).
AES128, AES256, CHACHA20 = 1, 2, 3
SUITES = (AES128, AES256, CHACHA20)
TAG = 16


def hash_bytes(suite: int) -> int:
    return 48 if suite == AES256 else 32


def expand(suite: int, secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context, RFC 8446 7.1."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\x00"
    return HKDFExpand(SHA384() if suite == AES256 else SHA256(), length, info).derive(secret)


class Generation:
    """Key and IV of one direction between two key updates."""

    def __init__(self, suite: int, secret: bytes) -> None:
        self.suite = suite
        self.secret = secret
        key = expand(suite, secret, "quic key", 16 if suite == AES128 else 32)
        self.iv = int.from_bytes(expand(suite, secret, "quic iv", 12), "big")
        self.aead = ChaCha20Poly1305(key) if suite == CHACHA20 else AESGCM(key)

    def nonce(self, number: int) -> bytes:
        return (self.iv ^ number).to_bytes(12, "big")

    def next(self) -> Generation:
        return Generation(self.suite, expand(self.suite, self.secret, "quic ku", hash_bytes(self.suite)))


class Direction:
    """All generations of one direction, made as they are asked for, and its header protection."""

    def __init__(self, suite: int, secret: bytes) -> None:
        self.suite = suite
        self.generations = [Generation(suite, secret)]
        self.hp = expand(suite, secret, "quic hp", 16 if suite == AES128 else 32)

    def generation(self, index: int) -> Generation:
        while len(self.generations) <= index:
            self.generations.append(self.generations[-1].next())
        return self.generations[index]

    def mask(self, sample: bytes) -> bytes:
        if self.suite == CHACHA20:
            return Cipher(algorithms.ChaCha20(self.hp, sample), None).encryptor().update(bytes(5))
        return Cipher(algorithms.AES(self.hp), modes.ECB()).encryptor().update(sample)[:5]


class Sealer:
    def __init__(self, suite: int, secret: bytes, cid: bytes, number: int = 0) -> None:
        self.keys = Direction(suite, secret)
        self.cid = cid
        self.number = number  # of the next packet
        self.generation = 0

    def seal(
        self,
        payload: bytes,
        number: int | None = None,
        *,
        cid: bytes | None = None,
        generation: int | None = None,
        number_bytes: int = 4,
        bits: int = 0x40,
        pad: bool = True,
    ) -> bytes:
        """`bits`: fixed, spin and reserved bits of the first byte. `pad`: to what header protection needs."""
        if number is None:
            number = self.number
            self.number += 1
        generation = self.generation if generation is None else generation
        if pad:
            payload += bytes(max(0, 4 - number_bytes - len(payload)))
        keys = self.keys.generation(generation)
        first = bits | (generation & 1) << 2 | (number_bytes - 1)
        shown = (number & ((1 << 8 * number_bytes) - 1)).to_bytes(number_bytes, "big")
        cid = self.cid if cid is None else cid
        header = bytes([first]) + cid + shown
        sealed = keys.aead.encrypt(keys.nonce(number), payload, header)
        mask = self.keys.mask((sealed[4 - number_bytes :] + bytes(16))[:16])
        masked = bytes([first ^ (mask[0] & 0x1F)]) + cid + bytes(a ^ b for a, b in zip(shown, mask[1:], strict=False))
        return masked + sealed


class Opener:
    """Reads one sender's packets in the order in which it sent them."""

    def __init__(self, suite: int, secret: bytes, cid_bytes: int, number: int = 0) -> None:
        self.keys = Direction(suite, secret)
        self.cid_bytes = cid_bytes
        self.least = number  # the next packet's number is at least this
        self.generation = 0
        self.bits = 0  # of the last packet's first byte
        self.cid = b""

    def open(self, packet: bytes) -> tuple[int, bytes]:
        """Number and payload; AssertionError for what a correct sender does not send."""
        at = 1 + self.cid_bytes
        mask = self.keys.mask(packet[at + 4 : at + 20])
        first = packet[0] ^ (mask[0] & 0x1F)
        assert first & 0xC0 == 0x40, f"a short header begins with {first:#x}"
        assert first & 0x18 == 0, "reserved bits are set"
        size = (first & 3) + 1
        shown = bytes(a ^ b for a, b in zip(packet[at : at + size], mask[1:], strict=False))
        header = bytes([first]) + packet[1:at] + shown
        # RFC 9000 A.3
        span = 1 << 8 * size
        number = (self.least & ~(span - 1)) | int.from_bytes(shown, "big")
        if number + span // 2 <= self.least:
            number += span
        elif number > self.least + span // 2 and number >= span:
            number -= span
        assert number >= self.least, f"packet number {number} again, or lower than one before it"
        generation = self.generation + ((first >> 2 ^ self.generation) & 1)
        keys = self.keys.generation(generation)
        payload = keys.aead.decrypt(keys.nonce(number), packet[at + size :], header)
        self.least = number + 1
        self.generation = generation
        self.bits = first
        self.cid = packet[1:at]
        return number, payload
