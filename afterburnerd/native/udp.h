/* The socket backend: UDP sockets read in batches with recvmmsg, for machines, devices and users without AF_XDP.
 *
 * Buffers, headers and control messages are allocated once; a receive is one system call for up to AB_UDP_BATCH
 * datagrams. The socket was opened and bound by the supervisor and belongs to one expanded capture rule. */
#ifndef AB_UDP_H
#define AB_UDP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base.h"
#include "eth.h"

#define AB_UDP_BATCH 64
#define AB_UDP_BYTES 4096 /* longest datagram kept whole: a v1 transaction; longer ones are cut and dropped */

struct ab_udp {
    int fd;
    uint16_t port;    /* local port, host order */
    uint8_t addr[16]; /* local address it is bound to, IPv4 mapped; all zero: any */
    struct ab_stats_queue *stats;
    uint8_t *buffers; /* AB_UDP_BATCH buffers */
    uint32_t replies; /* messages in `out` */
    struct mmsghdr in[AB_UDP_BATCH], out[AB_UDP_BATCH];
    struct iovec in_iov[AB_UDP_BATCH], out_iov[AB_UDP_BATCH];
    struct sockaddr_in6 peers[AB_UDP_BATCH];                  /* room for either family */
    _Alignas(struct cmsghdr) char control[AB_UDP_BATCH][128]; /* destination address of each datagram */
};

int ab_udp_open(struct ab_udp *u, int fd, struct ab_stats_queue *stats, uint32_t number, struct ab_error *err);
void ab_udp_close(struct ab_udp *u);

/* ab_udp_rx receives up to `max` datagrams; they are valid until the next call. `cut` counts those that were longer
 * than a buffer. */
uint32_t ab_udp_rx(struct ab_udp *u, struct ab_dgram *out, uint32_t max, uint32_t *cut);

/* ab_udp_reply sends a received datagram back to its sender with ab_udp_flush. */
void ab_udp_reply(struct ab_udp *u, const struct ab_dgram *d);
void ab_udp_flush(struct ab_udp *u);

#endif
