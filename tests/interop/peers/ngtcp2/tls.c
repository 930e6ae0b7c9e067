/* TLS as validators do it: self-signed certificates on both sides, no issuer checked; GnuTLS itself always checks that
 * the peer holds its key. Tickets of a server are stateless, encrypted with a key of this process. */
#include "peer.h"

#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdlib.h>
#include <string.h>

static gnutls_certificate_credentials_t credentials;
static gnutls_priority_t priority;
static gnutls_datum_t ticket_key;
static gnutls_anti_replay_t replay;
static FILE *keylog;

static const struct {
    const char *name, *priority;
    gnutls_cipher_algorithm_t algorithm;
} CIPHERS[] = {
    {"aes128", "+AES-128-GCM", GNUTLS_CIPHER_AES_128_GCM},
    {"aes256", "+AES-256-GCM", GNUTLS_CIPHER_AES_256_GCM},
    {"chacha20", "+CHACHA20-POLY1305", GNUTLS_CIPHER_CHACHA20_POLY1305},
};
#define CIPHERS_LEN (sizeof CIPHERS / sizeof *CIPHERS)

static void must(int code, const char *call)
{
    if (code < 0)
        fail(EX_USAGE, "%s: %s", call, gnutls_strerror(code));
}

/* A test may well replay early data: everything is taken as seen for the first time. */
static int remember(void *ptr, time_t expires, const gnutls_datum_t *key, const gnutls_datum_t *data)
{
    (void)ptr, (void)expires, (void)key, (void)data;
    return 0;
}

void tls_init(const struct options *o)
{
    char text[256] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:%DISABLE_TLS13_COMPAT_MODE:-GROUP-ALL:+GROUP-X25519:"
                     "+GROUP-SECP256R1:+GROUP-SECP384R1";
    for (size_t i = 0; i < CIPHERS_LEN; i++) {
        if (!o->cipher || !strcmp(o->cipher, CIPHERS[i].name)) {
            strcat(text, ":");
            strcat(text, CIPHERS[i].priority);
        }
    }
    must(gnutls_priority_init(&priority, text, NULL), "gnutls_priority_init");
    must(gnutls_certificate_allocate_credentials(&credentials), "gnutls_certificate_allocate_credentials");
    must(gnutls_certificate_set_x509_key_file(credentials, o->cert, o->key, GNUTLS_X509_FMT_PEM), o->cert);
    must(gnutls_session_ticket_key_generate(&ticket_key), "gnutls_session_ticket_key_generate");
    must(gnutls_anti_replay_init(&replay), "gnutls_anti_replay_init");
    gnutls_anti_replay_set_add_function(replay, remember);
    if (o->keylog && !(keylog = fopen(o->keylog, "a")))
        fail(EX_USAGE, "--keylog %s cannot be opened", o->keylog);
}

static int log_secret(gnutls_session_t session, const char *label, const gnutls_datum_t *secret)
{
    gnutls_datum_t client, server;
    gnutls_session_get_random(session, &client, &server);
    fprintf(keylog, "%s ", label);
    for (unsigned i = 0; i < client.size; i++)
        fprintf(keylog, "%02x", client.data[i]);
    fputc(' ', keylog);
    for (unsigned i = 0; i < secret->size; i++)
        fprintf(keylog, "%02x", secret->data[i]);
    fputc('\n', keylog);
    return fflush(keylog);
}

static ngtcp2_conn *conn_of(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct conn *)ref->user_data)->quic;
}

static void begin(struct conn *c, unsigned flags)
{
    must(gnutls_init(&c->tls, flags | GNUTLS_NO_END_OF_EARLY_DATA), "gnutls_init");
    must(gnutls_priority_set(c->tls, priority), "gnutls_priority_set");
    must(gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, credentials), "gnutls_credentials_set");
    gnutls_datum_t alpn = {(unsigned char *)c->options->alpn, (unsigned)strlen(c->options->alpn)};
    must(gnutls_alpn_set_protocols(c->tls, &alpn, 1, GNUTLS_ALPN_MANDATORY), "gnutls_alpn_set_protocols");
    c->ref = (ngtcp2_crypto_conn_ref){conn_of, c};
    gnutls_session_set_ptr(c->tls, &c->ref);
    if (keylog)
        gnutls_session_set_keylog_function(c->tls, log_secret);
    ngtcp2_conn_set_tls_native_handle(c->quic, c->tls);
}

