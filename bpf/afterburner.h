/* Generated from afterburnerd/abi/schema.py by `python -m afterburnerd.abi.generate`; do not edit.
 *
 * What the BPF program and the C helper share: map keys and values, reasons, limits. The includer provides
 * __u8 ... __u64 (linux/types.h). */
#ifndef AFTERBURNER_H
#define AFTERBURNER_H

#define AB_CID_LEN 8 /* length of every connection ID that we mint: fixed, or XDP could not find them */
#define AB_MAX_QUEUES 64 /* receive queues of one interface that can be served */
#define AB_MAX_RULES 64 /* capture rules of one configuration */
#define AB_STAMP_MAGIC 0x41425453544d5031ULL /* second word of the metadata that XDP puts in front of a frame */
#define AB_XDP_STAMP 1 /* settings flag: put struct ab_xdp_meta in front of captured frames */
#define AB_PORT_LISTEN 1 /* port flag: we accept connections here, so Initials go through the buckets */

/* what the XDP program did with a frame, and why; one pair of counters each; the first word is the verdict */
enum ab_xdp_reason {
    AB_XDP_PASS_BUSY = 0, /* passed: came while another frame was being classified (PREEMPT_RT) */
    AB_XDP_PASS_NOT_IP = 1, /* passed: neither IPv4 nor IPv6 */
    AB_XDP_PASS_MULTICAST = 2, /* passed: sent to a multicast or broadcast MAC address */
    AB_XDP_PASS_OTHER_HOST = 3, /* passed: sent to another MAC address than the interface's */
    AB_XDP_PASS_VLAN_DEPTH = 4, /* passed: more than two VLAN tags */
    AB_XDP_PASS_TRUNCATED = 5, /* passed: ends inside a header */
    AB_XDP_PASS_NONLINEAR = 6, /* passed: headers reach behind the first buffer of a multi-buffer frame */
    AB_XDP_PASS_IP_VERSION = 7, /* passed: IP version does not agree with the EtherType */
    AB_XDP_PASS_NOT_UDP = 8, /* passed: not UDP */
    AB_XDP_PASS_IPV4_IHL = 9, /* passed: IPv4 header length below 20 bytes */
    AB_XDP_PASS_IPV4_OPTIONS = 10, /* passed: IPv4 with options */
    AB_XDP_PASS_FRAGMENT = 11, /* passed: IPv4 fragment, or its reserved bit set */
    AB_XDP_PASS_IP_LENGTH = 12, /* passed: IP length below its header, or beyond the frame */
    AB_XDP_PASS_IPV6_EXTENSION = 13, /* passed: IPv6 extension header */
    AB_XDP_PASS_IPV6_MAPPED = 14, /* passed: IPv4-mapped address in an IPv6 header */
    AB_XDP_PASS_UDP_SHORT = 15, /* passed: UDP length below its header */
    AB_XDP_PASS_UDP_LENGTH = 16, /* passed: UDP length does not agree with the IP length */
    AB_XDP_PASS_NOT_OURS = 17, /* passed: address, port and VLANs are not in the table */
    AB_XDP_PASS_LONG = 18, /* passed to the supervisor: QUIC long header that needs no budget */
    AB_XDP_PASS_INITIAL = 19, /* passed to the supervisor: QUIC Initial, 0-RTT or foreign version, within budget */
    AB_XDP_PASS_SHORT_UNKNOWN = 20, /* passed to the supervisor: QUIC short header without a known connection ID */
    AB_XDP_REDIRECT_CID = 21, /* redirected: QUIC short header with a known connection ID */
    AB_XDP_REDIRECT_CAPTURE = 22, /* redirected: capture rule */
    AB_XDP_DROP_WORKER_DOWN = 23, /* dropped: for the data plane, but its queue has no socket */
    AB_XDP_DROP_INITIAL_SOURCE = 24, /* dropped: QUIC Initial over the budget of its source */
    AB_XDP_DROP_INITIAL_GLOBAL = 25, /* dropped: QUIC Initial over the global budget */
    AB_XDP_DROP_SHORT_GLOBAL = 26, /* dropped: unknown QUIC short header over the global budget */
    AB_XDP_END = 27,
};

/* the global token buckets */
enum ab_gbucket {
    AB_GBUCKET_INITIAL = 0, /* Initial, 0-RTT and foreign versions on listening ports */
    AB_GBUCKET_SHORT = 1, /* short headers without a known connection ID */
    AB_GBUCKET_END = 2,
};

