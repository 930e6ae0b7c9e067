/* Traffic through AF_XDP: prebuilt frames go round, the loop only moves descriptors.
 *
 * "Sent" is what came back on the COMPLETION ring. In copy mode the kernel completes a frame also when the device then
 * drops it, which the device counts: whoever wants the truth subtracts its tx_dropped (flood.py does). */
#include <stdlib.h>
#include <string.h>

#include "bare.h"
#include "frame.h"
#include "modes.h"
#include "pace.h"

static void progress(const char *final, uint64_t queued, uint64_t completed, uint64_t bytes, uint64_t begin,
                     uint64_t now)
{
    printf("{\"final\":%s,\"queued\":%llu,\"completed\":%llu,\"bytes\":%llu,\"elapsed_ns\":%llu,\"now_ns\":%llu}\n",
           final, (unsigned long long)queued, (unsigned long long)completed, (unsigned long long)bytes,
           (unsigned long long)(now - begin), (unsigned long long)now);
    fflush(stdout);
}

static uint64_t reap(struct ab_bare *b)
{
    uint32_t index, n = xsk_ring_cons__peek(&b->comp, b->sends, &index);

    if (n)
        xsk_ring_cons__release(&b->comp, n);
    return n;
}

int ab_lab_xdp_send(const struct ab_lab_options *o, struct ab_error *err)
{
    uint64_t queued = 0, completed = 0, bytes = 0, now, report, last;
    struct ab_lab_payloads payloads = {0};
    struct ab_lab_pace pace;
    struct ab_bare b;
    uint32_t *lengths = NULL, index;
    int rc = ab_bare_open(&b, o, false, err);

    if (rc)
        return rc;
    if ((rc = ab_lab_payloads_load(&payloads, o, err)))
        goto out;
    lengths = calloc(b.sends, sizeof(*lengths));
    if (!lengths) {
        rc = ab_fail(err, AB_ENOMEM, "no memory for %u frame lengths", b.sends);
        goto out;
    }
    for (uint32_t i = 0; i < b.sends; i++)
        lengths[i] = ab_lab_frame_build(b.area + (uint64_t)i * b.frame_size, o, &payloads, i);
    ab_lab_ready();
    now = last = ab_now_ns();
    ab_lab_pace_init(&pace, o, now);
    report = now + o->interval_ns;
    while (!ab_lab_stop && !ab_lab_pace_over(&pace, queued, now)) {
        uint64_t due = ab_lab_pace_due(&pace, queued, now), room = b.sends - (queued - completed);
        uint32_t n = (uint32_t)AB_MIN(AB_MIN(due, room), o->batch);

        if (n)
            n = AB_MIN(n, xsk_prod_nb_free(&b.tx, n));
        if (n && xsk_ring_prod__reserve(&b.tx, n, &index)) {
            for (uint32_t i = 0; i < n; i++, queued++) {
                uint32_t frame = (uint32_t)(queued % b.sends);

                *xsk_ring_prod__tx_desc(&b.tx, index + i) =
                    (struct xdp_desc){.addr = (uint64_t)frame * b.frame_size, .len = lengths[frame]};
                bytes += lengths[frame];
            }
            xsk_ring_prod__submit(&b.tx, n);
        }
        /* Kicked also when nothing fitted: a full ring drains by kicks alone. */
        if (due && (rc = ab_bare_kick(&b))) {
            ab_fail(err, rc, "sendto(AF_XDP, %s): %s after %llu frames", o->device, strerror(-rc),
                    (unsigned long long)completed);
            goto out;
        }
        completed += reap(&b);
        if (!due)
            ab_lab_pace_wait(&pace, queued, now);
        now = ab_now_ns();
        if (o->interval_ns && now >= report) {
            progress("false", queued, completed, bytes, pace.begin, now);
            report = now + o->interval_ns;
        }
    }
    last = now;
    while (completed < queued && ab_now_ns() - last < 1000000000u) {
        ab_bare_kick(&b);
        completed += reap(&b);
    }
    progress("true", queued, completed, bytes, pace.begin, last);
out:
    free(lengths);
    ab_lab_payloads_free(&payloads);
    ab_bare_close(&b);
    return rc;
}
