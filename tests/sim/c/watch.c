#include "watch.h"

#include <openssl/hmac.h>
#include <string.h>

#include "must.h"

enum { AES128 = 1, AES256 = 2, CHACHA20 = 3, TAG = 16 };

static const EVP_MD *md(uint8_t suite)
{
    return suite == AES256 ? EVP_sha384() : EVP_sha256();
}

static uint32_t secret_len(uint8_t suite)
{
    return suite == AES256 ? 48 : 32;
}

static uint32_t key_len(uint8_t suite)
{
    return suite == AES128 ? 16 : 32;
}

/* HKDF-Expand-Label (RFC 8446 7.1) for what fits one block of the hash. */
static void expand(uint8_t suite, const uint8_t *secret, const char *label, uint8_t *out, uint32_t len)
{
    uint8_t info[64], full[64];
    uint32_t n = 0, size = 6 + (uint32_t)strlen(label);
    unsigned int made;

    info[n++] = 0;
    info[n++] = (uint8_t)len;
    info[n++] = (uint8_t)size;
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, size - 6);
    n += size;
    info[n++] = 0;
    info[n++] = 1;
    SIM_MUST(HMAC(md(suite), secret, (int)secret_len(suite), info, n, full, &made) && made >= len);
    memcpy(out, full, len);
}

static void key_make(struct watch_key *k, uint8_t suite)
{
    const EVP_CIPHER *cipher = suite == AES128   ? EVP_aes_128_gcm()
                               : suite == AES256 ? EVP_aes_256_gcm()
                                                 : EVP_chacha20_poly1305();

    expand(suite, k->secret, "quic key", k->key, key_len(suite));
    expand(suite, k->secret, "quic iv", k->iv, sizeof(k->iv));
    SIM_MUST(EVP_DecryptInit_ex(k->ctx, cipher, NULL, k->key, NULL) == 1);
}

static void key_next(struct watch_key *next, const struct watch_key *now, uint8_t suite)
{
    expand(suite, now->secret, "quic ku", next->secret, secret_len(suite));
    key_make(next, suite);
}

void watch_init(struct watch *w)
{
    memset(w, 0, sizeof(*w));
    w->hp_ctx = EVP_CIPHER_CTX_new();
    w->now.ctx = EVP_CIPHER_CTX_new();
    w->next.ctx = EVP_CIPHER_CTX_new();
    SIM_MUST(w->hp_ctx && w->now.ctx && w->next.ctx);
}

void watch_start(struct watch *w, uint8_t suite, const uint8_t *secret, uint8_t cid_len, uint64_t first)
{
    struct watch fresh = {.hp_ctx = w->hp_ctx, .now.ctx = w->now.ctx, .next.ctx = w->next.ctx};

    fresh.suite = suite;
    fresh.cid_len = cid_len;
    fresh.least = first;
    memcpy(fresh.now.secret, secret, secret_len(suite));
    *w = fresh;
    key_make(&w->now, suite);
    key_next(&w->next, &w->now, suite);
    expand(suite, secret, "quic hp", w->hp, key_len(suite));
    if (suite != CHACHA20)
        SIM_MUST(EVP_EncryptInit_ex(w->hp_ctx, suite == AES128 ? EVP_aes_128_ecb() : EVP_aes_256_ecb(), NULL, w->hp,
                                    NULL) == 1);
}

void watch_fini(struct watch *w)
{
    EVP_CIPHER_CTX_free(w->hp_ctx);
    EVP_CIPHER_CTX_free(w->now.ctx);
    EVP_CIPHER_CTX_free(w->next.ctx);
}

static void mask(struct watch *w, const uint8_t *sample, uint8_t out[16])
{
    static const uint8_t zero[16];
    int made;

    if (w->suite == CHACHA20) {
        SIM_MUST(EVP_EncryptInit_ex(w->hp_ctx, EVP_chacha20(), NULL, w->hp, sample) == 1);
        SIM_MUST(EVP_EncryptUpdate(w->hp_ctx, out, &made, zero, 5) == 1);
    } else {
        SIM_MUST(EVP_EncryptUpdate(w->hp_ctx, out, &made, sample, 16) == 1);
    }
}

static void nonce(const struct watch_key *k, uint64_t number, uint8_t out[12])
{
    memcpy(out, k->iv, 12);
    for (int i = 0; i < 8; i++)
        out[4 + i] ^= (uint8_t)(number >> (56 - 8 * i));
}

