"""Who we are to a peer: an Ed25519 key and the self-signed certificate around it; and who the peer is to us.

Validators know each other by the key alone. The key is the one of a Solana keypair file (JSON, 64 numbers: seed, then public
key); the certificate carries it as theirs do (CN "Solana node", SAN localhost, a chain of exactly one) and stake is read from
it. A certificate is made once for an identity, not once for a connection: signing it costs as much as half a handshake.

A peer's certificate says nothing but its key: CertificateVerify proves that it has the private half (TLS checks that always),
and where a leader's identity is known the key can be pinned to it. Names, dates and issuers mean nothing here.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from .. import base58

KEYPAIR_BYTES = 64
SEED_BYTES = 32
# The dates of the validators' own certificates: they are never looked at, and must not say when a host was set up.
NOT_BEFORE = datetime.datetime(1975, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(4096, 1, 1, tzinfo=datetime.UTC)


class IdentityError(Exception):
    """A keypair that cannot be used; the text says where and why."""


class Identity:
    """A key with its certificate. Holds a secret: has no repr that shows it."""

    def __init__(self, key: Ed25519PrivateKey, certificate: x509.Certificate | None = None) -> None:
        self.key = key
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.certificate = certificate or self_signed(key)

    def __repr__(self) -> str:
        return f"<Identity {self.name}>"

    @property
    def name(self) -> str:
        """The public key as Solana writes it."""
        return base58.encode(self.public)

    @classmethod
    def generate(cls) -> Identity:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Identity:
        """From a keypair file as solana-keygen writes it."""
        try:
            numbers = json.loads(path.read_text())
        except OSError as error:
            raise IdentityError(f"identity {path}: {error.strerror}") from error
        except (UnicodeDecodeError, json.JSONDecodeError):
            numbers = None
        if (
            not isinstance(numbers, list)
            or len(numbers) != KEYPAIR_BYTES
            or not all(isinstance(n, int) and 0 <= n < 256 for n in numbers)
        ):
            raise IdentityError(
                f"identity {path}: not a Solana keypair (a JSON list of {KEYPAIR_BYTES} numbers, 0 to 255)"
            )
        found = cls(Ed25519PrivateKey.from_private_bytes(bytes(numbers[:SEED_BYTES])))
        if found.public != bytes(numbers[SEED_BYTES:]):
            raise IdentityError(f"identity {path}: its public half does not belong to its private half")
        return found


def self_signed(key: Ed25519PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Solana node")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )


class PeerIdentity(msgspec.Struct, frozen=True):
    """What a peer's certificate says: its Ed25519 key, or nothing where it presented none, or another kind of key."""

    public: bytes = b""

    @property
    def name(self) -> str:
        return base58.encode(self.public) if self.public else ""


def peer_identity(certificate: x509.Certificate | None) -> PeerIdentity:
    if certificate is None:
        return PeerIdentity()
    try:
        key = certificate.public_key()
    except ValueError:
        return PeerIdentity()
    if not isinstance(key, Ed25519PublicKey):
        return PeerIdentity()
    return PeerIdentity(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def server_name(host: str, port: int) -> str:
    """The SNI under which validators are dialled, so that tokens and tickets stay with the one that gave them."""
    return f"{host.replace(':', '-')}.{port}.sol"
