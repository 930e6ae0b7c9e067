/* Packet protection of 1-RTT packets (RFC 9001 section 5 and 6): bytes in, bytes out.
 *
 * A packet is protected twice. Its payload is sealed with an AEAD under a nonce made of the IV and the packet number,
 * the header being authenticated with it; then first byte and packet number are masked, with a mask made of 16 bytes of
 * the ciphertext:
 *
 *     seal     [header, number][payload ........]             AEAD(key, iv ^ number, header)
 *              [header, number][ciphertext ......][tag 16]    mask(hp, sample), xor
 *              [h*****, ******][ciphertext ......][tag 16]
 *                       ^       ^ sample: 16 bytes from 4 bytes behind the place where the number begins
 *     open     the same backwards, in two steps. Between them the caller decides two things from the bare header: which
 *              number is meant (RFC 9000 A.3), and which key its key phase selects (RFC 9001 6.3).
 *
 * Three things are kept apart, for they live differently long:
 *
 *   secret   32 or 48 bytes, from TLS. One per direction and generation; ab_quic_secret_next makes the next of it.
 *   ab_quic_hp    256 bytes, of the first secret. One per direction, the same over all key updates (RFC 9001 6.1).
 *   ab_quic_key   1,024 bytes, of each generation's secret. What makes it so large is what makes it fast: the powers of
 *                 the hash key that AES-GCM multiplies with.
 *
 *   So a connection holds 2 hp, 2 keys, 2 secrets, and one spare key for reading: it is the next one, derived ahead so
 *   that an update costs no time that an observer could measure (RFC 9001 6.3, 9.5), or for 3 PTO after an update the
 *   previous one (6.5: a peer must not update again sooner). The next key for sending is made when it is needed: a
 *   microsecond, three with SHA-384 (`afterburner-lab bench crypto`). In all 3.7 KiB of a connection's 32.
 *
 * Who does the work is decided once, in ab_quic_crypto_init, and shown in status:
 *
 *   ipsec-mb    libIPSec_MB, four to ten times as fast as libcrypto, whose EVP interface costs more than the
 *               cipher of a short packet does. Loaded with dlopen, so that neither build nor start needs it: where
 *               it is absent, or its answers to some questions are not libcrypto's (quic_crypto_check.c), we do
 *               without.
 *
 *   libcrypto   works everywhere. Its contexts live outside of keys: there is a fixed stock of them, each remembers
 *               whose key it holds, so thousands of connections cost no memory; changing between more of them than the
 *               stock has costs a key schedule each time, 200 ns.
 *
 * One struct ab_quic_crypto belongs to one thread. It allocates when it is made and never again; nothing here makes a
 * system call after that. Keys refer to no memory but their own: embed them, move them, wipe them with
 * ab_quic_key_wipe. What counts packets against the AEAD limits is the caller; the limits are here. */
#ifndef AB_QUIC_CRYPTO_H
#define AB_QUIC_CRYPTO_H

#include "base.h"

/* Why a packet was not sealed or opened. */
#define AB_QUIC_CRYPTO_ESHORT (-1011) /* too short to take a sample from: pad to number + payload >= 4 bytes */
#define AB_QUIC_CRYPTO_EAUTH (-1012)  /* the tag is wrong: drop it, and count it against the integrity limit */
#define AB_QUIC_CRYPTO_ENOKEY (-1013) /* there is no key: never set, or wiped */
#define AB_QUIC_CRYPTO_EFAIL (-1014)  /* the library refused; never seen */

#define AB_QUIC_TAG_BYTES 16
#define AB_QUIC_IV_BYTES 12
#define AB_QUIC_SAMPLE_BYTES 16
#define AB_QUIC_SAMPLE_OFFSET 4 /* from where the packet number begins, as if it had 4 bytes (RFC 9001 5.4.2) */
#define AB_QUIC_SECRET_MAX 48   /* bytes; SHA-384's for AES-256 */
#define AB_QUIC_KEY_MAX 32      /* bytes */

enum ab_quic_suite {
    AB_QUIC_AES128_GCM = 1,        /* TLS_AES_128_GCM_SHA256, 0x1301: what every Solana validator takes */
    AB_QUIC_AES256_GCM = 2,        /* TLS_AES_256_GCM_SHA384, 0x1302 */
    AB_QUIC_CHACHA20_POLY1305 = 3, /* TLS_CHACHA20_POLY1305_SHA256, 0x1303 */
};