uint64_t watch_varint(const uint8_t **p, const uint8_t *end)
{
    uint32_t size;
    uint64_t value;

    SIM_MUST(*p < end);
    size = 1u << (**p >> 6);
    SIM_MUST(size <= (uint64_t)(end - *p));
    value = **p & 0x3f;
    for (uint32_t i = 1; i < size; i++)
        value = value << 8 | (*p)[i];
    *p += size;
    return value;
}

static void skip(const uint8_t **p, const uint8_t *end, uint64_t len)
{
    MUST_SAY(len <= (uint64_t)(end - *p), "a frame that ends behind its packet");
    *p += len;
}

uint64_t watch_frame(const uint8_t **p, const uint8_t *end)
{
    uint64_t type = watch_varint(p, end), count, low, length;

    switch (type) {
    case 0x00:
    case 0x01:
    case 0x1e:
        break;
    case 0x02:
    case 0x03:
        low = watch_varint(p, end);
        watch_varint(p, end);
        count = watch_varint(p, end);
        length = watch_varint(p, end);
        SIM_MUST(length <= low);
        for (low -= length; count; count--) {
            uint64_t gap = watch_varint(p, end);

            length = watch_varint(p, end);
            MUST_SAY(gap + 2 + length <= low, "an acknowledgement of a negative number");
            low -= gap + 2 + length;
        }
        for (int i = 0; type == 3 && i < 3; i++)
            watch_varint(p, end);
        break;
    case 0x04:
        watch_varint(p, end);
        __attribute__((fallthrough));
    case 0x05:
    case 0x11:
    case 0x15:
        watch_varint(p, end);
        __attribute__((fallthrough));
    case 0x10:
    case 0x12:
    case 0x13:
    case 0x14:
    case 0x16:
    case 0x17:
    case 0x19:
        watch_varint(p, end);
        break;
    case 0x06:
        watch_varint(p, end);
        __attribute__((fallthrough));
    case 0x07:
    case 0x31:
        length = watch_varint(p, end);
        skip(p, end, length);
        break;
    case 0x30:
        *p = end;
        break;
    case 0x18:
        low = watch_varint(p, end);
        MUST_SAY(watch_varint(p, end) <= low, "retire_prior_to above the sequence number");
        SIM_MUST(*p < end && **p >= 1 && **p <= 20);
        skip(p, end, 1 + **p + 16);
        break;
    case 0x1a:
    case 0x1b:
        skip(p, end, 8);
        break;
    case 0x1c:
    case 0x1d:
        watch_varint(p, end);
        if (type == 0x1c)
            watch_varint(p, end);
        length = watch_varint(p, end);
        skip(p, end, length);
        break;
    default:
        MUST_SAY(type >= 0x08 && type <= 0x0f, "frame of type %#llx", (unsigned long long)type);
        watch_varint(p, end);
        if (type & 4)
            watch_varint(p, end);
        length = type & 2 ? watch_varint(p, end) : (uint64_t)(end - *p);
        skip(p, end, length);
    }
    return type;
}

/* One frame for a reader: its type and its first numbers. */
static void tell_frame(const uint8_t *at, uint64_t type, const uint8_t *behind, const uint8_t *end)
{
    if (!sim_verbose || type == 0)
        return;
    printf("%30s %02llx", "", (unsigned long long)type);
    watch_varint(&at, end);
    for (int i = 0; i < 5 && at < behind; i++) {
        if (1u << (*at >> 6) > (uint64_t)(behind - at))
            break;
        printf(" %llu", (unsigned long long)watch_varint(&at, end));
    }
    printf("\n");
}

/* What the frames of a packet must be together. */
static void frames(struct watch *w, const uint8_t *p, uint32_t len)
{
    const uint8_t *end = p + len;

    MUST_SAY(len, "a packet without frames");
    w->streams_in_packet = 0;
    while (p < end) {
        const uint8_t *at = p;
        uint64_t type = watch_frame(&p, end);

        w->kinds[type]++;
        tell_frame(at, type, p, end);
        w->streams_in_packet += type >= 0x08 && type <= 0x0f;
        if (type == 0x1c || type == 0x1d) {
            const uint8_t *q = at + 1;

            w->closing = true;
            w->close_app = type == 0x1d;
            w->close_code = watch_varint(&q, end);
            w->close_frame = type == 0x1c ? watch_varint(&q, end) : 0;
        }
    }
}