void tls_server(struct conn *c)
{
    begin(c, GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET | (c->options->zero_rtt ? GNUTLS_ENABLE_EARLY_DATA : 0));
    must(ngtcp2_crypto_gnutls_configure_server_session(c->tls), "ngtcp2_crypto_gnutls_configure_server_session");
    must(gnutls_session_ticket_enable_server(c->tls, &ticket_key), "gnutls_session_ticket_enable_server");
    if (c->options->zero_rtt) {
        gnutls_record_set_max_early_data_size(c->tls, 0xffffffffu); /* RFC 9001 4.6.1 */
        gnutls_anti_replay_enable(c->tls, replay);
    }
    gnutls_certificate_server_set_request(c->tls, GNUTLS_CERT_REQUEST);
}

/* A ticket came: what is needed to resume goes to the client's session. */
static int ticket(gnutls_session_t tls, unsigned type, unsigned when, unsigned incoming, const gnutls_datum_t *message)
{
    (void)type, (void)when, (void)incoming, (void)message;
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(tls);
    struct conn *c = ref->user_data;
    gnutls_datum_t data;
    if (gnutls_session_get_data2(tls, &data))
        return 0; /* no session to be had of this one */
    gnutls_free(c->session->data.data);
    c->session->data = data;
    const ngtcp2_transport_params *params = ngtcp2_conn_get_remote_transport_params(c->quic);
    ngtcp2_ssize n = params ? ngtcp2_encode_transport_params(c->session->params, sizeof c->session->params,
                                                             NGTCP2_TRANSPORT_PARAMS_TYPE_ENCRYPTED_EXTENSIONS, params)
                            : 0;
    c->session->params_len = n > 0 ? (size_t)n : 0;
    if (!c->new_session)
        say("session", ", \"conn\": %lu", c->number);
    c->new_session = true;
    return 0;
}

void tls_client(struct conn *c, const struct session *from, bool early)
{
    begin(c, GNUTLS_CLIENT | (early ? GNUTLS_ENABLE_EARLY_DATA : 0));
    must(ngtcp2_crypto_gnutls_configure_client_session(c->tls), "ngtcp2_crypto_gnutls_configure_client_session");
    gnutls_handshake_set_hook_function(c->tls, GNUTLS_HANDSHAKE_NEW_SESSION_TICKET, GNUTLS_HOOK_POST, ticket);
    must(gnutls_server_name_set(c->tls, GNUTLS_NAME_DNS, "localhost", strlen("localhost")), "gnutls_server_name_set");
    if (from->data.data)
        must(gnutls_session_set_data(c->tls, from->data.data, from->data.size), "gnutls_session_set_data");
}

void tls_send_ticket(struct conn *c)
{
    must(gnutls_session_ticket_send(c->tls, 1, 0), "gnutls_session_ticket_send");
}

bool tls_early_accepted(const struct conn *c)
{
    return gnutls_session_get_flags(c->tls) & GNUTLS_SFLAGS_EARLY_DATA;
}

void tls_connected(struct conn *c)
{
    char cipher[16] = "null", certificate[67] = "null", alpn[300] = "null";
    for (size_t i = 0; i < CIPHERS_LEN; i++)
        if (CIPHERS[i].algorithm == gnutls_cipher_get(c->tls))
            snprintf(cipher, sizeof cipher, "\"%s\"", CIPHERS[i].name);
    unsigned chain = 0;
    const gnutls_datum_t *peer = gnutls_certificate_get_peers(c->tls, &chain);
    if (peer && chain) {
        uint8_t digest[32];
        char hex[65];
        gnutls_hash_fast(GNUTLS_DIG_SHA256, peer->data, peer->size, digest);
        sha256_hex(hex, digest);
        snprintf(certificate, sizeof certificate, "\"%s\"", hex);
    }
    gnutls_datum_t chosen;
    if (!gnutls_alpn_get_selected_protocol(c->tls, &chosen))
        quoted(alpn, sizeof alpn, chosen.data, chosen.size);
    say("connected",
        ", \"conn\": %lu, \"resumed\": %s, \"early_data\": %s, \"cipher\": %s, \"version\": %u, \"alpn\": %s, "
        "\"certificate\": %s",
        c->number, gnutls_session_is_resumed(c->tls) ? "true" : "false", tls_early_accepted(c) ? "true" : "false",
        cipher, ngtcp2_conn_get_negotiated_version(c->quic), alpn, certificate);
}
