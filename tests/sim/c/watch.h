/* watch.h - somebody on the wire who has the keys: reads every datagram as it leaves its sender.
 *
 * Written from the RFCs on libcrypto alone, sharing no code with the engine, so that an error in ours does not hide
 * itself. For each packet: the header is what RFC 9000 17.3.1 says; the packet number is higher than every one before
 * it, in any key generation, so no (key, number) pair exists twice; the tag is right; the frames can be read to the
 * last byte. What was seen is counted by frame type, so that a test can say that a scenario was not idle. */
#ifndef SIM_WATCH_H
#define SIM_WATCH_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

enum { WATCH_KINDS = 0x40 };

/* watch_key: one generation of one direction. */
struct watch_key {
    uint8_t secret[48], key[32], iv[12];
    EVP_CIPHER_CTX *ctx;
};

struct watch {
    uint8_t suite, cid_len;
    uint8_t hp[32];
    EVP_CIPHER_CTX *hp_ctx;
    struct watch_key now, next;
    uint64_t generation, least;  /* of the next packet number */
    uint64_t kinds[WATCH_KINDS]; /* frames by type */
    uint64_t packets, bytes;
    bool closing; /* a CONNECTION_CLOSE has left */
    uint64_t close_code, close_frame;
    bool close_app;
    uint64_t skipped;           /* packet numbers that were left out */
    uint32_t streams_in_packet; /* STREAM frames of the last packet */
};

void watch_init(struct watch *w);
void watch_start(struct watch *w, uint8_t suite, const uint8_t *secret, uint8_t cid_len, uint64_t first);
void watch_fini(struct watch *w);
/* watch_packet: a datagram as it leaves; `plain` (room for len bytes) receives the frames, the result is their length.
 */
uint32_t watch_packet(struct watch *w, const uint8_t *data, uint32_t len, uint8_t *plain);
/* watch_seal: the opposite, for who wants to send as this sender: frames into a packet at `out`; its length. */
uint32_t watch_seal(struct watch *w, const uint8_t *cid, uint64_t number, uint8_t bits, const uint8_t *plain,
                    uint32_t len, uint8_t *out);
/* watch_update: this sender's next generation of keys. */
void watch_update(struct watch *w);
uint64_t watch_varint(const uint8_t **p, const uint8_t *end);
/* watch_frame: type of the frame at *p, which is moved behind it. */
uint64_t watch_frame(const uint8_t **p, const uint8_t *end);

#endif
