#include "net.h"

#include <string.h>

#include "must.h"

void net_init(struct net *n, uint64_t seed)
{
    memset(n, 0, sizeof(*n));
    net_reset(n, seed);
}

void net_reset(struct net *n, uint64_t seed)
{
    while (n->count)
        net_done(n, n->heap[--n->count]);
    n->rng.state = seed;
    memset(n->way, 0, sizeof(n->way));
    memset(n->counts, 0, sizeof(n->counts));
    memset(n->free_at, 0, sizeof(n->free_at));
    memset(n->last, 0, sizeof(n->last));
    n->serial = 0;
    n->port = 40000;
}

void net_fini(struct net *n)
{
    while (n->count)
        free(n->heap[--n->count]);
    while (n->spares)
        free(n->spare[--n->spares]);
    free(n->heap);
    free(n->spare);
}

void net_rebind(struct net *n)
{
    n->port++;
}

static bool before(const struct net_flight *a, const struct net_flight *b)
{
    return a->arrives != b->arrives ? a->arrives < b->arrives : a->serial < b->serial;
}

static void push(struct net *n, struct net_flight *f)
{
    uint32_t at = n->count++;

    if (n->count > n->room) {
        n->room = n->room ? 2 * n->room : 256;
        n->heap = realloc(n->heap, n->room * sizeof(*n->heap));
        SIM_MUST(n->heap);
    }
    while (at && before(f, n->heap[(at - 1) / 2])) {
        n->heap[at] = n->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    n->heap[at] = f;
}

static struct net_flight *pop(struct net *n)
{
    struct net_flight *top = n->heap[0], *moved = n->heap[--n->count];
    uint32_t at = 0, child;

    while ((child = 2 * at + 1) < n->count) {
        if (child + 1 < n->count && before(n->heap[child + 1], n->heap[child]))
            child++;
        if (!before(n->heap[child], moved))
            break;
        n->heap[at] = n->heap[child];
        at = child;
    }
    if (n->count)
        n->heap[at] = moved;
    return top;
}

void net_done(struct net *n, struct net_flight *f)
{
    if (n->spares == n->spare_room) {
        n->spare_room = n->spare_room ? 2 * n->spare_room : 256;
        n->spare = realloc(n->spare, n->spare_room * sizeof(*n->spare));
        SIM_MUST(n->spare);
    }
    n->spare[n->spares++] = f;
}

void net_again(struct net *n, struct net_flight *f, uint64_t arrives)
{
    f->arrives = arrives;
    f->serial = n->serial++;
    push(n, f);
}

uint64_t net_deadline(const struct net *n)
{
    return n->count ? n->heap[0]->arrives : NET_NEVER;
}

struct net_flight *net_arrived(struct net *n, uint64_t now)
{
    while (n->count && n->heap[0]->arrives <= now) {
        struct net_flight *f = pop(n);

        if (f->to == 0 && f->port != n->port) { /* the NAT has forgotten this port */
            n->counts[1].rebound++;
            net_done(n, f);
            continue;
        }
        return f;
    }
    return NULL;
}

static uint8_t mark(struct net *n, uint32_t way, uint8_t ecn)
{
    if (ecn != 1 && ecn != 2)
        return ecn;
    switch (n->way[way].ecn) {
    case 1:
        return 0;
    case 2:
        return rng_below(&n->rng, 16) ? ecn : 3;
    case 3:
        return 3;
    default:
        return ecn;
    }
}

void net_send(struct net *n, uint32_t from, const uint8_t *data, uint32_t len, uint8_t ecn, uint16_t to_port,
              uint64_t now)
{
    const struct net_profile *p = &n->way[from];
    struct net_counts *c = &n->counts[from];
    uint64_t leaves = now, flip = UINT64_MAX;
    uint32_t copies = 1;

    SIM_MUST(len > 0 && len <= NET_MTU);
    c->sent++;
    for (uint32_t i = 0; i < NET_DARK; i++)
        if (now >= p->dark[i][0] && now < p->dark[i][1]) {
            c->dark++;
            return;
        }
    if (len > p->mtu || (p->shrinks && len > 1200 && c->sent > p->shrinks)) {
        c->big++;
        return;
    }
    if (p->rate) {
        uint64_t waiting = n->free_at[from] > now ? (n->free_at[from] - now) * p->rate / (1000 * NET_MS) : 0;

        if (waiting + len > p->queue) {
            c->full++;
            return;
        }
        leaves = (n->free_at[from] > now ? n->free_at[from] : now) + (len + 28) * 1000 * NET_MS / p->rate;
        n->free_at[from] = leaves;
    }
    if (rng_chance(&n->rng, p->loss)) {
        c->lost++;
        return;
    }
    if (rng_chance(&n->rng, p->corrupt)) {
        c->corrupted++;
        flip = rng_below(&n->rng, (uint64_t)len * 8);
    }
    if (rng_chance(&n->rng, p->duplicate)) {
        c->duplicated++;
        copies = 2;
    }
    for (uint32_t i = 0; i < copies; i++) {
        struct net_flight *f = n->spares ? n->spare[--n->spares] : malloc(sizeof(*f));

        SIM_MUST(f);
        f->arrives = leaves + p->delay_ns + (p->jitter_ns ? rng_below(&n->rng, p->jitter_ns) : 0);
        if (i || rng_chance(&n->rng, p->reorder)) {
            c->reordered++;
            f->arrives += rng_below(&n->rng, p->reorder_ns + 1);
        } else {
            if (f->arrives < n->last[from])
                f->arrives = n->last[from];
            n->last[from] = f->arrives;
        }
        f->serial = n->serial++;
        f->to = !from;
        f->len = len;
        f->port = from ? to_port : n->port;
        f->ecn = mark(n, from, ecn);
        memcpy(f->data, data, len);
        if (flip != UINT64_MAX)
            f->data[flip / 8] ^= (uint8_t)(1 << flip % 8);
        push(n, f);
    }
}

void net_draw(struct rng *r, struct net_profile *p)
{
    enum { CLEAN, LOSSY, WILD, SLOW, FAR, DARK, KINDS } kind = (int)rng_below(r, KINDS);

    memset(p, 0, sizeof(*p));
    p->delay_ns = RNG_OF(r, 2000, 10000, NET_MS, 10 * NET_MS, 40 * NET_MS);
    p->jitter_ns = RNG_OF(r, 0, p->delay_ns / 10);
    p->mtu = (uint32_t)RNG_OF(r, 1200, 1252, 1472, 1500, 9000);
    p->shrinks = (uint32_t)RNG_OF(r, 0, 0, 0, 30, 300);
    p->ecn = (uint32_t)RNG_OF(r, 0, 0, 0, 1, 2, 3);
    switch (kind) {
    case WILD:
        p->duplicate = (double)rng_below(r, 100) / 1000;
        p->corrupt = (double)rng_below(r, 50) / 1000;
        p->reorder = (double)rng_below(r, 300) / 1000;
        p->reorder_ns = rng_below(r, 4 * p->delay_ns);
        p->loss = (double)rng_below(r, 300) / 1000;
        break;
    case LOSSY:
        p->loss = (double)rng_between(r, 5, 300) / 1000;
        break;
    case SLOW:
        p->rate = RNG_OF(r, 125000, 1250000);
        p->queue = RNG_OF(r, 25 * 1500, 100 * 1500);
        break;
    case FAR:
        p->delay_ns = rng_between(r, 100, 750) * NET_MS;
        break;
    case DARK:
        for (uint32_t i = 0; i < 1 + rng_below(r, 2); i++) {
            p->dark[i][0] = rng_below(r, 2000) * NET_MS;
            p->dark[i][1] = p->dark[i][0] + rng_between(r, 10, 2000) * NET_MS;
        }
        break;
    default:
        break;
    }
}
