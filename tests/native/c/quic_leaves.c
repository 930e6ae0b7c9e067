/* The leaves of the QUIC engine for tests/native/test_quic_*.py: a shared library with one function for each verb.
 *
 * Every function takes and returns 64-bit numbers, addresses included, so that tests/native/quic_leaves.py can call
 * them by name without a table of signatures. Structs live on the heap, each in a block of its own, and what is read is
 * copied into one of exactly its size: AddressSanitizer then sees an access to one byte too many. */
#include <stdlib.h>

#include "quic_ack.h"
#include "quic_cc.h"
#include "quic_ecn.h"
#include "quic_frame.h"
#include "quic_mtu.h"
#include "quic_pacer.h"
#include "quic_rtt.h"
#include "quic_tparams.h"
#include "quic_varint.h"

#define P(type, number) ((type)(uintptr_t)(number))
#define MADE(type) P(uint64_t, calloc(1, sizeof(type)))
#define API __attribute__((visibility("default")))

static uint8_t *exact(uint64_t data, uint64_t len)
{
    uint8_t *p = malloc(len ? len : 1);

    memcpy(p, P(const void *, data), len);
    return p;
}

API uint64_t t_free(uint64_t made)
{
    free(P(void *, made));
    return 0;
}

/* --- varint: out[0] value, out[1] bytes taken; 0 where it cannot be read */
API uint64_t t_varint_read(uint64_t data, uint64_t len, uint64_t out)
{
    uint8_t *p = exact(data, len);
    struct ab_quic_reader r = {p, p + len};
    bool read = ab_quic_varint_read(&r, P(uint64_t *, out));

    P(uint64_t *, out)[1] = (uint64_t)(r.p - p);
    free(p);
    return read;
}

/* bytes written to `data`, of which `room` may be used; UINT64_MAX where refused */
API uint64_t t_varint_write(uint64_t data, uint64_t room, uint64_t v)
{
    struct ab_quic_writer w = {P(uint8_t *, data), P(uint8_t *, data) + room};

    return ab_quic_varint_write(&w, v) ? (uint64_t)(w.p - P(uint8_t *, data)) : UINT64_MAX;
}

API uint64_t t_varint_size(uint64_t v)
{
    return ab_quic_varint_size(v);
}

API uint64_t t_pn_bytes(uint64_t pn, uint64_t largest_acked)
{
    return ab_quic_pn_bytes(pn, largest_acked);
}

API uint64_t t_pn_truncate(uint64_t pn, uint64_t bytes)
{
    uint8_t room[4];

    ab_quic_pn_put(room, pn, (uint32_t)bytes);
    return ab_quic_pn_get(room, (uint32_t)bytes);
}

API uint64_t t_pn_decode(uint64_t expected, uint64_t truncated, uint64_t bytes)
{
    return ab_quic_pn_decode(expected, (uint32_t)truncated, (uint32_t)bytes);
}

/* --- frames: what stands in out[] is a struct ab_quic_frame as numbers:
 * type, size, six fields, then offset and length in the payload of up to two runs of bytes */
static uint64_t at(const uint8_t *p, const uint8_t *begin)
{
    return (uint64_t)(p - begin);
}

