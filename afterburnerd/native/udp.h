/* The socket backend: UDP sockets read in batches with recvmmsg, for machines, devices and users without AF_XDP.
 *
 * Buffers, headers and control messages are allocated once; a receive is one system call for up to AB_UDP_BATCH
 * datagrams. The socket was opened and bound by the supervisor and belongs to one expanded capture rule, or to QUIC.
 *
 * A QUIC socket differs: the kernel hands over what came of one flow in one piece (UDP_GRO, Linux 5.0), which is cut
 * again here, in place, burst by burst; ECN is asked for; it sends (udp_tx.h), never in fragments and without believing
 * ICMP about the MTU (IP_PMTUDISC_PROBE), for QUIC finds that out itself (RFC 9000 14). */
#ifndef AB_UDP_H
#define AB_UDP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base.h"
#include "eth.h"
#include "udp_tx.h"

#define AB_UDP_BATCH 64
#define AB_UDP_BYTES 4096       /* kept whole where the MTU is no longer: a v1 transaction; what is longer is dropped */
#define AB_UDP_UNITS 16         /* QUIC: units of one system call; they stay in the second-level cache */
#define AB_UDP_UNIT 65536       /* QUIC: bytes of a unit, all that GRO puts together */
#define AB_UDP_BUFFER (8 << 20) /* QUIC: bytes asked for in the kernel's queues each way, 5 ms of 10 Gbit/s */

enum ab_udp_use {
    AB_UDP_CAPTURE = 0, /* a capture rule: receives, and replies where the rule says so */
    AB_UDP_QUIC = 1,    /* QUIC packets both ways */
};

struct ab_udp {
    int fd;
    uint16_t port;    /* local port, host order */
    uint8_t addr[16]; /* local address it is bound to, IPv4 mapped; all zero: any */
    struct ab_stats_queue *stats;
    uint8_t *buffers; /* `batch` buffers of `room` bytes */
    uint32_t batch;   /* messages of one system call */
    uint32_t room;    /* bytes of a buffer */
    uint32_t replies; /* messages in `out` */
    bool quic;
    /* Units received and not yet handed out in whole: the burst before this one was full. */
    uint32_t unit, units; /* next one, one behind the last */
    uint32_t cut_at;      /* bytes of the next one that were handed out */
    struct mmsghdr in[AB_UDP_BATCH], out[AB_UDP_BATCH];
    struct iovec in_iov[AB_UDP_BATCH], out_iov[AB_UDP_BATCH];
    struct sockaddr_in6 peers[AB_UDP_BATCH];                  /* room for either family */
    _Alignas(struct cmsghdr) char control[AB_UDP_BATCH][128]; /* destination address, TOS, segment of each datagram */
    struct ab_udp_tx tx;                                      /* QUIC: what is sent */
};

/* ab_udp_open owns `fd` from then on, also when it fails. `mtu` of the interface: datagrams that fit it are taken whole
 * and may be sent (udp_tx.h says up to where); 0: a usual one. */
int ab_udp_open(struct ab_udp *u, int fd, enum ab_udp_use use, uint32_t mtu, struct ab_stats_queue *stats,
                uint32_t number, struct ab_error *err);
void ab_udp_close(struct ab_udp *u);

/* ab_udp_bytes: memory of the buffers, both ways. */
static inline uint64_t ab_udp_bytes(const struct ab_udp *u)
{
    return (uint64_t)u->batch * u->room + (u->quic ? (uint64_t)AB_UDP_TX_BUFFERS * u->tx.room : 0);
}

/* ab_udp_rx receives up to `max` datagrams; they are valid until the next call. `cut` counts those that were longer
 * than a buffer. */
uint32_t ab_udp_rx(struct ab_udp *u, struct ab_dgram *out, uint32_t max, uint32_t *cut);

/* ab_udp_reply sends a received datagram back to its sender with ab_udp_flush. */
void ab_udp_reply(struct ab_udp *u, const struct ab_dgram *d);
void ab_udp_flush(struct ab_udp *u);

#endif