/* ab_quic_secret_bytes: length of a suite's traffic secrets: its hash's. */
static inline uint32_t ab_quic_secret_bytes(enum ab_quic_suite suite)
{
    return suite == AB_QUIC_AES256_GCM ? 48 : 32;
}

static inline uint32_t ab_quic_key_bytes(enum ab_quic_suite suite)
{
    return suite == AB_QUIC_AES128_GCM ? 16 : 32;
}

/* ab_quic_confidentiality_limit: how many packets may be sealed with one key before it must be updated (RFC 9001 6.6).
 * ChaCha20-Poly1305 has none below the 2^62 packet numbers that there are. */
static inline uint64_t ab_quic_confidentiality_limit(enum ab_quic_suite suite)
{
    return suite == AB_QUIC_CHACHA20_POLY1305 ? UINT64_C(1) << 62 : UINT64_C(1) << 23;
}

/* ab_quic_integrity_limit: how many packets may fail to open, over all keys of a connection, before it must be closed
 * with AEAD_LIMIT_REACHED (RFC 9001 6.6). */
static inline uint64_t ab_quic_integrity_limit(enum ab_quic_suite suite)
{
    return suite == AB_QUIC_CHACHA20_POLY1305 ? UINT64_C(1) << 36 : UINT64_C(1) << 52;
}

/* ab_quic_key: AEAD key and IV of one direction and one generation. */
struct ab_quic_key {
    union {
        uint8_t gcm[1008]; /* ipsec-mb, AES: round keys and powers of the hash key (struct gcm_key_data) */
        struct {
            uint8_t bytes[AB_QUIC_KEY_MAX]; /* ChaCha20, and all of libcrypto's: the key itself */
            uint64_t owner;                 /* libcrypto: by this number a context knows whose key it holds */
        } raw;
    };
    uint8_t iv[AB_QUIC_IV_BYTES];
    uint8_t suite; /* enum ab_quic_suite; 0: no key */
    uint8_t reserved[3];
} __attribute__((aligned(AB_CACHELINE)));

_Static_assert(sizeof(struct ab_quic_key) == 1024, "a key is 16 cache lines");

/* ab_quic_hp: header protection key of one direction. */
struct ab_quic_hp {
    union {
        uint8_t rounds[15 * 16]; /* ipsec-mb, AES: round keys */
        struct {
            uint8_t bytes[AB_QUIC_KEY_MAX];
            uint64_t owner;
        } raw;
    };
    uint8_t suite; /* enum ab_quic_suite; 0: no key */
    uint8_t reserved[15];
} __attribute__((aligned(AB_CACHELINE)));

_Static_assert(sizeof(struct ab_quic_hp) == 256, "a header protection key is 4 cache lines");

/* ab_quic_op: one packet to be sealed or opened. Packets of one batch may belong to different connections. */
struct ab_quic_op {
    const struct ab_quic_key *key; /* seal, open */
    const struct ab_quic_hp *hp;   /* seal, unprotect. NULL in a seal: the header stays bare (tests) */
    uint8_t *packet;               /* first byte of the QUIC packet: the header, in place */
    const uint8_t *payload; /* seal: the plaintext, anywhere or at packet + header_len; else overlapping neither */
    uint64_t number;        /* seal, open: packet number. unprotect writes the 1 to 4 bytes that were sent here */
    uint32_t len;           /* seal: bytes of plaintext; room for 16 more behind them. else: bytes of the packet */
    uint16_t header_len;    /* seal, open: bytes up to the end of the packet number. unprotect writes it */
    uint16_t number_off;    /* seal, unprotect: where the packet number begins: 1 + bytes of the connection ID */
    int32_t status;         /* out: 0, or an AB_QUIC_CRYPTO_E... */
};

struct ab_quic_backend; /* quic_crypto_backend.h */

/* ab_quic_crypto: the library in use, with its contexts. */
struct ab_quic_crypto {
    const struct ab_quic_backend *backend;
    void *state;         /* libcrypto's contexts; always there, for derivation and as the other backend's fallback */
    void *ipsec;         /* libIPSec_MB's manager, or NULL */
    uint64_t key_owners; /* last number given to a key, */
    uint64_t hp_owners;  /* and to a header protection key */
    char name[40];       /* for status: "ipsec-mb 1.3.0 vaes-avx512", "libcrypto" */
    char reason[120];    /* why it is not the fast one; empty where it is */
};

/* ab_quic_crypto_init chooses the backend. `backend` is "auto" (NULL, ""), "libcrypto", or "ipsec-mb", optionally with
 * the instruction set to stay within: "ipsec-mb:sse", ":avx", ":avx2", ":avx512". What is asked for by name and cannot
 * be had is an error; "auto" takes what there is. */