static void flat(const struct ab_quic_frame *f, const uint8_t *p, uint64_t *o)
{
    memset(o, 0, 12 * sizeof(*o));
    o[0] = f->type;
    o[1] = f->size;
#define FIELDS(a, b, c, d, e, g) (o[2] = (a), o[3] = (b), o[4] = (c), o[5] = (d), o[6] = (e), o[7] = (g))
#define RUN(n, data, len) (o[8 + 2 * (n)] = at(data, p), o[9 + 2 * (n)] = (len))
    switch (f->type) {
    case AB_QUIC_FRAME_PADDING:
        FIELDS(f->padding.len, 0, 0, 0, 0, 0);
        break;
    case AB_QUIC_FRAME_ACK:
    case AB_QUIC_FRAME_ACK_ECN:
        FIELDS(f->ack.largest, f->ack.delay, f->ack.first, f->ack.ect0, f->ack.ect1, f->ack.ce);
        RUN(0, f->ack.ranges, (uint64_t)(f->ack.end - f->ack.ranges));
        o[11] = f->ack.count;
        break;
    case AB_QUIC_FRAME_RESET_STREAM:
        FIELDS(f->reset_stream.id, f->reset_stream.code, f->reset_stream.final_size, 0, 0, 0);
        break;
    case AB_QUIC_FRAME_STOP_SENDING:
        FIELDS(f->stop_sending.id, f->stop_sending.code, 0, 0, 0, 0);
        break;
    case AB_QUIC_FRAME_CRYPTO:
        FIELDS(f->crypto.offset, 0, 0, 0, 0, 0);
        RUN(0, f->crypto.data, f->crypto.len);
        break;
    case AB_QUIC_FRAME_NEW_TOKEN:
    case AB_QUIC_FRAME_DATAGRAM:
    case AB_QUIC_FRAME_DATAGRAM_LEN:
        RUN(0, f->blob.data, f->blob.len);
        break;
    case AB_QUIC_FRAME_NEW_CONNECTION_ID:
        FIELDS(f->new_cid.sequence, f->new_cid.retire_prior_to, 0, 0, 0, 0);
        RUN(0, f->new_cid.cid, f->new_cid.len);
        RUN(1, f->new_cid.token, AB_QUIC_TOKEN_BYTES);
        break;
    case AB_QUIC_FRAME_RETIRE_CONNECTION_ID:
        FIELDS(f->retire_cid.sequence, 0, 0, 0, 0, 0);
        break;
    case AB_QUIC_FRAME_PATH_CHALLENGE:
    case AB_QUIC_FRAME_PATH_RESPONSE:
        RUN(0, f->path.data, 8);
        break;
    case AB_QUIC_FRAME_CLOSE:
    case AB_QUIC_FRAME_CLOSE_APP:
        FIELDS(f->close.code, f->close.frame_type, 0, 0, 0, 0);
        RUN(0, f->close.reason, f->close.len);
        break;
    case AB_QUIC_FRAME_PING:
    case AB_QUIC_FRAME_HANDSHAKE_DONE:
        break;
    default:
        if (f->type >= AB_QUIC_FRAME_MAX_DATA && f->type <= AB_QUIC_FRAME_STREAMS_BLOCKED_UNI) {
            FIELDS(f->limit.id, f->limit.value, 0, 0, 0, 0);
        } else { /* STREAM */
            FIELDS(f->stream.id, f->stream.offset, f->stream.fin, 0, 0, 0);
            RUN(0, f->stream.data, f->stream.len);
        }
    }
}

/* Reads a whole payload; 12 numbers a frame into out[], up to `most` frames. The answer is count << 32 | code << 16 |
 * the type at which an error arose; what was read is written again to `again`, which has room for `len` bytes, of which
 * written[0] are taken. */
API uint64_t t_frames(uint64_t data, uint64_t len, uint64_t server, uint64_t out, uint64_t most, uint64_t again,
                      uint64_t written)
{
    uint8_t *p = exact(data, len);
    struct ab_quic_reader r = {p, p + len};
    struct ab_quic_writer w = {P(uint8_t *, again), P(uint8_t *, again) + len};
    struct ab_quic_frame f;
    uint64_t count = 0, answer = 0;
    int code;

    do {
        code = ab_quic_frame_next(&r, server, &f);
        if (code) {
            answer = (uint64_t)code << 16 | (f.type & 0xffff);
            break;
        }
        if (count < most)
            flat(&f, p, P(uint64_t *, out) + 12 * count);
        count++;
        if (!ab_quic_frame_write(&w, &f))
            answer = 0xffffULL << 16;
    } while (r.p < r.end);
    *P(uint64_t *, written) = (uint64_t)(w.p - P(uint8_t *, again));
    free(p);
    return count << 32 | answer;
}

