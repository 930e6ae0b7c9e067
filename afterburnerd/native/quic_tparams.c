#include "quic_tparams.h"

/* Identifiers (RFC 9000 section 18.2; 0x20: RFC 9221 section 3). */
enum {
    ORIGINAL_DESTINATION_CID = 0x00,
    MAX_IDLE_TIMEOUT = 0x01,
    STATELESS_RESET_TOKEN = 0x02,
    MAX_UDP_PAYLOAD_SIZE = 0x03,
    INITIAL_MAX_DATA = 0x04,
    INITIAL_MAX_STREAM_DATA_BIDI_LOCAL = 0x05,
    INITIAL_MAX_STREAM_DATA_BIDI_REMOTE = 0x06,
    INITIAL_MAX_STREAM_DATA_UNI = 0x07,
    INITIAL_MAX_STREAMS_BIDI = 0x08,
    INITIAL_MAX_STREAMS_UNI = 0x09,
    ACK_DELAY_EXPONENT = 0x0a,
    MAX_ACK_DELAY = 0x0b,
    DISABLE_ACTIVE_MIGRATION = 0x0c,
    PREFERRED_ADDRESS = 0x0d,
    ACTIVE_CONNECTION_ID_LIMIT = 0x0e,
    INITIAL_SOURCE_CID = 0x0f,
    RETRY_SOURCE_CID = 0x10,
    MAX_DATAGRAM_FRAME_SIZE = 0x20,
};

/* Parameters that only a server may send (RFC 9000 18.2, last paragraph). */
#define SERVERS                                                                                                        \
    (1ULL << ORIGINAL_DESTINATION_CID | 1ULL << STATELESS_RESET_TOKEN | 1ULL << PREFERRED_ADDRESS |                    \
     1ULL << RETRY_SOURCE_CID)

#define MIN_UDP_PAYLOAD 1200
#define MAX_EXPONENT 20
#define MAX_ACK_DELAY_MS ((1 << 14) - 1)
#define MIN_CIDS 2

/* Unknown parameters are remembered by their identifiers, so that one that is sent twice is noticed (7.4: MUST NOT send
 * more than once; the receiver SHOULD mind). Real stacks send a handful; beyond this many the rest go unchecked. */
#define STRANGERS 32

void ab_quic_tparams_init(struct ab_quic_tparams *t)
{
    memset(t, 0, sizeof(*t));
    t->max_udp_payload_size = AB_QUIC_TPARAMS_UDP_PAYLOAD;
    t->ack_delay_exponent = AB_QUIC_TPARAMS_ACK_DELAY_EXPONENT;
    t->max_ack_delay_ms = AB_QUIC_TPARAMS_MAX_ACK_DELAY_MS;
    t->active_connection_id_limit = AB_QUIC_TPARAMS_CIDS;
}

/* number: a parameter that is one integer and nothing behind it. */
static bool number(struct ab_quic_reader *body, uint64_t *v)
{
    return ab_quic_varint_read(body, v) && body->p == body->end;
}

static bool cid(struct ab_quic_reader *body, struct ab_quic_tparams_cid *c)
{
    size_t len = ab_quic_reader_left(body);

    if (len > AB_QUIC_CID_BYTES)
        return false;
    c->present = true;
    c->len = (uint8_t)len;
    memcpy(c->bytes, body->p, len);
    return true;
}

static bool preferred_address(struct ab_quic_reader *body, struct ab_quic_tparams *t)
{
    const uint8_t *fixed = ab_quic_bytes_read(body, 25), *bytes, *token;

    if (!fixed || fixed[24] < 1 || fixed[24] > AB_QUIC_CID_BYTES) /* 18.2: a connection ID of 0 bytes is an error */
        return false;
    bytes = ab_quic_bytes_read(body, fixed[24]);
    token = bytes ? ab_quic_bytes_read(body, AB_QUIC_TOKEN_BYTES) : NULL;
    if (!token || body->p != body->end)
        return false;
    memcpy(t->preferred_address.ipv4, fixed, 4);
    t->preferred_address.port4 = ab_quic_get16(fixed + 4);
    memcpy(t->preferred_address.ipv6, fixed + 6, 16);
    t->preferred_address.port6 = ab_quic_get16(fixed + 22);
    t->preferred_address.cid.present = true;
    t->preferred_address.cid.len = fixed[24];
    memcpy(t->preferred_address.cid.bytes, bytes, fixed[24]);
    memcpy(t->preferred_address.token, token, AB_QUIC_TOKEN_BYTES);
    t->has_preferred_address = true;
    return true;
}

