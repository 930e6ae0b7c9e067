"""A complete handshake as the message that the engine adopts from: struct quic_adopt.

Everything that outlives the handshake goes into this one message of fixed layout; nothing else does. The raw bytes of both
transport-parameter extensions are handed over, and the engine reads them for itself.

What needs a word:

- `next_pn`: aioquic counts all packet-number spaces with one counter, so the application space begins with holes. The engine
  knows them and takes an acknowledgement of one for what it is (optimistic).
- 0-RTT: `early` says which packet numbers of the application space were used. Streams of 0-RTT are *not* counted as opened:
  the same messages are sent again as the engine's first, on the same stream IDs (dial.py says why).
- `rtt_hint_ns` is the smallest sample of the handshake by our own clock; aioquic clamps at 1 ms.
- `crypto` is a server's session tickets; none of these bytes was ever sent, so they begin at offset 0.
"""

from __future__ import annotations

from typing import Final

from aioquic.tls import CipherSuite

from ..abi.layout import QUIC_CIDS, QUIC_CRYPTO, QUIC_EARLY, QUIC_TPARAMS, Path, QuicAdopt, QuicCid, QuicRange, QuicRole
from .cids import LocalCid, PeerCid
from .front import Front
from .wire import CID_MAX, TOKEN_BYTES, VERSION_1

SUITES: Final = {
    CipherSuite.AES_128_GCM_SHA256: 1,
    CipherSuite.AES_256_GCM_SHA384: 2,
    CipherSuite.CHACHA20_POLY1305_SHA256: 3,
}
NS: Final = 1_000_000_000


class NotExportable(Exception):
    """A complete handshake that the layout has no room for, with the transport error code to close it with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def export(
    front: Front,
    number: int,
    path: Path,
    local_cids: list[LocalCid],
    *,
    early_accepted: bool = False,
    early_streams: int = 0,
) -> QuicAdopt:
    """`local_cids` are the one of the handshake and the stock behind it. Times are seconds of CLOCK_MONOTONIC. `early_streams`
    went in 0-RTT: the peer may speak of them before the engine has sent them again."""
    secrets = front.secrets
    if not front.complete or secrets is None or not secrets.complete():
        raise ValueError(f"connection {number}: its handshake is not complete")
    crypto = front.pending_crypto()
    ranges = front.early_ranges()
    peer_cids = front.peer_cids()
    if len(front.remote_params) > QUIC_TPARAMS:
        raise NotExportable(
            0x08, f"{len(front.remote_params)} bytes of transport parameters"
        )  # TRANSPORT_PARAMETER_ERROR
    if len(crypto) > QUIC_CRYPTO or len(ranges) > QUIC_EARLY or max(len(local_cids), len(peer_cids)) > QUIC_CIDS:
        raise NotExportable(
            0x01,
            f"{len(crypto)} CRYPTO bytes, {len(ranges)} ranges of 0-RTT, {len(local_cids)} and {len(peer_cids)} IDs",
        )
    deadline = front.idle_deadline()
    return QuicAdopt(
        path=path,
        local_cids=tuple(packed(c) for c in local_cids),
        peer_cids=tuple(packed(c) for c in sorted(peer_cids, key=lambda c: c.seq)),
        early=tuple(QuicRange(first=first, last=last) for first, last in ranges),
        id=number,
        version=VERSION_1,
        role=QuicRole.CLIENT if front.is_client else QuicRole.SERVER,
        suite=SUITES[secrets.suite],
        confirmed=0 if front.is_client else 1,
        early_accepted=int(early_accepted),
        early_uni=early_streams if early_accepted else 0,
        tx_secret=secrets.send,
        rx_secret=secrets.receive,
        next_pn=front.next_packet_number,
        idle_deadline_ns=0 if deadline is None else round(deadline * NS),
        rtt_hint_ns=0 if front.rtt is None else max(1, round(front.rtt * NS)),
        peer_cid_in_use=peer_cids[0].seq,
        local_count=len(local_cids),
        peer_count=len(peer_cids),
        early_count=len(ranges),
        crypto_len=len(crypto),
        local_tparams_len=len(front.local_params),
        remote_tparams_len=len(front.remote_params),
        local_tparams=front.local_params,
        remote_tparams=front.remote_params,
        crypto=crypto,
    )


def packed(cid: LocalCid | PeerCid) -> QuicCid:
    assert len(cid.cid) <= CID_MAX
    return QuicCid(
        seq=cid.seq,
        len=len(cid.cid),
        has_token=int(len(cid.token) == TOKEN_BYTES),
        cid=cid.cid,
        token=cid.token or bytes(TOKEN_BYTES),
    )
