/* Capture rules as the data plane sees them: exact local address, port and VLAN -> what to do.
 *
 * The supervisor has expanded "any" into every local address, so a lookup is one hash and one comparison. Built outside
 * the loop and swapped whole while the loop stands still. */
#ifndef AB_RULES_H
#define AB_RULES_H

#include "base.h"
#include "eth.h"

#define AB_RULES_LIMIT (1u << 20) /* expanded rules: 64 of the configuration on more addresses than a host has */

struct ab_rules {
    struct ab_rule *table; /* open addressing; port 0 marks an empty place */
    uint32_t mask;         /* places - 1 */
    uint32_t count;        /* rules in it */
    bool any_address;      /* some rule has the zero address (socket backend): a second lookup is worth it */
};

/* ab_rules_init: of two rules for the same address, port and VLANs the later one counts. */
int ab_rules_init(struct ab_rules *r, const struct ab_rule *rules, uint32_t count, struct ab_error *err);
void ab_rules_fini(struct ab_rules *r);

/* ab_rules_find: the rule for a datagram's destination, or NULL. */
const struct ab_rule *ab_rules_find(const struct ab_rules *r, const struct ab_dgram *d);

#endif