/* The first frame of a payload, written into `room` bytes: bytes written, UINT64_MAX where refused. */
API uint64_t t_frame_rewrite(uint64_t data, uint64_t len, uint64_t out, uint64_t room)
{
    struct ab_quic_reader r = {P(uint8_t *, data), P(uint8_t *, data) + len};
    uint8_t *p = malloc(room ? room : 1);
    struct ab_quic_writer w = {p, p + room};
    struct ab_quic_frame f;
    uint64_t written = UINT64_MAX;

    if (ab_quic_frame_next(&r, false, &f) == 0 && ab_quic_frame_write(&w, &f))
        written = (uint64_t)(w.p - p);
    else if (w.p != p)
        written = UINT64_MAX - 1; /* something was written all the same */
    memcpy(P(void *, out), p, w.p - p);
    free(p);
    return written;
}

/* A frame of the caller's making, with `len` bytes of zeros: bytes written, UINT64_MAX where refused. */
API uint64_t t_frame_make(uint64_t type, uint64_t a, uint64_t b, uint64_t len)
{
    static const uint8_t zeros[64];
    static uint8_t room[256];
    struct ab_quic_writer w = {room, room + sizeof(room)};
    struct ab_quic_frame f = {.type = type};

    if ((type & ~7ULL) == AB_QUIC_FRAME_STREAM) {
        f.stream.id = a;
        f.stream.offset = b;
        f.stream.data = zeros;
        f.stream.len = (uint32_t)len;
    } else if (type == AB_QUIC_FRAME_CRYPTO) {
        f.crypto.offset = a;
        f.crypto.data = zeros;
        f.crypto.len = (uint32_t)len;
    } else if (type == AB_QUIC_FRAME_NEW_CONNECTION_ID) {
        f.new_cid.sequence = a;
        f.new_cid.retire_prior_to = b;
        f.new_cid.cid = f.new_cid.token = zeros;
        f.new_cid.len = (uint32_t)len;
    } else if (type == AB_QUIC_FRAME_NEW_TOKEN) {
        f.blob.data = zeros;
        f.blob.len = (uint32_t)len;
    } else if (type == AB_QUIC_FRAME_PADDING) {
        f.padding.len = (uint32_t)len;
    } else {
        f.limit.id = a;
        f.limit.value = b;
    }
    if (ab_quic_frame_write(&w, &f))
        return (uint64_t)(w.p - room);
    return w.p == room ? UINT64_MAX : UINT64_MAX - 1;
}

/* The ranges of the ACK that the payload begins with: pairs first, last into out[]; how many. */
API uint64_t t_ack_ranges(uint64_t data, uint64_t len, uint64_t out)
{
    struct ab_quic_reader r = {P(uint8_t *, data), P(uint8_t *, data) + len};
    struct ab_quic_ack_walk walk;
    struct ab_quic_frame f;
    uint64_t count = 0, *o = P(uint64_t *, out);

    if (ab_quic_frame_next(&r, false, &f))
        return 0;
    ab_quic_ack_walk_start(&walk, &f);
    do {
        o[2 * count] = walk.first;
        o[2 * count + 1] = walk.last;
        count++;
    } while (ab_quic_ack_walk_next(&walk));
    return count;
}

API uint64_t t_stream_put(uint64_t out, uint64_t id, uint64_t offset, uint64_t len, uint64_t with_len, uint64_t fin)
{
    uint8_t *p = P(uint8_t *, out);

    return (uint64_t)(ab_quic_stream_put(p, id, offset, (uint32_t)len, with_len, fin) - p) |
           (uint64_t)ab_quic_stream_overhead(id, offset, (uint32_t)len, with_len) << 32;
}

