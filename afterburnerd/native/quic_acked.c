/* The fate of sent packets: acknowledged, lost, or in doubt (RFC 9002). */
#include <string.h>

#include "quic_conn.h"
#include "quic_qlog.h"

#define REORDER_MAX 128 /* packets: as far as the threshold may grow with what was seen to come late */
#define PROBES 2        /* of a timeout (RFC 9002 6.2.4: one or two); two survive the loss of one */

/* ACKs gather for a quarter of the round trip, as Chromium's engine does it, and never for so long that a peer's
 * HyStart (RFC 9406: 4 ms) or a human would notice. */
#define THIN_AFTER 100
#define THIN_MAX_NS 1000000

/* What the packets of one ACK add up to. */
struct sum {
    uint64_t largest_sent_ns; /* of the largest newly acknowledged */
    uint64_t marked;          /* sent with ECT(0) */
    bool eliciting;           /* at least one demanded an ACK */
    bool any;
};

/* Whether [first, last], below the first number that is ours, was sent: by the supervisor, in 0-RTT. */
static bool was_early(struct ab_quic *q, struct ab_quic_conn *c, uint64_t first, uint64_t last)
{
    const struct ab_quic_range *r;

    if (c->early == AB_QUIC_NIL)
        return false;
    r = (const struct ab_quic_range *)ab_quic_slot_data(ab_quic_slot_at(&q->slots, c->early));
    for (uint32_t i = 0; i < c->early_count; i++)
        if (first >= r[i].first && first <= r[i].last) {
            if (last <= r[i].last)
                return true;
            first = r[i].last + 1; /* ranges ascend: the next one may go on there */
        }
    return false;
}

/* EARLY for every range of 0-RTT packets that is acknowledged whole. */
static void early_acked(struct ab_quic *q, struct ab_quic_conn *c, uint64_t first, uint64_t last)
{
    const struct ab_quic_range *r =
        (const struct ab_quic_range *)ab_quic_slot_data(ab_quic_slot_at(&q->slots, c->early));

    for (uint32_t i = 0; i < c->early_count; i++)
        if (!(c->early_told >> i & 1) && r[i].first >= first && r[i].last <= last) {
            struct ab_quic_event e = {.kind = AB_QUIC_EVENT_EARLY, .length = sizeof(r[i])};

            if (ab_quic_event_queue(q, c, &e, &r[i]))
                c->early_told |= 1u << i;
        }
}

/* Whether a range names a packet that was never sent: a lie (RFC 9000 13.1), or an optimist's guess (21.4). */
static bool never_sent(struct ab_quic *q, struct ab_quic_conn *c, uint64_t first, uint64_t last)
{
    for (uint32_t i = 0; i < AB_QUIC_SKIPPED; i++)
        if (c->skipped[i] >= first && c->skipped[i] <= last) /* none: UINT64_MAX */
            return true;
    return ab_unlikely(first < c->first_pn) && !was_early(q, c, first, AB_MIN(last, c->first_pn - 1));
}

static void acked_packet(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_sent_packet *p, uint64_t pn,
                         struct sum *sum, uint64_t now)
{
    uint32_t index = p->chain;

    if (p->flags & AB_QUIC_SENT_IN_FLIGHT && ab_likely(p->path == c->path_epoch)) {
        ab_quic_cc_ack_packet(&c->cc, p->size, p->sent_ns);
        if (ab_unlikely(p->flags & AB_QUIC_SENT_PROBE)) {
            if (ab_quic_mtu_probe_acked(&c->mtu, p->size, now))
                ab_quic_cc_set_mtu(&c->cc, c->mtu.size);
        } else {
            ab_quic_mtu_acked(&c->mtu, pn, p->size);
        }
    }
    if (p->flags & AB_QUIC_SENT_ELICITING) {
        c->sent.outstanding--;
        sum->eliciting = true;
    }
    sum->marked += (p->flags & AB_QUIC_SENT_ECT) != 0;
    if (p->acks)
        ab_quic_ack_acked(&c->ack, p->acks - 1);
    while (index != AB_QUIC_NIL) {
        uint32_t next = ab_quic_slot_at(&q->slots, index)->next;

        if (next != AB_QUIC_NIL)
            __builtin_prefetch(ab_quic_slot_at(&q->slots, next));
        ab_quic_slot_end(q, c, index, AB_QUIC_OUTCOME_ACKNOWLEDGED);
        index = next;
    }
    p->chain = AB_QUIC_NIL;
    p->state = AB_QUIC_SENT_ACKED;
    p->jump = pn;
    sum->any = true;
}

