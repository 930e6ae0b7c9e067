#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "hist.h"
#include "solana_tx.h"

void ab_worker_init(struct ab_worker *w, uint16_t index, struct ab_stats_worker *stats,
                    struct ab_stats_rule *rule_stats, const struct ab_doorbell *bell)
{
    memset(w, 0, sizeof(*w));
    w->index = index;
    w->stats = stats;
    w->rule_stats = rule_stats;
    w->bell = bell;
}

void ab_worker_fini(struct ab_worker *w)
{
    for (uint32_t slot = 0; slot < AB_MAX_QUEUES; slot++)
        if (w->ios[slot])
            (void)ab_worker_close(w, slot, NULL);
    ab_rules_fini(&w->rules);
}

/* After a slot was opened or closed. */
static void take_stock(struct ab_worker *w)
{
    uint64_t bytes = 0, frames = 0;
    bool huge = true; /* all frames, or it does not count */

    w->io_count = 0;
    for (uint32_t i = 0; i < AB_MAX_QUEUES; i++) {
        if (!w->ios[i])
            continue;
        w->open[w->io_count++] = (uint8_t)i;
        if (w->ios[i]->kind == AB_IO_XSK) {
            frames += w->ios[i]->xsk.umem.bytes;
            bytes += ab_xsk_scratch(&w->ios[i]->xsk);
            huge = huge && w->ios[i]->xsk.umem.huge;
        } else {
            bytes += ab_udp_bytes(&w->ios[i]->udp);
        }
    }
    AB_STAT_SET(&w->stats->memory_bytes, bytes + frames);
    AB_STAT_SET(&w->stats->huge_pages, frames && huge);
}

static int take_slot(struct ab_worker *w, uint32_t slot, int fd, struct ab_error *err)
{
    int rc = 0;

    if (slot >= AB_MAX_QUEUES)
        rc = ab_fail(err, AB_EINVAL, "slot %u: a worker has %d", slot, AB_MAX_QUEUES);
    else if (w->ios[slot])
        rc = ab_fail(err, -EBUSY, "slot %u is in use: close it first", slot);
    else if (!(w->ios[slot] = calloc(1, sizeof(struct ab_io))))
        rc = ab_fail(err, AB_ENOMEM, "no memory for slot %u", slot);
    if (rc) {
        close(fd);
        return rc;
    }
    w->ios[slot]->drops = &w->stats->drop_short;
    return 0;
}

static int keep_or_free(struct ab_worker *w, uint32_t slot, enum ab_io_kind kind, int rc)
{
    if (rc) {
        free(w->ios[slot]);
        w->ios[slot] = NULL;
    } else {
        w->ios[slot]->kind = kind;
        take_stock(w);
    }
    return rc;
}

int ab_worker_open_xsk(struct ab_worker *w, uint32_t slot, int fd, const struct ab_xsk_config *config, bool verify_udp,
                       struct ab_stats_queue *stats, struct ab_error *err)
{
    int rc = take_slot(w, slot, fd, err);

    if (rc)
        return rc;
    w->ios[slot]->parse_flags = verify_udp ? AB_ETH_VERIFY_UDP : 0;
    return keep_or_free(w, slot, AB_IO_XSK, ab_xsk_open(&w->ios[slot]->xsk, fd, config, stats, err));
}

int ab_worker_open_udp(struct ab_worker *w, uint32_t slot, int fd, enum ab_udp_use use, uint32_t mtu,
                       struct ab_stats_queue *stats, struct ab_error *err)
{
    int rc = take_slot(w, slot, fd, err);

    if (rc)
        return rc;
    return keep_or_free(w, slot, AB_IO_UDP, ab_udp_open(&w->ios[slot]->udp, fd, use, mtu, stats, slot, err));
}

