/* UDP sockets: the reference that everybody knows (ping, pong: non-blocking and spinning), a sender, and a receiver
 * whose count is independent of everything that is ours. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "modes.h"
#include "pace.h"
#include "samples.h"

enum {
    MOST_BYTES = 9216, /* of a datagram here */
    MOST_BATCH = 1024,
};

/* Bound to `from` (port + `flow`); connected to `to` where that has a port. */
static int open_socket(const struct ab_lab_options *o, uint16_t flow, bool connected, struct ab_error *err)
{
    struct sockaddr_in6 from = o->from;
    int one = 1, off = 0, buffer = 64 << 20, fd, rc;
    char text[INET6_ADDRSTRLEN];

    fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ab_fail(err, -errno, "socket(UDP): %s", strerror(errno));
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    /* Beyond rmem_max where we may: what is lost shall be lost by the path, not by this buffer. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    if (from.sin6_port)
        from.sin6_port = htons((uint16_t)(ntohs(from.sin6_port) + flow));
    inet_ntop(AF_INET6, &from.sin6_addr, text, sizeof(text));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from))) {
        rc = ab_fail(err, -errno, "bind(UDP, [%s]:%u): %s", text, ntohs(from.sin6_port), strerror(errno));
        goto fail;
    }
    inet_ntop(AF_INET6, &o->to.sin6_addr, text, sizeof(text));
    if (connected && connect(fd, (const struct sockaddr *)&o->to, sizeof(o->to))) {
        rc = ab_fail(err, -errno, "connect(UDP, [%s]:%u): %s", text, ntohs(o->to.sin6_port), strerror(errno));
        goto fail;
    }
    return fd;
fail:
    close(fd);
    return rc;
}

int ab_lab_socket_pong(const struct ab_lab_options *o, struct ab_error *err)
{
    const uint64_t begin = ab_now_ns();
    uint8_t buffer[MOST_BYTES];
    struct sockaddr_in6 peer;
    uint64_t turned = 0;
    int fd = open_socket(o, 0, false, err);

    if (fd < 0)
        return fd;
    ab_lab_ready();
    while (!ab_lab_stop && (!o->duration_ns || ab_now_ns() - begin < o->duration_ns)) {
        socklen_t len = sizeof(peer);
        ssize_t n = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer, &len);

        if (n < 0)
            continue;
        turned += sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&peer, len) == n;
    }
    printf("{\"final\":true,\"turned\":%llu,\"ignored\":0}\n", (unsigned long long)turned);
    close(fd);
    return 0;
}

int ab_lab_socket_ping(const struct ab_lab_options *o, struct ab_error *err)
{
    struct ab_lab_ping_number number = {0}, got;
    struct ab_lab_samples samples = {0};
    uint8_t out[MOST_BYTES] = {0}, in[MOST_BYTES];
    uint64_t begin, sent, now;
    int rc, fd = open_socket(o, 0, true, err);

    if (fd < 0)
        return fd;
    if ((rc = ab_lab_samples_init(&samples, 4000000, err)))
        goto out;
    if (o->size < sizeof(number)) {
        rc = ab_fail(err, AB_EINVAL, "--size %u: a ping carries its number, 16 bytes", o->size);
        goto out;
    }
    for (begin = now = ab_now_ns(); !ab_lab_stop && now - begin < o->warm_ns + o->duration_ns;) {
        bool mine = false;

        ab_lab_ping_number_set(&number, number.value + 1);
        memcpy(out, &number, sizeof(number));
        sent = ab_now_ns();
        if (send(fd, out, o->size, 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED) {
            rc = ab_fail(err, -errno, "send(UDP): %s", strerror(errno));
            goto out;
        }
        do {
            ssize_t n = recv(fd, in, sizeof(in), 0);

            now = ab_now_ns();
            if (n >= (ssize_t)sizeof(got)) {
                memcpy(&got, in, sizeof(got));
                mine = got.value == number.value;
            }
        } while (!mine && now - sent < AB_LAB_PING_LOST_NS);
        if (now - begin <= o->warm_ns)
            continue;
        if (mine)
            ab_lab_samples_add(&samples, now - sent);
        else
            samples.lost++;
    }
    ab_lab_samples_print(&samples);
out:
    ab_lab_samples_fini(&samples);
    close(fd);
    return rc;
}

static void send_progress(const char *final, uint64_t sent, uint64_t refused, uint64_t bytes, uint64_t begin,
                          uint64_t now)
{
    printf("{\"final\":%s,\"queued\":%llu,\"completed\":%llu,\"refused\":%llu,\"bytes\":%llu,\"elapsed_ns\":%llu,"
           "\"now_ns\":%llu}\n",
           final, (unsigned long long)sent, (unsigned long long)sent, (unsigned long long)refused,
           (unsigned long long)bytes, (unsigned long long)(now - begin), (unsigned long long)now);
    fflush(stdout);
}

int ab_lab_socket_send(const struct ab_lab_options *o, struct ab_error *err)
{
    uint64_t sent = 0, refused = 0, bytes = 0, now, report;
    const uint32_t head = ab_lab_frame_header(o);
    struct mmsghdr *messages = calloc(MOST_BATCH, sizeof(*messages));
    struct iovec *parts = calloc(MOST_BATCH, sizeof(*parts));
    int *fds = calloc(o->flows, sizeof(*fds));
    struct ab_lab_payloads payloads = {0};
    struct ab_lab_pace pace;
    uint32_t opened = 0, flow = 0;
    int rc = 0;

    if (!messages || !parts || !fds) {
        rc = ab_fail(err, AB_ENOMEM, "no memory for %u messages and %u sockets", MOST_BATCH, o->flows);
        goto out;
    }
    if ((rc = ab_lab_payloads_load(&payloads, o, err)))
        goto out;
    for (; opened < o->flows; opened++)
        if ((rc = fds[opened] = open_socket(o, (uint16_t)opened, true, err)) < 0)
            goto out;
    rc = 0;
    ab_lab_ready();
    now = ab_now_ns();
    ab_lab_pace_init(&pace, o, now);
    report = now + o->interval_ns;
    while (!ab_lab_stop && !ab_lab_pace_over(&pace, sent, now)) {
        uint64_t due = ab_lab_pace_due(&pace, sent, now);
        uint32_t n = (uint32_t)AB_MIN(due, AB_MIN(o->batch, (uint32_t)MOST_BATCH));

        for (uint32_t i = 0; i < n; i++) {
            uint32_t which = (uint32_t)((sent + i) % payloads.count);

            parts[i] = (struct iovec){.iov_base = payloads.bytes + payloads.offsets[which],
                                      .iov_len = payloads.offsets[which + 1] - payloads.offsets[which]};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
        if (n) {
            /* sendmmsg stops at the first message that fails and reports that failure at the next call. */
            int done = sendmmsg(fds[flow], messages, n, 0);

            if (done < 0 && errno == ECONNREFUSED) {
                refused++; /* an earlier datagram met a closed port: the kernel tells us on this occasion */
            } else if (done < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EINTR) {
                rc = ab_fail(err, -errno, "sendmmsg(UDP): %s after %llu datagrams", strerror(errno),
                             (unsigned long long)sent);
                goto out;
            }
            for (int i = 0; i < done; i++)
                bytes += parts[i].iov_len + head;
            sent += done > 0 ? (uint64_t)done : 0;
            flow = (flow + 1) % o->flows;
        } else {
            ab_lab_pace_wait(&pace, sent, now);
        }
        now = ab_now_ns();
        if (o->interval_ns && now >= report) {
            send_progress("false", sent, refused, bytes, pace.begin, now);
            report = now + o->interval_ns;
        }
    }
    send_progress("true", sent, refused, bytes, pace.begin, now);