/* Applies one range [first, last]; what was finished before is jumped over. */
static void acked_range(struct ab_quic *q, struct ab_quic_conn *c, uint64_t first, uint64_t last, struct sum *sum,
                        uint64_t now)
{
    uint64_t lowest = AB_MAX(first, c->sent.oldest), pn = last;

    if (last < lowest)
        return;
    for (;;) {
        struct ab_quic_sent_packet *p = ab_quic_sent_at(&q->blocks, &c->sent, pn);

        if (pn > lowest)
            ab_quic_slot_fetch(&q->slots, ab_quic_sent_at(&q->blocks, &c->sent, pn - 1)->chain, 0);
        if (ab_likely(p->state == AB_QUIC_SENT_OUTSTANDING)) {
            acked_packet(q, c, p, pn, sum, now);
        } else if (p->state == AB_QUIC_SENT_LOST) {
            /* It came late, not never. What it carried was sent again and is settled by that; but we were too quick,
             * and wait for more packets from now on (RFC 9002 6.1.1 allows it). */
            uint64_t late = c->sent.largest_acked - pn + 1;

            c->counts.packets_spurious++;
            c->reorder = (uint32_t)AB_MAX(c->reorder, AB_MIN(late, REORDER_MAX));
            p->state = AB_QUIC_SENT_ACKED;
        } else {
            pn = p->jump;
        }
        if (pn <= lowest)
            break;
        pn--;
    }
    ab_quic_sent_at(&q->blocks, &c->sent, last)->jump = lowest;
}

int ab_quic_in_ack(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f, uint32_t generation,
                   uint64_t now)
{
    struct ab_quic_ack_walk walk;
    struct sum sum = {0};
    uint64_t largest = f->ack.largest;
    bool raised, ce = false;

    if (ab_unlikely(largest >= c->sent.next))
        return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
    ab_quic_ack_walk_start(&walk, f);
    do {
        if (ab_unlikely(never_sent(q, c, walk.first, walk.last)))
            return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
    } while (ab_quic_ack_walk_next(&walk));
    if (largest >= c->keys.tx_first && c->keys.tx_generation) {
        /* RFC 9001 6.2: who has seen our new keys answers with new keys. */
        if (ab_unlikely(generation < c->keys.tx_generation))
            return AB_QUIC_ERROR_KEY_UPDATE;
        c->keys.confirmed = true;
    } else if (largest >= c->keys.tx_first) {
        c->keys.confirmed = true;
    }
    raised = c->sent.largest_acked == UINT64_MAX || largest > c->sent.largest_acked;
    if (raised)
        c->sent.largest_acked = largest;
    if (largest >= c->sent.oldest) {
        const struct ab_quic_sent_packet *p = ab_quic_sent_at(&q->blocks, &c->sent, largest);

        /* Also of one that demanded no ACK itself: its time is a sample (RFC 9002 5.1 asks of any one of them that it
         * did), and that from which CE counts (B.7). */
        if (p->path == c->path_epoch &&
            (p->state == AB_QUIC_SENT_OUTSTANDING || (raised && p->state == AB_QUIC_SENT_NONE)))
            sum.largest_sent_ns = p->sent_ns;
    }
    ab_quic_ack_walk_start(&walk, f);
    do {
        if (ab_unlikely(walk.first < c->first_pn) && c->early != AB_QUIC_NIL)
            early_acked(q, c, walk.first, walk.last);
        if (walk.last < c->sent.oldest)
            break;
        acked_range(q, c, walk.first, walk.last, &sum, now);
    } while (ab_quic_ack_walk_next(&walk));
    if (!sum.any)
        return 0;
    /* RFC 9002 5.1: a sample where the largest one is new. */
    if (sum.largest_sent_ns && sum.eliciting && now > sum.largest_sent_ns)
        ab_quic_rtt_sample(&c->rtt, now - sum.largest_sent_ns, ab_quic_rtt_ack_delay(f->ack.delay, c->exponent),
                           c->confirmed, now);
    /* In the first packets of a connection the peer's window is small, and grows with each ACK that it hears. */
    if (sum.largest_sent_ns && c->counts.packets_received >= THIN_AFTER)
        ab_quic_ack_thin(&c->ack, q->config.ack_threshold, AB_MIN(c->rtt.smoothed_ns / 4, THIN_MAX_NS));
    if (raised && (sum.marked || f->type == AB_QUIC_FRAME_ACK_ECN))
        ce = ab_quic_ecn_acked(&c->ecn, f, sum.marked);
    c->pto_count = 0;
    c->probes = 0;
    ab_quic_detect_loss(q, c, sum.largest_sent_ns, ce, now);
    if (ab_quic_qlog_on(c))
        ab_quic_qlog_metrics(q, c, now);
    ab_quic_conn_ready(q, c);
    return 0;
}

