/* Round trip with our own worker as the initiator: every answer comes through the product's XDP program, AF_XDP rings,
 * parser, rule table and statistics, one real turn of the worker's loop at a time.
 *
 *   take a frame, write it, submit, kick --> peer's worker turns it round --> ab_worker_turn() until its rule has
 * counted it
 *
 * The clock runs from before the frame is taken. Only one ping is in flight, so the rule's counter tells the answer. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "modes.h"
#include "program.h"
#include "samples.h"
#include "worker.h"

struct pinger {
    struct ab_worker worker;
    struct ab_stats_worker worker_stats;
    struct ab_stats_queue queue_stats;
    struct ab_stats_rule rule_stats[AB_MAX_RULES];
    struct ab_doorbell bell;
    struct ab_bpf bpf;
};

static int open_worker(struct pinger *p, const struct ab_lab_options *o, struct ab_error *err)
{
    struct ab_xsk_config config = {
        .queue = o->queue,
        .frames = o->frames,
        .frame_size = o->frame_size,
        .ring = o->ring,
        .generic = o->generic,
    };
    struct ab_rule rule = {.port = ntohs(o->from.sin6_port), .decoder = AB_DECODER_COUNT};
    int rc, fd;

    if (!o->device || !o->bpf)
        return ab_fail(err, AB_EINVAL, "worker-ping needs --device and --bpf");
    config.ifindex = if_nametoindex(o->device);
    if (!config.ifindex)
        return ab_fail(err, -errno, "no interface %s here: %s", o->device, strerror(errno));
    fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return ab_fail(err, -errno, "socket(AF_XDP): %s", strerror(errno));
    memcpy(rule.addr, &o->from.sin6_addr, sizeof(rule.addr));
    ab_worker_init(&p->worker, 0, &p->worker_stats, p->rule_stats, &p->bell);
    if ((rc = ab_lab_program_load(&p->bpf, o, AB_PORT_KIND_CAPTURE, 0, err)) ||
        (rc = ab_lab_program_attach(&p->bpf, o, fd, config.ifindex, err)) ||
        (rc = ab_rules_init(&p->worker.rules, &rule, 1, err))) {
        close(fd);
        return rc;
    }
    return ab_worker_open_xsk(&p->worker, 0, fd, &config, false, &p->queue_stats, err);
}

/* One ping: 0 and its time, or 1 when no answer came. */
static int ping(struct pinger *p, const uint8_t *frame, uint32_t len, uint64_t *ns)
{
    struct ab_xsk *x = &p->worker.ios[0]->xsk;
    const uint64_t before = p->rule_stats[0].packets, begin = ab_now_ns();
    uint64_t addr, now;

    if (ab_xsk_frame(x, &addr)) {
        memcpy(ab_xsk_data(x, addr), frame, len);
        if (ab_xsk_send(x, addr, len))
            ab_xsk_kick(x);
    }
    do {
        ab_worker_turn(&p->worker);
        now = ab_now_ns();
    } while (p->rule_stats[0].packets == before && now - begin < AB_LAB_PING_LOST_NS);
    *ns = now - begin;
    return p->rule_stats[0].packets == before;
}

int ab_lab_worker_ping(const struct ab_lab_options *o, struct ab_error *err)
{
    struct ab_lab_payloads payloads = {0};
    struct ab_lab_ping_number number = {0};
    struct ab_lab_samples samples = {0};
    struct pinger *p = calloc(1, sizeof(*p));
    uint8_t frame[2048];
    uint64_t begin, ns;
    uint32_t len;
    int rc;

    if (!p)
        return ab_fail(err, AB_ENOMEM, "no memory for a worker");
    p->bpf.link_fd = -1;
    if ((rc = open_worker(p, o, err)) || (rc = ab_lab_payloads_load(&payloads, o, err)) ||
        (rc = ab_lab_samples_init(&samples, 4000000, err)))
        goto out;
    if (payloads.largest < sizeof(number) || payloads.largest + ab_lab_frame_header(o) > sizeof(frame)) {
        rc = ab_fail(err, AB_EINVAL, "--size %u: a ping has 16 to %zu bytes", o->size,
                     sizeof(frame) - ab_lab_frame_header(o));
        goto out;
    }
    ab_worker_enter(&p->worker);
    ab_lab_ping_number_set(&number, 0);
    memcpy(payloads.bytes, &number, sizeof(number));
    len = ab_lab_frame_build(frame, o, &payloads, 0);
    for (begin = ab_now_ns(); !ab_lab_stop && ab_now_ns() - begin < o->warm_ns + o->duration_ns;) {
        ab_lab_ping_number_set(&number, number.value + 1);
        memcpy(frame + ab_lab_frame_header(o), &number, sizeof(number));
        int lost = ping(p, frame, len, &ns);

        if (ab_now_ns() - begin <= o->warm_ns)
            continue;
        if (lost)
            samples.lost++;
        else
            ab_lab_samples_add(&samples, ns);
    }
    if (p->queue_stats.frame_errors) {
        rc = ab_fail(err, AB_EINVAL, "frames of the packet memory did not add up %llu times: a bug",
                     (unsigned long long)p->queue_stats.frame_errors);
        goto out;
    }
    ab_lab_samples_print(&samples);
out:
    ab_worker_fini(&p->worker);
    ab_bpf_close(&p->bpf);
    ab_lab_payloads_free(&payloads);
    ab_lab_samples_fini(&samples);
    free(p);
    return rc;
}
