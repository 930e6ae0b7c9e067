/* What a crypto library has to offer below quic_crypto.c: keys in its own form, an AEAD on whole packets, and masks.
 *
 * Functions take whole batches, so that a library is called through a pointer once a batch and not once a packet. None
 * of them looks at a header: bounds were checked, and header protection is applied, by the caller. */
#ifndef AB_QUIC_CRYPTO_BACKEND_H
#define AB_QUIC_CRYPTO_BACKEND_H

#include <string.h>

#include "quic_crypto.h"

#define AB_QUIC_MASK_BYTES 5 /* one for the first byte, four for the number */
#define AB_QUIC_MASKS 32     /* masks made at once */

/* ab_quic_sample: where a mask is taken from, and where it goes. */
struct ab_quic_sample {
    const struct ab_quic_hp *hp;
    const uint8_t *bytes; /* 16 of them */
    uint8_t mask[16];     /* the first 5 count */
};

struct ab_quic_backend {
    int (*key_set)(struct ab_quic_crypto *c, struct ab_quic_key *key, const uint8_t *bytes);
    int (*hp_set)(struct ab_quic_crypto *c, struct ab_quic_hp *hp, const uint8_t *bytes);
    /* forget: no context holds this key any longer; the struct itself is wiped by the caller */
    void (*key_forget)(struct ab_quic_crypto *c, struct ab_quic_key *key);
    void (*hp_forget)(struct ab_quic_crypto *c, struct ab_quic_hp *hp);
    /* seal, open: of every op whose status is 0; status becomes what happened */
    void (*seal)(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n);
    void (*open)(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n);
    void (*mask)(struct ab_quic_crypto *c, struct ab_quic_sample *samples, uint32_t n);
};

/* ab_quic_nonce: the IV, its last 8 bytes xor the packet number in network order (RFC 9001 5.3). Written by one store
 * of 16 bytes, of which 12 count: libraries load it as 16, and a load that spans two stores has to wait until both have
 * left the core. That was 11 of the 40 ns of a short packet. Have it in a cache line where nothing else is written. */
typedef uint8_t ab_quic_nonce_bytes[16] __attribute__((aligned(AB_CACHELINE)));

static inline void ab_quic_nonce(ab_quic_nonce_bytes nonce, const struct ab_quic_key *key, uint64_t number)
{
    typedef uint64_t pair __attribute__((vector_size(16)));
    pair value;

    _Static_assert(offsetof(struct ab_quic_key, iv) + 16 <= sizeof(struct ab_quic_key), "16 bytes can be read");
    number = __builtin_bswap64(number); /* bytes 4 to 11, on a little-endian machine */
    memcpy(&value, key->iv, sizeof(value));
    value ^= (pair){number << 32, number >> 32};
    memcpy(nonce, &value, sizeof(value));
}

/* quic_crypto_libcrypto.c */
extern const struct ab_quic_backend ab_quic_libcrypto;
int ab_quic_libcrypto_init(struct ab_quic_crypto *c, struct ab_error *err);
void ab_quic_libcrypto_fini(struct ab_quic_crypto *c);

/* ab_quic_stem: HMAC-SHA-256, or SHA-384 for AES-256, of a key whose two blocks are hashed already: what several values
 * that are derived from one secret have in common. As good as the key: to be wiped. */
struct ab_quic_stem {
    _Alignas(8) uint8_t inner[216], outer[216]; /* states of the hash */
    bool long_one;                              /* SHA-384 */
};

/* ab_quic_libcrypto_stem: key and the results have ab_quic_secret_bytes. */
void ab_quic_libcrypto_stem(struct ab_quic_stem *stem, enum ab_quic_suite suite, const uint8_t *key);
void ab_quic_libcrypto_hmac(const struct ab_quic_stem *stem, const uint8_t *data, uint32_t len, uint8_t *out);

/* quic_crypto_ipsec.c: NULL where the library is absent, old, or was not built for; `err` says why. */
const struct ab_quic_backend *ab_quic_ipsec_init(struct ab_quic_crypto *c, const char *arch, struct ab_error *err);
void ab_quic_ipsec_fini(struct ab_quic_crypto *c);

/* quic_crypto_check.c: 0 where `candidate` answers as libcrypto does. */
int ab_quic_crypto_check(struct ab_quic_crypto *c, const struct ab_quic_backend *candidate, struct ab_error *err);

#endif