bool ab_quic_sent_evict(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    struct ab_quic_sent *s = &c->sent;

    for (uint64_t pn = s->low; pn < AB_MIN(s->base + AB_QUIC_BLOCK, s->next); pn++) {
        struct ab_quic_sent_packet *p = ab_quic_sent_at(&q->blocks, s, pn);

        if (p->state != AB_QUIC_SENT_OUTSTANDING)
            continue;
        p->state = AB_QUIC_SENT_LOST;
        c->counts.packets_lost++;
        /* It says nothing of congestion: nobody has told us that it was lost. */
        if (p->flags & AB_QUIC_SENT_IN_FLIGHT && p->path == c->path_epoch) {
            ab_quic_cc_forget(&c->cc, p->size);
            if (p->flags & AB_QUIC_SENT_PROBE)
                ab_quic_mtu_probe_lost(&c->mtu, p->size, now);
        }
        s->outstanding -= (p->flags & AB_QUIC_SENT_ELICITING) != 0;
        ab_quic_chain_lost(q, c, p, pn);
        p->jump = pn;
    }
    ab_quic_sent_trim(&q->blocks, s, UINT64_MAX);
    return ab_quic_sent_room(&q->blocks, s);
}

void ab_quic_detect_loss(struct ab_quic *q, struct ab_quic_conn *c, uint64_t largest_sent_ns, bool ce, uint64_t now)
{
    uint64_t delay = ab_quic_rtt_loss_delay(&c->rtt), before = now > delay ? now - delay : 0;
    uint64_t run_first = 0, run_last = 0, longest = 0, marked = 0;
    enum ab_quic_cc_event event;
    struct ab_quic_sent *s = &c->sent;

    c->loss_ns = UINT64_MAX;
    if (s->largest_acked == UINT64_MAX)
        return;
    for (uint64_t pn = s->low; pn <= s->largest_acked && pn < s->next; pn++) {
        struct ab_quic_sent_packet *p = ab_quic_sent_at(&q->blocks, s, pn);

        if (p->state != AB_QUIC_SENT_OUTSTANDING) {
            if (p->state == AB_QUIC_SENT_ACKED)
                run_first = 0; /* RFC 9002 7.6.2: nothing between the two may be acknowledged */
            continue;
        }
        if (pn + c->reorder > s->largest_acked && p->sent_ns > before) {
            c->loss_ns = AB_MIN(c->loss_ns, p->sent_ns + delay);
            run_first = 0;
            continue;
        }
        p->state = AB_QUIC_SENT_LOST;
        c->counts.packets_lost++;
        if (ab_quic_qlog_on(c))
            ab_quic_qlog_lost(q, c, pn, p->size, pn + c->reorder > s->largest_acked, now);
        if (p->flags & AB_QUIC_SENT_IN_FLIGHT && p->path == c->path_epoch) {
            if (p->flags & AB_QUIC_SENT_PROBE) {
                ab_quic_cc_forget(&c->cc, p->size);
                ab_quic_mtu_probe_lost(&c->mtu, p->size, now);
            } else {
                ab_quic_cc_lose_packet(&c->cc, p->size, p->sent_ns);
                if (ab_quic_mtu_lost(&c->mtu, pn, p->size, now))
                    ab_quic_cc_set_mtu(&c->cc, c->mtu.size);
            }
        }
        marked += (p->flags & AB_QUIC_SENT_ECT) != 0;
        if (p->flags & AB_QUIC_SENT_ELICITING) {
            s->outstanding--;
            if (c->rtt.sampled && p->sent_ns > c->rtt.first_ns) {
                run_last = p->sent_ns;
                if (run_first == 0)
                    run_first = p->sent_ns;
                longest = AB_MAX(longest, run_last - run_first);
            }
        }
        ab_quic_chain_lost(q, c, p, pn);
        p->jump = pn;
    }
    if (marked)
        ab_quic_ecn_lost(&c->ecn, marked);
    event = ab_quic_cc_update(&c->cc, &c->rtt, largest_sent_ns, ce, longest > ab_quic_rtt_persistent(&c->rtt), now);
    if (event != AB_QUIC_CC_NOTHING)
        c->counts.congestion_events++;
    if (event == AB_QUIC_CC_COLLAPSED)
        ab_quic_rtt_restart_min(&c->rtt);
    if (c->pacer.enabled)
        ab_quic_pacer_update(&c->pacer, &c->cc, &c->rtt, now);
    delay = 3 * ab_quic_conn_pto(c);
    ab_quic_sent_trim(&q->blocks, s, now > delay ? now - delay : 0);
}

