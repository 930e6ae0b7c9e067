/* Frames for the AF_XDP modes: written whole, once, before the loop, so that a loop only moves descriptors.
 *
 * Everything that a receiver checks is right: lengths, the IPv4 header checksum, the UDP checksum. */
#ifndef AB_LAB_FRAME_H
#define AB_LAB_FRAME_H

#include "options.h"

/* ab_lab_payloads: what the frames carry, in turns. */
struct ab_lab_payloads {
    uint8_t *bytes;    /* all of them, one behind the other */
    uint32_t *offsets; /* `count` + 1 of them */
    uint32_t count;
    uint32_t largest; /* bytes of the longest */
};

/* ab_lab_payloads_load reads `o->payloads`, or makes one pattern of `o->size` bytes. */
int ab_lab_payloads_load(struct ab_lab_payloads *p, const struct ab_lab_options *o, struct ab_error *err);
void ab_lab_payloads_free(struct ab_lab_payloads *p);

/* ab_lab_frame_build writes frame number `n` (which chooses payload and source port) into `room`; its length. */
uint32_t ab_lab_frame_build(uint8_t *room, const struct ab_lab_options *o, const struct ab_lab_payloads *p, uint32_t n);

/* ab_lab_frame_header: bytes in front of the payload. */
uint32_t ab_lab_frame_header(const struct ab_lab_options *o);

/* ab_lab_frame_reply turns a frame around in place: MAC addresses, IP addresses, ports. Checksums stay right, because
 * a sum does not care for order. False when it is not a UDP frame without options. */
bool ab_lab_frame_reply(uint8_t *frame, uint32_t len);

/* ab_lab_frame_is_udp_to: is it a UDP frame to this port? (the program of the bare modes redirects everything) */
bool ab_lab_frame_is_udp_to(const uint8_t *frame, uint32_t len, uint16_t port_be);

#endif
