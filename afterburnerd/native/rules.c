#include "rules.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t any[16];

static uint32_t hash(const uint8_t addr[16], uint16_t port, uint16_t outer, uint16_t inner)
{
    uint64_t a, b;

    memcpy(&a, addr, 8);
    memcpy(&b, addr + 8, 8);
    a ^= b * 0x9e3779b97f4a7c15ULL ^ ((uint64_t)port << 32 | (uint32_t)outer << 16 | inner);
    a *= 0xff51afd7ed558ccdULL;
    return (uint32_t)(a >> 32);
}

static bool same(const struct ab_rule *r, const uint8_t addr[16], uint16_t port, uint16_t outer, uint16_t inner)
{
    return r->port == port && r->vlan_outer == outer && r->vlan_inner == inner && memcmp(r->addr, addr, 16) == 0;
}

int ab_rules_init(struct ab_rules *r, const struct ab_rule *rules, uint32_t count, struct ab_error *err)
{
    uint32_t places = 16;

    memset(r, 0, sizeof(*r));
    if (count > AB_RULES_LIMIT)
        return ab_fail(err, AB_EINVAL, "%u capture rules: %u at most", count, AB_RULES_LIMIT);
    while (places < 2 * count)
        places *= 2;
    r->table = calloc(places, sizeof(*r->table));
    if (!r->table)
        return ab_fail(err, AB_ENOMEM, "no memory for %u capture rules", count);
    r->mask = places - 1;
    for (uint32_t i = 0; i < count; i++) {
        const struct ab_rule *rule = &rules[i];
        uint32_t at = hash(rule->addr, rule->port, rule->vlan_outer, rule->vlan_inner);

        if (rule->port == 0 || rule->rule >= AB_MAX_RULES || rule->decoder >= AB_DECODER_END) {
            ab_rules_fini(r);
            return ab_fail(err, AB_EINVAL, "capture rule %u: port %u, index %u, decoder %u: out of bounds", i,
                           rule->port, rule->rule, rule->decoder);
        }
        while (r->table[at & r->mask].port &&
               !same(&r->table[at & r->mask], rule->addr, rule->port, rule->vlan_outer, rule->vlan_inner))
            at++;
        r->count += r->table[at & r->mask].port == 0;
        r->table[at & r->mask] = *rule;
        r->any_address |= memcmp(rule->addr, any, 16) == 0;
    }
    return 0;
}

void ab_rules_fini(struct ab_rules *r)
{
    free(r->table);
    memset(r, 0, sizeof(*r));
}

static const struct ab_rule *find(const struct ab_rules *r, const uint8_t *addr, const struct ab_dgram *d)
{
    for (uint32_t at = hash(addr, d->dport, d->vlan[0], d->vlan[1]);; at++) {
        const struct ab_rule *rule = &r->table[at & r->mask];

        if (rule->port == 0) /* first: to a datagram for port 0 an empty place would look like its rule */
            return NULL;
        if (same(rule, addr, d->dport, d->vlan[0], d->vlan[1]))
            return rule;
    }
}

const struct ab_rule *ab_rules_find(const struct ab_rules *r, const struct ab_dgram *d)
{
    const struct ab_rule *rule;

    if (ab_unlikely(!r->table))
        return NULL;
    rule = find(r, d->dst, d);
    if (ab_unlikely(!rule && r->any_address))
        rule = find(r, any, d);
    return rule;
}
