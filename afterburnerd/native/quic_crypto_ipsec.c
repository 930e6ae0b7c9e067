/* libIPSec_MB: AES-GCM as fast as the CPU's widest instructions do it, one call a packet.
 *
 * Loaded at run time, for three reasons: it exists for x86-64 only; Debian builds it with code for CPUs that the one at
 * hand need not be; and 13 MB of it are nothing to ask of a machine that is content with libcrypto. The header is
 * needed at build time, and where it is missing this file compiles to a refusal.
 *
 * Which of its interfaces: the direct one for AES-GCM, since a job costs 7 ns more and its multi-buffer scheduling
 * brings GCM nothing (each packet fills the pipeline by itself); the job for ChaCha20-Poly1305, since that makes
 * keystream and Poly1305 key in one go, 110 instead of 210 ns for a short packet. A job of an AEAD is done when submit
 * returns. The QUIC interface (imb_quic_aes_gcm) came with version 1.4 and loops over the direct one.
 *
 * Masks of header protection are single blocks under different keys, for which the library has no interface that is not
 * dearer than the block: the rounds are done here, with the library's round keys, eight packets abreast, for AESENC
 * takes several cycles and a new one can begin in each. ChaCha20's masks are libcrypto's (the library cannot be given a
 * block counter). */
#include "quic_crypto_backend.h"

#if defined(__x86_64__) && __has_include(<intel-ipsec-mb.h>) && !defined(AB_WITHOUT_IPSEC_MB)
#include <dlfcn.h>
#include <immintrin.h>
#include <intel-ipsec-mb.h>
#include <stdlib.h>

#define LIBRARY "libIPSec_MB.so.1"
#define ABREAST 8u

struct state {
    void *library;
    IMB_MGR *manager;
    void (*free_manager)(IMB_MGR *);
    struct gcm_context_data gcm __attribute__((aligned(64))); /* scratch of one call */
};

_Static_assert(offsetof(struct gcm_key_data, ghash_keys) + sizeof(((struct gcm_key_data *)0)->ghash_keys.vaes_avx512) ==
                   sizeof(((struct ab_quic_key *)0)->gcm),
               "struct gcm_key_data has its place in struct ab_quic_key");
_Static_assert(offsetof(struct ab_quic_key, gcm) % _Alignof(struct gcm_key_data) == 0, "and is aligned");

/* gcm_of: the key as the library knows it; the 16 bytes by which its struct is larger are padding. */
static inline struct gcm_key_data *gcm_of(const struct ab_quic_key *key)
{
    return (struct gcm_key_data *)(uintptr_t)key->gcm;
}

static int key_set(struct ab_quic_crypto *c, struct ab_quic_key *key, const uint8_t *bytes)
{
    const IMB_MGR *m = ((struct state *)c->ipsec)->manager;

    if (key->suite == AB_QUIC_AES128_GCM)
        m->gcm128_pre(bytes, gcm_of(key));
    else if (key->suite == AB_QUIC_AES256_GCM)
        m->gcm256_pre(bytes, gcm_of(key));
    else
        memcpy(key->raw.bytes, bytes, ab_quic_key_bytes(key->suite));
    return 0;
}

static int hp_set(struct ab_quic_crypto *c, struct ab_quic_hp *hp, const uint8_t *bytes)
{
    const IMB_MGR *m = ((struct state *)c->ipsec)->manager;
    uint8_t inverse[15 * 16]; /* of no use: AES is never run backwards here */

    if (hp->suite == AB_QUIC_CHACHA20_POLY1305)
        return ab_quic_libcrypto.hp_set(c, hp, bytes);
    if (hp->suite == AB_QUIC_AES128_GCM)
        m->keyexp_128(bytes, hp->rounds, inverse);
    else
        m->keyexp_256(bytes, hp->rounds, inverse);
    explicit_bzero(inverse, sizeof(inverse));
    return 0;
}

static void key_forget(struct ab_quic_crypto *c, struct ab_quic_key *key)
{
    (void)c;
    (void)key;
}

static void hp_forget(struct ab_quic_crypto *c, struct ab_quic_hp *hp)
{
    if (hp->suite == AB_QUIC_CHACHA20_POLY1305)
        ab_quic_libcrypto.hp_forget(c, hp);
}

