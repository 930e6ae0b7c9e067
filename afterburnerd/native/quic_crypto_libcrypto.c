/* libcrypto as it comes: EVP contexts, made at init, keyed as they are needed.
 *
 * An EVP context is a heap block of the library's making, so it cannot be embedded in a connection and 4,096
 * connections cannot have one for each key. A stock of them is shared: a key's owner number selects a slot
 * (direct-mapped, like a cache), the slot knows whose key is in it, and only a change of owner costs a key schedule. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init and others: see hash() */

#include "quic_crypto_backend.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>

/* CONTEXTS: slots of each cipher; some thirty connections keep theirs. Fuzzers, which make an engine an input, need
 * few. */
#ifdef AB_QUIC_FUZZED
#define CONTEXTS 4u
#else
#define CONTEXTS 64u
#endif

enum cipher { GCM128, GCM256, CHACHA_POLY, ECB128, ECB256, CHACHA, CIPHERS };

static const struct {
    const char *name;
    bool aead;
} ciphers[CIPHERS] = {
    [GCM128] = {"AES-128-GCM", true},  [GCM256] = {"AES-256-GCM", true},  [CHACHA_POLY] = {"ChaCha20-Poly1305", true},
    [ECB128] = {"AES-128-ECB", false}, [ECB256] = {"AES-256-ECB", false}, [CHACHA] = {"ChaCha20", false},
};

struct slot {
    EVP_CIPHER_CTX *ctx;
    uint64_t holder; /* owner number * 2 + 1 if it encrypts; 0: nobody's */
};

struct state {
    EVP_CIPHER *cipher[CIPHERS];
    struct slot slots[CIPHERS][CONTEXTS];
};

static const uint8_t nothing[AB_QUIC_KEY_MAX];

int ab_quic_libcrypto_init(struct ab_quic_crypto *c, struct ab_error *err)
{
    struct state *s = calloc(1, sizeof(*s));

    c->state = s;
    if (!s)
        return ab_fail(err, AB_ENOMEM, "no memory for the contexts of libcrypto");
    for (int i = 0; i < CIPHERS; i++) {
        s->cipher[i] = EVP_CIPHER_fetch(NULL, ciphers[i].name, NULL);
        if (!s->cipher[i])
            return ab_fail(err, AB_EINVAL, "libcrypto offers no %s: is its configuration (openssl.cnf) restricted?",
                           ciphers[i].name);
        for (unsigned k = 0; k < CONTEXTS; k++) {
            EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

            s->slots[i][k].ctx = ctx;
            /* With a key, so that all that is ever allocated is allocated now. */
            if (!ctx || EVP_CipherInit_ex2(ctx, s->cipher[i], nothing, nothing, 1, NULL) != 1 ||
                EVP_CIPHER_CTX_set_padding(ctx, 0) != 1)
                return ab_fail(err, AB_ENOMEM, "libcrypto made no context for %s", ciphers[i].name);
        }
    }
    return 0;
}

void ab_quic_libcrypto_fini(struct ab_quic_crypto *c)
{
    struct state *s = c->state;

    if (!s)
        return;
    for (int i = 0; i < CIPHERS; i++) {
        for (unsigned k = 0; k < CONTEXTS; k++)
            EVP_CIPHER_CTX_free(s->slots[i][k].ctx); /* the library wipes what it frees */
        EVP_CIPHER_free(s->cipher[i]);
    }
    free(s);
    c->state = NULL;
}

/* The functions that OpenSSL calls deprecated: an EVP_MD_CTX allocates each time that it begins anew (3.0), and key
 * updates happen in the loop. */
union hash {
    SHA256_CTX sha256;
    SHA512_CTX sha384;
};

_Static_assert(sizeof(union hash) == sizeof(((struct ab_quic_stem *)0)->inner) && _Alignof(union hash) <= 8,
               "a state of the hash has its place in struct ab_quic_stem");

static void begin(bool long_one, union hash *h, const uint8_t *block)
{
    if (long_one) {
        SHA384_Init(&h->sha384);
        SHA384_Update(&h->sha384, block, 128);
    } else {
        SHA256_Init(&h->sha256);
        SHA256_Update(&h->sha256, block, 64);
    }
}