int ab_worker_close(struct ab_worker *w, uint32_t slot, struct ab_error *err)
{
    if (slot >= AB_MAX_QUEUES || !w->ios[slot])
        return ab_fail(err, AB_EINVAL, "slot %u is not open", slot);
    if (w->guest.ctx)
        w->guest.closing(w->guest.ctx, slot);
    ab_io_close(w->ios[slot]);
    free(w->ios[slot]);
    w->ios[slot] = NULL;
    take_stock(w);
    return 0;
}

/* malformed: the counters of enum ab_tx_reason begin with EMPTY, the first that is not OK. */
static void count_malformed(struct ab_worker *w, int reason)
{
    AB_STAT_ADD(&w->stats->malformed_empty + (reason - AB_TX_EMPTY), 1);
}

static void capture(struct ab_worker *w, const struct ab_dgram *d, const struct ab_rule *rule, uint16_t queue,
                    uint64_t now, uint64_t real)
{
    struct ab_stats_rule *counts = &w->rule_stats[rule->rule];
    struct ab_tx scratch, *tx = &scratch;
    struct ab_record *record = NULL;
    int reason = AB_TX_OK;

    if (w->records.ring) {
        record = ab_record_begin(&w->records);
        tx = &record->tx;
    }
    if (rule->decoder == AB_DECODER_SOLANA_TX) {
        reason = ab_tx_decode(tx, d->data, d->len);
        if (ab_likely(reason == AB_TX_OK)) {
            AB_STAT_ADD(&w->stats->decoded, 1);
            AB_STAT_ADD(&counts->decoded, 1);
        } else {
            count_malformed(w, reason);
            AB_STAT_ADD(&counts->malformed, 1);
        }
    } else {
        memset(tx, 0, sizeof(*tx));
    }
    if (d->stamp_ns)
        w->stamps[w->stamp_count++] = d->stamp_ns;
    if (!record)
        return;
    record->time_ns = real;
    record->stamp_ns = d->stamp_ns;
    record->mono_ns = now;
    memcpy(record->src, d->src, sizeof(record->src));
    memcpy(record->dst, d->dst, sizeof(record->dst));
    record->sport = d->sport;
    record->dport = d->dport;
    record->rule = rule->rule;
    record->kind = rule->decoder != AB_DECODER_SOLANA_TX ? AB_RECORD_DATAGRAM
                   : reason == AB_TX_OK                  ? AB_RECORD_TRANSACTION
                                                         : AB_RECORD_MALFORMED;
    record->reason = (uint8_t)reason;
    record->queue = queue;
    record->worker = w->index;
    ab_record_end(&w->records, record, d->data, d->len);
    AB_STAT_ADD(&w->stats->records, 1);
}

static void handle(struct ab_worker *w, struct ab_io *io, struct ab_dgram *d, const struct ab_rule *rule,
                   uint16_t queue, uint64_t now, uint64_t real)
{
    if (ab_unlikely(!rule)) {
        AB_STAT_ADD(&w->stats->drop_no_rule, 1);
        return;
    }
    AB_STAT_ADD(&w->rule_stats[rule->rule].packets, 1);
    AB_STAT_ADD(&w->rule_stats[rule->rule].bytes, d->len);
    switch ((enum ab_decoder)rule->decoder) {
    case AB_DECODER_SOLANA_TX:
    case AB_DECODER_RAW:
        capture(w, d, rule, queue, now, real);
        break;
    case AB_DECODER_ECHO:
        ab_io_reply(io, d);
        break;
    case AB_DECODER_COUNT:
    case AB_DECODER_QUIC: /* without a guest */
    case AB_DECODER_END:
        break;
    }
}

static bool same_destination(const struct ab_dgram *a, const struct ab_dgram *b)
{
    return a->dport == b->dport && a->vlan[0] == b->vlan[0] && a->vlan[1] == b->vlan[1] &&
           memcmp(a->dst, b->dst, sizeof(a->dst)) == 0;
}

