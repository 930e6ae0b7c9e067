/* Generations of keys: which one opens a packet, when the next one is due (RFC 9001 section 6).
 *
 *   sending     generation tx_generation, made when it is needed
 *   receiving   rx[rx_generation & 1] is the present one; the other place holds, in turn,
 *                 the next one     derived ahead: an update costs no time that an observer could measure (6.3)
 *                 the former one   for 3 PTO after an update, for packets that were overtaken (6.5)
 *
 * A header protection key serves all generations. Both secrets are those of the newest generation derived. */
#ifndef AB_QUIC_KEYS_H
#define AB_QUIC_KEYS_H

#include "abi.h"
#include "quic_crypto.h"

struct ab_quic_keys {
    struct ab_quic_key tx;
    struct ab_quic_key rx[2];
    struct ab_quic_hp tx_hp, rx_hp;
    uint8_t tx_secret[AB_QUIC_SECRET_MAX]; /* of tx_generation */
    uint8_t rx_secret[AB_QUIC_SECRET_MAX]; /* of rx_generation, or of the next one if `ahead` */
    uint64_t sealed;                       /* packets sealed with tx */
    uint64_t failed;                       /* packets that could not be opened, all generations (6.6) */
    uint64_t tx_first;                     /* first packet number of tx_generation */
    uint64_t rx_first;                     /* lowest packet number opened with rx_generation; UINT64_MAX none */
    uint64_t former_until;                 /* the former receiving key goes then */
    uint64_t update_at;                    /* own update when so many are sealed */
    uint64_t update_after;                 /* but not before, unless the key runs short */
    uint64_t seal_limit, fail_limit;       /* RFC 9001 6.6, or as configured */
    uint32_t tx_generation, rx_generation;
    uint8_t suite;  /* enum ab_quic_suite */
    bool ahead;     /* the other place holds the next key, not the former one */
    bool confirmed; /* a packet of tx_generation was acknowledged: another update may follow (6.1) */
    bool wanted;    /* update as soon as it is allowed */
};

/* Which generation a packet is tried with. */
enum ab_quic_key_choice {
    AB_QUIC_KEY_PRESENT,
    AB_QUIC_KEY_NEXT,
    AB_QUIC_KEY_FORMER,
};

int ab_quic_keys_init(struct ab_quic_keys *k, struct ab_quic_crypto *crypto, const struct ab_quic_adopt *a);
void ab_quic_keys_fini(struct ab_quic_keys *k, struct ab_quic_crypto *crypto);

/* ab_quic_keys_choose: by the key phase of a packet whose header is bare. */
static inline const struct ab_quic_key *ab_quic_keys_choose(const struct ab_quic_keys *k, bool phase,
                                                            enum ab_quic_key_choice *choice)
{
    if (ab_likely(phase == (k->rx_generation & 1))) {
        *choice = AB_QUIC_KEY_PRESENT;
        return &k->rx[k->rx_generation & 1];
    }
    *choice = k->ahead ? AB_QUIC_KEY_NEXT : AB_QUIC_KEY_FORMER;
    return &k->rx[(k->rx_generation + 1) & 1];
}

/* ab_quic_keys_advance_rx: the peer's packet `pn` was opened with the next key: that is the present one now, and the
 * former one stays until `former_until`. */
void ab_quic_keys_advance_rx(struct ab_quic_keys *k, uint64_t pn, uint64_t former_until);

/* ab_quic_keys_advance_tx: from packet `first` on we send with the next key. */
int ab_quic_keys_advance_tx(struct ab_quic_keys *k, struct ab_quic_crypto *crypto, uint64_t first);

/* ab_quic_keys_ahead: time is over for the former receiving key; derives the next one in its place. */
int ab_quic_keys_ahead(struct ab_quic_keys *k, struct ab_quic_crypto *crypto);

/* How long after an update an own one may follow, at least. The peer has no key for it before 3 PTO of its own have
 * passed (RFC 9001 6.5), and what it takes for a PTO we do not know: its estimate of the same path is another one.
 * Until then it hears nothing that we say, our acknowledgements included. At half of AES-GCM's limit a key lasts 3 s
 * at 1.4 million packets a second. */
#define AB_QUIC_UPDATE_GAP_NS 1000000000ULL

/* ab_quic_keys_short: half of what was left when an own update was due is used up; it cannot wait for any time. */
static inline bool ab_quic_keys_short(const struct ab_quic_keys *k)
{
    return k->sealed >= k->update_at + (k->seal_limit - AB_MIN(k->update_at, k->seal_limit)) / 2;
}

/* ab_quic_keys_may_update: whether we may begin an update: confirmed by an acknowledgement, the peer has followed the
 * last one, and the key to open its answer with is there. */
static inline bool ab_quic_keys_may_update(const struct ab_quic_keys *k)
{
    return k->confirmed && k->ahead && k->tx_generation == k->rx_generation;
}

/* ab_quic_keys_scarce: the sending key is nearly used up and cannot be updated yet: what is left of it is for ACKs,
 * probes, and the end. */
static inline bool ab_quic_keys_scarce(const struct ab_quic_keys *k)
{
    return k->sealed >= k->seal_limit - k->seal_limit / 4 && !ab_quic_keys_may_update(k);
}

#endif
