#include <string.h>

#include "quic_cids.h"

static bool same_cid(const struct ab_quic_cid *a, const uint8_t *cid, uint32_t len)
{
    return a->len == len && memcmp(a->cid, cid, len) == 0;
}

static struct ab_quic_cid_entry *free_entry(struct ab_quic_cid_entry *entries)
{
    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++)
        if (entries[i].state == AB_QUIC_CID_FREE)
            return &entries[i];
    return NULL;
}

static void see(struct ab_quic_cids *c, uint64_t seq)
{
    if (seq >= c->seen_base + 64) {
        uint64_t by = seq - 63 - c->seen_base;

        c->seen = by < 64 ? c->seen >> by : 0;
        c->seen_base += by;
    }
    if (seq >= c->seen_base)
        c->seen |= 1ULL << (seq - c->seen_base);
}

static bool was_seen(const struct ab_quic_cids *c, uint64_t seq)
{
    return seq < c->seen_base || (seq < c->seen_base + 64 && (c->seen >> (seq - c->seen_base) & 1));
}

bool ab_quic_cids_init(struct ab_quic_cids *c, const struct ab_quic_adopt *a, uint64_t limit_ours, uint64_t limit_peers)
{
    bool in_use = false;

    memset(c, 0, sizeof(*c));
    if (a->local_count < 1 || a->local_count > AB_QUIC_CIDS || a->peer_count < 1 || a->peer_count > AB_QUIC_CIDS ||
        limit_peers > AB_QUIC_CIDS || limit_ours < 2)
        return false;
    c->limit_ours = (uint8_t)AB_MIN(limit_ours, AB_QUIC_CIDS);
    c->limit_peers = (uint8_t)limit_peers;
    for (uint32_t i = 0; i < a->local_count; i++) {
        /* The map `cids` has one length, and a peer learns of sequence numbers in order. */
        if (a->local_cids[i].len != AB_CID_LEN || (i && a->local_cids[i].seq <= a->local_cids[i - 1].seq))
            return false;
        c->ours[i].cid = a->local_cids[i];
        c->ours[i].state = AB_QUIC_CID_STOCK;
    }
    /* The first one was told in the handshake. */
    c->ours[0].state = AB_QUIC_CID_ANNOUNCED;
    c->next_ours = c->ours[0].cid.seq + 1;
    for (uint32_t i = 0; i < a->peer_count; i++) {
        if (a->peer_cids[i].len > AB_QUIC_CID_BYTES || (a->peer_cids[i].len == 0 && a->peer_count > 1))
            return false;
        c->peers[i].cid = a->peer_cids[i];
        c->peers[i].state = AB_QUIC_CID_ANNOUNCED;
        see(c, a->peer_cids[i].seq);
        if (a->peer_cids[i].seq == a->peer_cid_in_use) {
            c->in_use = (uint8_t)i;
            in_use = true;
        }
    }
    return in_use;
}

void ab_quic_cids_decline(struct ab_quic_cids *c, uint64_t seq)
{
    see(c, seq);
}

uint32_t ab_quic_cids_active(const struct ab_quic_cids *c)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++)
        n += c->ours[i].state == AB_QUIC_CID_ANNOUNCED;
    return n;
}

uint32_t ab_quic_cids_wanted(const struct ab_quic_cids *c)
{
    uint32_t good = 0, stock = 0, goal = c->limit_ours + 2;

    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++) {
        good += c->ours[i].state == AB_QUIC_CID_STOCK || c->ours[i].state == AB_QUIC_CID_ANNOUNCED;
        stock += c->ours[i].state == AB_QUIC_CID_STOCK;
    }
    return stock < 2 && good < goal ? goal - good : 0;
}

const struct ab_quic_cid *ab_quic_cids_announce(struct ab_quic_cids *c)
{
    struct ab_quic_cid_entry *next = NULL;

    if (ab_quic_cids_active(c) >= c->limit_ours)
        return NULL;
    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++)
        if (c->ours[i].state == AB_QUIC_CID_STOCK && (!next || c->ours[i].cid.seq < next->cid.seq))
            next = &c->ours[i];
    if (!next)
        return NULL;
    next->state = AB_QUIC_CID_ANNOUNCED;
    c->next_ours = next->cid.seq + 1;
    return &next->cid;
}

bool ab_quic_cids_stock(struct ab_quic_cids *c, const struct ab_quic_cid *cid)
{
    struct ab_quic_cid_entry *e;

    if (cid->len != AB_CID_LEN || cid->seq < c->next_ours)
        return false;
    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++)
        if (c->ours[i].state != AB_QUIC_CID_FREE &&
            (c->ours[i].cid.seq == cid->seq || same_cid(&c->ours[i].cid, cid->cid, cid->len)))
            return false;
    e = free_entry(c->ours);
    if (!e)
        return false;
    *e = (struct ab_quic_cid_entry){.cid = *cid, .state = AB_QUIC_CID_STOCK};
    c->low = false;
    return true;
}

/* The lowest of the peer's that is announced, other than `but`; AB_QUIC_CIDS_MAX: none. */
static uint32_t another(const struct ab_quic_cids *c, uint32_t but)
{
    uint32_t best = AB_QUIC_CIDS_MAX;

    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++)
        if (i != but && c->peers[i].state == AB_QUIC_CID_ANNOUNCED &&
            (best == AB_QUIC_CIDS_MAX || c->peers[i].cid.seq < c->peers[best].cid.seq))
            best = i;
    return best;
}

