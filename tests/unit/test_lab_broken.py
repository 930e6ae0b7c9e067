"""Every reason of the decoder has a way to be reached on demand, the same way again from the same seed.

That each leads to its reason is shown in tests/native/test_solana_tx.py, beside the decoder.
"""

from __future__ import annotations

from solders.transaction import VersionedTransaction

from afterburnerd.abi.layout import TxReason, TxSanitize
from afterburnerd.lab import broken
from afterburnerd.lab.transactions import Maker

DATAGRAM = 1500 - 40 - 8  # IPv6 and UDP headers on an ordinary link


def test_every_reason_has_a_breaker() -> None:
    assert set(broken.MALFORMED) == {reason.name.lower() for reason in TxReason} - {"ok"}
    assert set(broken.UNSOUND) == {reason.name.lower() for reason in TxSanitize} - {"ok"}


def test_what_is_sendable_fits_a_datagram(seed: int) -> None:
    maker = Maker(seed)
    for reason in broken.SENDABLE:
        assert all(len(broken.malformed(maker, reason)) <= DATAGRAM for _ in range(20))
    for reason in broken.UNSOUND:
        assert all(len(broken.unsound(maker, reason)) <= DATAGRAM for _ in range(20))


def test_an_unsound_transaction_is_signed_for_what_it_says(seed: int) -> None:
    """It must fail for its reason alone: where the count of signatures is right, the payer's verifies."""
    maker = Maker(seed)
    for reason in set(broken.UNSOUND) - {"missing_signatures", "extra_signatures"}:
        assert VersionedTransaction.from_bytes(broken.unsound(maker, reason)).verify_with_results()[0]


def test_the_same_seed_breaks_the_same_way() -> None:
    for reason in broken.MALFORMED:
        assert broken.malformed(Maker(5), reason) == broken.malformed(Maker(5), reason)
