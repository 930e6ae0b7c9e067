/* libFuzzer target of the capture rules (afterburnerd/native/rules.h): the hash table against a list read from the end.
 *
 * The input chooses rules and datagrams from few addresses, ports and VLANs, so that they meet: rules for the same
 * place, rules that are out of bounds, datagrams for port 0 and for the zero address. */
#include "rules.h"

#include "fuzz.h"

#define RULES 96
#define DATAGRAMS 64

static const uint8_t addresses[8][16] = {
    {0},
    {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1},
    {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2},
    {[10] = 0xff, [11] = 0xff},
    {0xfd, 0x77, [15] = 1},
    {0xfd, 0x77, [15] = 2},
    {[15] = 1},
    {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
};

static uint16_t choose_port(struct choices *c)
{
    uint32_t which = choose(c);

    return (uint16_t)(which == 255 ? 65535 : which % 32);
}

static const uint8_t *choose_address(struct choices *c)
{
    return addresses[choose(c) % 8];
}

static bool bad(const struct ab_rule *r)
{
    return r->port == 0 || r->rule >= AB_MAX_RULES || r->decoder >= AB_DECODER_END;
}

static bool meets(const struct ab_rule *r, const uint8_t *addr, const struct ab_dgram *d)
{
    return memcmp(r->addr, addr, 16) == 0 && r->port == d->dport && r->vlan_outer == d->vlan[0] &&
           r->vlan_inner == d->vlan[1];
}

static const struct ab_rule *find(const struct ab_rule *rules, uint32_t count, const uint8_t *addr,
                                  const struct ab_dgram *d)
{
    while (count--)
        if (meets(&rules[count], addr, d))
            return &rules[count];
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct choices c = {data, size};
    struct ab_rule made[RULES], *rules;
    uint32_t count = choose(&c) % (RULES + 1), places = 0;
    struct ab_error err = {0};
    struct ab_rules table;
    bool refused = false;
    int rc;

    memset(made, 0, sizeof(made));
    for (uint32_t i = 0; i < count; i++) {
        struct ab_rule *r = &made[i];
        uint32_t more = choose(&c);

        memcpy(r->addr, choose_address(&c), 16);
        r->port = choose_port(&c);
        r->rule = (uint16_t)(more & 0x40 ? 60 + choose(&c) % 8 : i % AB_MAX_RULES);
        r->decoder = (uint8_t)(more & 0x80 ? choose(&c) : i % AB_DECODER_END);
        r->vlan_outer = (uint16_t)(more & 3 ? 4090 + (more & 3) : 0);
        r->vlan_inner = (uint16_t)(more >> 2 & 3);
        memset(r->pad, (int)i, sizeof(r->pad));
        refused |= bad(r);
    }
    rules = (struct ab_rule *)exact(made, count * sizeof(*made));
    rc = ab_rules_init(&table, rules, count, &err);
    MUST(refused ? rc == AB_EINVAL && err.code == rc && err.text[0] : rc == 0);
    if (rc == 0) {
        for (uint32_t i = 0; i < count; i++) {
            struct ab_dgram d = {.dport = rules[i].port, .vlan = {rules[i].vlan_outer, rules[i].vlan_inner}};

            places += find(rules, count, rules[i].addr, &d) == &rules[i];
        }
        MUST(table.count == places && table.mask + 1 > table.count && (table.mask & (table.mask + 1)) == 0);
    } else {
        count = 0; /* what was refused knows no rule, and can be asked all the same */
    }
    for (uint32_t i = 0; i < DATAGRAMS; i++) {
        uint32_t more = choose(&c);
        struct ab_dgram d = {.vlan = {(uint16_t)(more & 3 ? 4090 + (more & 3) : 0), (uint16_t)(more >> 2 & 3)}};
        const struct ab_rule *want, *got;

        memcpy(d.dst, choose_address(&c), 16);
        d.dport = choose_port(&c);
        got = ab_rules_find(&table, &d);
        want = find(rules, count, d.dst, &d);
        if (!want)
            want = find(rules, count, addresses[0], &d);
        MUST(!want == !got && (!want || memcmp(want, got, sizeof(*want)) == 0));
    }
    ab_rules_fini(&table);
    free(rules);
    return 0;
}