/* what a local address and port is used for */
enum ab_port_kind {
    AB_PORT_KIND_NONE = 0, /* not ours */
    AB_PORT_KIND_QUIC = 1, /* QUIC: long and short headers part ways */
    AB_PORT_KIND_CAPTURE = 2, /* capture rule: everything to the data plane */
    AB_PORT_KIND_END = 3,
};

/* a rate and a burst, as the XDP program counts them; all zero: no limit */
struct ab_xdp_budget {
    __u64 interval_ns; /* what one packet costs: 1e9 / rate */
    __u64 window_ns; /* how far ahead of now the costs may run: burst * interval_ns */
};
_Static_assert(sizeof(struct ab_xdp_budget) == 16, "struct ab_xdp_budget changed size");

/* what the supervisor tells the XDP program (map `settings`, one element); an update is not seen as one */
struct ab_xdp_settings {
    __u8 mac[6]; /* address of the interface: frames to any other pass */
    __u16 flags; /* XDP_STAMP */
    struct ab_xdp_budget initial_global; /* Initial, 0-RTT and foreign versions on listening ports, all sources */
    struct ab_xdp_budget initial_source; /* the same, for each IPv4 address or IPv6 /64 */
    struct ab_xdp_budget short_global; /* short headers without a known connection ID */
};
_Static_assert(sizeof(struct ab_xdp_settings) == 56, "struct ab_xdp_settings changed size");

/* a local address and port, as it stands in the packet (map `ports`) */
struct ab_port_key {
    __u8 addr[16]; /* local address, IPv4 mapped */
    __u8 port[2]; /* local port, network order */
    __u16 vlan_outer; /* outer VLAN ID, 0: untagged (a priority tag, VID 0, counts as none) */
    __u16 vlan_inner; /* inner VLAN ID, 0: none */
    __u16 pad; /* zero */
};
_Static_assert(sizeof(struct ab_port_key) == 24, "struct ab_port_key changed size");

/* what is done with packets to a local address and port (map `ports`) */
struct ab_port {
    __u8 kind; /* enum port_kind */
    __u8 flags; /* PORT_LISTEN */
    __u16 rule; /* index of the capture rule */
};
_Static_assert(sizeof(struct ab_port) == 4, "struct ab_port changed size");

/* who owns a connection ID (map `cids`; its key is the connection ID itself) */
struct ab_cid {
    __u16 worker; /* worker that has the connection */
    __u16 queue; /* receive queue that the connection was adopted on */
    __u32 flags; /* zero; the XDP program redirects whatever stands here */
};
_Static_assert(sizeof(struct ab_cid) == 8, "struct ab_cid changed size");

/* a remote and a local address and port (map `flows`) */
struct ab_flow_key {
    __u8 src[16]; /* remote address, IPv4 mapped */
    __u8 dst[16]; /* local address, IPv4 mapped */
    __u8 sport[2]; /* remote port, network order */
    __u8 dport[2]; /* local port, network order */
    __u32 pad; /* zero */
};
_Static_assert(sizeof(struct ab_flow_key) == 40, "struct ab_flow_key changed size");

/* where the latest long-header packet of a flow came in (map `flows`) */
struct ab_flow {
    __u32 rx_queue; /* receive queue */
    __u32 pad; /* zero */
    __u64 seen_ns; /* CLOCK_MONOTONIC */
};
_Static_assert(sizeof(struct ab_flow) == 16, "struct ab_flow changed size");

/* a source, for budgets (map `buckets`) */
struct ab_bucket_key {
    __u8 prefix[16]; /* IPv4 address, mapped; or the /64 of an IPv6 address, the rest zero */
};
_Static_assert(sizeof(struct ab_bucket_key) == 16, "struct ab_bucket_key changed size");

/* a token bucket in one word (maps `buckets` and `gbuckets`) */
struct ab_bucket {
    __u64 full_ns; /* CLOCK_MONOTONIC at which it will be full again */
};
_Static_assert(sizeof(struct ab_bucket) == 8, "struct ab_bucket changed size");

/* frames that one processor counted for one reason (map `counters`) */
struct ab_xdp_count {
    __u64 packets; /* frames */
    __u64 octets; /* their bytes, Ethernet header included */
};
_Static_assert(sizeof(struct ab_xdp_count) == 16, "struct ab_xdp_count changed size");

/* what stands in front of a captured frame where XDP_STAMP is set */
struct ab_xdp_meta {
    __u64 ktime_ns; /* CLOCK_MONOTONIC */
    __u64 magic; /* STAMP_MAGIC */
};
_Static_assert(sizeof(struct ab_xdp_meta) == 16, "struct ab_xdp_meta changed size");

#endif