/* go_on: from a state that is kept to the hash. */
static void go_on(bool long_one, const uint8_t *state, const uint8_t *data, size_t len, uint8_t *out)
{
    union hash h;

    if (long_one) {
        memcpy(&h.sha384, state, sizeof(h.sha384));
        SHA384_Update(&h.sha384, data, len);
        SHA384_Final(out, &h.sha384);
    } else {
        memcpy(&h.sha256, state, sizeof(h.sha256));
        SHA256_Update(&h.sha256, data, len);
        SHA256_Final(out, &h.sha256);
    }
    explicit_bzero(&h, sizeof(h)); /* its state is the result */
}

void ab_quic_libcrypto_stem(struct ab_quic_stem *stem, enum ab_quic_suite suite, const uint8_t *key)
{
    uint32_t size = ab_quic_secret_bytes(suite);
    uint8_t pad[128];

    /* RFC 2104; a key as long as the hash is shorter than its block */
    stem->long_one = suite == AB_QUIC_AES256_GCM;
    memset(pad, 0x36, sizeof(pad));
    for (uint32_t i = 0; i < size; i++)
        pad[i] ^= key[i];
    begin(stem->long_one, (union hash *)stem->inner, pad);
    for (uint32_t i = 0; i < sizeof(pad); i++)
        pad[i] ^= 0x36 ^ 0x5c;
    begin(stem->long_one, (union hash *)stem->outer, pad);
    explicit_bzero(pad, sizeof(pad));
}

void ab_quic_libcrypto_hmac(const struct ab_quic_stem *stem, const uint8_t *data, uint32_t len, uint8_t *out)
{
    uint8_t inner[AB_QUIC_SECRET_MAX];

    go_on(stem->long_one, stem->inner, data, len, inner);
    go_on(stem->long_one, stem->outer, inner, stem->long_one ? 48 : 32, out);
    explicit_bzero(inner, sizeof(inner));
}

/* keyed: the context that holds `owner`'s key for this direction, keyed now if it has to be; NULL if that failed. */
static EVP_CIPHER_CTX *keyed(struct state *s, enum cipher cipher, uint64_t owner, const uint8_t *bytes, int encrypt)
{
    struct slot *slot = &s->slots[cipher][owner % CONTEXTS];
    uint64_t holder = owner << 1 | (uint64_t)encrypt;

    if (ab_unlikely(slot->holder != holder)) {
        slot->holder = 0;
        if (EVP_CipherInit_ex2(slot->ctx, NULL, bytes, NULL, encrypt, NULL) != 1)
            return NULL;
        slot->holder = holder;
    }
    return slot->ctx;
}

static enum cipher aead_of(uint8_t suite)
{
    return suite == AB_QUIC_AES128_GCM ? GCM128 : suite == AB_QUIC_AES256_GCM ? GCM256 : CHACHA_POLY;
}

static enum cipher mask_of(uint8_t suite)
{
    return suite == AB_QUIC_AES128_GCM ? ECB128 : suite == AB_QUIC_AES256_GCM ? ECB256 : CHACHA;
}

static int key_set(struct ab_quic_crypto *c, struct ab_quic_key *key, const uint8_t *bytes)
{
    memcpy(key->raw.bytes, bytes, ab_quic_key_bytes(key->suite));
    key->raw.owner = ++c->key_owners;
    return 0;
}

static int hp_set(struct ab_quic_crypto *c, struct ab_quic_hp *hp, const uint8_t *bytes)
{
    memcpy(hp->raw.bytes, bytes, ab_quic_key_bytes(hp->suite));
    hp->raw.owner = ++c->hp_owners;
    return 0;
}

static void forget(struct slot *slot, uint64_t owner)
{
    if (slot->holder >> 1 != owner)
        return;
    slot->holder = 0;
    (void)EVP_CipherInit_ex2(slot->ctx, NULL, nothing, nothing, -1, NULL);
}

static void key_forget(struct ab_quic_crypto *c, struct ab_quic_key *key)
{
    struct state *s = c->state;

    forget(&s->slots[aead_of(key->suite)][key->raw.owner % CONTEXTS], key->raw.owner);
}

