/* Load over our QUIC engine, one pinned loop an end.
 *
 *   quic-send      transactions as fast as engine and credit take them, or --probe: `rate` probes a second
 *   quic-receive   counts what arrived whole (after its FIN); of probes the one-way latency and gaps in the sequence
 *
 * A message counts as delivered at the sender when every byte is acknowledged. Both ends are on one machine, so a
 * probe's clock is the receiver's; it is that of the moment for which the probe was due (pace.h).
 *
 * With --probe both ends doze until it begins: what thousands of connections have to do at first and what an end waits
 * for the other would use up the time that the kernel grants a real-time thread (0.95 of a second), and it would be
 * stopped in the middle of what is measured. They are wide awake some time before the first sample counts. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "modes.h"
#include "pace.h"
#include "quic_end.h"
#include "samples.h"

#define SEND_BATCH 512       /* messages between two turns of the loop at most: some 80 packets */
#define DRAIN_NS 2000000000u /* for the last acknowledgements */
#define DOZE_NS 100000u      /* between two turns of an end that dozes: some hundred packets wait at most */
#define AWAKE_NS 20000000u   /* of the sender before the first probe, of the receiver before the first sample */

struct receiver {
    uint64_t messages, bytes, wrong, probes, gaps;
    uint64_t next; /* sequence number expected */
    uint64_t warm_until;
    uint32_t size;
    struct ab_lab_samples samples;
};

static void doze(struct ab_lab_quic_end *e)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = DOZE_NS}, NULL);
    e->worker.now = ab_now_ns(); /* sleep is neither run time nor a gap */
}

static void on_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                    uint32_t len, bool fin)
{
    struct receiver *r = ctx;
    uint64_t sent, sequence;

    (void)c;
    (void)stream;
    r->bytes += len;
    if (!fin)
        return;
    r->messages++;
    r->wrong += offset + len != r->size;
    if (offset == 0 && ab_lab_probe_get(data, len, &sent, &sequence)) {
        uint64_t now = ab_now_ns();

        if (r->probes++ == 0)
            r->warm_until = now + AWAKE_NS;
        r->gaps += sequence != r->next;
        r->next = sequence + 1;
        if (now >= r->warm_until)
            ab_lab_samples_add(&r->samples, now - sent);
    }
}

static void receiver_print(const struct ab_lab_quic_end *e, const struct receiver *r, bool final, uint64_t now)
{
    printf(
        "{\"final\":%s,\"now_ns\":%llu,\"messages\":%llu,\"bytes\":%llu,\"wrong\":%llu,\"probes\":%llu,\"gaps\":%llu,",
        final ? "true" : "false", (unsigned long long)now, (unsigned long long)r->messages,
        (unsigned long long)r->bytes, (unsigned long long)r->wrong, (unsigned long long)r->probes,
        (unsigned long long)r->gaps);
    ab_lab_quic_end_print(e);
    printf("}\n");
    fflush(stdout);
}

int ab_lab_quic_receive(const struct ab_lab_options *o, struct ab_error *err)
{
    struct receiver r = {.size = o->size};
    struct ab_lab_quic_end *e = NULL;
    uint64_t now, end, report;
    bool asleep;
    int rc = ab_lab_samples_init(&r.samples, o->probe ? 4000000 : 1, err);

    if (rc)
        return rc;
    if ((rc = ab_lab_quic_end_open(&e, o, err)))
        goto out;
    e->port->tap = (struct ab_quic_tap){.ctx = &r, .data = on_data};
    ab_lab_ready();
    now = ab_now_ns();
    asleep = o->probe;
    end = o->duration_ns ? now + o->duration_ns : UINT64_MAX;
    report = o->interval_ns ? now + o->interval_ns : UINT64_MAX;
    while (!ab_lab_stop && e->worker.now < end) {
        (void)ab_worker_turn(&e->worker);
        if (ab_unlikely(asleep)) {
            asleep = r.probes == 0;
            if (asleep)
                doze(e);
            else
                ab_lab_quic_end_awake(e);
        }
        if (ab_unlikely(e->events->tail != e->events->head) && (rc = ab_lab_quic_end_listen(e, err)))
            break;
        if (ab_unlikely(e->worker.now >= report)) {
            receiver_print(e, &r, false, e->worker.now);
            report = e->worker.now + o->interval_ns;
        }
    }
    receiver_print(e, &r, true, e->worker.now);
    if (o->probe)
        ab_lab_samples_print(&r.samples);
out:
    ab_lab_quic_end_close(e);
    ab_lab_samples_fini(&r.samples);
    return rc;
}

