/* Bare AF_XDP receive: take descriptors, count, give the frames back. The most that a receiver can do. */
#include <string.h>
#include <sys/socket.h>

#include "bare.h"
#include "modes.h"

static void progress(const struct ab_bare *b, const char *final, uint64_t packets, uint64_t bytes, uint64_t now)
{
    struct xdp_statistics s = {0};
    socklen_t len = sizeof(s);

    getsockopt(b->fd, SOL_XDP, XDP_STATISTICS, &s, &len);
    printf("{\"final\":%s,\"packets\":%llu,\"bytes\":%llu,\"now_ns\":%llu,\"huge\":%s,\"rx_dropped\":%llu,"
           "\"rx_ring_full\":%llu,\"fill_empty\":%llu}\n",
           final, (unsigned long long)packets, (unsigned long long)bytes, (unsigned long long)now,
           b->huge ? "true" : "false", (unsigned long long)s.rx_dropped, (unsigned long long)s.rx_ring_full,
           (unsigned long long)s.rx_fill_ring_empty_descs);
    fflush(stdout);
}

int ab_lab_bare_receive(const struct ab_lab_options *o, struct ab_error *err)
{
    uint64_t packets = 0, bytes = 0, now, end, report;
    struct ab_bare b;
    int rc = ab_bare_open(&b, o, true, err);

    if (rc)
        return rc;
    ab_lab_ready();
    now = ab_now_ns();
    end = o->duration_ns ? now + o->duration_ns : UINT64_MAX;
    report = o->interval_ns ? now + o->interval_ns : UINT64_MAX;
    while (!ab_lab_stop && now < end && (!o->count || packets < o->count)) {
        uint32_t from, to, n = xsk_ring_cons__peek(&b.rx, 64, &from);

        now = ab_now_ns();
        if (now >= report) {
            progress(&b, "false", packets, bytes, now);
            report = now + o->interval_ns;
        }
        if (!n) {
            if (b.busy_poll)
                ab_bare_poll(&b);
            else
                ab_cpu_relax();
            continue;
        }
        /* FILL has room for every frame that came out of it. */
        while (!xsk_ring_prod__reserve(&b.fill, n, &to))
            ab_cpu_relax();
        for (uint32_t i = 0; i < n; i++) {
            const struct xdp_desc *d = xsk_ring_cons__rx_desc(&b.rx, from + i);

            bytes += d->len;
            *xsk_ring_prod__fill_addr(&b.fill, to + i) = d->addr & ~(uint64_t)(b.frame_size - 1);
        }
        packets += n;
        xsk_ring_cons__release(&b.rx, n);
        xsk_ring_prod__submit(&b.fill, n);
    }
    progress(&b, "true", packets, bytes, now);
    ab_bare_close(&b);
    return 0;
}