/* chacha: one packet by the job interface; the tag goes to `tag`, to be written or compared. */
static int chacha(IMB_MGR *m, const struct ab_quic_op *op, const uint8_t *nonce, const uint8_t *src, uint32_t len,
                  IMB_CIPHER_DIRECTION direction, uint8_t *tag)
{
    IMB_JOB *job = m->get_next_job(m);

    job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
    job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
    job->cipher_direction = direction;
    job->chain_order = direction == IMB_DIR_ENCRYPT ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
    job->enc_keys = job->dec_keys = op->key->raw.bytes;
    job->key_len_in_bytes = 32;
    job->src = src;
    job->dst = op->packet + op->header_len;
    job->cipher_start_src_offset_in_bytes = 0;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_cipher_in_bytes = len;
    job->msg_len_to_hash_in_bytes = len;
    job->iv = nonce;
    job->iv_len_in_bytes = AB_QUIC_IV_BYTES;
    job->u.CHACHA20_POLY1305.aad = op->packet;
    job->u.CHACHA20_POLY1305.aad_len_in_bytes = op->header_len;
    job->auth_tag_output = tag;
    job->auth_tag_output_len_in_bytes = AB_QUIC_TAG_BYTES;
    job = m->submit_job_nocheck(m);
    return ab_likely(job && job->status == IMB_STATUS_COMPLETED) ? 0 : AB_QUIC_CRYPTO_EFAIL;
}

static void seal(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n)
{
    struct state *s = c->ipsec;
    IMB_MGR *m = s->manager;
    ab_quic_nonce_bytes nonce;

    for (uint32_t i = 0; i < n; i++) {
        struct ab_quic_op *op = &ops[i];
        const struct ab_quic_key *key = op->key;
        uint8_t *out = op->packet + op->header_len, *tag = out + op->len;

        if (ab_unlikely(op->status))
            continue;
        ab_quic_nonce(nonce, key, op->number);
        if (ab_likely(key->suite == AB_QUIC_AES128_GCM))
            m->gcm128_enc(gcm_of(key), &s->gcm, out, op->payload, op->len, nonce, op->packet, op->header_len, tag,
                          AB_QUIC_TAG_BYTES);
        else if (key->suite == AB_QUIC_AES256_GCM)
            m->gcm256_enc(gcm_of(key), &s->gcm, out, op->payload, op->len, nonce, op->packet, op->header_len, tag,
                          AB_QUIC_TAG_BYTES);
        else
            op->status = chacha(m, op, nonce, op->payload, op->len, IMB_DIR_ENCRYPT, tag);
    }
}

/* tag_differs: no branch and no early end, so the time says nothing. */
static inline bool tag_differs(const uint8_t *a, const uint8_t *b)
{
    uint64_t x[2], y[2];

    memcpy(x, a, AB_QUIC_TAG_BYTES);
    memcpy(y, b, AB_QUIC_TAG_BYTES);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) != 0;
}

static void open(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n)
{
    struct state *s = c->ipsec;
    IMB_MGR *m = s->manager;
    ab_quic_nonce_bytes nonce;
    uint8_t tag[AB_QUIC_TAG_BYTES] __attribute__((aligned(AB_CACHELINE)));

    for (uint32_t i = 0; i < n; i++) {
        struct ab_quic_op *op = &ops[i];
        const struct ab_quic_key *key = op->key;
        uint8_t *text = op->packet + op->header_len;
        uint32_t len = op->len - op->header_len - AB_QUIC_TAG_BYTES;

        if (ab_unlikely(op->status))
            continue;
        ab_quic_nonce(nonce, key, op->number);
        if (ab_likely(key->suite == AB_QUIC_AES128_GCM))
            m->gcm128_dec(gcm_of(key), &s->gcm, text, text, len, nonce, op->packet, op->header_len, tag,
                          AB_QUIC_TAG_BYTES);
        else if (key->suite == AB_QUIC_AES256_GCM)
            m->gcm256_dec(gcm_of(key), &s->gcm, text, text, len, nonce, op->packet, op->header_len, tag,
                          AB_QUIC_TAG_BYTES);
        else
            op->status = chacha(m, op, nonce, text, len, IMB_DIR_DECRYPT, tag);
        if (ab_likely(op->status == 0) && tag_differs(tag, text + len))
            op->status = AB_QUIC_CRYPTO_EAUTH;
        if (ab_unlikely(op->status))
            memset(text, 0, len);
    }
}

