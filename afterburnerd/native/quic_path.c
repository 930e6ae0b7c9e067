#include "quic_path.h"

void ab_quic_path_open(struct ab_quic_path *p, const struct ab_path *like, const struct ab_dgram *d)
{
    struct ab_path to = *like;

    memcpy(to.remote, d->src, 16);
    memcpy(to.local, d->dst, 16);
    to.remote_port = d->sport;
    to.local_port = d->dport;
    if (d->family)
        to.family = d->family;
    if (d->frame) { /* another host of this link has another MAC; behind a gateway it is the same one */
        memcpy(to.dmac, d->frame + 6, 6);
        memcpy(to.smac, d->frame, 6);
        to.vlan_outer = d->vlan[0];
        to.vlan_inner = d->vlan[1];
    }
    to.generation++;
    memset(p, 0, sizeof(*p));
    p->to = to;
    p->used = true;
    p->again_ns = p->until_ns = UINT64_MAX;
}

void ab_quic_path_challenge(struct ab_quic_path *p, uint64_t random, uint64_t now, uint64_t until)
{
    memcpy(p->challenge, &random, sizeof(p->challenge));
    p->challenging = true;
    p->small = false;
    p->tries = 0;
    p->again_ns = now;
    p->until_ns = until;
}

bool ab_quic_path_answered(struct ab_quic_path *p, const uint8_t data[8])
{
    if (!p->used || !p->challenging || memcmp(p->challenge, data, 8) != 0)
        return false;
    p->challenging = false;
    p->validated = true;
    p->again_ns = p->until_ns = UINT64_MAX;
    return true;
}
