#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

static const struct ab_lab_options defaults = {
    .size = 200,        /* a 242-byte frame over IPv4, the size that the round trip is measured with */
    .flows = 1,         /* */
    .frames = 4096,     /* receive and send halves of 2048 */
    .frame_size = 4096, /* a page: what the product uses by default */
    .ring = 2048,       /* */
    .batch = 32,        /* Linux sends at most 32 frames a kick in copy mode (TX_BATCH_SIZE, net/xdp/xsk.c) */
    .suite = 1,         /* AES-128-GCM, what validators take */
    .conns = 1,
    .window = 8192, /* messages: more than a round trip of a full link holds */
    .mtu = 1472,    /* an MTU of 1,500 over IPv4 */
    .cpu = -1,
    .warm_ns = 100000000,
};

enum {
    OPT_NETNS = 256,
    OPT_DEVICE,
    OPT_PAYLOADS,
    OPT_BPF,
    OPT_SMAC,
    OPT_DMAC,
    OPT_FROM,
    OPT_TO,
    OPT_SPORT,
    OPT_DPORT,
    OPT_DURATION,
    OPT_WARM,
    OPT_INTERVAL,
    OPT_COUNT,
    OPT_RATE,
    OPT_SIZE,
    OPT_FLOWS,
    OPT_QUEUE,
    OPT_FRAMES,
    OPT_FRAME_SIZE,
    OPT_RING,
    OPT_BATCH,
    OPT_CPU,
    OPT_NICE,
    OPT_GENERIC,
    OPT_BUSY_POLL,
    OPT_SUITE,
    OPT_PACK,
    OPT_CRYPTO,
    OPT_CONNS,
    OPT_ACTIVE,
    OPT_WINDOW,
    OPT_SERVER,
    OPT_RX_SOCKET,
    OPT_TX_SOCKET,
    OPT_PROBE,
    OPT_MTU,
    OPT_ADOPT,
};

static const struct option table[] = {
    {"netns", 1, NULL, OPT_NETNS},
    {"device", 1, NULL, OPT_DEVICE},
    {"payloads", 1, NULL, OPT_PAYLOADS},
    {"bpf", 1, NULL, OPT_BPF},
    {"smac", 1, NULL, OPT_SMAC},
    {"dmac", 1, NULL, OPT_DMAC},
    {"from", 1, NULL, OPT_FROM},
    {"to", 1, NULL, OPT_TO},
    {"sport", 1, NULL, OPT_SPORT},
    {"dport", 1, NULL, OPT_DPORT},
    {"duration-ms", 1, NULL, OPT_DURATION},
    {"warm-ms", 1, NULL, OPT_WARM},
    {"interval-ms", 1, NULL, OPT_INTERVAL},
    {"count", 1, NULL, OPT_COUNT},
    {"rate", 1, NULL, OPT_RATE},
    {"size", 1, NULL, OPT_SIZE},
    {"flows", 1, NULL, OPT_FLOWS},
    {"queue", 1, NULL, OPT_QUEUE},
    {"frames", 1, NULL, OPT_FRAMES},
    {"frame-size", 1, NULL, OPT_FRAME_SIZE},
    {"ring", 1, NULL, OPT_RING},
    {"batch", 1, NULL, OPT_BATCH},
    {"cpu", 1, NULL, OPT_CPU},
    {"nice", 1, NULL, OPT_NICE},
    {"generic", 0, NULL, OPT_GENERIC},
    {"busy-poll", 0, NULL, OPT_BUSY_POLL},
    {"suite", 1, NULL, OPT_SUITE},
    {"pack", 1, NULL, OPT_PACK},
    {"crypto", 1, NULL, OPT_CRYPTO},
    {"conns", 1, NULL, OPT_CONNS},
    {"active", 1, NULL, OPT_ACTIVE},
    {"window", 1, NULL, OPT_WINDOW},
    {"server", 0, NULL, OPT_SERVER},
    {"rx-socket", 0, NULL, OPT_RX_SOCKET},
    {"tx-socket", 0, NULL, OPT_TX_SOCKET},
    {"probe", 0, NULL, OPT_PROBE},
    {"mtu", 1, NULL, OPT_MTU},
    {"adopt", 1, NULL, OPT_ADOPT},
    {NULL, 0, NULL, 0},
};

