/* libFuzzer target of the frame reader (afterburnerd/native/eth.h).
 *
 * First byte: 1 mend the IPv4 header checksum, 2 mend the UDP checksum (no fuzzer guesses those); the rest is the
 * frame. What is read must lie inside the frame and be what stands there; a frame turned round must be readable, with
 * its ends exchanged, and twice turned round be what it was. Whether a frame is one for us to read, by the RFCs, is the
 * business of tests/native/test_eth.py. */
#include "eth.h"

#include "fuzz.h"

/* sum: RFC 1071 as it is written there, two bytes at a time; the check of the faster one. */
static uint32_t sum(const uint8_t *p, uint32_t len, uint32_t start)
{
    for (uint32_t i = 0; i < len; i++)
        start += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (start >> 16)
        start = (start & 0xffff) + (start >> 16);
    return start;
}

/* ip_at: where the IP header begins, or 0. */
static uint32_t ip_at(const uint8_t *p, uint32_t len)
{
    uint32_t at = 14;

    while (at + 20 <= len && at < 22 && (ab_load16(p + at - 2) == 0x8100 || ab_load16(p + at - 2) == 0x88a8))
        at += 4;
    return at + 20 <= len ? at : 0;
}

static uint32_t udp_sum(const uint8_t *udp, uint32_t len, const uint8_t *addresses, uint32_t bytes)
{
    return sum(udp, len, sum(addresses, bytes, 17 + len));
}

static void mend(uint8_t *p, uint32_t len, unsigned what)
{
    uint32_t at = ip_at(p, len), udp, bytes;
    const uint8_t *addresses;

    if (!at)
        return;
    if (what & 1 && p[at] == 0x45) {
        memset(p + at + 10, 0, 2);
        ab_store16(p + at + 10, (uint16_t)~sum(p + at, 20, 0));
    }
    if (!(what & 2))
        return;
    udp = at + (p[at] >> 4 == 6 ? 40 : 20);
    addresses = p + at + (p[at] >> 4 == 6 ? 8 : 12);
    bytes = p[at] >> 4 == 6 ? 32 : 8;
    if (udp + 8 > len || udp + ab_load16(p + udp + 4) > len || ab_load16(p + udp + 4) < 8)
        return;
    memset(p + udp + 6, 0, 2);
    ab_store16(p + udp + 6, (uint16_t)~udp_sum(p + udp, ab_load16(p + udp + 4), addresses, bytes));
}

static void check(const struct ab_dgram *d, const uint8_t *p, uint32_t len, unsigned flags)
{
    uint32_t at = ip_at(p, len), bytes = d->family == 4 ? 4 : 16;
    const uint8_t *udp = d->data - 8, *addresses = udp - 2 * bytes;

    MUST(at && (d->family == 4 || d->family == 6));
    MUST(d->frame == p && d->frame_len == len);
    MUST(udp == p + at + (d->family == 4 ? 20 : 40));
    MUST(d->data + d->len <= p + len && d->len + 8 == ab_load16(udp + 4));
    MUST(d->sport == ab_load16(udp) && d->dport == ab_load16(udp + 2));
    MUST(memcmp(d->src + 16 - bytes, addresses, bytes) == 0 &&
         memcmp(d->dst + 16 - bytes, addresses + bytes, bytes) == 0);
    if (d->family == 4) {
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

        MUST(memcmp(d->src, mapped, 12) == 0 && memcmp(d->dst, mapped, 12) == 0);
        MUST(sum(p + at, 20, 0) == 0xffff && p[at] == 0x45 && d->tos == p[at + 1]);
    }
    MUST(d->vlan[0] < 4096 && d->vlan[1] < 4096 && (d->vlan[0] || !d->vlan[1]));
    MUST(at > 14 || d->vlan[0] == 0);
    if (flags & AB_ETH_VERIFY_UDP)
        MUST((d->family == 4 && ab_load16(udp + 6) == 0) || udp_sum(udp, d->len + 8, addresses, 2 * bytes) == 0xffff);
}

static void check_reverse(struct ab_dgram *d, uint8_t *p, uint32_t len, unsigned flags)
{
    struct ab_dgram back, was = *d;
    uint8_t *before = exact(p, len);

    ab_eth_reverse(d);
    MUST(memcmp(p, before + 6, 6) == 0 && memcmp(p + 6, before, 6) == 0);
    memset(&back, 0x5a, sizeof(back));
    MUST(ab_eth_parse(&back, p, len, flags) == AB_DROP_NONE);
    check(&back, p, len, flags);
    MUST(back.data == was.data && back.len == was.len && memcmp(back.data, before + (was.data - p), was.len) == 0);
    MUST(back.sport == was.dport && back.dport == was.sport && back.vlan[0] == was.vlan[0]);
    MUST(memcmp(back.src, was.dst, 16) == 0 && memcmp(back.dst, was.src, 16) == 0 && back.vlan[1] == was.vlan[1]);
    MUST(d->sport == back.sport && d->dport == back.dport && memcmp(d->src, back.src, 32) == 0);
    ab_eth_reverse(d);
    MUST(memcmp(p, before, len) == 0);
    MUST(d->sport == was.sport && d->dport == was.dport && memcmp(d->src, was.src, 32) == 0);
    free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t len = size ? (uint32_t)size - 1 : 0, whole;
    uint8_t *p = exact(data + (size != 0), len), *before, *cut;
    struct ab_dgram d, verified;
    int reason, strict;

    if (size)
        mend(p, len, data[0]);
    before = exact(p, len);
    memset(&d, 0xa5, sizeof(d));
    reason = ab_eth_parse(&d, p, len, 0);
    strict = ab_eth_parse(&verified, p, len, AB_ETH_VERIFY_UDP);
    MUST(reason >= 0 && reason < AB_DROP_END && memcmp(p, before, len) == 0);
    /* What is verified is verified last: it changes nothing else. */
    MUST(strict == reason || (reason == AB_DROP_NONE && strict == AB_DROP_UDP_CHECKSUM));
    if (reason == AB_DROP_NONE) {
        check(&d, p, len, 0);
        /* Padding behind the datagram is nothing; its last byte is. */
        whole = (uint32_t)(d.data + d.len - p);
        cut = exact(p, whole);
        MUST(ab_eth_parse(&d, cut, whole, 0) == AB_DROP_NONE);
        MUST(ab_eth_parse(&d, cut, whole - 1, 0) == AB_DROP_SHORT);
        free(cut);
        MUST(ab_eth_parse(&d, p, len, 0) == AB_DROP_NONE);
        check_reverse(&d, p, len, 0);
    }
    if (strict == AB_DROP_NONE) {
        check(&verified, p, len, AB_ETH_VERIFY_UDP);
        check_reverse(&verified, p, len, AB_ETH_VERIFY_UDP);
    }
    free(before);
    free(p);
    return 0;
}
