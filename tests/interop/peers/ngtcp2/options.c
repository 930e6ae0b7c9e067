/* The command line of every peer (../README.md), as far as ngtcp2 can do it. */
#include "peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { FLAG, TEXT, NUMBER, SIGNED };
enum role { BOTH, SERVER, CLIENT, HIDDEN };

#define AT(field) offsetof(struct options, field)

static const struct option {
    const char *name;
    enum role role;
    enum kind kind;
    size_t at;
} OPTIONS[] = {
    {"cert", HIDDEN, TEXT, AT(cert)},
    {"key", HIDDEN, TEXT, AT(key)},
    {"alpn", BOTH, TEXT, AT(alpn)},
    {"cipher", BOTH, TEXT, AT(cipher)},
    {"max-uni", BOTH, NUMBER, AT(max_uni)},
    {"max-bidi", BOTH, NUMBER, AT(max_bidi)},
    {"idle", BOTH, NUMBER, AT(idle)},
    {"keylog", BOTH, TEXT, AT(keylog)},
    {"qlog", BOTH, TEXT, AT(qlog)},
    {"key-update-after", BOTH, SIGNED, AT(key_update_after)},
    {"quiet", BOTH, FLAG, AT(quiet)},
    {"zero-rtt", BOTH, FLAG, AT(zero_rtt)},
    {"retry", SERVER, FLAG, AT(retry)},
    {"echo", SERVER, FLAG, AT(echo)},
    {"push", SERVER, NUMBER, AT(push)},
    {"push-size", SERVER, NUMBER, AT(push_size)},
    {"close-after", SERVER, SIGNED, AT(close_after)},
    {"close-code", SERVER, NUMBER, AT(close_code)},
    {"streams", CLIENT, NUMBER, AT(streams)},
    {"size", CLIENT, NUMBER, AT(size)},
    {"bidi", CLIENT, FLAG, AT(bidi)},
    {"expect", CLIENT, NUMBER, AT(expect)},
    {"datagrams", CLIENT, NUMBER, AT(datagrams)},
    {"count", CLIENT, NUMBER, AT(count)},
    {"resume", CLIENT, TEXT, AT(resume)},
    {"rebind-after", CLIENT, SIGNED, AT(rebind_after)},
    {"version-negotiation", CLIENT, FLAG, AT(version_negotiation)},
    {"interval", CLIENT, NUMBER, AT(interval)},
    {"hold", CLIENT, NUMBER, AT(hold)},
    {"wait", CLIENT, FLAG, AT(wait)},
    {"timeout", CLIENT, NUMBER, AT(timeout)},
};
#define OPTIONS_LEN (sizeof OPTIONS / sizeof *OPTIONS)

static void print_options(enum role role, bool bind)
{
    const char *between = "";
    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        if (OPTIONS[i].role == BOTH || OPTIONS[i].role == role) {
            printf("%s\"%s\"", between, OPTIONS[i].name);
            between = ", ";
        }
    }
    printf("%s]", bind ? ", \"bind\"" : "");
}

static void features(void)
{
    printf("{\"engine\": \"ngtcp2\", \"version\": \"%s\", \"certificate\": \"ed25519\", \"acked\": true, ",
           ngtcp2_version(0)->version_str);
    printf("\"ciphers\": [\"aes128\", \"aes256\", \"chacha20\"], \"server\": [");
    print_options(SERVER, false);
    printf(", \"client\": [");
    print_options(CLIENT, true);
    puts("}");
    exit(0);
}

/* ADDR or [ADDR]; with `port`, ADDR:PORT or [ADDR]:PORT. Keeps the address as text in `host` where that is given. */
static void parse_address(const char *text, bool port, struct sockaddr_storage *out, char *host, size_t host_len)
{
    char copy[64];
    snprintf(copy, sizeof copy, "%s", text);
    char *colon = port ? strrchr(copy, ':') : NULL, *name = copy;
    if (port && !colon)
        fail(EX_USAGE, "%s: ADDRESS:PORT is wanted", text);
    uint16_t number = port ? (uint16_t)atoi(colon + 1) : 0;
    if (colon)
        *colon = 0;
    if (*name == '[') {
        name++;
        name[strcspn(name, "]")] = 0;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, name, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(number);
    } else if (inet_pton(AF_INET6, name, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(number);
    } else {
        fail(EX_USAGE, "%s: no address", text);
    }
    if (host)
        snprintf(host, host_len, "%s", name);
}

static void set(struct options *o, const struct option *option, const char *value)
{
    void *at = (char *)o + option->at;
    char *end = NULL;
    switch (option->kind) {
    case FLAG:
        *(bool *)at = true;
        return;
    case TEXT:
        *(const char **)at = value;
        return;
    case NUMBER:
    case SIGNED:
        *(uint64_t *)at = strtoull(value, &end, 10);
        if (!*value || *end)
            fail(EX_USAGE, "--%s %s: a number is wanted", option->name, value);
    }
}

void options_parse(struct options *o, int argc, char **argv)
{
    const char *role = argc > 1 ? argv[1] : "";
    if (!strcmp(role, "features"))
        features();
    *o = (struct options){
        .server = !strcmp(role, "server"),
        .alpn = "solana-tpu",
        .max_uni = 128,
        .max_bidi = 128,
        .idle = 30000,
        .push_size = 17,
        .close_code = 5,
        .streams = 1,
        .size = 235,
        .count = 1,
        .timeout = 20000,
        .key_update_after = -1,
        .close_after = -1,
        .rebind_after = -1,
    };
    if (!o->server && strcmp(role, "client"))
        fail(EX_USAGE, "say features, server or client");
    for (int i = 2; i < argc; i++) {
        const char *name = strncmp(argv[i], "--", 2) ? "" : argv[i] + 2;
        const struct option *found = NULL;
        for (size_t k = 0; k < OPTIONS_LEN && !found; k++) {
            enum role r = OPTIONS[k].role;
            if (!strcmp(name, OPTIONS[k].name) && (r == BOTH || r == HIDDEN || (r == SERVER) == o->server))
                found = &OPTIONS[k];
        }
        bool address = !strcmp(name, o->server ? "listen" : "connect"), bind = !o->server && !strcmp(name, "bind");
        if (!found && !address && !bind)
            fail(EX_USAGE, "%s: ngtcp2 cannot do that; see `ngtcp2-peer features`", argv[i]);
        if (found && found->kind == FLAG) {
            set(o, found, NULL);
            continue;
        }
        if (++i == argc)
            fail(EX_USAGE, "--%s needs a value", name);
        if (address)
            parse_address(argv[i], true, &o->address, o->host, sizeof o->host);
        else if (bind)
            parse_address(argv[i], false, &o->bind, NULL, 0);
        else
            set(o, found, argv[i]);
    }
    if (!o->address.ss_family || !o->cert || !o->key)
        fail(EX_USAGE, "--%s, --cert and --key are needed", o->server ? "listen" : "connect");
    if (o->cipher && strcmp(o->cipher, "aes128") && strcmp(o->cipher, "aes256") && strcmp(o->cipher, "chacha20"))
        fail(EX_USAGE, "--cipher is aes128, aes256 or chacha20");
}