void watch_update(struct watch *w)
{
    struct watch_key spare = w->now;

    w->now = w->next;
    w->next = spare;
    key_next(&w->next, &w->now, w->suite);
    w->generation++;
}

uint32_t watch_packet(struct watch *w, const uint8_t *data, uint32_t len, uint8_t *plain)
{
    uint32_t at = 1u + w->cid_len, size;
    uint8_t header[32], bits[16], iv[12];
    uint64_t number, span;
    struct watch_key *k;
    int made;

    MUST_SAY(len >= at + 4 + TAG, "a packet of %u bytes, too short to take a sample from", len);
    mask(w, data + at + 4, bits);
    memcpy(header, data, at + 4);
    header[0] ^= bits[0] & 0x1f;
    MUST_SAY((header[0] & 0xc0) == 0x40, "a short header begins with %#x", header[0]);
    MUST_SAY((header[0] & 0x18) == 0, "reserved bits are set");
    size = (header[0] & 3) + 1u;
    number = 0;
    for (uint32_t i = 0; i < size; i++) {
        header[at + i] ^= bits[1 + i];
        number = number << 8 | header[at + i];
    }
    span = UINT64_C(1) << 8 * size; /* RFC 9000 A.3 */
    number |= w->least & ~(span - 1);
    if (number + span / 2 <= w->least)
        number += span;
    else if (number > w->least + span / 2 && number >= span)
        number -= span;
    MUST_SAY(number >= w->least, "packet number %llu after %llu", (unsigned long long)number,
             (unsigned long long)w->least - 1);
    if (((header[0] >> 2 ^ w->generation) & 1) != 0)
        watch_update(w);
    k = &w->now;
    nonce(k, number, iv);
    SIM_MUST(EVP_DecryptInit_ex(k->ctx, NULL, NULL, NULL, iv) == 1);
    SIM_MUST(EVP_CIPHER_CTX_ctrl(k->ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(uintptr_t)(data + len - TAG)) == 1);
    SIM_MUST(EVP_DecryptUpdate(k->ctx, NULL, &made, header, (int)(at + size)) == 1);
    SIM_MUST(EVP_DecryptUpdate(k->ctx, plain, &made, data + at + size, (int)(len - at - size - TAG)) == 1);
    MUST_SAY(EVP_DecryptFinal_ex(k->ctx, plain + made, &made) == 1, "packet %llu of generation %llu cannot be opened",
             (unsigned long long)number, (unsigned long long)w->generation);
    w->skipped += number - w->least;
    w->least = number + 1;
    w->packets++;
    w->bytes += len;
    frames(w, plain, len - at - size - TAG);
    return len - at - size - TAG;
}

uint32_t watch_seal(struct watch *w, const uint8_t *cid, uint64_t number, uint8_t bits_, const uint8_t *plain,
                    uint32_t len, uint8_t *out)
{
    static const uint8_t padding[4];
    const EVP_CIPHER *cipher = w->suite == AES128   ? EVP_aes_128_gcm()
                               : w->suite == AES256 ? EVP_aes_256_gcm()
                                                    : EVP_chacha20_poly1305();
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint32_t at = 1u + w->cid_len;
    uint8_t bits[16], iv[12];
    int made;

    SIM_MUST(ctx);
    out[0] = (uint8_t)(0x40 | (bits_ & 0x38) | (w->generation & 1) << 2 | 3);
    memcpy(out + 1, cid, w->cid_len);
    for (int i = 0; i < 4; i++)
        out[at + i] = (uint8_t)(number >> (24 - 8 * i));
    nonce(&w->now, number, iv);
    SIM_MUST(EVP_EncryptInit_ex(ctx, cipher, NULL, w->now.key, iv) == 1);
    SIM_MUST(EVP_EncryptUpdate(ctx, NULL, &made, out, (int)at + 4) == 1);
    SIM_MUST(EVP_EncryptUpdate(ctx, out + at + 4, &made, len ? plain : padding, (int)len) == 1);
    SIM_MUST(EVP_EncryptFinal_ex(ctx, out + at + 4 + len, &made) == 1);
    SIM_MUST(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, out + at + 4 + len) == 1);
    EVP_CIPHER_CTX_free(ctx);
    mask(w, out + at + 4, bits);
    out[0] ^= bits[0] & 0x1f;
    for (int i = 0; i < 4; i++)
        out[at + i] ^= bits[1 + i];
    return at + 4 + len + TAG;
}