/* A DATAGRAM is not sent again, so it must not be taken out of a packet that may still arrive. */
static bool has_datagram(const struct ab_quic *q, const struct ab_quic_sent_packet *p)
{
    for (uint32_t i = p->chain; i != AB_QUIC_NIL; i = ab_quic_slot_at(&q->slots, i)->next)
        if (ab_quic_slot_at(&q->slots, i)->kind == AB_QUIC_SLOT_DATAGRAM)
            return true;
    return false;
}

void ab_quic_pto(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    struct ab_quic_sent *s = &c->sent;
    uint32_t most = c->again.count ? 0 : PROBES, taken = 0;

    c->counts.ptos++;
    if (c->pto_count < 20)
        c->pto_count++;
    /* Where all that we send is large, nothing comes back that could tell a loss: the probes have to be smaller. */
    if (ab_quic_mtu_pto(&c->mtu, c->pto_count, now))
        ab_quic_cc_set_mtu(&c->cc, c->mtu.size);
    c->probes = PROBES;
    /* A probe should carry what was not acknowledged yet, each another packet's. That moves to the queue of what goes
     * again, without being called lost: the packet may still be acknowledged, and then measures the round trip. */
    for (uint64_t pn = s->low; pn < s->next && taken < most; pn++) {
        struct ab_quic_sent_packet *p = ab_quic_sent_at(&q->blocks, s, pn);

        if (p->state == AB_QUIC_SENT_OUTSTANDING && p->flags & AB_QUIC_SENT_ELICITING &&
            (p->chain != AB_QUIC_NIL || p->control) && !has_datagram(q, p)) {
            ab_quic_chain_lost(q, c, p, pn);
            p->control = 0;
            taken++;
        }
    }
    c->control |= AB_QUIC_CTL_PING;
    c->pto_ns = now;
    ab_quic_conn_ready(q, c);
}

void ab_quic_sent_settle(struct ab_quic *q, struct ab_quic_conn *c, enum ab_quic_outcome outcome)
{
    struct ab_quic_sent *s = &c->sent;

    for (uint64_t pn = s->oldest; pn < s->next; pn++) {
        struct ab_quic_sent_packet *p = ab_quic_sent_at(&q->blocks, s, pn);
        uint32_t index = p->state == AB_QUIC_SENT_OUTSTANDING ? p->chain : AB_QUIC_NIL;

        while (index != AB_QUIC_NIL) {
            uint32_t next = ab_quic_slot_at(&q->slots, index)->next;

            ab_quic_slot_end(q, c, index, outcome);
            index = next;
        }
    }
    ab_quic_sent_fini(&q->blocks, s);
    s->oldest = s->low = s->next;
    s->outstanding = 0;
}
