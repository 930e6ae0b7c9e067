/* Paths: where the datagrams of a connection go and what is written in front of them.
 *
 * A struct ab_path (abi.h) is all that sending takes: both addresses, the MAC addresses and VLAN tags of the next hop,
 * DSCP, TTL, and which of the worker's sinks it leaves through. The supervisor fills it from the kernel's routes and
 * neighbours, and sends a new one when they change; the engine carries it and looks at addresses and MTU alone. */
#ifndef AB_PATH_H
#define AB_PATH_H

#include "base.h"

#define AB_PATH_TTL 64   /* of a path that names none (RFC 1700: what hosts send) */
#define AB_PATH_ROOM 128 /* in front of a payload: 14 + 2 * 4 + 40 + 8 bytes, and payloads begin on a cache line */

/* ab_path_headers: bytes that ab_eth_build writes in front of a payload. */
static inline uint32_t ab_path_headers(const struct ab_path *p)
{
    return 14 + (p->vlan_outer ? 4 : 0) + (p->vlan_outer && p->vlan_inner ? 4 : 0) + (p->family == 4 ? 28 : 48);
}

#endif
