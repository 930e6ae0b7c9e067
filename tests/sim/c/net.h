/* net.h - a network of arrays between two hosts, seeded and on a virtual clock.
 *
 *     send --> [blackhole] [mtu] [rate, queue] [loss, corruption, duplication] [delay, jitter, reordering] --> arrive
 *
 * Host 0 is the client; it stands behind a NAT whose outside port net_rebind changes. Datagrams to a former outside
 * port are lost, as they are in the field. Nothing is allocated but the flights, and these are used again. */
#ifndef SIM_NET_H
#define SIM_NET_H

#include "rng.h"

enum { NET_MTU = 9216, NET_DARK = 4 };

#define NET_MS UINT64_C(1000000)
#define NET_NEVER UINT64_MAX

/* What one direction does to datagrams. */
struct net_profile {
    uint64_t delay_ns, jitter_ns; /* jitter comes on top, in order */
    double loss, duplicate, corrupt, reorder;
    uint64_t reorder_ns;        /* what is reordered takes up to this much longer */
    uint64_t rate;              /* bytes a second, 0: no limit */
    uint64_t queue;             /* bytes that wait at the rate limit */
    uint32_t mtu;               /* bytes of UDP payload that pass */
    uint32_t shrinks;           /* after so many datagrams nothing above 1200 passes any more, 0: never */
    uint64_t dark[NET_DARK][2]; /* blackholes: from, to */
    uint32_t ecn;               /* 0: kept, 1: bleached, 2: every 16th ECT becomes CE, 3: all become CE */
};

struct net_flight {
    uint64_t arrives, serial;
    uint32_t to; /* host */
    uint32_t len;
    uint16_t port; /* of the client, as seen outside: where it comes from, or goes to */
    uint8_t ecn;
    uint8_t data[NET_MTU];
};

struct net_counts {
    uint64_t sent, lost, dark, full, big, duplicated, corrupted, reordered, rebound;
};

struct net {
    struct rng rng;
    struct net_profile way[2]; /* 0: from the client, 1: to it */
    struct net_counts counts[2];
    uint64_t free_at[2], last[2], serial;
    uint16_t port; /* the client's, as seen outside */
    struct net_flight **heap;
    uint32_t count, room;
    struct net_flight **spare;
    uint32_t spares, spare_room;
};

void net_init(struct net *n, uint64_t seed);
void net_reset(struct net *n, uint64_t seed); /* for the next run, keeping the memory */
void net_fini(struct net *n);
void net_rebind(struct net *n);
void net_send(struct net *n, uint32_t from, const uint8_t *data, uint32_t len, uint8_t ecn, uint16_t to_port,
              uint64_t now);
uint64_t net_deadline(const struct net *n);
/* net_arrived: the next one that is there by now, or NULL; give it back with net_done. */
struct net_flight *net_arrived(struct net *n, uint64_t now);
void net_done(struct net *n, struct net_flight *f);
/* net_again: instead of net_done: it arrives once more, then. */
void net_again(struct net *n, struct net_flight *f, uint64_t arrives);
/* net_draw: a profile between a good cable and a bad day. */
void net_draw(struct rng *r, struct net_profile *p);

#endif
