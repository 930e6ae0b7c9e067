"""Identities as validators have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from afterburnerd import base58
from afterburnerd.quic.identity import Identity, IdentityError, PeerIdentity, peer_identity, server_name


def keypair(identity: Identity) -> list[int]:
    return [*identity.key.private_bytes_raw(), *identity.public]


def test_a_keypair_file_is_read(tmp_path: Path) -> None:
    made = Identity.generate()
    path = tmp_path / "id.json"
    path.write_text(json.dumps(keypair(made)))
    read = Identity.load(path)
    assert read.public == made.public and read.name == base58.encode(made.public)
    assert str(keypair(made)[0]) not in repr(read) or read.name in repr(read)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a Solana keypair"),
        ("[1, 2, 3]", "not a Solana keypair"),
        (json.dumps([256] * 64), "not a Solana keypair"),
        (json.dumps(["1"] * 64), "not a Solana keypair"),
        (json.dumps([1] * 64), "does not belong"),
        ("\udcff", "not a Solana keypair"),
    ],
)
def test_a_file_that_is_none_says_so_and_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "id.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(IdentityError, match=words) as caught:
        Identity.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="No such file"):
        Identity.load(tmp_path / "none.json")


def test_the_certificate_is_a_validators() -> None:
    identity = Identity.generate()
    certificate = identity.certificate
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "Solana node"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey) and key.public_bytes_raw() == identity.public
    key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    assert peer_identity(certificate) == PeerIdentity(identity.public)


def test_other_keys_are_no_identity() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    identity = Identity.generate()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(identity.certificate.not_valid_before_utc)
        .not_valid_after(identity.certificate.not_valid_after_utc)
        .sign(identity.key, None)
    )
    assert peer_identity(certificate) == PeerIdentity() and peer_identity(None).name == ""


def test_validators_are_known_by_address_and_port() -> None:
    assert server_name("192.0.2.7", 8009) == "192.0.2.7.8009.sol"
    assert ":" not in server_name("2001:db8::1", 8009)
