/* One connection of either role: what ngtcp2 calls, streams and their bytes, writing, closing. */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint8_t reset_secret[32]; /* of stateless reset tokens; of this process */

ngtcp2_tstamp now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (ngtcp2_tstamp)t.tv_sec * NGTCP2_SECONDS + (ngtcp2_tstamp)t.tv_nsec;
}

void conn_random(uint8_t *data, size_t len)
{
    gnutls_rnd(GNUTLS_RND_RANDOM, data, len);
}

static void random_cb(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    conn_random(dest, len);
}

static int new_cid_cb(ngtcp2_conn *quic, ngtcp2_cid *cid, uint8_t *token, size_t len, void *user)
{
    (void)quic, (void)user;
    conn_random(cid->data, len);
    cid->datalen = len;
    return ngtcp2_crypto_generate_stateless_reset_token(token, reset_secret, sizeof reset_secret, cid)
               ? NGTCP2_ERR_CALLBACK_FAILURE
               : 0;
}

/* --- streams ------------------------------------------------------------------------------------------------------ */

static struct stream *stream_new(struct conn *c, int64_t id)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        fail(EX_INCOMPLETE, "out of memory");
    s->id = id;
    gnutls_hash_init(&s->hash, GNUTLS_DIG_SHA256);
    struct stream **end = &c->streams; /* in order of opening: the oldest is written first */
    while (*end)
        end = &(*end)->next;
    *end = s;
    ngtcp2_conn_set_stream_user_data(c->quic, id, s);
    return s;
}

