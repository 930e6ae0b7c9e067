/* Does another library protect packets as libcrypto does? Asked once at start, before it is trusted with any: a wrong
 * answer would close every connection with "the tag is wrong", and say nothing of why.
 *
 * The questions: for every suite a batch of packets of lengths at which code like this changes its ways (empty, partial
 * blocks, one and several wide strides), sealed, bared and opened; a wrong tag; and whether the library kept to its
 * place in the key. */
#include "quic_crypto_backend.h"

#define SECRET_BYTE 0x5a
#define NUMBER_OFF 9
#define HEADER 11
#define ROOM 2048

static const uint16_t lengths[] = {2, 15, 16, 17, 63, 300, 768, 1232, 1443, 2000};

#define PACKETS AB_ARRAY_LEN(lengths)

struct trial {
    struct ab_quic_key key;
    struct ab_quic_hp hp;
    struct ab_quic_op ops[PACKETS];
    uint8_t packets[PACKETS][ROOM];
};

/* protect: the batch, sealed by whatever backend is in use. */
static bool protect(struct ab_quic_crypto *c, struct trial *t, enum ab_quic_suite suite)
{
    uint8_t secret[AB_QUIC_SECRET_MAX], iv[AB_QUIC_IV_BYTES];

    memset(secret, SECRET_BYTE, sizeof(secret));
    if (ab_quic_key_derive(c, &t->key, suite, secret) || ab_quic_hp_derive(c, &t->hp, suite, secret) ||
        ab_quic_secret_expand(c, suite, secret, "quic iv", iv, sizeof(iv)))
        return false;
    for (uint32_t i = 0; i < PACKETS; i++) {
        for (uint32_t k = 0; k < ROOM; k++)
            t->packets[i][k] = (uint8_t)(k * 7 + i);
        t->packets[i][0] = 0x41; /* two bytes of number */
        t->ops[i] = (struct ab_quic_op){
            .key = &t->key,
            .hp = &t->hp,
            .packet = t->packets[i],
            .payload = t->packets[i] + HEADER,
            .number = UINT64_C(0x123456789a) + i,
            .len = lengths[i],
            .header_len = HEADER,
            .number_off = NUMBER_OFF,
        };
    }
    return ab_quic_seal_batch(c, t->ops, PACKETS) == PACKETS && t->key.suite == suite && t->hp.suite == suite &&
           memcmp(t->key.iv, iv, sizeof(iv)) == 0;
}

/* reopen: the batch back to what it was; then once more with a wrong tag. */
static bool reopen(struct ab_quic_crypto *c, struct trial *t)
{
    for (uint32_t i = 0; i < PACKETS; i++) {
        t->ops[i].len = HEADER + lengths[i] + AB_QUIC_TAG_BYTES;
        t->ops[i].header_len = 0;
    }
    if (ab_quic_unprotect_batch(c, t->ops, PACKETS) != PACKETS)
        return false;
    for (uint32_t i = 0; i < PACKETS; i++) {
        t->ops[i].number = UINT64_C(0x123456789a) + i;
        t->packets[i][t->ops[i].len - 1] ^= i & 1;
    }
    if (ab_quic_open_batch(c, t->ops, PACKETS) != PACKETS - PACKETS / 2)
        return false;
    for (uint32_t i = 0; i < PACKETS; i++) {
        if (t->ops[i].status != (i & 1 ? AB_QUIC_CRYPTO_EAUTH : 0) || t->ops[i].header_len != HEADER)
            return false;
        for (uint32_t k = HEADER; k < HEADER + (uint32_t)lengths[i]; k++)
            if (t->packets[i][k] != (i & 1 ? 0 : (uint8_t)(k * 7 + i)))
                return false;
    }
    return true;
}

int ab_quic_crypto_check(struct ab_quic_crypto *c, const struct ab_quic_backend *candidate, struct ab_error *err)
{
    struct trial ours, reference;
    int rc = 0;

    for (int suite = AB_QUIC_AES128_GCM; rc == 0 && suite <= AB_QUIC_CHACHA20_POLY1305; suite++) {
        c->backend = &ab_quic_libcrypto;
        if (!protect(c, &reference, suite)) {
            rc = ab_fail(err, AB_EINVAL, "libcrypto cannot protect packets with QUIC suite %d", suite);
            break;
        }
        ab_quic_key_wipe(c, &reference.key);
        ab_quic_hp_wipe(c, &reference.hp);
        c->backend = candidate;
        if (!protect(c, &ours, suite) || memcmp(ours.packets, reference.packets, sizeof(ours.packets)) != 0 ||
            !reopen(c, &ours))
            rc = ab_fail(err, AB_EINVAL, "%s answers wrongly for QUIC suite %d", c->name, suite);
        ab_quic_key_wipe(c, &ours.key);
        ab_quic_hp_wipe(c, &ours.hp);
    }
    c->backend = NULL;
    return rc;
}