API uint64_t t_datagram_put(uint64_t out, uint64_t len, uint64_t with_len)
{
    return (uint64_t)(ab_quic_datagram_put(P(uint8_t *, out), (uint32_t)len, with_len) - P(uint8_t *, out));
}

API uint64_t t_frame_is(uint64_t type, uint64_t kind)
{
    return ab_quic_frame_is(type, (enum ab_quic_frame_kind)kind);
}

/* --- transport parameters: 0 and the numbers in out[], or the code; why goes to `text` (128 bytes) */
API uint64_t t_tparams_new(void)
{
    return MADE(struct ab_quic_tparams);
}

API uint64_t t_tparams_parse(uint64_t made, uint64_t data, uint64_t len, uint64_t from_server, uint64_t text)
{
    uint8_t *p = exact(data, len);
    const char *why;
    int code = ab_quic_tparams_parse(P(struct ab_quic_tparams *, made), p, (uint32_t)len, from_server, &why);

    free(p);
    snprintf(P(char *, text), 128, "%s", why ? why : "");
    return (uint64_t)code;
}

static uint64_t *show_cid(uint64_t *o, const struct ab_quic_tparams_cid *c)
{
    *o++ = c->present ? c->len : UINT64_MAX;
    memset(o, 0, 24);
    memcpy(o, c->bytes, c->len);
    return o + 3;
}

API uint64_t t_tparams_show(uint64_t made, uint64_t out)
{
    const struct ab_quic_tparams *t = P(const struct ab_quic_tparams *, made);
    uint64_t *o = P(uint64_t *, out);

    memcpy(o, t, 10 * sizeof(*o)); /* the numbers in the order of the struct */
    o += 10;
    *o++ = t->max_ack_delay_ms;
    *o++ = t->ack_delay_exponent;
    *o++ = t->disable_active_migration;
    o = show_cid(o, &t->original_destination_cid);
    o = show_cid(o, &t->initial_source_cid);
    o = show_cid(o, &t->retry_source_cid);
    *o++ = t->has_reset_token;
    memcpy(o, t->reset_token, 16);
    o += 2;
    *o++ = t->has_preferred_address;
    memset(o, 0, 5 * sizeof(*o));
    memcpy(o, t->preferred_address.ipv4, 4);
    memcpy(o + 1, t->preferred_address.ipv6, 16);
    o[3] = t->preferred_address.port4;
    o[4] = t->preferred_address.port6;
    o = show_cid(o + 5, &t->preferred_address.cid);
    memcpy(o, t->preferred_address.token, 16);
    return (uint64_t)(o + 2 - P(uint64_t *, out));
}

API uint64_t t_tparams_write(uint64_t made, uint64_t server, uint64_t out, uint64_t room)
{
    uint8_t *p = malloc(room ? room : 1);
    struct ab_quic_writer w = {p, p + room};
    bool written = ab_quic_tparams_write(&w, P(struct ab_quic_tparams *, made), server);
    uint64_t len = (uint64_t)(w.p - p);

    memcpy(P(void *, out), p, len);
    free(p);
    return written ? len : len ? UINT64_MAX - 1 : UINT64_MAX;
}

/* --- what was received */
API uint64_t t_ack_new(uint64_t threshold, uint64_t max_delay_ns, uint64_t exponent)
{
    uint64_t made = MADE(struct ab_quic_ack);

    ab_quic_ack_init(P(struct ab_quic_ack *, made), (uint32_t)threshold, max_delay_ns, (uint8_t)exponent);
    return made;
}

API uint64_t t_ack_thin(uint64_t made, uint64_t gather, uint64_t gather_ns)
{
    ab_quic_ack_thin(P(struct ab_quic_ack *, made), (uint32_t)gather, gather_ns);
    return 0;
}

API uint64_t t_ack_seen(uint64_t made, uint64_t pn)
{
    return ab_quic_ack_seen(P(struct ab_quic_ack *, made), pn);
}

