/* The peer around ngtcp2 with GnuTLS, over Debian's packages. Contract: ../README.md.
 *
 *   main.c     the loop: one socket, one poll, datagrams to connections, timers
 *   server.c   new connections: version negotiation, Retry, tokens
 *   client.c   what a client was asked for, from the first flight to the close
 *   conn.c     one connection of either role: callbacks of ngtcp2, streams, writing, closing
 *   tls.c      GnuTLS: certificates, tickets, early data, key log
 *   options.c  the command line            say.c  JSON lines, payload, SHA-256
 *
 * One thread. A connection owns its streams; a stream's bytes live until the peer has acknowledged them.
 */
#ifndef PEER_H
#define PEER_H

#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#define EX_INCOMPLETE 1
#define EX_USAGE 64
#define EX_UNREACHABLE 69
#define CID_LEN 8
#define QUIC_V1 1
#define RESERVED_VERSION 0x1a2a3a4a /* RFC 9000 15: 0x?a?a?a?a exist to be refused */
#define DATAGRAM_MAX 1452           /* bytes of UDP payload that we send: an Ethernet's worth over IPv6 */
#define CONNECTION_WINDOW (8 << 20) /* bytes: what Agave grants */
#define STREAM_WINDOW (1 << 20)     /* bytes */
#define MS ((ngtcp2_tstamp)NGTCP2_MILLISECONDS)

struct options {
    bool server, quiet, retry, zero_rtt, echo, bidi, version_negotiation, wait;
    struct sockaddr_storage address; /* to listen on or to connect to */
    struct sockaddr_storage bind;    /* ss_family 0: any */
    char host[64];                   /* of `address`: the server name of a client */
    const char *cert, *key, *alpn, *cipher, *keylog, *qlog, *resume;
    uint64_t max_uni, max_bidi, push, push_size, close_code, streams, size, expect, datagrams, count;
    int64_t key_update_after, close_after, rebind_after; /* streams; -1: never */
    uint64_t idle, interval, hold, timeout;              /* milliseconds */
};

struct sums {
    uint64_t streams, bytes, datagrams, acked;
};

/* A stream of ours or of the peer's, or both halves of one. */
struct stream {
    struct stream *next;
    int64_t id;
    uint8_t *data; /* to be sent; kept until the stream is closed */
    size_t size, sent;
    bool sends, fin_sent, blocked;
    gnutls_hash_hd_t hash; /* of what is received */
    uint64_t received;     /* bytes */
    uint8_t *kept;         /* what is received, where it is to be sent back */
    bool whole;            /* FIN received */
};

/* What a client needs to resume: a session of GnuTLS and the transport parameters that went with it. */
struct session {
    gnutls_datum_t data;
    uint8_t params[512];
    size_t params_len; /* bytes; 0: none */
};

enum ending { END_NONE, END_PEER, END_LOCAL, END_IDLE, END_RESET, END_VERSION };

struct conn {
    struct conn *next;
    const struct options *options;
    struct sums *sums;
    ngtcp2_conn *quic;
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref;
    uint64_t number;
    int *socket;         /* of the loop; a client may change it */
    ngtcp2_cid original; /* the first destination ID of the client: packets may still carry it */
    struct stream *streams;
    uint64_t received, acked; /* streams, whole */
    uint64_t opened;          /* streams of ours */
    uint64_t sent_datagrams, wanted_datagrams;
    bool connected, confirmed, rejected, updated, new_session, reset;
    enum ending ending;
    ngtcp2_connection_close_error error; /* why we close */
    uint8_t farewell[DATAGRAM_MAX];      /* CONNECTION_CLOSE: sent again to whoever goes on */
    size_t farewell_len;
    ngtcp2_tstamp gone; /* when a closed connection is forgotten; 0: open */
    FILE *qlog;
    struct session *session; /* client: where a new ticket goes */
};

/* say.c */
extern void say(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void say_summary(const struct sums *sums);
extern char *quoted(char *out, size_t room, const uint8_t *text, size_t len); /* JSON string, cut to `room` */
extern uint8_t *payload(uint64_t index, size_t size);                         /* on the heap */
extern void sha256_hex(char out[65], const uint8_t digest[32]);
extern void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* options.c: exits with 64 on what it does not understand, and with 0 after `features`. */
extern void options_parse(struct options *o, int argc, char **argv);

/* tls.c */
extern void tls_init(const struct options *o);
extern void tls_server(struct conn *c);
extern void tls_client(struct conn *c, const struct session *from, bool early);
extern void tls_connected(struct conn *c); /* says `connected` */
extern void tls_send_ticket(struct conn *c);
extern bool tls_early_accepted(const struct conn *c);

/* conn.c */
extern ngtcp2_tstamp now(void);
extern const ngtcp2_callbacks conn_callbacks;
extern void conn_settings(const struct conn *c, ngtcp2_settings *s, ngtcp2_transport_params *p);
extern void conn_random(uint8_t *data, size_t len);
extern bool conn_open(struct conn *c, bool bidi, uint8_t *data, size_t size); /* false: no credit; else owns `data` */
extern void conn_update_key(struct conn *c);
extern void conn_read(struct conn *c, const ngtcp2_path *path, const uint8_t *data, size_t len);
extern void conn_write(struct conn *c);
extern void conn_timer(struct conn *c);
extern void conn_close(struct conn *c, uint64_t code, const char *reason);
extern void conn_free(struct conn *c);
extern bool conn_owns(struct conn *c, const uint8_t *cid, size_t len);
static inline bool conn_open_still(const struct conn *c)
{
    return c->ending == END_NONE;
}

/* server.c */
extern struct conn *server_accept(const struct options *o, struct sums *sums, int *socket, const ngtcp2_path *path,
                                  const uint8_t *data, size_t len, uint64_t number);
extern void server_turn(struct conn *c); /* what a server owes a connection: streams to push, an end */

/* client.c: one step; the exit code once the last connection is over, -1 before. `*conn` is the current one. */
extern int client_turn(const struct options *o, struct sums *sums, int *socket, struct conn **conn,
                       ngtcp2_tstamp *wake);

extern void client_go(void); /* SIGUSR2: what was sent has been taken */

/* main.c */
extern int open_socket(const struct sockaddr_storage *address);
extern socklen_t address_len(const struct sockaddr_storage *address);
extern uint16_t socket_port(int socket);
extern void local_address(int socket, struct sockaddr_storage *address, ngtcp2_addr *out);

#endif