/* one: the parameter `id`, known. NULL, or what is wrong with it. */
static const char *one(struct ab_quic_tparams *t, uint64_t id, struct ab_quic_reader *body)
{
    uint64_t v = 0;

    switch (id) {
    case ORIGINAL_DESTINATION_CID:
        return cid(body, &t->original_destination_cid) ? NULL : "original_destination_connection_id is too long";
    case INITIAL_SOURCE_CID:
        return cid(body, &t->initial_source_cid) ? NULL : "initial_source_connection_id is too long";
    case RETRY_SOURCE_CID:
        return cid(body, &t->retry_source_cid) ? NULL : "retry_source_connection_id is too long";
    case STATELESS_RESET_TOKEN:
        if (ab_quic_reader_left(body) != AB_QUIC_TOKEN_BYTES)
            return "stateless_reset_token is not 16 bytes long";
        memcpy(t->reset_token, body->p, AB_QUIC_TOKEN_BYTES);
        t->has_reset_token = true;
        return NULL;
    case PREFERRED_ADDRESS:
        return preferred_address(body, t) ? NULL : "preferred_address is malformed";
    case DISABLE_ACTIVE_MIGRATION:
        t->disable_active_migration = true;
        return body->p == body->end ? NULL : "disable_active_migration is not empty";
    default:
        break;
    }
    if (!number(body, &v))
        return "an integer parameter is malformed";
    switch (id) {
    case MAX_IDLE_TIMEOUT:
        t->max_idle_timeout_ms = v;
        return NULL;
    case MAX_UDP_PAYLOAD_SIZE:
        t->max_udp_payload_size = AB_MIN(v, AB_QUIC_TPARAMS_UDP_PAYLOAD);
        return v >= MIN_UDP_PAYLOAD ? NULL : "max_udp_payload_size is below 1200";
    case INITIAL_MAX_DATA:
        t->initial_max_data = v;
        return NULL;
    case INITIAL_MAX_STREAM_DATA_BIDI_LOCAL:
        t->initial_max_stream_data_bidi_local = v;
        return NULL;
    case INITIAL_MAX_STREAM_DATA_BIDI_REMOTE:
        t->initial_max_stream_data_bidi_remote = v;
        return NULL;
    case INITIAL_MAX_STREAM_DATA_UNI:
        t->initial_max_stream_data_uni = v;
        return NULL;
    case INITIAL_MAX_STREAMS_BIDI:
        t->initial_max_streams_bidi = v;
        return v <= AB_QUIC_STREAMS_MAX ? NULL : "initial_max_streams_bidi is above 2^60";
    case INITIAL_MAX_STREAMS_UNI:
        t->initial_max_streams_uni = v;
        return v <= AB_QUIC_STREAMS_MAX ? NULL : "initial_max_streams_uni is above 2^60";
    case ACK_DELAY_EXPONENT:
        t->ack_delay_exponent = (uint8_t)AB_MIN(v, MAX_EXPONENT);
        return v <= MAX_EXPONENT ? NULL : "ack_delay_exponent is above 20";
    case MAX_ACK_DELAY:
        t->max_ack_delay_ms = (uint16_t)AB_MIN(v, MAX_ACK_DELAY_MS);
        return v <= MAX_ACK_DELAY_MS ? NULL : "max_ack_delay is 2^14 or more";
    case ACTIVE_CONNECTION_ID_LIMIT:
        t->active_connection_id_limit = v;
        return v >= MIN_CIDS ? NULL : "active_connection_id_limit is below 2";
    default: /* MAX_DATAGRAM_FRAME_SIZE */
        t->max_datagram_frame_size = v;
        return NULL;
    }
}

/* known: whether we read parameter `id`; 0x11 to 0x1f are nobody's, or other documents'. */
static bool known(uint64_t id)
{
    return id <= RETRY_SOURCE_CID || id == MAX_DATAGRAM_FRAME_SIZE;
}

static const char *parse(struct ab_quic_tparams *t, struct ab_quic_reader *r, bool from_server)
{
    uint64_t id, len, seen = 0, strangers[STRANGERS];
    uint32_t count = 0;
    struct ab_quic_reader body;
    const char *wrong;

    while (r->p < r->end) {
        if (!ab_quic_varint_read(r, &id) || !ab_quic_varint_read(r, &len) || !(body.p = ab_quic_bytes_read(r, len)))
            return "transport parameters are truncated";
        body.end = body.p + len;
        if (!known(id)) {
            for (uint32_t i = 0; i < count; i++) {
                if (strangers[i] == id)
                    return "a transport parameter is sent twice";
            }
            if (count < STRANGERS)
                strangers[count++] = id;
            continue;
        }
        if (seen & 1ULL << id)
            return "a transport parameter is sent twice";
        seen |= 1ULL << id;
        if (!from_server && SERVERS & 1ULL << id)
            return "a client sent a parameter of a server";
        wrong = one(t, id, &body);
        if (wrong)
            return wrong;
    }
    /* RFC 9000 7.3: absent is an error as a wrong value would be. */
    if (!t->initial_source_cid.present)
        return "initial_source_connection_id is missing";
    if (from_server && !t->original_destination_cid.present)
        return "original_destination_connection_id is missing";
    return NULL;
}

