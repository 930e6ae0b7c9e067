#include "quic_crypto.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#include "quic_crypto_backend.h"

#define FORCED "AFTERBURNER_CRYPTO"
#define LABEL_MAX 32

/* choose: the backend of that name, or the best; NULL where it cannot be had. */
static const struct ab_quic_backend *choose(struct ab_quic_crypto *c, const char *wish, struct ab_error *err)
{
    struct ab_error why = {0};
    const struct ab_quic_backend *found;
    bool any;

    if (!wish || !*wish || strcmp(wish, "auto") == 0)
        wish = getenv(FORCED);
    any = !wish || !*wish || strcmp(wish, "auto") == 0;
    snprintf(c->name, sizeof(c->name), "libcrypto");
    if (!any && strcmp(wish, "libcrypto") == 0) {
        snprintf(c->reason, sizeof(c->reason), "asked for");
        return &ab_quic_libcrypto;
    }
    if (!any && (strncmp(wish, "ipsec-mb", 8) != 0 || (wish[8] && wish[8] != ':'))) {
        ab_fail(err, AB_EINVAL, "crypto backend \"%s\" is unknown: auto, libcrypto and ipsec-mb are", wish);
        return NULL;
    }
    found = ab_quic_ipsec_init(c, any || wish[8] != ':' ? "" : wish + 9, &why);
    if (found && ab_quic_crypto_check(c, found, &why) == 0)
        return found;
    ab_quic_ipsec_fini(c);
    if (!any) {
        ab_fail(err, why.code, "%s", why.text);
        return NULL;
    }
    snprintf(c->name, sizeof(c->name), "libcrypto");
    snprintf(c->reason, sizeof(c->reason), "%.*s", (int)sizeof(c->reason) - 1, why.text);
    return &ab_quic_libcrypto;
}

int ab_quic_crypto_init(struct ab_quic_crypto *c, const char *backend, struct ab_error *err)
{
    int rc;

    memset(c, 0, sizeof(*c));
    rc = ab_quic_libcrypto_init(c, err);
    if (rc == 0) {
        c->backend = choose(c, backend, err);
        if (c->backend)
            return 0;
        rc = err && err->code ? err->code : AB_EINVAL;
    }
    ab_quic_crypto_fini(c);
    return rc;
}

void ab_quic_crypto_fini(struct ab_quic_crypto *c)
{
    ab_quic_ipsec_fini(c);
    ab_quic_libcrypto_fini(c);
    c->backend = NULL;
}

/* --- derivation ------------------------------------------------------------------------------------------------ */

static void expand(const struct ab_quic_stem *stem, const char *label, uint8_t *out, uint32_t len)
{
    /* struct HkdfLabel: length, "tls13 " + label, an empty context; then the 1 that HKDF counts its blocks from */
    uint8_t info[2 + 1 + 6 + LABEL_MAX + 1 + 1], block[AB_QUIC_SECRET_MAX];
    size_t label_len = strlen(label);
    uint32_t n = 0;

    info[n++] = 0;
    info[n++] = (uint8_t)len;
    info[n++] = (uint8_t)(6 + label_len);
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, label_len);
    n += 6 + (uint32_t)label_len;
    info[n++] = 0;
    info[n++] = 1;
    ab_quic_libcrypto_hmac(stem, info, n, block);
    memcpy(out, block, len);
    explicit_bzero(block, sizeof(block));
}

int ab_quic_secret_expand(struct ab_quic_crypto *c, enum ab_quic_suite suite, const uint8_t *secret, const char *label,
                          uint8_t *out, uint32_t len)
{
    struct ab_quic_stem stem;

    (void)c; /* what hashes needs nothing of it */
    if (strlen(label) > LABEL_MAX || len > ab_quic_secret_bytes(suite))
        return AB_EINVAL;
    ab_quic_libcrypto_stem(&stem, suite, secret);
    expand(&stem, label, out, len);
    explicit_bzero(&stem, sizeof(stem));
    return 0;
}

static bool known(enum ab_quic_suite suite)
{
    return suite >= AB_QUIC_AES128_GCM && suite <= AB_QUIC_CHACHA20_POLY1305;
}

