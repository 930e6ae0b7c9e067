/* What the peer prints: one JSON object a line; and what streams carry. */
#include "peer.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void say(const char *event, const char *format, ...)
{
    char line[2048];
    int n = snprintf(line, sizeof line, "{\"event\": \"%s\"", event);
    va_list args;
    va_start(args, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 2, format, args);
    va_end(args);
    line[n++] = '}';
    line[n++] = '\n';
    /* Whoever reads us may be gone: then there is nothing left to be said to. */
    if (fwrite(line, 1, (size_t)n, stdout) != (size_t)n || fflush(stdout))
        exit(EX_INCOMPLETE);
}

void say_summary(const struct sums *s)
{
    say("summary", ", \"streams\": %lu, \"bytes\": %lu, \"datagrams\": %lu, \"acked\": %lu", s->streams, s->bytes,
        s->datagrams, s->acked);
}

void fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("ngtcp2-peer: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(code);
}

char *quoted(char *out, size_t room, const uint8_t *text, size_t len)
{
    size_t n = 0;
    out[n++] = '"';
    for (size_t i = 0; i < len && n + 8 < room; i++) {
        if (text[i] == '"' || text[i] == '\\')
            out[n++] = '\\';
        if (text[i] < 0x20 || text[i] > 0x7e)
            n += (size_t)snprintf(out + n, room - n, "\\u%04x", text[i]);
        else
            out[n++] = (char)text[i];
    }
    out[n++] = '"';
    out[n] = 0;
    return out;
}

uint8_t *payload(uint64_t index, size_t size)
{
    uint8_t name[8], block[32];
    for (int i = 0; i < 8; i++)
        name[i] = (uint8_t)(index >> (56 - 8 * i));
    gnutls_hash_fast(GNUTLS_DIG_SHA256, name, sizeof name, block);
    uint8_t *data = malloc(size + 1); /* never of size 0 */
    if (!data)
        fail(EX_INCOMPLETE, "out of memory");
    for (size_t i = 0; i < size; i++)
        data[i] = block[i % sizeof block];
    return data;
}

void sha256_hex(char out[65], const uint8_t digest[32])
{
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}
