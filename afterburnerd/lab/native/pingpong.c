/* Round trip over bare AF_XDP: one frame in flight, both ends spin.
 *
 * A floor must be as low as can be: run with few frames (bench_raw.py: 128), so that those in use stay in the cache. */
#include <arpa/inet.h>
#include <string.h>

#include "bare.h"
#include "frame.h"
#include "modes.h"
#include "samples.h"

/* Takes completions and gives the frames to FILL again (receive half) or forgets them (send half: reused by turns). */
static void recycle(struct ab_bare *b)
{
    uint32_t from, n = xsk_ring_cons__peek(&b->comp, 64, &from);

    if (!n)
        return;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t addr = *xsk_ring_cons__comp_addr(&b->comp, from + i);

        if (addr < (uint64_t)b->first_send * b->frame_size)
            (void)ab_bare_give_back(b, addr);
    }
    xsk_ring_cons__release(&b->comp, n);
}

static int push(struct ab_bare *b, uint64_t addr, uint32_t len, struct ab_error *err)
{
    int rc;

    while (!ab_bare_put(b, addr, len)) {
        recycle(b);
        if ((rc = ab_bare_kick(b)))
            return ab_fail(err, rc, "sendto(AF_XDP): %s", strerror(-rc));
    }
    rc = ab_bare_kick(b);
    return rc ? ab_fail(err, rc, "sendto(AF_XDP): %s", strerror(-rc)) : 0;
}

int ab_lab_bare_pong(const struct ab_lab_options *o, struct ab_error *err)
{
    const uint64_t begin = ab_now_ns();
    uint64_t turned = 0, ignored = 0;
    struct ab_bare b;
    struct xdp_desc d;
    int rc = ab_bare_open(&b, o, true, err);

    if (rc)
        return rc;
    ab_lab_ready();
    for (uint32_t spins = 1; !ab_lab_stop; spins++) {
        if (!ab_bare_take(&b, &d)) {
            if (spins % 4096 == 0 && o->duration_ns && ab_now_ns() - begin >= o->duration_ns)
                break;
            continue;
        }
        if (ab_lab_frame_reply(b.area + d.addr, d.len)) {
            turned++;
            if ((rc = push(&b, d.addr, d.len, err)))
                break;
        } else {
            ignored += ab_bare_give_back(&b, d.addr);
        }
        recycle(&b);
    }
    if (!rc)
        printf("{\"final\":true,\"turned\":%llu,\"ignored\":%llu}\n", (unsigned long long)turned,
               (unsigned long long)ignored);
    ab_bare_close(&b);
    return rc;
}

/* Waits for the answer to the frame that carries `number`; gives every received frame back. */
static bool await(struct ab_bare *b, const struct ab_lab_options *o, const struct ab_lab_ping_number *number,
                  uint64_t since, uint64_t *now)
{
    const uint32_t head = ab_lab_frame_header(o);
    struct xdp_desc d;
    bool mine = false;

    for (uint32_t spins = 1; !mine; spins++) {
        if (!ab_bare_take(b, &d)) {
            /* No pause and hardly ever the clock: the floor sees the frame as early as can be. */
            if (spins % 4096 == 0 && (*now = ab_now_ns()) - since > AB_LAB_PING_LOST_NS)
                return false;
            continue;
        }
        mine = ab_lab_frame_is_udp_to(b->area + d.addr, d.len, o->from.sin6_port) && d.len >= head + sizeof(*number) &&
               !memcmp(b->area + d.addr + head, number, sizeof(*number));
        if (mine)
            *now = ab_now_ns();
        (void)ab_bare_give_back(b, d.addr);
    }
    return true;
}

int ab_lab_bare_ping(const struct ab_lab_options *o, struct ab_error *err)
{
    struct ab_lab_payloads payloads = {0};
    struct ab_lab_samples samples = {0};
    uint64_t begin, sent, now;
    struct ab_lab_ping_number number = {0};
    struct ab_bare b;
    uint32_t len = 0;
    int rc = ab_bare_open(&b, o, true, err);

    if (rc)
        return rc;
    if ((rc = ab_lab_payloads_load(&payloads, o, err)) || (rc = ab_lab_samples_init(&samples, 4000000, err)))
        goto out;
    if (payloads.largest < sizeof(number)) {
        rc = ab_fail(err, AB_EINVAL, "--size %u: a ping carries its number, 16 bytes", o->size);
        goto out;
    }
    ab_lab_ping_number_set(&number, 0);
    memcpy(payloads.bytes, &number, sizeof(number));
    for (uint32_t i = 0; i < b.sends; i++)
        len = ab_lab_frame_build(b.area + (uint64_t)(b.first_send + i) * b.frame_size, o, &payloads, 0);
    for (begin = now = ab_now_ns(); !ab_lab_stop && now - begin < o->warm_ns + o->duration_ns;) {
        uint64_t addr = (uint64_t)(b.first_send + number.value % b.sends) * b.frame_size;

        ab_lab_ping_number_set(&number, number.value + 1);
        memcpy(b.area + addr + ab_lab_frame_header(o), &number, sizeof(number));
        sent = ab_now_ns();
        if ((rc = push(&b, addr, len, err)))
            goto out;
        if (!await(&b, o, &number, sent, &now))
            samples.lost += now - begin > o->warm_ns;
        else if (now - begin > o->warm_ns)
            ab_lab_samples_add(&samples, now - sent);
        recycle(&b);
    }
    ab_lab_samples_print(&samples);
out:
    ab_lab_payloads_free(&payloads);
    ab_lab_samples_fini(&samples);
    ab_bare_close(&b);
    return rc;
}