out:
    for (uint32_t i = 0; i < opened; i++)
        close(fds[i]);
    ab_lab_payloads_free(&payloads);
    free(messages);
    free(parts);
    free(fds);
    return rc;
}

int ab_lab_socket_receive(const struct ab_lab_options *o, struct ab_error *err)
{
    uint64_t packets = 0, bytes = 0, now, end, report;
    static uint8_t room[64][MOST_BYTES];
    struct mmsghdr messages[64] = {0};
    struct iovec parts[64];
    int fd = open_socket(o, 0, false, err);
    bool final = false;

    if (fd < 0)
        return fd;
    for (int i = 0; i < 64; i++) {
        parts[i] = (struct iovec){.iov_base = room[i], .iov_len = MOST_BYTES};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    ab_lab_ready();
    now = ab_now_ns();
    end = o->duration_ns ? now + o->duration_ns : UINT64_MAX;
    report = o->interval_ns ? now + o->interval_ns : UINT64_MAX;
    while (!final) {
        int n = recvmmsg(fd, messages, 64, 0, NULL);

        for (int i = 0; i < n; i++)
            bytes += messages[i].msg_len;
        packets += n > 0 ? (uint64_t)n : 0;
        now = ab_now_ns();
        /* What already lies in the buffer when we are told to stop still counts. */
        final = n <= 0 && (ab_lab_stop || now >= end || (o->count && packets >= o->count));
        if (final || now >= report) {
            printf("{\"final\":%s,\"packets\":%llu,\"bytes\":%llu,\"now_ns\":%llu}\n", final ? "true" : "false",
                   (unsigned long long)packets, (unsigned long long)bytes, (unsigned long long)now);
            fflush(stdout);
            report = now + o->interval_ns;
        }
        if (n <= 0 && !o->rate) /* no rate: not in a hurry either, leave the core to others */
            usleep(50);
    }
    close(fd);
    return 0;
}
