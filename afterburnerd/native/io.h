/* One source and sink of datagrams, whatever stands behind it: an AF_XDP queue or a UDP socket.
 *
 *   rx_burst --> array of struct ab_dgram --> worker looks at them in place --> release, or reply
 *
 * The two backends differ in what they own, not in what they say: with AF_XDP a datagram is a frame of the packet
 * memory that goes back to the kernel on release; with sockets it is a buffer that the next burst overwrites. */
#ifndef AB_IO_H
#define AB_IO_H

#include "base.h"
#include "eth.h"
#include "udp.h"
#include "xsk.h"

enum ab_io_kind {
    AB_IO_NONE = 0,
    AB_IO_XSK = 1,
    AB_IO_UDP = 2,
};

struct ab_io {
    enum ab_io_kind kind;
    unsigned parse_flags; /* AB_ETH_* */
    uint64_t *drops;      /* AB_DROP_END counters in the statistics segment, by reason */
    /* A frame that spans several descriptors and is being put together; its parts may come in different bursts. */
    uint64_t jumbo_stamp; /* its time stamp, which stands in front of its first part */
    uint32_t jumbo_len;   /* bytes of it so far */
    uint32_t jumbo_slot;  /* scratch buffer it goes into */
    bool jumbo_open;      /* there is one: the next descriptor belongs to it */
    bool jumbo_lost;      /* it is too long: wait for its end and drop it */
    union {
        struct ab_xsk xsk;
        struct ab_udp udp;
    };
};

/* ab_io_rx receives up to `max` datagrams and returns how many. Frames that are not datagrams are dropped by reason. */
uint32_t ab_io_rx(struct ab_io *io, struct ab_dgram *out, uint32_t max);

/* ab_io_release gives back datagrams of the latest burst that were not sent back. */
void ab_io_release(struct ab_io *io, struct ab_dgram *d, uint32_t count);

/* ab_io_reply sends a datagram back to where it came from, in place; it is released with that. */
void ab_io_reply(struct ab_io *io, struct ab_dgram *d);

/* ab_txbuf: room for one datagram's payload. */
struct ab_txbuf {
    uint8_t *data;
    uint32_t room; /* bytes */
    uint64_t addr; /* where `data` lies in packet memory (AF_XDP), or the buffer's number (sockets; multi-buffer) */
};

/* ab_io_tx_reserve takes up to `count` buffers for sending and returns how many there were: none where the kernel is
 * behind with what it has. They stay the caller's, over any number of turns, until each is given to ab_io_tx_send or,
 * in any order, to ab_io_tx_cancel. With AF_XDP they are frames of the half of the packet memory that is for sending,
 * so that sending never starves receiving; where a packet may be longer than one (multi-buffer), several frames stand
 * by for each buffer, which is then a place of its own. */
uint32_t ab_io_tx_reserve(struct ab_io *io, struct ab_txbuf *out, uint32_t count);
void ab_io_tx_cancel(struct ab_io *io, const struct ab_txbuf *buffers, uint32_t count);

/* ab_io_tx_send sends `len` bytes that were written to a buffer along `path`, with the ECN codepoint `ecn`; they leave
 * with ab_io_flush. */
void ab_io_tx_send(struct ab_io *io, const struct ab_path *path, const struct ab_txbuf *buffer, uint32_t len,
                   uint8_t ecn);

/* ab_io_flush ends a burst: refills, kicks, checks that the frames add up. */
void ab_io_flush(struct ab_io *io, uint32_t moved);

/* ab_io_levels writes the gauges that cost cache misses. */
void ab_io_levels(struct ab_io *io);

int ab_io_fd(const struct ab_io *io);
void ab_io_close(struct ab_io *io);

#endif
