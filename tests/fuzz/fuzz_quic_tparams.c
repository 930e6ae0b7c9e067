/* libFuzzer target of transport parameters (afterburnerd/native/quic_tparams.h).
 *
 * First byte: bit 0, they are a server's; the rest is the body of the TLS extension. What is accepted must lie within
 * the bounds of RFC 9000 18.2, can be written, and is then read as the same, but for what nobody asked about. */
#include "quic_tparams.h"

#include "fuzz.h"

static void check_cid(const struct ab_quic_tparams_cid *c)
{
    MUST(c->len <= AB_QUIC_CID_BYTES && (c->present || c->len == 0));
}

static void check(const struct ab_quic_tparams *t, bool server)
{
    MUST(t->max_udp_payload_size >= 1200 && t->max_udp_payload_size <= AB_QUIC_TPARAMS_UDP_PAYLOAD);
    MUST(t->initial_max_streams_bidi <= AB_QUIC_STREAMS_MAX && t->initial_max_streams_uni <= AB_QUIC_STREAMS_MAX);
    MUST(t->ack_delay_exponent <= 20 && t->max_ack_delay_ms < 1 << 14 && t->active_connection_id_limit >= 2);
    MUST(t->initial_max_data <= AB_QUIC_VARINT_MAX && t->max_idle_timeout_ms <= AB_QUIC_VARINT_MAX);
    check_cid(&t->initial_source_cid);
    check_cid(&t->original_destination_cid);
    check_cid(&t->retry_source_cid);
    MUST(t->initial_source_cid.present && t->original_destination_cid.present == server);
    MUST(server || !(t->has_reset_token || t->has_preferred_address || t->retry_source_cid.present));
    if (t->has_preferred_address)
        MUST(t->preferred_address.cid.len >= 1 && t->preferred_address.cid.len <= AB_QUIC_CID_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool server = size && data[0] & 1;
    size_t len = size ? size - 1 : 0;
    uint8_t *p = exact(data + (size != 0), len), *room = malloc(len + 64);
    struct ab_quic_writer w = {room, room + len + 64};
    struct ab_quic_tparams t, again;
    const char *why;
    int code;

    MUST(room);
    memset(&t, 0xa5, sizeof(t));
    code = ab_quic_tparams_parse(&t, p, (uint32_t)len, server, &why);
    MUST(code == 0 ? !why : code == AB_QUIC_ERROR_TRANSPORT_PARAMETER && why && *why);
    if (code == 0) {
        check(&t, server);
        MUST(ab_quic_tparams_write(&w, &t, server));
        MUST(w.p <= room + len); /* nothing is written longer than it can be said */
        MUST(ab_quic_tparams_parse(&again, room, (uint32_t)(w.p - room), server, &why) == 0);
        MUST(memcmp(&t, &again, sizeof(t)) == 0);
        w = (struct ab_quic_writer){room, w.p - 1};
        MUST(!ab_quic_tparams_write(&w, &t, server) && w.p == room);
    }
    free(room);
    free(p);
    return 0;
}