static int number(uint64_t *out, const char *name, const char *text, uint64_t low, uint64_t high, struct ab_error *err)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);

    if (errno || end == text || *end || *text == '-' || value < low || value > high)
        return ab_fail(err, AB_EINVAL, "--%s %s: give a whole number from %llu to %llu", name, text,
                       (unsigned long long)low, (unsigned long long)high);
    *out = value;
    return 0;
}

static int address(struct sockaddr_in6 *out, const char *name, const char *text, struct ab_error *err)
{
    struct in_addr v4;

    out->sin6_family = AF_INET6;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        memset(&out->sin6_addr, 0, 10);
        memset(&out->sin6_addr.s6_addr[10], 0xff, 2);
        memcpy(&out->sin6_addr.s6_addr[12], &v4, 4);
        return 0;
    }
    if (inet_pton(AF_INET6, text, &out->sin6_addr) == 1)
        return 0;
    return ab_fail(err, AB_EINVAL, "--%s %s: not an IPv4 or IPv6 address", name, text);
}

static int mac(uint8_t *out, const char *name, const char *text, struct ab_error *err)
{
    unsigned b[6];
    char rest;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &rest) != 6)
        return ab_fail(err, AB_EINVAL, "--%s %s: not a MAC address like 02:00:00:00:00:01", name, text);
    for (int i = 0; i < 6; i++)
        out[i] = (uint8_t)b[i];
    return 0;
}

static bool power_of_two(uint32_t v)
{
    return v && !(v & (v - 1));
}