static void stream_free(struct conn *c, struct stream *s)
{
    for (struct stream **at = &c->streams; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    gnutls_hash_deinit(s->hash, NULL);
    free(s->data);
    free(s->kept);
    free(s);
}

static void stream_send(struct stream *s, uint8_t *data, size_t size)
{
    s->data = data;
    s->size = size;
    s->sends = true;
}

bool conn_open(struct conn *c, bool bidi, uint8_t *data, size_t size)
{
    int64_t id;
    if ((bidi ? ngtcp2_conn_open_bidi_stream(c->quic, &id, NULL) : ngtcp2_conn_open_uni_stream(c->quic, &id, NULL)))
        return false;
    stream_send(stream_new(c, id), data, size);
    c->opened++;
    return true;
}

static void delivered(struct conn *c)
{
    int64_t total = (int64_t)(c->received + c->acked);
    const struct options *o = c->options;
    if (o->key_update_after >= 0 && total >= o->key_update_after)
        conn_update_key(c);
}

void conn_update_key(struct conn *c)
{
    /* Refused until the handshake is confirmed: then the next delivery or turn asks again. */
    if (c->updated || !c->confirmed || ngtcp2_conn_initiate_key_update(c->quic, now()))
        return;
    c->updated = true;
    say("key_update", ", \"conn\": %lu", c->number);
}

static void stream_whole(struct conn *c, struct stream *s)
{
    uint8_t digest[32];
    char hex[65];
    gnutls_hash_output(s->hash, digest);
    s->whole = true;
    c->received++;
    c->sums->streams++;
    c->sums->bytes += s->received;
    if (!c->options->quiet) {
        sha256_hex(hex, digest);
        say("stream", ", \"conn\": %lu, \"id\": %ld, \"bytes\": %lu, \"sha256\": \"%s\"", c->number, s->id, s->received,
            hex);
    }
    if (c->options->server && !(s->id & 3)) { /* a client's bidirectional stream is answered */
        size_t size = c->options->echo ? s->received : 0;
        stream_send(s, s->kept, size);
        s->kept = NULL;
    }
    delivered(c);
}

static int stream_data_cb(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *data,
                          size_t len, void *user, void *stream_user)
{
    struct conn *c = user;
    struct stream *s = stream_user ? stream_user : stream_new(c, id);
    (void)offset;
    gnutls_hash(s->hash, data, len);
    if (c->options->echo && !(id & 3)) {
        uint8_t *grown = realloc(s->kept, s->received + len + 1);
        if (!grown)
            return NGTCP2_ERR_CALLBACK_FAILURE;
        s->kept = grown;
        memcpy(s->kept + s->received, data, len);
    }
    s->received += len;
    ngtcp2_conn_extend_max_stream_offset(quic, id, len);
    ngtcp2_conn_extend_max_offset(quic, len);
    if (!(flags & NGTCP2_STREAM_DATA_FLAG_FIN))
        return 0;
    stream_whole(c, s);
    if (id & 2) {
        /* ngtcp2 0.12 never says that a unidirectional stream of the peer is closed: here it is. */
        ngtcp2_conn_extend_max_streams_uni(quic, 1);
        ngtcp2_conn_set_stream_user_data(quic, id, NULL);
        stream_free(c, s);
    }
    return 0;
}

static int stream_close_cb(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t code, void *user, void *stream_user)
{
    struct conn *c = user;
    struct stream *s = stream_user;
    bool ours = (id & 1) == (int64_t)c->options->server;
    (void)code;
    if (!ours) {
        if (!(id & 2))
            ngtcp2_conn_extend_max_streams_bidi(quic, 1);
        else if (s) /* reset: its FIN never came */
            ngtcp2_conn_extend_max_streams_uni(quic, 1);
    } else if (!(flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET) && s && s->fin_sent) {
        c->acked++;
        c->sums->acked++;
        if (!c->options->quiet)
            say("acked", ", \"conn\": %lu, \"id\": %ld", c->number, id);
        delivered(c);
    }
    if (s)
        stream_free(c, s);
    return 0;
}

static int more_data_cb(ngtcp2_conn *quic, int64_t id, uint64_t max, void *user, void *stream_user)
{
    (void)quic, (void)id, (void)max, (void)user;
    if (stream_user)
        ((struct stream *)stream_user)->blocked = false;
    return 0;
}

static int datagram_cb(ngtcp2_conn *quic, uint32_t flags, const uint8_t *data, size_t len, void *user)
{
    struct conn *c = user;
    uint8_t digest[32];
    char hex[65];
    (void)quic, (void)flags;
    c->sums->datagrams++;
    if (!c->options->quiet) {
        gnutls_hash_fast(GNUTLS_DIG_SHA256, data, len, digest);
        sha256_hex(hex, digest);
        say("datagram", ", \"conn\": %lu, \"bytes\": %zu, \"sha256\": \"%s\"", c->number, len, hex);
    }
    return 0;
}

/* --- handshake ---------------------------------------------------------------------------------------------------- */

static int handshake_completed_cb(ngtcp2_conn *quic, void *user)
{
    struct conn *c = user;
    c->connected = true;
    if (c->options->server) {
        c->confirmed = true; /* RFC 9001 4.1.2: a server's handshake is confirmed when it is complete */
        tls_send_ticket(c);
    } else if (gnutls_session_get_flags(c->tls) & GNUTLS_SFLAGS_EARLY_DATA) {
        /* accepted: the early streams stay */
    } else if (ngtcp2_conn_early_data_rejected(quic)) {
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    tls_connected(c);
    return 0;
}

static int handshake_confirmed_cb(ngtcp2_conn *quic, void *user)
{
    (void)quic;
    ((struct conn *)user)->confirmed = true;
    return 0;
}

/* ngtcp2 has forgotten the early streams: all of them are opened once more. */
static int early_rejected_cb(ngtcp2_conn *quic, void *user)
{
    struct conn *c = user;
    (void)quic;
    while (c->streams)
        stream_free(c, c->streams);
    c->rejected = true;
    c->opened = 0;
    return 0;
}

static int version_negotiation_cb(ngtcp2_conn *quic, const ngtcp2_pkt_hd *hd, const uint32_t *versions, size_t len,
                                  void *user)
{
    struct conn *c = user;
    char list[256] = "";
    size_t n = 0;
    (void)quic, (void)hd;
    for (size_t i = 0; i < len && n < sizeof list - 16; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%u", i ? ", " : "", versions[i]);
    say("version_negotiation", ", \"conn\": %lu, \"offered\": [%s]", c->number, list);
    return 0;
}

static int reset_cb(ngtcp2_conn *quic, const ngtcp2_pkt_stateless_reset *sr, void *user)
{
    (void)quic, (void)sr;
    ((struct conn *)user)->reset = true;
    return 0;
}

const ngtcp2_callbacks conn_callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .handshake_completed = handshake_completed_cb,
    .handshake_confirmed = handshake_confirmed_cb,
    .recv_version_negotiation = version_negotiation_cb,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = stream_data_cb,
    .stream_close = stream_close_cb,
    .extend_max_stream_data = more_data_cb,
    .recv_stateless_reset = reset_cb,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .rand = random_cb,
    .get_new_connection_id = new_cid_cb,
    .update_key = ngtcp2_crypto_update_key_cb,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .recv_datagram = datagram_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
    .early_data_rejected = early_rejected_cb,
};

static void qlog_cb(void *user, uint32_t flags, const void *data, size_t len)
{
    struct conn *c = user;
    (void)flags;
    if (c->qlog)
        fwrite(data, 1, len, c->qlog);
}

void conn_settings(const struct conn *c, ngtcp2_settings *s, ngtcp2_transport_params *p)
{
    const struct options *o = c->options;
    static bool seeded;
    if (!seeded)
        conn_random(reset_secret, sizeof reset_secret);
    seeded = true;
    ngtcp2_settings_default(s);
    s->initial_ts = now();
    s->max_tx_udp_payload_size = DATAGRAM_MAX;
    s->handshake_timeout = o->timeout ? o->timeout * MS : UINT64_MAX;
    if (c->qlog) {
        s->qlog.odcid = c->original;
        s->qlog.write = qlog_cb;
    }
    ngtcp2_transport_params_default(p);
    p->initial_max_data = CONNECTION_WINDOW;
    p->initial_max_stream_data_uni = STREAM_WINDOW;
    p->initial_max_stream_data_bidi_local = STREAM_WINDOW;
    p->initial_max_stream_data_bidi_remote = STREAM_WINDOW;
    p->initial_max_streams_uni = o->max_uni;
    p->initial_max_streams_bidi = o->max_bidi;
    p->max_idle_timeout = o->idle * MS;
    p->max_datagram_frame_size = 65535; /* RFC 9221 3 */
    p->active_connection_id_limit = 7;
}

bool conn_owns(struct conn *c, const uint8_t *cid, size_t len)
{
    ngtcp2_cid owned[32];
    if (len == c->original.datalen && !memcmp(cid, c->original.data, len))
        return true;
    if (ngtcp2_conn_get_num_scid(c->quic) > sizeof owned / sizeof *owned)
        fail(EX_INCOMPLETE, "more connection IDs than were granted");
    size_t n = ngtcp2_conn_get_scid(c->quic, owned);
    for (size_t i = 0; i < n; i++)
        if (len == owned[i].datalen && !memcmp(cid, owned[i].data, len))
            return true;
    return false;
}

/* --- in and out --------------------------------------------------------------------------------------------------- */

static void send_to(struct conn *c, const ngtcp2_path *path, const uint8_t *data, size_t len)
{
    ssize_t n;
    do
        n = sendto(*c->socket, data, len, 0, path->remote.addr, path->remote.addrlen);
    while (n < 0 && errno == EINTR);
    /* A full buffer or an unreachable port is a lost packet: QUIC knows what to do. */
}

static const char *BY[] = {"", "peer", "local", "idle", "reset", "version"};

static void ended(struct conn *c, enum ending ending, bool application, uint64_t code, const uint8_t *reason,
                  size_t len)
{
    char text[512];
    if (c->ending != END_NONE)
        return;
    c->ending = ending;
    c->gone = now() + 3 * ngtcp2_conn_get_pto(c->quic); /* RFC 9000 10.2 */
    say("closed", ", \"conn\": %lu, \"code\": %lu, \"reason\": %s, \"application\": %s, \"by\": \"%s\"", c->number,
        code, quoted(text, sizeof text, reason, len), application ? "true" : "false", BY[ending]);
}

/* Writes CONNECTION_CLOSE and keeps it for the closing period. */
static void farewell(struct conn *c)
{
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info;
    ngtcp2_path_storage_zero(&path);
    ngtcp2_ssize n = ngtcp2_conn_write_connection_close(c->quic, &path.path, &info, c->farewell, sizeof c->farewell,
                                                        &c->error, now());
    if (n > 0) {
        c->farewell_len = (size_t)n;
        send_to(c, &path.path, c->farewell, c->farewell_len);
    }
    bool application = c->error.type == NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION;
    ended(c, END_LOCAL, application, c->error.error_code, c->error.reason, c->error.reasonlen);
}

void conn_close(struct conn *c, uint64_t code, const char *reason)
{
    if (c->ending != END_NONE)
        return;
    ngtcp2_connection_close_error_set_application_error(&c->error, code, (const uint8_t *)reason, strlen(reason));
    farewell(c);
}

/* What an error of the library means for the connection. */
static void broken(struct conn *c, int code)
{
    ngtcp2_connection_close_error theirs;
    const char *text = ngtcp2_strerror(code);
    switch (code) {
    case NGTCP2_ERR_DRAINING:
        ngtcp2_conn_get_connection_close_error(c->quic, &theirs);
        ended(c, c->reset ? END_RESET : END_PEER, theirs.type == NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION,
              theirs.error_code, theirs.reason, theirs.reasonlen);
        return;
    case NGTCP2_ERR_IDLE_CLOSE:
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        ended(c, END_IDLE, false, 0, (const uint8_t *)text, strlen(text));
        return;
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
        c->ending = END_VERSION; /* the client goes on with another connection */
        return;
    case NGTCP2_ERR_DROP_CONN:
        ended(c, END_LOCAL, false, 0, (const uint8_t *)text, strlen(text));
        return;
    case NGTCP2_ERR_CRYPTO:
        ngtcp2_connection_close_error_set_transport_error_tls_alert(&c->error, ngtcp2_conn_get_tls_alert(c->quic), NULL,
                                                                    0);
        break;
    default:
        ngtcp2_connection_close_error_set_transport_error_liberr(&c->error, code, NULL, 0);
    }
    c->error.reason = (uint8_t *)text;
    c->error.reasonlen = strlen(text);
    farewell(c);
}

void conn_read(struct conn *c, const ngtcp2_path *path, const uint8_t *data, size_t len)
{
    ngtcp2_pkt_info info = {0};
    if (c->ending != END_NONE) {
        if (c->farewell_len)
            send_to(c, path, c->farewell, c->farewell_len);
        return;
    }
    int code = ngtcp2_conn_read_pkt(c->quic, path, &info, data, len, now());
    if (code)
        broken(c, code);
}

/* The stream that is to be written next; NULL: none has anything that may go. */
static struct stream *ready(struct conn *c)
{
    for (struct stream *s = c->streams; s; s = s->next)
        if (s->sends && !s->fin_sent && !s->blocked)
            return s;
    return NULL;
}

/* One packet's worth of a DATAGRAM; false where none is due or none fits. */
static bool write_datagram(struct conn *c, ngtcp2_path_storage *path, ngtcp2_pkt_info *info, uint8_t *packet,
                           ngtcp2_ssize *n)
{
    int accepted = 0;
    if (!c->connected || c->sent_datagrams >= c->wanted_datagrams)
        return false;
    uint8_t *data = payload(c->sent_datagrams, c->options->size);
    ngtcp2_vec vec = {data, c->options->size};
    *n = ngtcp2_conn_writev_datagram(c->quic, &path->path, info, packet, DATAGRAM_MAX, &accepted, 0, c->sent_datagrams,
                                     &vec, 1, now());
    free(data);
    if (accepted)
        c->sent_datagrams++;
    return true;
}

void conn_write(struct conn *c)
{
    uint8_t packet[DATAGRAM_MAX];
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info;
    ngtcp2_tstamp ts = now();
    while (c->ending == END_NONE) {
        ngtcp2_ssize n, taken = -1;
        ngtcp2_path_storage_zero(&path);
        struct stream *s = ready(c);
        if (s || !write_datagram(c, &path, &info, packet, &n)) {
            ngtcp2_vec vec = {s ? s->data + s->sent : NULL, s ? s->size - s->sent : 0};
            uint32_t flags = s ? NGTCP2_WRITE_STREAM_FLAG_FIN | NGTCP2_WRITE_STREAM_FLAG_MORE : 0;
            n = ngtcp2_conn_writev_stream(c->quic, &path.path, &info, packet, sizeof packet, &taken, flags,
                                          s ? s->id : -1, &vec, s ? 1 : 0, ts);
            if (s && taken >= 0) {
                s->sent += (size_t)taken;
                s->fin_sent = s->sent == s->size;
            }
            if (s && n == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
                /* Of the stream or of the connection: both are asked again later. */
                s->blocked = true;
                continue;
            }
            if (s && (n == NGTCP2_ERR_STREAM_NOT_FOUND || n == NGTCP2_ERR_STREAM_SHUT_WR)) {
                s->fin_sent = true; /* the peer does not want it */
                continue;
            }
        }
        if (n == NGTCP2_ERR_WRITE_MORE)
            continue;
        if (n < 0) {
            broken(c, (int)n);
            return;
        }
        if (n == 0)
            break;
        send_to(c, &path.path, packet, (size_t)n);
    }
    for (struct stream *s = c->streams; s; s = s->next)
        s->blocked = s->blocked && ngtcp2_conn_get_max_data_left(c->quic) == 0;
    if (c->ending == END_NONE)
        ngtcp2_conn_update_pkt_tx_time(c->quic, ts);
}

void conn_timer(struct conn *c)
{
    if (c->ending != END_NONE || ngtcp2_conn_get_expiry(c->quic) > now())
        return;
    int code = ngtcp2_conn_handle_expiry(c->quic, now());
    if (code)
        broken(c, code);
}

void conn_free(struct conn *c)
{
    ngtcp2_conn_del(c->quic);
    if (c->tls)
        gnutls_deinit(c->tls);
    while (c->streams)
        stream_free(c, c->streams);
    if (c->qlog)
        fclose(c->qlog);
    free(c);
}