int ab_quic_tparams_parse(struct ab_quic_tparams *t, const uint8_t *p, uint32_t len, bool from_server, const char **why)
{
    struct ab_quic_reader r = {p, p + len};

    ab_quic_tparams_init(t);
    *why = parse(t, &r, from_server);
    return *why ? AB_QUIC_ERROR_TRANSPORT_PARAMETER : 0;
}

static bool write_bytes(struct ab_quic_writer *w, uint64_t id, const void *data, size_t len)
{
    return ab_quic_varint_write(w, id) && ab_quic_varint_write(w, len) && ab_quic_bytes_write(w, data, len);
}

static bool write_number(struct ab_quic_writer *w, uint64_t id, uint64_t v, uint64_t unless)
{
    return v == unless || (ab_quic_varint_write(w, id) && v <= AB_QUIC_VARINT_MAX &&
                           ab_quic_varint_write(w, ab_quic_varint_size(v)) && ab_quic_varint_write(w, v));
}

static bool write_cid(struct ab_quic_writer *w, uint64_t id, const struct ab_quic_tparams_cid *c)
{
    return !c->present || write_bytes(w, id, c->bytes, c->len);
}

static bool write_preferred(struct ab_quic_writer *w, const struct ab_quic_tparams *t)
{
    uint8_t body[25 + AB_QUIC_CID_BYTES + AB_QUIC_TOKEN_BYTES], *p = body;

    memcpy(p, t->preferred_address.ipv4, 4);
    p = ab_quic_put16(p + 4, t->preferred_address.port4);
    memcpy(p, t->preferred_address.ipv6, 16);
    p = ab_quic_put16(p + 16, t->preferred_address.port6);
    *p++ = t->preferred_address.cid.len;
    memcpy(p, t->preferred_address.cid.bytes, t->preferred_address.cid.len);
    p += t->preferred_address.cid.len;
    memcpy(p, t->preferred_address.token, AB_QUIC_TOKEN_BYTES);
    p += AB_QUIC_TOKEN_BYTES;
    return write_bytes(w, PREFERRED_ADDRESS, body, (size_t)(p - body));
}

static bool write_all(struct ab_quic_writer *w, const struct ab_quic_tparams *t, bool server)
{
    return write_number(w, MAX_IDLE_TIMEOUT, t->max_idle_timeout_ms, 0) &&
           write_number(w, MAX_UDP_PAYLOAD_SIZE, t->max_udp_payload_size, AB_QUIC_TPARAMS_UDP_PAYLOAD) &&
           write_number(w, INITIAL_MAX_DATA, t->initial_max_data, 0) &&
           write_number(w, INITIAL_MAX_STREAM_DATA_BIDI_LOCAL, t->initial_max_stream_data_bidi_local, 0) &&
           write_number(w, INITIAL_MAX_STREAM_DATA_BIDI_REMOTE, t->initial_max_stream_data_bidi_remote, 0) &&
           write_number(w, INITIAL_MAX_STREAM_DATA_UNI, t->initial_max_stream_data_uni, 0) &&
           write_number(w, INITIAL_MAX_STREAMS_BIDI, t->initial_max_streams_bidi, 0) &&
           write_number(w, INITIAL_MAX_STREAMS_UNI, t->initial_max_streams_uni, 0) &&
           write_number(w, ACK_DELAY_EXPONENT, t->ack_delay_exponent, AB_QUIC_TPARAMS_ACK_DELAY_EXPONENT) &&
           write_number(w, MAX_ACK_DELAY, t->max_ack_delay_ms, AB_QUIC_TPARAMS_MAX_ACK_DELAY_MS) &&
           write_number(w, ACTIVE_CONNECTION_ID_LIMIT, t->active_connection_id_limit, AB_QUIC_TPARAMS_CIDS) &&
           write_number(w, MAX_DATAGRAM_FRAME_SIZE, t->max_datagram_frame_size, 0) &&
           (!t->disable_active_migration || write_bytes(w, DISABLE_ACTIVE_MIGRATION, NULL, 0)) &&
           write_cid(w, INITIAL_SOURCE_CID, &t->initial_source_cid) &&
           (!server ||
            (write_cid(w, ORIGINAL_DESTINATION_CID, &t->original_destination_cid) &&
             write_cid(w, RETRY_SOURCE_CID, &t->retry_source_cid) &&
             (!t->has_reset_token || write_bytes(w, STATELESS_RESET_TOKEN, t->reset_token, AB_QUIC_TOKEN_BYTES)) &&
             (!t->has_preferred_address || write_preferred(w, t))));
}

bool ab_quic_tparams_write(struct ab_quic_writer *w, const struct ab_quic_tparams *t, bool server)
{
    uint8_t *begin = w->p;
    bool written = write_all(w, t, server);

    if (!written)
        w->p = begin;
    return written;
}
