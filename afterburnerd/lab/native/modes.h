/* The modes of `afterburner-labio`. Each runs until its duration, its count or a signal ends it, prints JSON lines on
 * standard output, and returns 0 or a negative error with a sentence in `err`.
 *
 *   bare-ping, bare-pong         round trip over bare AF_XDP                 pingpong.c
 *   socket-ping, socket-pong     the same with spinning UDP sockets          socket.c
 *   worker-ping                  the same initiated by our worker's loop      worker_ping.c
 *   bare-receive                 count what arrives, nothing else            receive.c
 *   xdp-send                     traffic through AF_XDP                      send.c
 *   socket-send, socket-receive  traffic through UDP sockets                 socket.c
 *   engine                       two QUIC engines and no network             engine.c
 *   quic-send, quic-receive      transactions or probes over our QUIC engine quic_load.c
 *   oneway-send, oneway-receive  one-way latency over bare AF_XDP            oneway.c
 *
 * A mode that others wait for prints {"ready":true} when it is. Counting modes print progress every `interval_ns`, and
 * all of them a last line with "final":true. */
#ifndef AB_LAB_MODES_H
#define AB_LAB_MODES_H

#include <signal.h>

#include "options.h"

/* ab_lab_stop: set by SIGINT and SIGTERM; the loops look at it. */
extern volatile sig_atomic_t ab_lab_stop;

typedef int ab_lab_mode(const struct ab_lab_options *o, struct ab_error *err);

ab_lab_mode ab_lab_bare_ping, ab_lab_bare_pong, ab_lab_bare_receive, ab_lab_xdp_send;
ab_lab_mode ab_lab_worker_ping, ab_lab_engine;
ab_lab_mode ab_lab_quic_send, ab_lab_quic_receive;
ab_lab_mode ab_lab_oneway_send, ab_lab_oneway_receive;
ab_lab_mode ab_lab_socket_ping, ab_lab_socket_pong, ab_lab_socket_send, ab_lab_socket_receive;

/* ab_lab_ready tells the parent that whoever waits for this mode may begin. */
static inline void ab_lab_ready(void)
{
    puts("{\"ready\":true}");
    fflush(stdout);
}

/* ab_lab_ping_number: first bytes of a ping. Number and complement add up to the same one's complement sum whatever the
 * number is, so that the UDP checksum of a prebuilt frame stays right. */
struct ab_lab_ping_number {
    uint64_t value;
    uint64_t complement;
};

static inline void ab_lab_ping_number_set(struct ab_lab_ping_number *n, uint64_t value)
{
    n->value = value;
    n->complement = ~value;
}

/* ab_lab_probe: 17 bytes of a probe, as the seeds of this project send them; the rest of a longer message is filler. */
#define AB_LAB_PROBE_MAGIC 0xA5
#define AB_LAB_PROBE_BYTES 17

static inline void ab_lab_probe_set(uint8_t *p, uint64_t now, uint64_t sequence)
{
    p[0] = AB_LAB_PROBE_MAGIC;
    __builtin_memcpy(p + 1, &now, 8);
    __builtin_memcpy(p + 9, &sequence, 8);
}

static inline bool ab_lab_probe_get(const uint8_t *p, uint32_t len, uint64_t *sent, uint64_t *sequence)
{
    if (len < AB_LAB_PROBE_BYTES || p[0] != AB_LAB_PROBE_MAGIC)
        return false;
    __builtin_memcpy(sent, p + 1, 8);
    __builtin_memcpy(sequence, p + 9, 8);
    return true;
}

#define AB_LAB_PING_LOST_NS 50000000 /* an answer that takes longer is lost: no round trip here takes 50 ms */

#endif