int ab_quic_key_set(struct ab_quic_crypto *c, struct ab_quic_key *key, enum ab_quic_suite suite, const uint8_t *bytes,
                    const uint8_t iv[AB_QUIC_IV_BYTES])
{
    if (!known(suite))
        return AB_EINVAL;
    memset(key, 0, sizeof(*key));
    key->suite = (uint8_t)suite;
    memcpy(key->iv, iv, AB_QUIC_IV_BYTES);
    return c->backend->key_set(c, key, bytes);
}

int ab_quic_hp_set(struct ab_quic_crypto *c, struct ab_quic_hp *hp, enum ab_quic_suite suite, const uint8_t *bytes)
{
    if (!known(suite))
        return AB_EINVAL;
    memset(hp, 0, sizeof(*hp));
    hp->suite = (uint8_t)suite;
    return c->backend->hp_set(c, hp, bytes);
}

int ab_quic_secret_derive(struct ab_quic_crypto *c, enum ab_quic_suite suite, const uint8_t *secret,
                          struct ab_quic_key *key, struct ab_quic_hp *hp, uint8_t *next)
{
    uint8_t bytes[AB_QUIC_KEY_MAX], iv[AB_QUIC_IV_BYTES];
    struct ab_quic_stem stem;
    int rc = 0;

    if (!known(suite))
        return AB_EINVAL;
    ab_quic_libcrypto_stem(&stem, suite, secret);
    if (key) {
        expand(&stem, "quic key", bytes, ab_quic_key_bytes(suite));
        expand(&stem, "quic iv", iv, sizeof(iv));
        rc = ab_quic_key_set(c, key, suite, bytes, iv);
    }
    if (hp && rc == 0) {
        expand(&stem, "quic hp", bytes, ab_quic_key_bytes(suite));
        rc = ab_quic_hp_set(c, hp, suite, bytes);
    }
    if (next && rc == 0)
        expand(&stem, "quic ku", next, ab_quic_secret_bytes(suite));
    explicit_bzero(&stem, sizeof(stem));
    explicit_bzero(bytes, sizeof(bytes));
    return rc;
}

int ab_quic_key_derive(struct ab_quic_crypto *c, struct ab_quic_key *key, enum ab_quic_suite suite,
                       const uint8_t *secret)
{
    return ab_quic_secret_derive(c, suite, secret, key, NULL, NULL);
}

int ab_quic_hp_derive(struct ab_quic_crypto *c, struct ab_quic_hp *hp, enum ab_quic_suite suite, const uint8_t *secret)
{
    return ab_quic_secret_derive(c, suite, secret, NULL, hp, NULL);
}

int ab_quic_secret_next(struct ab_quic_crypto *c, enum ab_quic_suite suite, const uint8_t *secret, uint8_t *next)
{
    return ab_quic_secret_derive(c, suite, secret, NULL, NULL, next);
}

void ab_quic_key_wipe(struct ab_quic_crypto *c, struct ab_quic_key *key)
{
    if (key->suite)
        c->backend->key_forget(c, key);
    explicit_bzero(key, sizeof(*key));
}

void ab_quic_hp_wipe(struct ab_quic_crypto *c, struct ab_quic_hp *hp)
{
    if (hp->suite)
        c->backend->hp_forget(c, hp);
    explicit_bzero(hp, sizeof(*hp));
}

void ab_quic_secret_wipe(uint8_t secret[AB_QUIC_SECRET_MAX])
{
    explicit_bzero(secret, AB_QUIC_SECRET_MAX);
}

/* --- packets --------------------------------------------------------------------------------------------------- */

/* first_mask: which bits of the first byte are protected (RFC 9001 5.4.1): 5 of a short header, 4 of a long one. Its
 * form bit is never masked. */
static inline uint8_t first_mask(uint8_t first)
{
    return first & 0x80 ? 0x0f : 0x1f;
}

