#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

enum {
    ETH = 14,
    IP4 = 20,
    IP6 = 40,
    UDP = 8,
};

uint32_t ab_lab_frame_header(const struct ab_lab_options *o)
{
    return ETH + (ab_lab_options_family(o) == AF_INET ? IP4 : IP6) + UDP;
}

int ab_lab_payloads_load(struct ab_lab_payloads *p, const struct ab_lab_options *o, struct ab_error *err)
{
    const uint32_t most = o->frame_size - ab_lab_frame_header(o);
    uint64_t size = 0, used = 0;
    FILE *f = NULL;
    int rc = 0;

    memset(p, 0, sizeof(*p));
    if (!o->payloads) {
        p->bytes = malloc(o->size ? o->size : 1);
        p->offsets = calloc(2, sizeof(*p->offsets));
        if (!p->bytes || !p->offsets)
            return ab_fail(err, AB_ENOMEM, "no memory for a payload of %u bytes", o->size);
        for (uint32_t i = 0; i < o->size; i++)
            p->bytes[i] = (uint8_t)i;
        p->offsets[1] = p->largest = o->size;
        p->count = 1;
        return o->size > most
                   ? ab_fail(err, AB_EINVAL, "--size %u: a frame of %u bytes holds %u", o->size, o->frame_size, most)
                   : 0;
    }
    f = fopen(o->payloads, "rb");
    if (!f)
        return ab_fail(err, -errno, "open(%s): %s", o->payloads, strerror(errno));
    if (fseek(f, 0, SEEK_END) || (size = (uint64_t)ftell(f)) > 1u << 30 || fseek(f, 0, SEEK_SET)) {
        rc = ab_fail(err, AB_EINVAL, "%s: not a file of payloads (1 GiB at most)", o->payloads);
        goto out;
    }
    p->bytes = malloc(size + 1);
    p->offsets = calloc(size / 2 + 2, sizeof(*p->offsets));
    if (!p->bytes || !p->offsets) {
        rc = ab_fail(err, AB_ENOMEM, "no memory for the payloads of %s", o->payloads);
        goto out;
    }
    for (uint8_t head[2]; fread(head, 1, 2, f) == 2;) {
        uint32_t len = head[0] | (uint32_t)head[1] << 8;

        /* A file may have more to give than its size said: a device, or one that grows. */
        if (len > most || used + 2 * (p->count + 1ull) + len > size || fread(p->bytes + used, 1, len, f) != len) {
            rc = ab_fail(err, AB_EINVAL, "%s: payload %u is cut off or longer than the %u bytes that fit a frame",
                         o->payloads, p->count, most);
            goto out;
        }
        used += len;
        p->largest = AB_MAX(p->largest, len);
        p->offsets[++p->count] = (uint32_t)used;
    }
    if (!p->count)
        rc = ab_fail(err, AB_EINVAL, "%s: no payload in it", o->payloads);
out:
    fclose(f);
    return rc;
}

void ab_lab_payloads_free(struct ab_lab_payloads *p)
{
    free(p->bytes);
    free(p->offsets);
    memset(p, 0, sizeof(*p));
}

static uint32_t sum16(const uint8_t *p, uint32_t len, uint32_t sum)
{
    for (; len > 1; p += 2, len -= 2)
        sum += (uint32_t)p[0] << 8 | p[1];
    if (len)
        sum += (uint32_t)p[0] << 8;
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

uint32_t ab_lab_frame_build(uint8_t *f, const struct ab_lab_options *o, const struct ab_lab_payloads *p, uint32_t n)
{
    const bool v4 = ab_lab_options_family(o) == AF_INET;
    const uint32_t which = n % p->count, len = p->offsets[which + 1] - p->offsets[which];
    uint8_t *ip = f + ETH, *udp = ip + (v4 ? IP4 : IP6);
    uint32_t sum;

    memcpy(f, o->dmac, 6);
    memcpy(f + 6, o->smac, 6);
    put16(f + 12, v4 ? ETH_P_IP : ETH_P_IPV6);
    if (v4) {
        memset(ip, 0, IP4);
        ip[0] = 0x45;
        put16(ip + 2, IP4 + UDP + len);
        ip[6] = 0x40; /* do not fragment */
        ip[8] = 64;
        ip[9] = IPPROTO_UDP;
        memcpy(ip + 12, &o->from.sin6_addr.s6_addr[12], 4);
        memcpy(ip + 16, &o->to.sin6_addr.s6_addr[12], 4);
        put16(ip + 10, fold(sum16(ip, IP4, 0)));
        sum = sum16(ip + 12, 8, 0);
    } else {
        memset(ip, 0, IP6);
        ip[0] = 0x60;
        put16(ip + 4, UDP + len);
        ip[6] = IPPROTO_UDP;
        ip[7] = 64;
        memcpy(ip + 8, &o->from.sin6_addr, 16);
        memcpy(ip + 24, &o->to.sin6_addr, 16);
        sum = sum16(ip + 8, 32, 0);
    }
    put16(udp, ntohs(o->from.sin6_port) + n % o->flows);
    put16(udp + 2, ntohs(o->to.sin6_port));
    put16(udp + 4, UDP + len);
    put16(udp + 6, 0);
    memcpy(udp + UDP, p->bytes + p->offsets[which], len);
    sum = fold(sum16(udp, UDP + len, sum + IPPROTO_UDP + UDP + len));
    put16(udp + 6, sum ? sum : 0xffff); /* RFC 768: zero would mean "no checksum" */
    return ab_lab_frame_header(o) + len;
}

static void swap(uint8_t *a, uint8_t *b, uint32_t n)
{
    uint8_t t[16];

    memcpy(t, a, n);
    memcpy(a, b, n);
    memcpy(b, t, n);
}

bool ab_lab_frame_reply(uint8_t *f, uint32_t len)
{
    uint8_t *ip = f + ETH;

    if (len >= ETH + IP4 + UDP && f[12] == 0x08 && f[13] == 0x00 && ip[0] == 0x45 && ip[9] == IPPROTO_UDP) {
        swap(ip + 12, ip + 16, 4);
        swap(ip + IP4, ip + IP4 + 2, 2);
    } else if (len >= ETH + IP6 + UDP && f[12] == 0x86 && f[13] == 0xdd && ip[6] == IPPROTO_UDP) {
        swap(ip + 8, ip + 24, 16);
        swap(ip + IP6, ip + IP6 + 2, 2);
    } else {
        return false;
    }
    swap(f, f + 6, 6);
    return true;
}

bool ab_lab_frame_is_udp_to(const uint8_t *f, uint32_t len, uint16_t port_be)
{
    const uint8_t *ip = f + ETH, *udp;

    if (len >= ETH + IP4 + UDP && f[12] == 0x08 && f[13] == 0x00 && ip[0] == 0x45 && ip[9] == IPPROTO_UDP)
        udp = ip + IP4;
    else if (len >= ETH + IP6 + UDP && f[12] == 0x86 && f[13] == 0xdd && ip[6] == IPPROTO_UDP)
        udp = ip + IP6;
    else
        return false;
    return !memcmp(udp + 2, &port_be, 2);
}
