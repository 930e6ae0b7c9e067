/* Frames: reading UDP out of Ethernet, VLAN, IPv4 and IPv6, turning one
 * round, and writing one around a payload.
 *
 * XDP has classified a frame before it comes here, yet everything is checked again: the rules may have changed on the
 * way, other programs may redirect into our socket, and a length believed without a look is how a validator was once
 * crashed from afar. Reads never go beyond `len`. */
#ifndef AB_ETH_H
#define AB_ETH_H

#include "base.h"
#include "path.h"

#define AB_ETH_VERIFY_UDP 1u /* verify the UDP checksum (IPv4: unless it is 0, RFC 768; IPv6: always, RFC 8200 8.1) */

/* ab_dgram: one UDP datagram, however it came. */
struct ab_dgram {
    uint8_t *data;      /* payload, in place */
    uint32_t len;       /* bytes of payload */
    uint32_t frame_len; /* bytes of the whole frame, 0 on the socket backend */
    uint8_t *frame;     /* first byte of the frame, NULL on the socket backend */
    uint64_t addr;      /* address in the packet memory (AF_XDP) or index of the buffer (sockets) */
    uint64_t stamp_ns;  /* CLOCK_MONOTONIC when XDP saw it, 0: unknown */
    uint8_t src[16];    /* source address, IPv4 mapped into IPv6, network order */
    uint8_t dst[16];    /* destination address */
    uint16_t sport;     /* source port, host order */
    uint16_t dport;     /* destination port */
    uint16_t vlan[2];   /* outer and inner VLAN ID, 0: none */
    uint8_t family;     /* 4 or 6 */
    uint8_t tos;        /* DSCP and ECN */
    uint8_t scratch;    /* 1: put together in a buffer of ours, cannot be sent back in place */
    uint8_t pad;
};

/* ab_eth_parse fills `d` from the frame; 0, or the enum ab_drop that says why not. */
int ab_eth_parse(struct ab_dgram *d, uint8_t *frame, uint32_t len, unsigned flags);

/* ab_eth_reverse swaps MAC addresses, IP addresses and ports of a parsed frame in place. Checksums stay right: each is
 * a sum over both ends. */
void ab_eth_reverse(struct ab_dgram *d);

/* ab_eth_build writes Ethernet, VLAN tags, IP and UDP in front of `len` bytes of payload, which needs AB_PATH_ROOM
 * bytes before it, and returns the first byte of the frame: ab_path_headers(p) before the payload. Checksums are always
 * there: an AF_XDP frame has no offload, a router may drop IPv6 without one (RFC 8200 8.1), and over IPv4 it is the
 * only thing that tells a port number broken on the way. Does not fragment: QUIC forbids it (RFC 9000 14). `ecn` is the
 * codepoint of this datagram alone (RFC 3168 5), beside the path's DSCP. */
uint8_t *ab_eth_build(const struct ab_path *p, uint8_t *payload, uint32_t len, uint8_t ecn);

/* ab_eth_sum: ones' complement sum of `len` bytes added to `sum`, not folded (RFC 1071). */
uint64_t ab_eth_sum(const uint8_t *data, uint32_t len, uint64_t sum);

static inline uint16_t ab_eth_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static inline uint16_t ab_load16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void ab_store16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

#endif
