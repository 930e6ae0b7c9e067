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
#define AB_XDP_STAMP 1 /* settings flag: put struct ab_xdp_meta in front of redirected frames */
#define AB_PORT_LISTEN 1 /* port flag: we accept connections here, so Initials go through the buckets */

/* what the XDP program did with a frame, and why; one pair of counters each */
enum ab_xdp_reason {
    AB_XDP_PASS_NOT_IP = 0, /* passed: neither IPv4 nor IPv6 */
    AB_XDP_PASS_NOT_UDP = 1, /* passed: not UDP */
    AB_XDP_PASS_NOT_OURS = 2, /* passed: address and port are not in the table */
    AB_XDP_END = 3,
};

/* what a local address and port is used for */
enum ab_port_kind {
    AB_PORT_KIND_NONE = 0, /* not ours */
    AB_PORT_KIND_QUIC = 1, /* QUIC: long and short headers part ways */
    AB_PORT_KIND_CAPTURE = 2, /* capture rule: everything to the data plane */
    AB_PORT_KIND_END = 3,
};

#endif
