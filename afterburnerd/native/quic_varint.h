/* Bytes of QUIC, read and written within bounds: cursors, variable-length integers, packet numbers.
 *
 * All that a peer sends is walked with a struct ab_quic_reader and all that we send is written with a struct
 * ab_quic_writer: two pointers each, the next byte and the end, so that no length can disagree with a buffer. Each verb
 * either succeeds and moves the cursor, or says false and moves nothing.
 *
 *   variable-length integer (RFC 9000 section 16): the two top bits of the first byte say how many bytes it takes
 *     00 one byte, 6 bits    01 two, 14 bits    10 four, 30 bits    11 eight, 62 bits     big-endian
 *
 * The put_ functions trust the caller about the room: they are what remains of the writers when a packet's fast path
 * has asked for the room of a whole frame once. */
#ifndef AB_QUIC_VARINT_H
#define AB_QUIC_VARINT_H

#include <string.h>

#include "base.h"

#define AB_QUIC_VARINT_MAX ((1ULL << 62) - 1) /* the greatest number that can be written; also the greatest offset */
#define AB_QUIC_VARINT_BYTES 8                /* the most that one takes */
#define AB_QUIC_PN_BYTES 4                    /* the most that a truncated packet number takes (RFC 9000 17.1) */

/* p: the next byte to be read; end: the byte behind the last one. */
struct ab_quic_reader {
    const uint8_t *p;
    const uint8_t *end;
};

/* p: the next byte to be written; end: the byte behind the room. */
struct ab_quic_writer {
    uint8_t *p;
    uint8_t *end;
};

static inline size_t ab_quic_reader_left(const struct ab_quic_reader *r)
{
    return (size_t)(r->end - r->p);
}

static inline size_t ab_quic_writer_room(const struct ab_quic_writer *w)
{
    return (size_t)(w->end - w->p);
}

static inline uint16_t ab_quic_get16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return __builtin_bswap16(v);
}

static inline uint32_t ab_quic_get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return __builtin_bswap32(v);
}

static inline uint64_t ab_quic_get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
}

static inline uint8_t *ab_quic_put16(uint8_t *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(p, &v, sizeof(v));
    return p + sizeof(v);
}

static inline uint8_t *ab_quic_put32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof(v));
    return p + sizeof(v);
}

static inline uint8_t *ab_quic_put64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof(v));
    return p + sizeof(v);
}

/* ab_quic_varint_size: bytes that `v` takes in its shortest form. `v` must not exceed AB_QUIC_VARINT_MAX. */
static inline uint32_t ab_quic_varint_size(uint64_t v)
{
    if (v < 1 << 6)
        return 1;
    if (v < 1 << 14)
        return 2;
    return v < 1 << 30 ? 4 : 8;
}

/* ab_quic_varint_read: the next integer in *v, in whatever length it was written. */
static inline bool ab_quic_varint_read(struct ab_quic_reader *r, uint64_t *v)
{
    const uint8_t *p = r->p;
    size_t left = ab_quic_reader_left(r);

    if (ab_unlikely(left == 0))
        return false;
    switch (*p >> 6) {
    case 0:
        *v = *p;
        r->p = p + 1;
        return true;
    case 1:
        if (ab_unlikely(left < 2))
            return false;
        *v = ab_quic_get16(p) & 0x3fff;
        r->p = p + 2;
        return true;
    case 2:
        if (ab_unlikely(left < 4))
            return false;
        *v = ab_quic_get32(p) & 0x3fffffff;
        r->p = p + 4;
        return true;
    default:
        if (ab_unlikely(left < 8))
            return false;
        *v = ab_quic_get64(p) & AB_QUIC_VARINT_MAX;
        r->p = p + 8;
        return true;
    }
}

/* ab_quic_varint_put: writes `v` in its shortest form where ab_quic_varint_size(v) bytes are known to be free; returns
 * the byte behind it. `v` must not exceed AB_QUIC_VARINT_MAX. */
static inline uint8_t *ab_quic_varint_put(uint8_t *p, uint64_t v)
{
    if (v < 1 << 6) {
        *p = (uint8_t)v;
        return p + 1;
    }
    if (v < 1 << 14)
        return ab_quic_put16(p, (uint16_t)(v | 0x4000));
    if (v < 1 << 30)
        return ab_quic_put32(p, (uint32_t)v | 0x80000000U);
    return ab_quic_put64(p, v | 0xc000000000000000ULL);
}

/* ab_quic_varint_write: `v` in its shortest form; false where there is no room, or where it cannot be written at all.
 */
static inline bool ab_quic_varint_write(struct ab_quic_writer *w, uint64_t v)
{
    if (v > AB_QUIC_VARINT_MAX || ab_quic_writer_room(w) < ab_quic_varint_size(v))
        return false;
    w->p = ab_quic_varint_put(w->p, v);
    return true;
}

/* ab_quic_bytes_read: the next `len` bytes as they lie, NULL where there are not as many. `len` is 64 bits wide since
 * it is mostly what a peer said. */
static inline const uint8_t *ab_quic_bytes_read(struct ab_quic_reader *r, uint64_t len)
{
    const uint8_t *p = r->p;

    if (ab_unlikely(len > ab_quic_reader_left(r)))
        return NULL;
    r->p = p + len;
    return p;
}

static inline bool ab_quic_bytes_write(struct ab_quic_writer *w, const void *data, size_t len)
{
    if (ab_quic_writer_room(w) < len)
        return false;
    if (len)
        memcpy(w->p, data, len);
    w->p += len;
    return true;
}

/* ab_quic_pn_bytes: how many bytes (1-4) a packet number is sent with, so that a receiver that is told so can tell it
 * from its neighbours even if all packets since the largest acknowledged one are still under way (RFC 9000 A.2: more
 * than twice the distance). `largest_acked` is the largest one acknowledged, or UINT64_MAX while there is none. */
static inline uint32_t ab_quic_pn_bytes(uint64_t pn, uint64_t largest_acked)
{
    uint64_t unacked = pn - largest_acked; /* UINT64_MAX is -1: pn + 1 */

    if (unacked < 1 << 7)
        return 1;
    if (unacked < 1 << 15)
        return 2;
    return unacked < 1 << 23 ? 3 : 4;
}

/* ab_quic_pn_put: the low `bytes` (1-4) of a packet number; returns the byte behind them. */
static inline uint8_t *ab_quic_pn_put(uint8_t *p, uint64_t pn, uint32_t bytes)
{
    for (uint32_t i = bytes; i-- > 0;)
        *p++ = (uint8_t)(pn >> (8 * i));
    return p;
}

/* ab_quic_pn_get: the truncated packet number as it was sent, in `bytes` (1-4) bytes. */
static inline uint32_t ab_quic_pn_get(const uint8_t *p, uint32_t bytes)
{
    uint32_t v = 0;

    for (uint32_t i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

/* ab_quic_pn_decode: the whole packet number, being the one nearest to the one expected (RFC 9000 A.3). `expected` is
 * the largest packet number opened so far plus one, 0 at the beginning. */
static inline uint64_t ab_quic_pn_decode(uint64_t expected, uint32_t truncated, uint32_t bytes)
{
    uint64_t window = 1ULL << (8 * bytes), half = window / 2;
    uint64_t candidate = (expected & ~(window - 1)) | truncated;

    if (candidate + half <= expected && candidate < AB_QUIC_VARINT_MAX + 1 - window)
        return candidate + window;
    if (candidate > expected + half && candidate >= window)
        return candidate - window;
    return candidate;
}

#endif