int ab_quic_cids_new(struct ab_quic_cids *c, const struct ab_quic_frame *f, uint64_t *retire, uint32_t *count)
{
    struct ab_quic_cid cid = {.seq = f->new_cid.sequence, .len = (uint8_t)f->new_cid.len, .has_token = 1};
    struct ab_quic_cid_entry *e;
    uint32_t active = 0;
    bool known = false;

    *count = 0;
    /* RFC 9000 19.15: not from a peer that has chosen to have none. */
    if (c->peers[c->in_use].cid.len == 0)
        return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
    memcpy(cid.cid, f->new_cid.cid, cid.len);
    memcpy(cid.token, f->new_cid.token, sizeof(cid.token));
    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++) {
        const struct ab_quic_cid *have = &c->peers[i].cid;

        if (c->peers[i].state == AB_QUIC_CID_FREE)
            continue;
        /* 19.15: the same again is a retransmission; one half the same is a violation. */
        if (have->seq == cid.seq) {
            if (!same_cid(have, cid.cid, cid.len) || (have->has_token && memcmp(have->token, cid.token, 16) != 0))
                return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
            known = true;
        } else if (same_cid(have, cid.cid, cid.len)) {
            return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
        }
    }
    if (!known && cid.seq < c->retire_prior_to) {
        /* 19.15: too late for one that is to be retired: answered at once, unless it was here before. */
        if (!was_seen(c, cid.seq))
            retire[(*count)++] = cid.seq;
        see(c, cid.seq);
        return 0;
    }
    if (!known && was_seen(c, cid.seq))
        return 0; /* a retransmission of one that we have retired since */
    e = free_entry(c->peers);
    if (!known && !e)
        return AB_QUIC_NO_ROOM; /* those that are gone are in the way until the supervisor has heard of it */
    c->retire_prior_to = AB_MAX(c->retire_prior_to, f->new_cid.retire_prior_to);
    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++) {
        if (c->peers[i].state != AB_QUIC_CID_ANNOUNCED)
            continue;
        if (c->peers[i].cid.seq < c->retire_prior_to) {
            retire[(*count)++] = c->peers[i].cid.seq;
            c->peers[i].state = AB_QUIC_CID_GONE;
            c->peers[i].told = false;
        } else {
            active++;
        }
    }
    if (!known) {
        see(c, cid.seq);
        /* 5.1.1: counted after those are gone that this frame retires. */
        if (active >= c->limit_peers)
            return AB_QUIC_ERROR_CONNECTION_ID_LIMIT;
        *e = (struct ab_quic_cid_entry){.cid = cid, .state = AB_QUIC_CID_ANNOUNCED};
    }
    if (c->peers[c->in_use].state != AB_QUIC_CID_ANNOUNCED) {
        uint32_t next = another(c, c->in_use);

        if (next == AB_QUIC_CIDS_MAX)
            return AB_QUIC_ERROR_PROTOCOL_VIOLATION; /* cannot be: this frame brought one */
        c->in_use = (uint8_t)next;
    }
    return 0;
}

int ab_quic_cids_retire(struct ab_quic_cids *c, uint64_t seq, uint64_t used, uint64_t until, uint32_t *index)
{
    *index = AB_QUIC_CIDS_MAX;
    /* 19.16: neither one that was never sent, nor the one that this packet came to. */
    if (seq >= c->next_ours || seq == used)
        return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++)
        if (c->ours[i].state == AB_QUIC_CID_ANNOUNCED && c->ours[i].cid.seq == seq) {
            c->ours[i].state = AB_QUIC_CID_GONE;
            c->ours[i].told = false;
            c->ours[i].until = until;
            *index = i;
        }
    return 0;
}

uint32_t ab_quic_cids_buried(const struct ab_quic_cids *c, bool room, uint64_t now)
{
    uint32_t oldest = AB_QUIC_CIDS_MAX;

    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++) {
        if (c->ours[i].state == AB_QUIC_CID_FREE)
            room = false;
        if (c->ours[i].state == AB_QUIC_CID_GONE && c->ours[i].told &&
            (oldest == AB_QUIC_CIDS_MAX || c->ours[i].until < c->ours[oldest].until))
            oldest = i;
    }
    return oldest != AB_QUIC_CIDS_MAX && (room || c->ours[oldest].until <= now) ? oldest : AB_QUIC_CIDS_MAX;
}

void ab_quic_cids_free(struct ab_quic_cids *c, uint32_t index)
{
    memset(&c->ours[index], 0, sizeof(c->ours[index]));
}

bool ab_quic_cids_rotate(struct ab_quic_cids *c, uint64_t *retire)
{
    uint32_t next = another(c, c->in_use);

    if (next == AB_QUIC_CIDS_MAX)
        return false;
    *retire = c->peers[c->in_use].cid.seq;
    c->peers[c->in_use].state = AB_QUIC_CID_GONE;
    c->peers[c->in_use].told = false;
    c->in_use = (uint8_t)next;
    return true;
}