API uint64_t t_ack_add(uint64_t made, uint64_t pn, uint64_t eliciting, uint64_t ecn, uint64_t now)
{
    return ab_quic_ack_add(P(struct ab_quic_ack *, made), pn, eliciting, (uint8_t)ecn, now);
}

API uint64_t t_ack_deadline(uint64_t made)
{
    return ab_quic_ack_deadline(P(struct ab_quic_ack *, made));
}

API uint64_t t_ack_pending(uint64_t made)
{
    return ab_quic_ack_pending(P(struct ab_quic_ack *, made));
}

API uint64_t t_ack_expected(uint64_t made)
{
    return ab_quic_ack_expected(P(struct ab_quic_ack *, made));
}

/* The ACK in `out`; out_len[0] its bytes. The answer is what it acknowledges at most. */
API uint64_t t_ack_write(uint64_t made, uint64_t out, uint64_t room, uint64_t out_len, uint64_t now)
{
    uint8_t *p = malloc(room ? room : 1);
    struct ab_quic_writer w = {p, p + room};
    uint64_t largest = ab_quic_ack_write(P(struct ab_quic_ack *, made), &w, now);

    *P(uint64_t *, out_len) = (uint64_t)(w.p - p);
    memcpy(P(void *, out), p, (size_t)(w.p - p));
    free(p);
    return largest;
}

API uint64_t t_ack_acked(uint64_t made, uint64_t largest)
{
    ab_quic_ack_acked(P(struct ab_quic_ack *, made), largest);
    return 0;
}

/* floor and count, then the ranges */
API uint64_t t_ack_show(uint64_t made, uint64_t out)
{
    const struct ab_quic_ack *a = P(const struct ab_quic_ack *, made);
    uint64_t *o = P(uint64_t *, out);

    o[0] = a->floor;
    o[1] = a->count;
    memcpy(o + 2, a->ranges, a->count * sizeof(a->ranges[0]));
    return 2 + 2ULL * a->count;
}

/* --- round-trip time */
API uint64_t t_rtt_new(uint64_t initial_ns, uint64_t max_ack_delay_ns)
{
    uint64_t made = MADE(struct ab_quic_rtt);

    ab_quic_rtt_init(P(struct ab_quic_rtt *, made), initial_ns, max_ack_delay_ns);
    return made;
}

API uint64_t t_rtt_sample(uint64_t made, uint64_t latest_ns, uint64_t ack_delay_ns, uint64_t confirmed, uint64_t now)
{
    ab_quic_rtt_sample(P(struct ab_quic_rtt *, made), latest_ns, ack_delay_ns, confirmed, now);
    return 0;
}

API uint64_t t_rtt_restart_min(uint64_t made)
{
    ab_quic_rtt_restart_min(P(struct ab_quic_rtt *, made));
    return 0;
}

API uint64_t t_rtt_ack_delay(uint64_t field, uint64_t exponent)
{
    return ab_quic_rtt_ack_delay(field, (uint8_t)exponent);
}

API uint64_t t_rtt_show(uint64_t made, uint64_t out)
{
    const struct ab_quic_rtt *r = P(const struct ab_quic_rtt *, made);
    uint64_t shown[] = {r->latest_ns,
                        r->min_ns,
                        r->smoothed_ns,
                        r->var_ns,
                        r->first_ns,
                        r->sampled,
                        ab_quic_rtt_pto(r),
                        ab_quic_rtt_loss_delay(r),
                        ab_quic_rtt_persistent(r)};

    memcpy(P(void *, out), shown, sizeof(shown));
    return AB_ARRAY_LEN(shown);
}

/* --- congestion control */
API uint64_t t_cc_new(uint64_t kind, uint64_t hystart, uint64_t window, uint64_t mtu)
{
    uint64_t made = MADE(struct ab_quic_cc);

    ab_quic_cc_init(P(struct ab_quic_cc *, made), (enum ab_quic_cc_kind)kind, hystart, window, (uint32_t)mtu);
    return made;
}