/* Each datagram to whom its rule says; those for the guest in runs as long as they are. */
static void deal_out(struct ab_worker *w, struct ab_io *io, uint32_t count, uint16_t queue, uint64_t now)
{
    const struct ab_rule *rule = NULL;
    uint32_t first = 0; /* of a run for the guest that ends before `i` */

    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || !same_destination(&w->burst[i], &w->burst[i - 1]))
            rule = ab_rules_find(&w->rules, &w->burst[i]);
        if (rule && rule->decoder == AB_DECODER_QUIC && w->guest.ctx)
            continue;
        if (i > first)
            w->guest.rx(w->guest.ctx, queue, &w->burst[first], i - first, now);
        first = i + 1;
        handle(w, io, &w->burst[i], rule, queue, now, now + w->real_offset_ns);
    }
    if (count > first)
        w->guest.rx(w->guest.ctx, queue, &w->burst[first], count - first, now);
}

/* One burst of a source. What it makes us send leaves with the source's flush, which is the caller's. */
static uint32_t serve(struct ab_worker *w, struct ab_io *io, uint16_t queue)
{
    uint32_t count = ab_io_rx(io, w->burst, AB_WORKER_BURST);

    if (count) {
        /* Read after the burst was taken: the time of the turn may be earlier than the stamps that XDP gave the frames.
         */
        uint64_t now = ab_now_ns();

        w->stamp_count = 0;
        w->now = now;
        deal_out(w, io, count, queue, now);
        ab_io_release(io, w->burst, count);
        if (w->stamp_count) {
            /* One clock read a burst: what is recorded for its first datagrams is a little too much, never too little.
             */
            uint64_t done = ab_now_ns();

            for (uint32_t i = 0; i < w->stamp_count; i++)
                if (ab_likely(done >= w->stamps[i]))
                    ab_hist_add(&w->stats->latency, done - w->stamps[i], 1);
        }
    }
    return count;
}

/* All sources, and between their bursts and their kicks the guest: what it answers leaves with the same kick. */
static uint32_t serve_with_guest(struct ab_worker *w)
{
    struct ab_guest *g = &w->guest;
    uint32_t asked = g->commands(g->ctx, w->now), received[AB_MAX_QUEUES], moved = 0, sent = 0;

    for (uint32_t i = 0; i < w->io_count; i++)
        moved += received[i] = serve(w, w->ios[w->open[i]], w->open[i]);
    w->received = moved;
    if (g->deadline(g->ctx) <= w->now)
        sent = g->tx(g->ctx, w->now);
    for (uint32_t i = 0; i < w->io_count; i++)
        ab_io_flush(w->ios[w->open[i]], received[i] + sent);
    return asked + moved + sent;
}

/* How long an idle worker may sleep. */
static uint64_t nap_ns(const struct ab_worker *w)
{
    uint64_t most = AB_WORKER_NAP_MS * 1000000ull, due;

    if (!w->guest.ctx)
        return most;
    due = w->guest.deadline(w->guest.ctx);
    return AB_MIN(AB_WORKER_GUEST_NAP_MS * 1000000ull, due > w->now ? due - w->now : 0);
}

/* Idle and allowed to sleep: wait for a packet, not for long, so that doorbell, heartbeat and timers stay fresh. */
static void nap(struct ab_worker *w, uint64_t ns)
{
    struct timespec time = {.tv_nsec = (long)ns};
    struct pollfd fds[AB_MAX_QUEUES + 1];
    bool rings = w->guest.ctx && w->guest.doze, rung = false;
    nfds_t count = 0;

    if (rings && !w->guest.doze(w->guest.ctx, true))
        return;
    for (uint32_t i = 0; i < w->io_count; i++)
        fds[count++] = (struct pollfd){.fd = ab_io_fd(w->ios[w->open[i]]), .events = POLLIN};
    if (rings && w->guest.bell >= 0)
        fds[count++] = (struct pollfd){.fd = w->guest.bell, .events = POLLIN};
    AB_STAT_ADD(&w->stats->sleeps, 1);
    /* A queue whose device is gone reports an error at once and for ever: then sleep without it. */
    if (ppoll(fds, count, &time, NULL) > 0)
        for (nfds_t i = 0; i < count; i++) {
            if (fds[i].revents & (POLLERR | POLLHUP | POLLNVAL)) {
                ppoll(NULL, 0, &time, NULL);
                break;
            }
            rung |= fds[i].revents && rings && fds[i].fd == w->guest.bell;
        }
    if (!rings)
        return;
    (void)w->guest.doze(w->guest.ctx, false);
    if (rung)
        (void)!read(w->guest.bell, &(uint64_t){0}, sizeof(uint64_t)); /* non-blocking: if it rings on, we wake again */
}

