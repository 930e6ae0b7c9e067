/* One-way latency over bare AF_XDP: the floor of `bench latency`. One frame every 1/rate s carries the time at which it
 * was due, by the receiver's clock too: both are on one machine. Both ends spin, with few frames, as in pingpong.c.
 *
 * Few frames are fast and do not last long: while the receiver is kept from its CPU, frames are lost that something
 * with deeper rings only delays. A lost one counts as if it had come with the next that came, which is the least that
 * it would have taken, so that losing frames does not make a floor. */
#include <arpa/inet.h>
#include <string.h>

#include "bare.h"
#include "frame.h"
#include "modes.h"
#include "pace.h"
#include "samples.h"

int ab_lab_oneway_send(const struct ab_lab_options *o, struct ab_error *err)
{
    const uint32_t head = ab_lab_frame_header(o);
    struct ab_lab_payloads payloads = {0};
    struct ab_lab_pace pace;
    uint64_t sent = 0, now, next;
    uint32_t len = 0, index, done;
    struct ab_bare b;
    int rc = ab_bare_open(&b, o, false, err);

    if (rc)
        return rc;
    if ((rc = ab_lab_payloads_load(&payloads, o, err)))
        goto out;
    if (payloads.largest < AB_LAB_PROBE_BYTES) {
        rc = ab_fail(err, AB_EINVAL, "--size %u: a probe has %d bytes", o->size, AB_LAB_PROBE_BYTES);
        goto out;
    }
    for (uint32_t i = 0; i < b.sends; i++)
        len = ab_lab_frame_build(b.area + (uint64_t)i * b.frame_size, o, &payloads, 0);
    ab_lab_ready();
    next = now = ab_now_ns();
    ab_lab_pace_init(&pace, o, now);
    while (!ab_lab_stop && !ab_lab_pace_over(&pace, sent, now)) {
        uint64_t addr = sent % b.sends * b.frame_size;

        if (now >= next && xsk_prod_nb_free(&b.tx, 1)) {
            /* The receiver does not look at checksums, no more than the product does by default. */
            ab_lab_probe_set(b.area + addr + head, next, sent++);
            next = ab_lab_pace_at(&pace, sent, now);
            (void)ab_bare_put(&b, addr, len);
            if ((rc = ab_bare_kick(&b))) {
                ab_fail(err, rc, "sendto(AF_XDP): %s", strerror(-rc));
                goto out;
            }
        }
        if ((done = xsk_ring_cons__peek(&b.comp, 64, &index)))
            xsk_ring_cons__release(&b.comp, done);
        now = ab_now_ns();
    }
    printf("{\"final\":true,\"queued\":%llu,\"now_ns\":%llu}\n", (unsigned long long)sent, (unsigned long long)now);
out:
    ab_lab_payloads_free(&payloads);
    ab_bare_close(&b);
    return rc;
}

int ab_lab_oneway_receive(const struct ab_lab_options *o, struct ab_error *err)
{
    const uint32_t head = ab_lab_frame_header(o);
    const uint64_t interval = o->rate ? 1000000000u / o->rate : 0;
    struct ab_lab_samples samples = {0};
    uint64_t now, begin, sent, sequence, next = 0, lost = 0;
    struct ab_bare b;
    struct xdp_desc d;
    int rc = ab_bare_open(&b, o, true, err);

    if (rc)
        return rc;
    if ((rc = ab_lab_samples_init(&samples, 4000000, err)))
        goto out;
    ab_lab_ready();
    begin = now = ab_now_ns();
    for (uint32_t spins = 1; !ab_lab_stop; spins++) {
        if (!ab_bare_take(&b, &d)) {
            if (spins % 4096 == 0 && o->duration_ns && ab_now_ns() - begin >= o->duration_ns)
                break;
            continue;
        }
        if (ab_lab_frame_is_udp_to(b.area + d.addr, d.len, o->from.sin6_port) && d.len > head &&
            ab_lab_probe_get(b.area + d.addr + head, d.len - head, &sent, &sequence)) {
            now = ab_now_ns();
            for (; next < sequence; next++, lost++)
                if (now - begin >= o->warm_ns)
                    ab_lab_samples_add(&samples, now - sent + (sequence - next) * interval);
            next = sequence + 1;
            if (now - begin >= o->warm_ns)
                ab_lab_samples_add(&samples, now - sent);
        }
        (void)ab_bare_give_back(&b, d.addr);
    }
    samples.lost = lost;
    ab_lab_samples_print(&samples);
out:
    ab_lab_samples_fini(&samples);
    ab_bare_close(&b);
    return rc;
}