API uint64_t t_cc_set_mtu(uint64_t made, uint64_t mtu)
{
    ab_quic_cc_set_mtu(P(struct ab_quic_cc *, made), (uint32_t)mtu);
    return 0;
}

API uint64_t t_cc_room(uint64_t made)
{
    return ab_quic_cc_room(P(struct ab_quic_cc *, made));
}

API uint64_t t_cc_sent(uint64_t made, uint64_t bytes, uint64_t pto_ns, uint64_t now)
{
    ab_quic_cc_sent(P(struct ab_quic_cc *, made), (uint32_t)bytes, pto_ns, now);
    return 0;
}

API uint64_t t_cc_blocked(uint64_t made, uint64_t backlog, uint64_t now)
{
    ab_quic_cc_blocked(P(struct ab_quic_cc *, made), backlog, now);
    return 0;
}

API uint64_t t_cc_ack(uint64_t made, uint64_t bytes, uint64_t sent_ns)
{
    ab_quic_cc_ack_packet(P(struct ab_quic_cc *, made), (uint32_t)bytes, sent_ns);
    return 0;
}

API uint64_t t_cc_lose(uint64_t made, uint64_t bytes, uint64_t sent_ns)
{
    ab_quic_cc_lose_packet(P(struct ab_quic_cc *, made), (uint32_t)bytes, sent_ns);
    return 0;
}

API uint64_t t_cc_forget(uint64_t made, uint64_t bytes)
{
    ab_quic_cc_forget(P(struct ab_quic_cc *, made), (uint32_t)bytes);
    return 0;
}

API uint64_t t_cc_update(uint64_t made, uint64_t rtt, uint64_t largest_sent_ns, uint64_t ce, uint64_t persistent,
                         uint64_t now)
{
    return ab_quic_cc_update(P(struct ab_quic_cc *, made), P(struct ab_quic_rtt *, rtt), largest_sent_ns, ce,
                             persistent, now);
}

API uint64_t t_cc_show(uint64_t made, uint64_t out)
{
    const struct ab_quic_cc *c = P(const struct ab_quic_cc *, made);
    uint64_t shown[] = {c->window, c->in_flight, c->ssthresh, c->events,          c->in_recovery,
                        c->w_max,  c->k_ns,      c->w_est,    c->css_base_ns != 0};

    memcpy(P(void *, out), shown, sizeof(shown));
    return AB_ARRAY_LEN(shown);
}

API uint64_t t_cc_cube_root(uint64_t v)
{
    return ab_quic_cc_cube_root(v);
}

/* --- pacing */
API uint64_t t_pacer_new(uint64_t enabled, uint64_t burst, uint64_t now)
{
    uint64_t made = MADE(struct ab_quic_pacer);

    ab_quic_pacer_init(P(struct ab_quic_pacer *, made), enabled, burst, now);
    return made;
}

API uint64_t t_pacer_update(uint64_t made, uint64_t cc, uint64_t rtt, uint64_t now)
{
    ab_quic_pacer_update(P(struct ab_quic_pacer *, made), P(struct ab_quic_cc *, cc), P(struct ab_quic_rtt *, rtt),
                         now);
    return 0;
}

API uint64_t t_pacer_room(uint64_t made, uint64_t now)
{
    return ab_quic_pacer_room(P(struct ab_quic_pacer *, made), now);
}

API uint64_t t_pacer_sent(uint64_t made, uint64_t bytes)
{
    ab_quic_pacer_sent(P(struct ab_quic_pacer *, made), (uint32_t)bytes);
    return 0;
}

API uint64_t t_pacer_when(uint64_t made, uint64_t bytes)
{
    return ab_quic_pacer_when(P(struct ab_quic_pacer *, made), (uint32_t)bytes);
}