int ab_quic_crypto_init(struct ab_quic_crypto *c, const char *backend, struct ab_error *err);
void ab_quic_crypto_fini(struct ab_quic_crypto *c);

/* Derivation (RFC 9001 5.1, 5.4, 6.1). `secret` has ab_quic_secret_bytes(suite). 0, or AB_EINVAL for an unknown suite.
 * ab_quic_key_set and ab_quic_hp_set take keys as they are, for vectors of others; a key that is in use must be wiped
 * first. */
int ab_quic_key_derive(struct ab_quic_crypto *c, struct ab_quic_key *key, enum ab_quic_suite suite,
                       const uint8_t *secret);
int ab_quic_hp_derive(struct ab_quic_crypto *c, struct ab_quic_hp *hp, enum ab_quic_suite suite, const uint8_t *secret);
int ab_quic_key_set(struct ab_quic_crypto *c, struct ab_quic_key *key, enum ab_quic_suite suite, const uint8_t *bytes,
                    const uint8_t iv[AB_QUIC_IV_BYTES]);
int ab_quic_hp_set(struct ab_quic_crypto *c, struct ab_quic_hp *hp, enum ab_quic_suite suite, const uint8_t *bytes);

/* ab_quic_secret_derive: what a secret gives, in one go for two thirds of the time: its key, its header protection key,
 * the next generation's secret. Each may be NULL; `next` may be `secret`. */
int ab_quic_secret_derive(struct ab_quic_crypto *c, enum ab_quic_suite suite, const uint8_t *secret,
                          struct ab_quic_key *key, struct ab_quic_hp *hp, uint8_t *next);

/* ab_quic_secret_next: the next generation's secret ("quic ku"); `next` may be `secret`. */
int ab_quic_secret_next(struct ab_quic_crypto *c, enum ab_quic_suite suite, const uint8_t *secret, uint8_t *next);

/* ab_quic_secret_expand: HKDF-Expand-Label(secret, label, "", len) of TLS 1.3 (RFC 8446 7.1), up to one hash long. */
int ab_quic_secret_expand(struct ab_quic_crypto *c, enum ab_quic_suite suite, const uint8_t *secret, const char *label,
                          uint8_t *out, uint32_t len);

/* Wiping leaves no key behind, neither in the struct nor in a context of libcrypto's that held it. */
void ab_quic_key_wipe(struct ab_quic_crypto *c, struct ab_quic_key *key);
void ab_quic_hp_wipe(struct ab_quic_crypto *c, struct ab_quic_hp *hp);
void ab_quic_secret_wipe(uint8_t secret[AB_QUIC_SECRET_MAX]);

/* The three steps, each for n packets; the result is how many succeeded, `status` of each says which. Batches are what
 * is fast: headers of several packets are masked at once. There is no upper bound of n.
 *
 * ab_quic_seal_batch needs key, hp, packet (header written, number in its last bytes), payload, number, len,
 * header_len, number_off; writes ciphertext and tag to packet + header_len.
 *
 * ab_quic_unprotect_batch needs hp, packet, len, number_off; bares the header in place, writes number (as sent) and
 * header_len.
 *
 * ab_quic_open_batch needs key, packet (header bare), number (whole), len, header_len; leaves the plaintext, len -
 * header_len - 16 bytes, at packet + header_len. Where the tag is wrong these bytes are zero: what was there is lost,
 * so there is no second try with another key. The 16 bytes of the tag are never changed: compare them with reset
 * tokens. */
uint32_t ab_quic_seal_batch(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n);
uint32_t ab_quic_unprotect_batch(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n);
uint32_t ab_quic_open_batch(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n);

/* The same for one packet; the result is its status. */
static inline int ab_quic_seal(struct ab_quic_crypto *c, struct ab_quic_op *op)
{
    ab_quic_seal_batch(c, op, 1);
    return op->status;
}

static inline int ab_quic_unprotect(struct ab_quic_crypto *c, struct ab_quic_op *op)
{
    ab_quic_unprotect_batch(c, op, 1);
    return op->status;
}

static inline int ab_quic_open(struct ab_quic_crypto *c, struct ab_quic_op *op)
{
    ab_quic_open_batch(c, op, 1);
    return op->status;
}

/* ab_quic_equal compares in constant time: stateless reset tokens (RFC 9000 10.3.1), tags. */
bool ab_quic_equal(const void *a, const void *b, size_t len);

#endif