static void hp_forget(struct ab_quic_crypto *c, struct ab_quic_hp *hp)
{
    struct state *s = c->state;

    forget(&s->slots[mask_of(hp->suite)][hp->raw.owner % CONTEXTS], hp->raw.owner);
}

static int seal_one(struct state *s, const struct ab_quic_op *op)
{
    const struct ab_quic_key *key = op->key;
    EVP_CIPHER_CTX *ctx = keyed(s, aead_of(key->suite), key->raw.owner, key->raw.bytes, 1);
    ab_quic_nonce_bytes nonce;
    uint8_t *out = op->packet + op->header_len;
    int got;

    ab_quic_nonce(nonce, key, op->number);
    if (!ctx || EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, -1, NULL) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &got, op->packet, op->header_len) != 1 ||
        EVP_EncryptUpdate(ctx, out, &got, op->payload, (int)op->len) != 1 ||
        EVP_EncryptFinal_ex(ctx, out + op->len, &got) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AB_QUIC_TAG_BYTES, out + op->len) != 1)
        return AB_QUIC_CRYPTO_EFAIL;
    return 0;
}

static int open_one(struct state *s, const struct ab_quic_op *op)
{
    const struct ab_quic_key *key = op->key;
    EVP_CIPHER_CTX *ctx = keyed(s, aead_of(key->suite), key->raw.owner, key->raw.bytes, 0);
    uint32_t len = op->len - op->header_len - AB_QUIC_TAG_BYTES;
    ab_quic_nonce_bytes nonce;
    uint8_t *text = op->packet + op->header_len;
    int got;

    ab_quic_nonce(nonce, key, op->number);
    if (!ctx || EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, -1, NULL) != 1 ||
        EVP_DecryptUpdate(ctx, NULL, &got, op->packet, op->header_len) != 1 ||
        EVP_DecryptUpdate(ctx, text, &got, text, (int)len) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, AB_QUIC_TAG_BYTES, text + len) != 1) {
        memset(text, 0, len);
        return AB_QUIC_CRYPTO_EFAIL;
    }
    /* the library compares in constant time, and writes nothing: there is no partial block left */
    if (EVP_DecryptFinal_ex(ctx, text + len, &got) != 1) {
        memset(text, 0, len);
        return AB_QUIC_CRYPTO_EAUTH;
    }
    return 0;
}

static void seal(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (ab_likely(ops[i].status == 0))
            ops[i].status = seal_one(c->state, &ops[i]);
}

static void open(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (ab_likely(ops[i].status == 0))
            ops[i].status = open_one(c->state, &ops[i]);
}

/* mask: one block of AES (RFC 9001 5.4.3); or ChaCha20 over zeroes, the sample being counter and nonce (5.4.4), which
 * is what EVP takes for an IV. */
static void mask(struct ab_quic_crypto *c, struct ab_quic_sample *samples, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct ab_quic_hp *hp = samples[i].hp;
        EVP_CIPHER_CTX *ctx = keyed(c->state, mask_of(hp->suite), hp->raw.owner, hp->raw.bytes, 1);
        int got, ok = ctx != NULL;

        if (hp->suite == AB_QUIC_CHACHA20_POLY1305)
            ok = ok && EVP_CipherInit_ex2(ctx, NULL, NULL, samples[i].bytes, -1, NULL) == 1 &&
                 EVP_EncryptUpdate(ctx, samples[i].mask, &got, nothing, AB_QUIC_MASK_BYTES) == 1;
        else
            ok = ok && EVP_EncryptUpdate(ctx, samples[i].mask, &got, samples[i].bytes, AB_QUIC_SAMPLE_BYTES) == 1;
        if (ab_unlikely(!ok)) /* cannot happen with the ciphers above; a packet that nobody can read is the safe end */
            memset(samples[i].mask, 0xff, sizeof(samples[i].mask));
    }
}

const struct ab_quic_backend ab_quic_libcrypto = {key_set, hp_set, key_forget, hp_forget, seal, open, mask};