/* --- the path's MTU */
API uint64_t t_mtu_new(uint64_t max, uint64_t search)
{
    uint64_t made = MADE(struct ab_quic_mtu);

    ab_quic_mtu_init(P(struct ab_quic_mtu *, made), (uint32_t)max, search);
    return made;
}

API uint64_t t_mtu_set_max(uint64_t made, uint64_t max)
{
    ab_quic_mtu_set_max(P(struct ab_quic_mtu *, made), (uint32_t)max);
    return 0;
}

API uint64_t t_mtu_probe(uint64_t made, uint64_t now)
{
    return ab_quic_mtu_probe(P(struct ab_quic_mtu *, made), now);
}

API uint64_t t_mtu_probe_sent(uint64_t made)
{
    ab_quic_mtu_probe_sent(P(struct ab_quic_mtu *, made));
    return 0;
}

API uint64_t t_mtu_probe_acked(uint64_t made, uint64_t size, uint64_t now)
{
    return ab_quic_mtu_probe_acked(P(struct ab_quic_mtu *, made), (uint32_t)size, now);
}

API uint64_t t_mtu_probe_lost(uint64_t made, uint64_t size, uint64_t now)
{
    ab_quic_mtu_probe_lost(P(struct ab_quic_mtu *, made), (uint32_t)size, now);
    return 0;
}

API uint64_t t_mtu_acked(uint64_t made, uint64_t pn, uint64_t size)
{
    ab_quic_mtu_acked(P(struct ab_quic_mtu *, made), pn, (uint32_t)size);
    return 0;
}

API uint64_t t_mtu_lost(uint64_t made, uint64_t pn, uint64_t size, uint64_t now)
{
    return ab_quic_mtu_lost(P(struct ab_quic_mtu *, made), pn, (uint32_t)size, now);
}

API uint64_t t_mtu_pto(uint64_t made, uint64_t count, uint64_t now)
{
    return ab_quic_mtu_pto(P(struct ab_quic_mtu *, made), (uint32_t)count, now);
}

API uint64_t t_mtu_deadline(uint64_t made)
{
    return ab_quic_mtu_deadline(P(struct ab_quic_mtu *, made));
}

API uint64_t t_mtu_size(uint64_t made)
{
    return P(struct ab_quic_mtu *, made)->size;
}

API uint64_t t_mtu_state(uint64_t made)
{
    return P(struct ab_quic_mtu *, made)->state;
}

/* --- marks */
API uint64_t t_ecn_new(uint64_t enabled)
{
    uint64_t made = MADE(struct ab_quic_ecn);

    ab_quic_ecn_init(P(struct ab_quic_ecn *, made), enabled);
    return made;
}

API uint64_t t_ecn_new_path(uint64_t made)
{
    ab_quic_ecn_new_path(P(struct ab_quic_ecn *, made));
    return 0;
}

API uint64_t t_ecn_mark(uint64_t made, uint64_t pto_ns, uint64_t now)
{
    return ab_quic_ecn_mark(P(struct ab_quic_ecn *, made), pto_ns, now);
}

API uint64_t t_ecn_acked(uint64_t made, uint64_t marked, uint64_t counts, uint64_t ect0, uint64_t ect1, uint64_t ce)
{
    struct ab_quic_frame f = {.type = counts ? AB_QUIC_FRAME_ACK_ECN : AB_QUIC_FRAME_ACK};

    f.ack.ect0 = ect0;
    f.ack.ect1 = ect1;
    f.ack.ce = ce;
    return ab_quic_ecn_acked(P(struct ab_quic_ecn *, made), &f, marked);
}

API uint64_t t_ecn_lost(uint64_t made, uint64_t marked)
{
    ab_quic_ecn_lost(P(struct ab_quic_ecn *, made), marked);
    return 0;
}

API uint64_t t_ecn_state(uint64_t made)
{
    return P(struct ab_quic_ecn *, made)->state;
}
