/* What `afterburner-labio` was asked to do: one flat struct, filled from the command line once, read by every mode.
 *
 * The program is the lab's hands: it generates traffic and measures the floors that the product is compared with. It is
 * written to be driven by Python (one JSON object a line on standard output, errors as one sentence on standard error),
 * enters a namespace and pins itself, and dies with its parent, so that nothing is ever left spinning. */
#ifndef AB_LAB_OPTIONS_H
#define AB_LAB_OPTIONS_H

#include <netinet/in.h>

#include "base.h"

/* ab_lab_options: defaults are in options.c; times in ns, sizes in bytes. */
struct ab_lab_options {
    const char *mode;     /* which mode of main.c */
    const char *netns;    /* name under /run/netns to enter, NULL: stay */
    const char *device;   /* interface of the AF_XDP modes */
    const char *payloads; /* file of payloads, each behind a little-endian u16 length; NULL: `size` bytes of pattern */
    const char *bpf;      /* the product's BPF object, for worker-ping */
    uint8_t smac[6], dmac[6]; /* of the frames that AF_XDP modes build */
    struct sockaddr_in6 from; /* source, IPv4 mapped; sport 0 where the mode does not need one */
    struct sockaddr_in6 to;   /* destination, IPv4 mapped */
    uint64_t duration_ns;     /* 0: until SIGTERM */
    uint64_t warm_ns;         /* ping: this long before samples count */
    uint64_t interval_ns;     /* progress lines, 0: none */
    uint64_t count;           /* stop after so many packets, 0: no bound */
    uint64_t rate;            /* packets a second, 0: as fast as it goes */
    uint32_t size;            /* UDP payload */
    uint32_t flows;           /* source ports to cycle through, from `from`'s upwards */
    uint32_t queue;           /* of the device */
    uint32_t frames;          /* of the packet memory */
    uint32_t frame_size;      /* of the packet memory */
    uint32_t ring;            /* entries of each ring */
    uint32_t batch;           /* packets a system call */
    uint32_t suite;           /* QUIC: enum ab_quic_suite */
    uint32_t pack;            /* QUIC: transactions in one packet at most, 0: as many as fit */
    const char *crypto;       /* QUIC: backend of quic_crypto.h, NULL: auto */
    uint32_t conns;           /* QUIC: connections */
    uint32_t active;          /* QUIC: connections that messages go over, 0: all; the others are kept alive */
    uint32_t window;          /* QUIC: messages sent and not yet acknowledged at most */
    bool server;              /* QUIC: this end is the server */
    bool rx_socket;           /* QUIC: receive through a UDP socket, not AF_XDP */
    bool tx_socket;           /* QUIC: send through a UDP socket, not AF_XDP */
    bool probe;               /* QUIC: messages are probes, `rate` a second, of which the other end takes the latency */
    const char *adopt; /* QUIC: file with a struct ab_quic_adopt: the one connection, shaken hands for by others */
    uint32_t mtu;      /* QUIC: UDP payload */
    int nice;          /* nice value; the product's worker runs at -10 */
    int cpu;           /* to pin to, -1: anywhere */
    bool generic;      /* attach the program in generic mode */
    bool busy_poll;    /* AF_XDP receive: drive the device's poll from the receiving thread */
};

/* ab_lab_options_parse: 0, or AB_EINVAL with a sentence in `err`. */
int ab_lab_options_parse(struct ab_lab_options *o, int argc, char **argv, struct ab_error *err);

/* ab_lab_options_family: AF_INET where both addresses are IPv4 mapped. */
int ab_lab_options_family(const struct ab_lab_options *o);

#endif
