"""Base58 as Bitcoin and Solana write keys and signatures: no 0, O, I, l; leading zero bytes are leading ones.

The number behind the bytes is written in base 58. Python's integers do the long division, a machine word of digits
at a time: 58**10 is the largest power below 2**63, so a 64 byte signature takes nine divisions instead of 88.
"""

from __future__ import annotations

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

_DIGITS = {char: value for value, char in enumerate(ALPHABET)}
_CHUNK = 10
_CHUNK_BASE = 58**_CHUNK


def encode(data: bytes | bytearray | memoryview) -> str:
    """Bytes to base58."""
    data = bytes(data)
    rest = data.lstrip(b"\0")
    number = int.from_bytes(rest, "big")
    digits: list[str] = []
    while number:
        number, chunk = divmod(number, _CHUNK_BASE)
        for _ in range(_CHUNK):
            chunk, digit = divmod(chunk, 58)
            digits.append(ALPHABET[digit])
    text = "".join(reversed(digits)).lstrip("1")
    return "1" * (len(data) - len(rest)) + text


def decode(text: str) -> bytes:
    """Base58 to bytes. ValueError names the first character that is not base58."""
    number = 0
    for place, char in enumerate(text):
        digit = _DIGITS.get(char)
        if digit is None:
            raise ValueError(f"{char!r} at place {place + 1} is not a base58 digit")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
