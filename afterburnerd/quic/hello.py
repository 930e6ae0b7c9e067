"""The TLS side of a handshake: aioquic's context, told what we offer and what we refuse.

Offers TLS_AES_128_GCM_SHA256 first, X25519 only (one key share: each further one costs a key generation), Ed25519 first.
Firedancer takes nothing else, and it is the cheaper cipher. A server's order of ciphers is its own; its groups are X25519
and P-256, because aioquic answers no client with HelloRetryRequest.

Two things aioquic does not offer are put in here. A server may ask for the client's certificate also where it resumes
(aioquic then waits for a certificate that nobody asked for). And it can refuse 0-RTT while it resumes: aioquic accepts the early
data of every ticket that it finds.
"""

from __future__ import annotations

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.tls import CipherSuite, Group, SignatureAlgorithm
from cryptography import x509

from .identity import PeerIdentity, peer_identity

CIPHER_SUITES = [
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
]
CLIENT_GROUPS = [Group.X25519]
SERVER_GROUPS = [Group.X25519, Group.SECP256R1]
SIGNATURES: list[int] = [
    SignatureAlgorithm.ED25519,
    SignatureAlgorithm.ECDSA_SECP256R1_SHA256,
    SignatureAlgorithm.RSA_PSS_RSAE_SHA256,
    SignatureAlgorithm.ECDSA_SECP384R1_SHA384,
    SignatureAlgorithm.RSA_PSS_RSAE_SHA384,
]


class Hello(tls.Context):
    """A context of aioquic's, turned into one of ours after it was made (aioquic names its class itself)."""

    _asks_certificate: bool
    _early: bool
    _pin: bytes  # client: the only key that the server may have; empty: any

    @classmethod
    def adapt(cls, context: tls.Context, *, is_client: bool, ask_certificate: bool, pin: bytes = b"") -> Hello:
        """Changes the class of a context in place."""
        context.__class__ = cls
        assert isinstance(context, cls)
        context.__dict__.pop("_request_client_certificate", None)
        context.__dict__.pop("early_data_accepted", None)
        context._asks_certificate = ask_certificate
        context._early = False
        context._pin = pin
        context._supported_groups = list(CLIENT_GROUPS if is_client else SERVER_GROUPS)
        context._signature_algorithms = list(SIGNATURES)
        if not is_client:
            context._max_early_data = None  # our tickets promise no 0-RTT
        return context

    # What aioquic keeps as plain attributes is looked up here instead.

    @property
    def _request_client_certificate(self) -> bool:  # type: ignore[override]
        return self._asks_certificate and not self._session_resumed

    @property
    def early_data_accepted(self) -> bool:
        return self._early

    @early_data_accepted.setter
    def early_data_accepted(self, value: bool) -> None:
        self._early = value and self._is_client  # the server role refuses 0-RTT

    def _client_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._client_handle_certificate_verify(input_buf)
        if self._pin and self.peer().public != self._pin:
            raise tls.AlertBadCertificate("the server's key is not the one that it is pinned to")

    def peer(self) -> PeerIdentity:
        return peer_identity(self._peer_certificate)

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        """The peer's; None where it presented none, as in a resumption."""
        return self._peer_certificate

    def resumption_master_secret(self) -> bytes:
        """What later tickets of this connection are made of (RFC 8446 7.1), once Finished was sent by both."""
        assert self.key_schedule is not None
        return self.key_schedule.derive_secret(b"res master")