static inline int32_t checked(const struct ab_quic_op *op)
{
    if (ab_unlikely(op->key->suite == 0 || (op->hp && op->hp->suite == 0)))
        return AB_QUIC_CRYPTO_ENOKEY;
    if (ab_unlikely(op->hp && op->header_len + op->len < op->number_off + (uint32_t)AB_QUIC_SAMPLE_OFFSET))
        return AB_QUIC_CRYPTO_ESHORT;
    return 0;
}

uint32_t ab_quic_seal_batch(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n)
{
    struct ab_quic_sample samples[AB_QUIC_MASKS];
    uint32_t good = 0, at, k;

    for (uint32_t i = 0; i < n; i++) {
        struct ab_quic_op *op = &ops[i];

        op->status = checked(op);
    }
    c->backend->seal(c, ops, n);
    for (uint32_t i = 0; i < n; i = at) {
        for (at = i, k = 0; at < n && k < AB_QUIC_MASKS; at++) {
            const struct ab_quic_op *op = &ops[at];

            if (ab_unlikely(op->status || !op->hp))
                continue;
            samples[k].hp = op->hp;
            samples[k++].bytes = op->packet + op->number_off + AB_QUIC_SAMPLE_OFFSET;
        }
        c->backend->mask(c, samples, k);
        for (at = i, k = 0; at < n && k < AB_QUIC_MASKS; at++) {
            struct ab_quic_op *op = &ops[at];
            const uint8_t *mask;

            if (ab_unlikely(op->status))
                continue;
            good++;
            if (ab_unlikely(!op->hp))
                continue;
            mask = samples[k++].mask;
            op->packet[0] ^= mask[0] & first_mask(op->packet[0]);
            for (uint32_t b = op->number_off; b < op->header_len; b++)
                op->packet[b] ^= mask[1 + b - op->number_off];
        }
    }
    return good;
}

uint32_t ab_quic_unprotect_batch(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n)
{
    struct ab_quic_sample samples[AB_QUIC_MASKS];
    uint32_t good = 0, at, k;

    for (uint32_t i = 0; i < n; i = at) {
        for (at = i, k = 0; at < n && k < AB_QUIC_MASKS; at++) {
            struct ab_quic_op *op = &ops[at];

            op->status = ab_unlikely(op->hp->suite == 0) ? AB_QUIC_CRYPTO_ENOKEY
                         : op->len < op->number_off + AB_QUIC_SAMPLE_OFFSET + (uint32_t)AB_QUIC_SAMPLE_BYTES
                             ? AB_QUIC_CRYPTO_ESHORT
                             : 0;
            if (ab_unlikely(op->status))
                continue;
            samples[k].hp = op->hp;
            samples[k++].bytes = op->packet + op->number_off + AB_QUIC_SAMPLE_OFFSET;
        }
        c->backend->mask(c, samples, k);
        good += k;
        for (at = i, k = 0; at < n && k < AB_QUIC_MASKS; at++) {
            struct ab_quic_op *op = &ops[at];
            const uint8_t *mask;
            uint8_t *p = op->packet + op->number_off;
            uint32_t number_len;

            if (ab_unlikely(op->status))
                continue;
            mask = samples[k++].mask;
            op->packet[0] ^= mask[0] & first_mask(op->packet[0]);
            number_len = (op->packet[0] & 3u) + 1;
            op->number = 0;
            for (uint32_t b = 0; b < number_len; b++) {
                p[b] ^= mask[1 + b];
                op->number = op->number << 8 | p[b];
            }
            op->header_len = (uint16_t)(op->number_off + number_len);
        }
    }
    return good;
}

uint32_t ab_quic_open_batch(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n)
{
    uint32_t good = 0;

    for (uint32_t i = 0; i < n; i++)
        ops[i].status = ab_unlikely(ops[i].key->suite == 0)                            ? AB_QUIC_CRYPTO_ENOKEY
                        : ops[i].len < ops[i].header_len + (uint32_t)AB_QUIC_TAG_BYTES ? AB_QUIC_CRYPTO_ESHORT
                                                                                       : 0;
    c->backend->open(c, ops, n);
    for (uint32_t i = 0; i < n; i++)
        good += ops[i].status == 0;
    return good;
}

bool ab_quic_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}