/* A sign of life, and the wall clock: records carry it, and reading it for each burst would cost as much as decoding. A
 * step of the wall clock is thus followed within 64 turns. */
static void beat(struct ab_worker *w)
{
    AB_STAT_SET(&w->stats->heartbeat_ns, w->now);
    w->real_offset_ns = ab_clock_ns(CLOCK_REALTIME) - w->now;
}

uint32_t ab_worker_turn(struct ab_worker *w)
{
    struct ab_stats_worker *s = w->stats;
    uint64_t before = w->now, gap;
    uint32_t moved = 0;

    if (w->guest.ctx) {
        moved = serve_with_guest(w);
    } else {
        for (uint32_t i = 0; i < w->io_count; i++) {
            struct ab_io *io = w->ios[w->open[i]];
            uint32_t count = serve(w, io, w->open[i]);

            ab_io_flush(io, count);
            moved += count;
        }
        w->received = moved;
    }
    w->now = ab_now_ns();
    gap = w->now - before;
    AB_STAT_ADD(&s->turns, 1);
    AB_STAT_ADD(&s->run_ns, gap);
    AB_STAT_MAX(&s->gap_max_ns, gap);
    ab_hist_add(&s->gap, gap, 1);
    if (moved) {
        AB_STAT_ADD(&s->busy_turns, 1);
        AB_STAT_ADD(&s->busy_ns, gap);
    }
    if (w->received)
        w->busy_at = w->now;
    if (ab_unlikely(++w->round % AB_WORKER_BEAT_TURNS == 0)) {
        beat(w);
        if (w->guest.ctx)
            w->guest.beat(w->guest.ctx, w->now);
        if (ab_unlikely(w->round % AB_WORKER_LEVEL_TURNS == 0))
            for (uint32_t i = 0; i < w->io_count; i++)
                ab_io_levels(w->ios[w->open[i]]);
    }
    return moved;
}

void ab_worker_enter(struct ab_worker *w)
{
    w->now = w->busy_at = ab_now_ns();
    beat(w);
    AB_STAT_SET(&w->stats->state, AB_WORKER_STATE_RUNNING);
}

enum ab_worker_exit ab_worker_run(struct ab_worker *w, uint64_t turns)
{
    ab_worker_enter(w);
    for (uint64_t left = turns;;) {
        if (ab_worker_turn(w) == 0) {
            uint64_t ns = w->sleeps && w->now - w->busy_at > AB_WORKER_SLEEP_US * 1000ull ? nap_ns(w) : 0;

            if (ns > AB_WORKER_SLEEP_US * 1000ull) {
                beat(w);
                nap(w, ns);
                w->now = ab_now_ns(); /* sleep is neither run time nor a gap */
                beat(w);
            } else {
                ab_cpu_relax();
            }
        }
        /* Acquire: what the supervisor wrote before it rang is visible to who answers. */
        if (ab_unlikely(__atomic_load_n(&w->bell->word, __ATOMIC_ACQUIRE) != w->bell_seen)) {
            w->bell_seen = __atomic_load_n(&w->bell->word, __ATOMIC_ACQUIRE);
            AB_STAT_ADD(&w->stats->control_turns, 1);
            AB_STAT_SET(&w->stats->state, AB_WORKER_STATE_PAUSED);
            AB_STAT_SET(&w->stats->heartbeat_ns, w->now);
            return AB_WORKER_DOORBELL;
        }
        if (ab_unlikely(turns && --left == 0))
            return AB_WORKER_LIMIT;
    }
}