/* encrypt: ABREAST blocks, each under round keys of its own, all with the same number of rounds. */
__attribute__((target("aes"))) static void encrypt(struct ab_quic_sample *const samples[ABREAST], unsigned rounds)
{
    const __m128i *keys[ABREAST];
    __m128i block[ABREAST];

    for (unsigned k = 0; k < ABREAST; k++) {
        keys[k] = (const __m128i *)(const void *)samples[k]->hp->rounds;
        block[k] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)samples[k]->bytes), keys[k][0]);
    }
    for (unsigned r = 1; r < rounds; r++)
        for (unsigned k = 0; k < ABREAST; k++)
            block[k] = _mm_aesenc_si128(block[k], keys[k][r]);
    for (unsigned k = 0; k < ABREAST; k++)
        _mm_storeu_si128((__m128i *)(void *)samples[k]->mask, _mm_aesenclast_si128(block[k], keys[k][rounds]));
}

__attribute__((target("aes"))) static void encrypt_one(struct ab_quic_sample *sample, unsigned rounds)
{
    const __m128i *keys = (const __m128i *)(const void *)sample->hp->rounds;
    __m128i block = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)sample->bytes), keys[0]);

    for (unsigned r = 1; r < rounds; r++)
        block = _mm_aesenc_si128(block, keys[r]);
    _mm_storeu_si128((__m128i *)(void *)sample->mask, _mm_aesenclast_si128(block, keys[rounds]));
}

/* mask: full rows of one suite go abreast, what is left over one by one. */
static void mask(struct ab_quic_crypto *c, struct ab_quic_sample *samples, uint32_t n)
{
    struct ab_quic_sample *row[ABREAST];
    uint32_t i = 0, k;

    while (i < n) {
        uint8_t suite = samples[i].hp->suite;
        unsigned rounds = suite == AB_QUIC_AES128_GCM ? 10 : 14;

        if (ab_unlikely(suite == AB_QUIC_CHACHA20_POLY1305)) {
            ab_quic_libcrypto.mask(c, &samples[i++], 1);
            continue;
        }
        for (k = 0; k < ABREAST && i + k < n && samples[i + k].hp->suite == suite; k++)
            row[k] = &samples[i + k];
        if (k == ABREAST) {
            encrypt(row, rounds);
        } else {
            for (uint32_t j = 0; j < k; j++)
                encrypt_one(row[j], rounds);
        }
        i += k;
    }
}

static const struct ab_quic_backend backend = {key_set, hp_set, key_forget, hp_forget, seal, open, mask};

typedef void (*initializer)(IMB_MGR *);

/* find: a function of the library. */
static void *find(struct state *s, const char *name, struct ab_error *err)
{
    void *symbol = dlsym(s->library, name);

    if (!symbol)
        ab_fail(err, AB_EINVAL, "%s has no %s", LIBRARY, name);
    return symbol;
}

