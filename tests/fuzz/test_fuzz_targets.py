"""Frames, capture rules, record rings, the AF_XDP backend and what QUIC peers say survive a fuzzer.

And the fuzzers are such as would notice: each is shown holes.

The transaction decoder has a file of its own. `make hunt` runs them for as long as one likes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .make_corpus import MAKERS, kept
from .target import BOUND, TARGETS

OTHERS = [name for name in TARGETS if name != "solana_tx"]

# A target of the engine is built from thirty files, which takes a busy machine its time.
pytestmark = pytest.mark.timeout(BOUND + 320)

HOLES = {
    "eth": [
        ("if (len < at + VLAN_BYTES)", "if (0)"),  # reads a tag behind the end
        ("ip_len > len - at)", "0)"),  # believes the length of IPv4
        ("if (udp_len != ip_len)", "if (0)"),  # believes the length of UDP
        ("sum += *data;", "sum += 0;"),  # forgets an odd last byte of the checksum
    ],
    "rules": [
        ("if (rule->port == 0) /* first:", "if (rule->port == 0 && d->dport) /* first:"),  # a rule for port 0
        ("while (places < 2 * count)", "while (places < count)"),  # a table without an empty place: a search without end
        ("r->any_address |=", "r->any_address ="),
    ],
    "records": [
        ("(bytes - sizeof(said)) / said.slot_bytes", "bytes / said.slot_bytes"),  # forgets the header
        ("uint32_t stored = AB_MIN(len, w->room);", "uint32_t stored = len;"),
        ("(uint32_t)sizeof(struct ab_record);", "(uint32_t)offsetof(struct ab_record, tx);"),  # room that is not there
        ("w->head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);", "w->head = 0;"),  # begins anew
    ],
    "io": [
        ("d->stamp_ns = io->jumbo_stamp;", ""),  # the stamp of whatever stood there
        ("if (jumbos == AB_XSK_JUMBO_SLOTS && !io->jumbo_open)", "if (0)"),  # overwrites what is being looked at
        ("desc->len > AB_XSK_JUMBO_BYTES - io->jumbo_len", "desc->len > AB_XSK_JUMBO_BYTES"),  # writes beyond a slot
        ("io->jumbo_lost = !x->jumbo;", "io->jumbo_lost = false;"),  # writes where nothing was asked for
        ("x->held += !d->scratch;", ""),
        ("    ab_xsk_reap(&io->xsk);\n", ""),  # leaves what was sent in COMPLETION
    ],
    "quic_frames": [
        ("gap + 2 > smallest || ", ""),  # acknowledges packets below 0
        ("len > ab_quic_reader_left(&at) || ", ""),  # believes the length of STREAM
        (" || f->stream.offset + len > AB_QUIC_VARINT_MAX", ""),
        ("*len > AB_QUIC_CID_BYTES || ", ""),
        (" && f->limit.value <= AB_QUIC_STREAMS_MAX;", ";"),
        ("        w->p = begin;\n", ";"),  # leaves half a frame
    ],
    "quic_tparams": [
        ("    if (len > AB_QUIC_CID_BYTES)\n        return false;\n", ""),  # a connection ID that is longer than its place
        ("fixed[24] > AB_QUIC_CID_BYTES)", "0)"),
        ("fixed[24] < 1 || ", ""),
        ("if (!from_server && SERVERS & 1ULL << id)", "if (0)"),  # takes a client for a server
        ("ab_quic_reader_left(body) != AB_QUIC_TOKEN_BYTES", "ab_quic_reader_left(body) > AB_QUIC_TOKEN_BYTES"),
    ],
    "quic_packets": [
        ("if (ab_quic_idset_over(&c->uni_in, id >> 2))", "if (0)"),  # a transaction that comes again is told again
    ],
    "quic_peer": [
        ("ab_quic_queue_push(&q->slots, &c->again, index);", "(void)0;"),  # what was lost is never sent again
    ],
    "quic_adopt": [
        ("a->crypto_len > AB_QUIC_CRYPTO ||", ""),  # believes a length
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_target_survives_a_run(name: str, tmp_path: Path, seed: int) -> None:
    TARGETS[name].survives(tmp_path, seed)


@pytest.mark.parametrize("name", OTHERS)
def test_the_corpus_is_what_the_makers_make(name: str) -> None:
    assert kept(name) == MAKERS[name](), "stale corpus: python -m tests.fuzz.make_corpus"


@pytest.mark.parametrize(
    ("name", "check", "without"), [(name, *hole) for name, holes in HOLES.items() for hole in holes]
)
def test_a_fuzzer_notices_a_hole(name: str, check: str, without: str, tmp_path: Path) -> None:
    TARGETS[name].notices(tmp_path, check, without)
