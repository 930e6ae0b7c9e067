/* Paths: where a connection's datagrams go, and what must be proven before they may (RFC 9000 sections 8 and 9).
 *
 *   ACTIVE    in use
 *   FORMER    server: the one before, until the active one is validated. If that fails, back to this one (9.3.2)
 *   ASIDE     somebody else's address that sent probing frames: answers go there, nothing else
 *
 * Until an address is validated, at most three times what came from it goes to it (8.1, 9.3.1), so that nobody can aim
 * us at a victim. Validated is an address that returns the eight unpredictable bytes of a PATH_CHALLENGE. */
#ifndef AB_QUIC_PATH_H
#define AB_QUIC_PATH_H

#include <string.h>

#include "abi.h"
#include "base.h"
#include "eth.h"

#define AB_QUIC_AMPLIFICATION 3   /* RFC 9000 8.1 */
#define AB_QUIC_CHALLENGE_TRIES 5 /* challenges of one validation; it ends 3 PTO after the first (8.2.4) */
#define AB_QUIC_PATH_BYTES 1200   /* datagrams with challenges or responses are expanded to this (8.2.1) */

enum ab_quic_path_index {
    AB_QUIC_PATH_ACTIVE,
    AB_QUIC_PATH_FORMER,
    AB_QUIC_PATH_ASIDE,
    AB_QUIC_PATHS,
};

struct ab_quic_path {
    struct ab_path to;
    uint64_t received;    /* bytes that came from there; counted until it is validated */
    uint64_t sent;        /* bytes that went there; likewise */
    uint64_t again_ns;    /* when the next one is due; UINT64_MAX none */
    uint64_t until_ns;    /* when validation has failed; UINT64_MAX: none is under way */
    uint8_t challenge[8]; /* what must come back */
    uint8_t response[8];  /* what we owe */
    bool used;
    bool validated;
    bool challenging; /* a validation is under way */
    bool respond;     /* a PATH_RESPONSE is owed */
    bool small;       /* the challenge went out in a datagram below 1200 bytes: must be repeated in a large one */
    uint8_t tries;
};

/* ab_quic_path_same: whether a datagram came over this path. VLAN and MAC addresses are the interface's business. A
 * socket that is bound to no address does not tell to which one a datagram came: all zero. */
static inline bool ab_quic_path_same(const struct ab_path *p, const struct ab_dgram *d)
{
    static const uint8_t unknown[16];

    return p->remote_port == d->sport && p->local_port == d->dport && memcmp(p->remote, d->src, 16) == 0 &&
           (memcmp(p->local, d->dst, 16) == 0 || memcmp(unknown, d->dst, 16) == 0);
}

/* ab_quic_path_room: how many bytes may go there now. */
static inline uint64_t ab_quic_path_room(const struct ab_quic_path *p)
{
    uint64_t most = AB_QUIC_AMPLIFICATION * p->received;

    if (ab_likely(p->validated))
        return UINT64_MAX;
    return most > p->sent ? most - p->sent : 0;
}

/* ab_quic_path_open: a path to where a datagram came from; the rest is taken from `like`. Not validated. */
void ab_quic_path_open(struct ab_quic_path *p, const struct ab_path *like, const struct ab_dgram *d);

/* ab_quic_path_challenge: begins a validation with these bytes; it fails at `until`. */
void ab_quic_path_challenge(struct ab_quic_path *p, uint64_t random, uint64_t now, uint64_t until);

/* ab_quic_path_answered: whether a PATH_RESPONSE is the answer to our challenge; then the path is validated. */
bool ab_quic_path_answered(struct ab_quic_path *p, const uint8_t data[8]);

#endif
