/* COMPLETION starvation on a real AF_XDP socket: frames are sent and their completions not taken back.
 *
 * argv: ifindex. Prints one line of figures for each stage; tests/native/test_starvation.py judges them. */
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xsk.h"

static void say(const char *stage, struct ab_xsk *x, unsigned sent)
{
    ab_xsk_balance(x);
    ab_xsk_levels(x);
    printf("%s sent=%u rx=%llu worker=%llu tx=%llu frames=%llu errors=%llu completion=%llu dropped=%llu\n", stage, sent,
           (unsigned long long)x->stats->frames_rx, (unsigned long long)x->stats->frames_worker,
           (unsigned long long)x->stats->frames_tx, (unsigned long long)x->stats->frames,
           (unsigned long long)x->stats->frame_errors, (unsigned long long)x->stats->completion_level,
           (unsigned long long)x->stats->tx_dropped);
}

/* Straight into the TX ring, without the reaping that ab_xsk_frame and ab_xsk_send would do. */
static unsigned send_without_reaping(struct ab_xsk *x, unsigned count)
{
    unsigned sent = 0;
    uint64_t addr;
    uint32_t index;

    while (sent < count && ab_umem_get(&x->umem, &addr)) {
        memset(ab_xsk_data(x, addr), 0xff, 60);
        if (!xsk_ring_prod__reserve(&x->tx, 1, &index)) {
            ab_umem_put(&x->umem, addr);
            break;
        }
        *xsk_ring_prod__tx_desc(&x->tx, index) = (struct xdp_desc){.addr = addr, .len = 60};
        xsk_ring_prod__submit(&x->tx, 1);
        x->submitted++;
        sent++;
    }
    for (int i = 0; i < 8; i++)
        ab_xsk_kick(x);
    usleep(50000);
    return sent;
}

int main(int argc, char **argv)
{
    struct ab_xsk_config config = {.ifindex = argc > 1 ? (uint32_t)atoi(argv[1]) : 0,
                                   .frames = 512,
                                   .frame_size = 2048,
                                   .ring = 64,
                                   .huge = AB_HUGE_OFF,
                                   .want = AB_XSK_COPY};
    struct ab_stats_queue stats = {0};
    struct ab_error err = {0};
    struct ab_xsk x;
    unsigned sent;
    int fd = socket(44, SOCK_RAW, 0);

    if (fd < 0 || ab_xsk_open(&x, fd, &config, &stats, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    say("open", &x, 0);
    sent = send_without_reaping(&x, 64);
    say("full", &x, sent);
    sent = send_without_reaping(&x, 64); /* COMPLETION holds 64: the kernel can send none of these */
    say("starved", &x, sent);
    ab_xsk_reap(&x);
    ab_xsk_kick(&x); /* nothing new was submitted: what was left must go all the same */
    ab_xsk_kick(&x);
    usleep(50000);
    ab_xsk_reap(&x);
    say("recovered", &x, 0);
    ab_xsk_close(&x);
    printf("closed fd=%d area=%d frames=%llu\n", x.fd, x.umem.area != NULL, (unsigned long long)stats.frames);
    return 0;
}