static void sender_print(const struct ab_lab_quic_end *e, bool final, uint64_t accepted, uint64_t begin, uint64_t now)
{
    const uint64_t *outcomes = e->port->outcomes;
    uint64_t failed = 0;

    for (unsigned i = 0; i < AB_QUIC_OUTCOME_END; i++)
        failed += i == AB_QUIC_OUTCOME_ACKNOWLEDGED ? 0 : outcomes[i];
    printf("{\"final\":%s,\"now_ns\":%llu,\"elapsed_ns\":%llu,\"accepted\":%llu,\"acknowledged\":%llu,\"failed\":%llu,",
           final ? "true" : "false", (unsigned long long)now, (unsigned long long)(now - begin),
           (unsigned long long)accepted, (unsigned long long)outcomes[AB_QUIC_OUTCOME_ACKNOWLEDGED],
           (unsigned long long)failed);
    ab_lab_quic_end_print(e);
    printf("}\n");
    fflush(stdout);
}

int ab_lab_quic_send(const struct ab_lab_options *o, struct ab_error *err)
{
    struct ab_lab_quic_end *e = NULL;
    struct ab_quic_msg m = {.how = AB_QUIC_SEND_UNI, .len = o->size};
    uint64_t accepted = 0, now, begin, report, drained, next;
    const uint64_t *acknowledged;
    uint8_t *message = malloc(o->size + AB_LAB_PROBE_BYTES);
    uint32_t active = o->active ? AB_MIN(o->active, o->conns) : o->conns;
    struct ab_lab_pace pace;
    int rc;

    if (!message)
        return ab_fail(err, AB_ENOMEM, "no memory for a message");
    for (uint32_t i = 0; i < o->size; i++)
        message[i] = (uint8_t)i;
    m.data = message;
    if ((rc = ab_lab_quic_end_open(&e, o, err)))
        goto out;
    acknowledged = &e->port->outcomes[AB_QUIC_OUTCOME_ACKNOWLEDGED];
    ab_lab_ready();
    now = ab_now_ns();
    /* Connections that begin look for their path's MTU, all of them at once; those that are measured are warm. */
    for (uint64_t warm = now + (o->probe ? o->warm_ns : 0); now < warm && !ab_lab_stop; now = e->worker.now) {
        (void)ab_worker_turn(&e->worker);
        if (warm - now > AWAKE_NS)
            doze(e);
        if (e->events->tail != e->events->head && (rc = ab_lab_quic_end_listen(e, err)))
            goto out;
    }
    ab_lab_quic_end_awake(e);
    next = begin = now = e->worker.now = ab_now_ns();
    ab_lab_pace_init(&pace, o, now);
    report = o->interval_ns ? now + o->interval_ns : UINT64_MAX;
    while (!ab_lab_stop && !ab_lab_pace_over(&pace, accepted, now)) {
        uint64_t due = now < next ? 0 : AB_MIN(ab_lab_pace_due(&pace, accepted, now), SEND_BATCH);

        due = AB_MIN(due, o->window - AB_MIN(accepted - *acknowledged, o->window));
        for (; due; due--) {
            struct ab_quic_conn *c = e->conns[accepted % active];

            if (o->probe)
                ab_lab_probe_set(message, next, accepted);
            if (ab_quic_send(e->port->quic, c, &m, now))
                break;
            next = ab_lab_pace_at(&pace, ++accepted, now);
        }
        (void)ab_worker_turn(&e->worker);
        now = e->worker.now;
        if (ab_unlikely(e->events->tail != e->events->head) && (rc = ab_lab_quic_end_listen(e, err)))
            goto out;
        if (ab_unlikely(now >= report)) {
            sender_print(e, false, accepted, begin, now);
            report = now + o->interval_ns;
        }
    }
    for (drained = now + DRAIN_NS; *acknowledged < accepted && e->worker.now < drained;)
        (void)ab_worker_turn(&e->worker);
    sender_print(e, true, accepted, begin, now);
out:
    ab_lab_quic_end_close(e);
    free(message);
    return rc;
}