static int one(struct ab_lab_options *o, int which, const char *name, const char *text, struct ab_error *err)
{
    uint64_t v = 0;
    int rc = 0;

    switch (which) {
    case OPT_NETNS:
        o->netns = text;
        return 0;
    case OPT_DEVICE:
        o->device = text;
        return 0;
    case OPT_PAYLOADS:
        o->payloads = text;
        return 0;
    case OPT_BPF:
        o->bpf = text;
        return 0;
    case OPT_SMAC:
        return mac(o->smac, name, text, err);
    case OPT_DMAC:
        return mac(o->dmac, name, text, err);
    case OPT_FROM:
        return address(&o->from, name, text, err);
    case OPT_TO:
        return address(&o->to, name, text, err);
    case OPT_SPORT:
        rc = number(&v, name, text, 1, 65535, err);
        o->from.sin6_port = htons((uint16_t)v);
        return rc;
    case OPT_DPORT:
        rc = number(&v, name, text, 1, 65535, err);
        o->to.sin6_port = htons((uint16_t)v);
        return rc;
    case OPT_DURATION:
        rc = number(&v, name, text, 0, 86400000, err);
        o->duration_ns = v * 1000000;
        return rc;
    case OPT_WARM:
        rc = number(&v, name, text, 0, 60000, err);
        o->warm_ns = v * 1000000;
        return rc;
    case OPT_INTERVAL:
        rc = number(&v, name, text, 0, 60000, err);
        o->interval_ns = v * 1000000;
        return rc;
    case OPT_COUNT:
        return number(&o->count, name, text, 0, UINT64_MAX / 2, err);
    case OPT_RATE:
        return number(&o->rate, name, text, 0, 100000000, err);
    case OPT_SIZE:
        rc = number(&v, name, text, 0, 8950, err);
        o->size = (uint32_t)v;
        return rc;
    case OPT_FLOWS:
        rc = number(&v, name, text, 1, 4096, err);
        o->flows = (uint32_t)v;
        return rc;
    case OPT_QUEUE:
        rc = number(&v, name, text, 0, 1023, err);
        o->queue = (uint32_t)v;
        return rc;
    case OPT_FRAMES:
        rc = number(&v, name, text, 64, 1 << 20, err);
        o->frames = (uint32_t)v;
        return rc;
    case OPT_FRAME_SIZE:
        rc = number(&v, name, text, 2048, 4096, err);
        o->frame_size = (uint32_t)v;
        return rc;
    case OPT_RING:
        rc = number(&v, name, text, 64, 1 << 19, err);
        o->ring = (uint32_t)v;
        return rc;
    case OPT_BATCH:
        rc = number(&v, name, text, 1, 1024, err);
        o->batch = (uint32_t)v;
        return rc;
    case OPT_CPU:
        rc = number(&v, name, text, 0, 1023, err);
        o->cpu = (int)v;
        return rc;
    case OPT_NICE:
        o->nice = atoi(text);
        return o->nice < -20 || o->nice > 19 ? ab_fail(err, AB_EINVAL, "--nice %s: -20 to 19", text) : 0;
    case OPT_GENERIC:
        o->generic = true;
        return 0;
    case OPT_BUSY_POLL:
        o->busy_poll = true;
        return 0;
    case OPT_CONNS:
        rc = number(&v, name, text, 1, 65536, err);
        o->conns = (uint32_t)v;
        return rc;
    case OPT_ACTIVE:
        rc = number(&v, name, text, 0, 65536, err);
        o->active = (uint32_t)v;
        return rc;
    case OPT_WINDOW:
        rc = number(&v, name, text, 1, 1 << 20, err);
        o->window = (uint32_t)v;
        return rc;
    case OPT_SUITE:
        rc = number(&v, name, text, 1, 3, err);
        o->suite = (uint32_t)v;
        return rc;
    case OPT_PACK:
        rc = number(&v, name, text, 0, 1024, err);
        o->pack = (uint32_t)v;
        return rc;
    case OPT_CRYPTO:
        o->crypto = text;
        return 0;
    case OPT_ADOPT:
        o->adopt = text;
        return 0;
    case OPT_SERVER:
        o->server = true;
        return 0;
    case OPT_RX_SOCKET:
        o->rx_socket = true;
        return 0;
    case OPT_TX_SOCKET:
        o->tx_socket = true;
        return 0;
    case OPT_PROBE:
        o->probe = true;
        return 0;
    case OPT_MTU:
        rc = number(&v, name, text, 1200, 8952, err);
        o->mtu = (uint32_t)v;
        return rc;
    }
    return ab_fail(err, AB_EINVAL, "unknown option, or one without its value");
}

int ab_lab_options_parse(struct ab_lab_options *o, int argc, char **argv, struct ab_error *err)
{
    int which, index = 0, rc;

    *o = defaults;
    o->from.sin6_family = o->to.sin6_family = AF_INET6;
    if (argc < 2 || argv[1][0] == '-')
        return ab_fail(err, AB_EINVAL, "the first argument is the mode");
    o->mode = argv[1];
    opterr = 0;
    optind = 2;
    while ((which = getopt_long(argc, argv, "", table, &index)) != -1) {
        rc = one(o, which, which == '?' ? "" : table[index].name, optarg, err);
        if (rc)
            return rc;
    }
    if (optind < argc)
        return ab_fail(err, AB_EINVAL, "%s: unexpected argument", argv[optind]);
    if (!power_of_two(o->frame_size) || !power_of_two(o->frames) || !power_of_two(o->ring))
        return ab_fail(err, AB_EINVAL, "--frames, --frame-size and --ring are powers of two");
    if (IN6_IS_ADDR_V4MAPPED(&o->from.sin6_addr) != IN6_IS_ADDR_V4MAPPED(&o->to.sin6_addr))
        return ab_fail(err, AB_EINVAL, "--from and --to are of the same family");
    return 0;
}

int ab_lab_options_family(const struct ab_lab_options *o)
{
    return IN6_IS_ADDR_V4MAPPED(&o->to.sin6_addr) ? AF_INET : AF_INET6;
}
