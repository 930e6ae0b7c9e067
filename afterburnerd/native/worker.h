/* The worker: the loop that a pinned data-plane process lives in.
 *
 *      .-> each source: receive a burst -> look at each datagram in place -> release or send back -> kick --.
 *      |   doorbell changed? leave for Python (reconfigure, stop)                                         |
 *      '-- clock, heartbeat, statistics <------------------------------------------------------------------'
 *
 * With a guest (the QUIC engine, by quic_port.h) a turn is:
 *
 *      commands -> each source: burst -> its datagrams to the guest, in batches, the others as above
 *               -> guest sends into reserved buffers -> kick everything
 *
 * Inside the loop there is no allocation, no lock, no Python, no logging, and no system call but a backend's own. Work
 * per source and turn is bounded by AB_WORKER_BURST, so that one busy queue cannot starve the others. The outside
 * speaks to the loop through one word, the doorbell; everything else is set while the loop stands still. */
#ifndef AB_WORKER_H
#define AB_WORKER_H

#include "base.h"
#include "io.h"
#include "record.h"
#include "rules.h"

/* 64 frames: a kick in copy mode sends 32, NAPI polls 64; larger bursts gain nothing here and cost latency. */
#define AB_WORKER_BURST 64
#define AB_WORKER_BEAT_TURNS 64    /* turns between two heartbeats */
#define AB_WORKER_LEVEL_TURNS 4096 /* turns between two looks at ring levels: they cost cache misses */
#define AB_WORKER_SLEEP_US 50      /* idle = "sleep": how long to spin behind a packet, and ahead of what is due */
#define AB_WORKER_NAP_MS 20        /* longest sleep: bounds the answer to a doorbell and the age of a heartbeat */
#define AB_WORKER_GUEST_NAP_MS                                                                                         \
    1 /* the same with a guest: its bell may be missed or missing, its figures want to be fresh */

/* ab_doorbell: a page of its own, written by the supervisor. */
struct ab_doorbell {
    uint64_t word; /* any change means: come out */
};

/* ab_guest: who takes the datagrams of rules with the decoder QUIC, and sends. The worker knows it by these calls
 * alone, so that loop and engine can be built and tested apart. Each does a bounded amount of work. */
struct ab_guest {
    void *ctx;
    /* Carries out what was asked for; returns how much that was. */
    uint32_t (*commands)(void *ctx, uint64_t now);
    /* Datagrams of a burst of source `slot`, in place until the call returns. */
    void (*rx)(void *ctx, uint32_t slot, struct ab_dgram *d, uint32_t count, uint64_t now);
    /* Sends what is due into the sources' buffers (without a kick); returns how many datagrams. */
    uint32_t (*tx)(void *ctx, uint64_t now);
    /* When `tx` has something to do: 0 now, UINT64_MAX never. */
    uint64_t (*deadline)(void *ctx);
    /* Writes statistics: now and then. */
    void (*beat)(void *ctx, uint64_t now);
    /* A source is about to be closed: nothing of it may be held any more. */
    void (*closing)(void *ctx, uint32_t slot);
    /* The worker is about to sleep, or (`asleep` false) has woken. False: there is work, it must not. NULL: nobody
     * wakes it, and there is no bell. */
    bool (*doze)(void *ctx, bool asleep);
    int bell; /* an eventfd that wakes a sleeping worker, -1: none */
};

enum ab_worker_exit {
    AB_WORKER_DOORBELL = 1, /* the supervisor wants something */
    AB_WORKER_LIMIT = 2,    /* the number of turns asked for is over (tests, benchmarks) */
};

struct ab_worker {
    struct ab_io *ios[AB_MAX_QUEUES]; /* sources by slot, NULL: none */
    uint32_t io_count;                /* slots in use */
    uint8_t open[AB_MAX_QUEUES];      /* which ones, in order: the loop does not look at the others */
    bool sleeps;                      /* idle = "sleep" */
    uint16_t index;                   /* number of this worker */
    uint32_t round;                   /* turns, for what is done only now and then */
    uint64_t now;                     /* CLOCK_MONOTONIC at the end of the latest turn */
    uint64_t busy_at;                 /* the same, of the latest turn that received a packet */
    uint32_t received;                /* packets of the latest turn */
    uint64_t real_offset_ns;          /* CLOCK_REALTIME - CLOCK_MONOTONIC, as of the latest heartbeat */
    uint64_t bell_seen;               /* doorbell word that was last answered */
    const struct ab_doorbell *bell;
    struct ab_stats_worker *stats;
    struct ab_stats_rule *rule_stats; /* AB_MAX_RULES of them */
    struct ab_rules rules;
    struct ab_record_writer records;
    struct ab_guest guest;            /* ctx NULL: none */
    uint64_t stamps[AB_WORKER_BURST]; /* when XDP saw the records of this burst */
    uint32_t stamp_count;
    struct ab_dgram burst[AB_WORKER_BURST];
};

/* ab_worker_init: `stats`, `rule_stats` and `bell` must outlive the worker. */
void ab_worker_init(struct ab_worker *w, uint16_t index, struct ab_stats_worker *stats,
                    struct ab_stats_rule *rule_stats, const struct ab_doorbell *bell);
void ab_worker_fini(struct ab_worker *w);

int ab_worker_open_xsk(struct ab_worker *w, uint32_t slot, int fd, const struct ab_xsk_config *config, bool verify_udp,
                       struct ab_stats_queue *stats, struct ab_error *err);
int ab_worker_open_udp(struct ab_worker *w, uint32_t slot, int fd, enum ab_udp_use use, uint32_t mtu,
                       struct ab_stats_queue *stats, struct ab_error *err);
int ab_worker_close(struct ab_worker *w, uint32_t slot, struct ab_error *err);

/* ab_worker_enter, then ab_worker_turn again and again, is what ab_worker_run does between two doorbells: for whoever
 * drives the loop turn by turn. A turn returns how many datagrams it moved. */
void ab_worker_enter(struct ab_worker *w);
uint32_t ab_worker_turn(struct ab_worker *w);

/* ab_worker_run: the loop. Returns when the doorbell word differs from the one answered last, or after `turns` turns
 * (0: no limit). */
enum ab_worker_exit ab_worker_run(struct ab_worker *w, uint64_t turns);

#endif