const struct ab_quic_backend *ab_quic_ipsec_init(struct ab_quic_crypto *c, const char *arch, struct ab_error *err)
{
    static const char *const archs[] = {"sse", "avx", "avx2", "avx512"};
    struct state *s = aligned_alloc(AB_CACHELINE, sizeof(*s));
    char name[32] = "init_mb_mgr_auto";
    const char *used;
    uint64_t features;
    unsigned version, i;
    IMB_MGR *(*allocate)(uint64_t);
    unsigned (*get_version)(void);
    void (*init_auto)(IMB_MGR *, IMB_ARCH *);
    initializer init;

    c->ipsec = s;
    if (!s) {
        ab_fail(err, AB_ENOMEM, "no memory for libIPSec_MB");
        return NULL;
    }
    memset(s, 0, sizeof(*s));
    for (i = 0; *arch && i < AB_ARRAY_LEN(archs) && strcmp(arch, archs[i]) != 0; i++)
        ;
    if (i == AB_ARRAY_LEN(archs)) {
        ab_fail(err, AB_EINVAL, "crypto backend \"ipsec-mb:%s\" is unknown: sse, avx, avx2 and avx512 are", arch);
        goto refuse;
    }
    if (*arch)
        snprintf(name, sizeof(name), "init_mb_mgr_%s", arch);
    s->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!s->library) {
        ab_fail(err, AB_EINVAL, "%s (Debian: libipsec-mb1)", dlerror());
        goto refuse;
    }
    *(void **)&get_version = find(s, "imb_get_version", err);
    *(void **)&allocate = find(s, "alloc_mb_mgr", err);
    *(void **)&s->free_manager = find(s, "free_mb_mgr", err);
    *(void **)&init = find(s, name, err);
    *(void **)&init_auto = *(void **)&init;
    if (!get_version || !allocate || !s->free_manager || !init)
        goto refuse;
    version = get_version();
    /* The manager's layout only grows within one soname: what is newer than the header fits, what is older does not. */
    if (version < IMB_VERSION_NUM) {
        ab_fail(err, AB_EINVAL, "%s is version %u.%u.%u, older than the %s that this was built for", LIBRARY,
                version >> 16, version >> 8 & 255, version & 255, IMB_VERSION_STR);
        goto refuse;
    }
    s->manager = allocate(0);
    if (!s->manager) {
        ab_fail(err, AB_ENOMEM, "libIPSec_MB: alloc_mb_mgr() failed");
        goto refuse;
    }
    features = s->manager->features;
    if ((features & IMB_CPUFLAGS_SSE) != IMB_CPUFLAGS_SSE ||
        (strcmp(arch, "avx") == 0 && (features & IMB_CPUFLAGS_AVX) != IMB_CPUFLAGS_AVX) ||
        (strcmp(arch, "avx2") == 0 && (features & IMB_CPUFLAGS_AVX2) != IMB_CPUFLAGS_AVX2) ||
        (strcmp(arch, "avx512") == 0 && (features & IMB_CPUFLAGS_AVX512) != IMB_CPUFLAGS_AVX512)) {
        ab_fail(err, AB_EINVAL, "this CPU lacks the instructions that libIPSec_MB%s%s needs", *arch ? ":" : "", arch);
        goto refuse;
    }
    if (*arch)
        init(s->manager);
    else
        init_auto(s->manager, NULL);
    if (s->manager->imb_errno != 0) {
        ab_fail(err, AB_EINVAL, "libIPSec_MB: its self-test failed (error %d)", s->manager->imb_errno);
        goto refuse;
    }
    used = s->manager->used_arch == IMB_ARCH_AVX512 ? (features & IMB_FEATURE_VAES ? "vaes-avx512" : "avx512")
           : s->manager->used_arch == IMB_ARCH_AVX2 ? "avx2"
           : s->manager->used_arch == IMB_ARCH_AVX  ? "avx"
                                                    : "sse";
    snprintf(c->name, sizeof(c->name), "ipsec-mb %u.%u.%u %s", version >> 16 & 255, version >> 8 & 255, version & 255,
             used);
    return &backend;
refuse:
    ab_quic_ipsec_fini(c);
    return NULL;
}

void ab_quic_ipsec_fini(struct ab_quic_crypto *c)
{
    struct state *s = c->ipsec;

    if (!s)
        return;
    if (s->manager)
        s->free_manager(s->manager);
    if (s->library)
        dlclose(s->library);
    explicit_bzero(s, sizeof(*s));
    free(s);
    c->ipsec = NULL;
}

#else

const struct ab_quic_backend *ab_quic_ipsec_init(struct ab_quic_crypto *c, const char *arch, struct ab_error *err)
{
    (void)c;
    (void)arch;
    ab_fail(err, AB_EINVAL, "built without libIPSec_MB (Debian: libipsec-mb-dev, x86-64 only)");
    return NULL;
}

void ab_quic_ipsec_fini(struct ab_quic_crypto *c)
{
    (void)c;
}

#endif
