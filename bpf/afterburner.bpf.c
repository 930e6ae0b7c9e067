/*
 * afterburner.bpf.c - the switch between the slow path and the fast path.
 *
 * The program stands at the driver's receive path and decides for every frame who gets it: the kernel (XDP_PASS), the
 * AF_XDP socket of the queue the frame came in on (XDP_REDIRECT), or nobody (XDP_DROP). A frame leaves the kernel's
 * sight only if its destination MAC, address, port and VLAN are exactly ones the supervisor has written to `ports`.
 *
 *            Ethernet, up to two VLAN tags, IPv4 or IPv6, UDP                    counted as
 *   frame -> not UDP, not to us, or odd in any way ------------------- PASS      reason of its own
 *         -> (address, port, VLANs) not in `ports` ------------------- PASS      not_ours
 *         -> capture rule -------------------------------------------- REDIRECT  capture
 *         -> QUIC, long header
 *              Initial, 0-RTT or foreign version, on a listening port:
 *                over the source's or the global budget -------------- DROP      initial_source, initial_global
 *                within ---------------- note the flow's queue ------- PASS      initial
 *              any other --------------- note the flow's queue ------- PASS      long
 *         -> QUIC, short header, DCID in `cids` ---------------------- REDIRECT  cid
 *         -> QUIC, short header, DCID unknown or too short
 *              over the global budget -------------------------------- DROP      short_global
 *              within ------------------------------------------------ PASS      short_unknown
 *   a REDIRECT without a socket on the frame's queue becomes --------- DROP      worker_down
 *
 * "Odd" is everything this parser would have to trust or follow: IPv4 options, fragments, IPv6 extension headers, a
 * length that does not agree with the one around it, headers that end early or lie outside the linear part of a
 * multi-buffer frame. The kernel knows what to do with those; they are counted and passed. Checksums are not looked at
 * here: the receiver of a redirected frame verifies them.
 *
 * Who writes which map: the supervisor `settings`, `ports`, `cids` and `xsks` (the first three are read-only to this
 * program, so that the verifier guards it); this program `flows`, `buckets`, `gbuckets` and `counters`.
 *
 * Privileges shape this code. It is loaded with CAP_BPF and CAP_NET_ADMIN and no CAP_PERFMON. So the verifier forbids
 * subtracting packet pointers (lengths come from bpf_xdp_get_buff_len) and, on kernels before 6.17, adding a register
 * to one (`advance` keeps every offset a constant); and it puts a speculation barrier, 5 to 6 ns each, behind every
 * store to a fresh stack slot, spilled registers included. What has to be in memory therefore lives in a map
 * (`counters`, see struct processor) and not on the stack; a test looks at the compiled program for stores to it.
 *
 * Cost of a frame, loaded with those two capabilities (`afterburner-lab bench xdp`, best of 21 rounds of
 * 200,000; Xeon VM, Linux 6.18, noisy; 2026): not UDP 9 ns, not ours 17, captured 22, behind two VLAN tags 24, known
 * connection ID 27, unknown one 52, Handshake 71, Initial 91, Initial over budget 63. Loaded as root the fast path is
 * the same within 1 ns. With keys on the stack a captured frame took 93 ns (20 as root). The stamp adds 27 ns.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "afterburner.h"

#ifndef ETH_P_8021AD
#define ETH_P_8021AD 0x88A8
#endif

/* --- Maps. max_entries of all but `settings`, `gbuckets` and `counters` are set by the loader. --- */

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_RDONLY_PROG);
    __type(key, __u32);
    __type(value, struct ab_xdp_settings);
} settings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __uint(map_flags, BPF_F_RDONLY_PROG);
    __type(key, struct ab_port_key);
    __type(value, struct ab_port);
} ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __uint(map_flags, BPF_F_RDONLY_PROG);
    __type(key, __u64);
    __type(value, struct ab_cid);
} cids SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct ab_flow_key);
    __type(value, struct ab_flow);
} flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct ab_bucket_key);
    __type(value, struct ab_bucket);
} buckets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, AB_GBUCKET_END);
    __type(key, __u32);
    __type(value, struct ab_bucket);
} gbuckets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 64);
    __type(key, __u32);
    __type(value, __u32);
} xsks SEC(".maps");

/* --- Wire formats, as the fields this program reads. Loads are unaligned; both x86-64 and arm64 take them. --- */

struct vlan_tag {
    __be16 tci;
    __be16 ethertype;
};

struct ipv4 {
    __u8 version_ihl;
    __u8 tos;
    __be16 total_length;
    __be16 id;
    __be16 fragment;
    __u8 ttl;
    __u8 protocol;
    __be16 checksum;
    __be32 src, dst;
};

struct ipv6 {
    __be32 version_class_flow;
    __be16 payload_length;
    __u8 next_header;
    __u8 hop_limit;
    __u64 src[2], dst[2];
};

struct udp {
    __be16 sport, dport, length, checksum;
};

#define IPV4_PLAIN 0x45 /* version 4, IHL 5: no options */
#define IPV4_DF 0x4000  /* the only fragment bit a whole datagram may carry (RFC 791 3.1) */
#define VLAN_VID 0x0fff
#define QUIC_LONG 0x80 /* RFC 8999 5.1 */
#define QUIC_V1 0x00000001
#define QUIC_V1_TYPE 0x30 /* RFC 9000 17.2: 0x00 Initial, 0x10 0-RTT, 0x20 Handshake, 0x30 Retry */
#define QUIC_V1_HANDSHAKE 0x20
#define QUIC_LOOK (1 + AB_CID_LEN) /* bytes of payload looked at: first byte, then version or connection ID */
#define VLAN_TAGS 2
#define BUCKET_ATTEMPTS 4 /* of a compare-and-swap: as many CPUs must win in between before one is refused */

/* An address as the maps hold it: IPv6, or IPv4-mapped (RFC 4291 2.5.5.2). */
struct address {
    __u64 hi, lo;
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MAPPED_PREFIX 0x00000000ffff0000ULL
#define MAPPED(v4) (MAPPED_PREFIX | (__u64)(v4) << 32)
#define IS_MAPPED(a) ((a).hi == 0 && ((__u32)(a).lo) == (__u32)MAPPED_PREFIX)
#else
#error "big-endian machines have not been thought about"
#endif

/* The keys of `flows` and `ports` for one datagram. They share the local address, so they overlap:
 *
 *      flow  | remote address | local address | remote port, local port, 0    |
 *      port                   | local address | local port, VLAN IDs, 0       |
 */
struct keys {
    struct address src, dst;
    union {
        struct {
            __be16 port;
            __u16 vlan[2]; /* outer, inner */
            __u16 pad;
        };
        __u64 ports; /* as they stand in the UDP header */
    };
};
#define PORT_KEY(keys) ((void *)&(keys)->dst)
#define FLOW_KEY(keys) ((void *)&(keys)->src)
_Static_assert(sizeof(struct keys) == sizeof(struct ab_flow_key), "the whole of it is a flow key");
_Static_assert(sizeof(struct keys) - sizeof(struct address) == sizeof(struct ab_port_key), "its end is a port key");
_Static_assert(AB_CID_LEN == sizeof(__u64), "a connection ID is one word");

/* What each processor has for itself: its counters, and room for what would otherwise be on the stack. One frame at a
 * time uses the room. That holds wherever softirqs do not preempt each other; for PREEMPT_RT, where since Linux 6.18
 * they may, `busy` makes a frame that comes in the midst of another pass. */
struct processor {
    struct ab_xdp_count counts[AB_XDP_END];
    __u64 busy;
    __u64 length; /* of the frame */
    struct keys keys;
    struct address source; /* key of `buckets` */
    struct ab_bucket bucket;
    struct ab_flow flow;
    __u32 ports; /* remote and local port as they stand in the UDP header */
    __u32 reason;
    __u32 slot;   /* key of `gbuckets` */
    __u16 size;   /* bytes of UDP payload */
    __u16 listen; /* whether a long header is to be paid for */
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct processor);
} counters SEC(".maps");

const volatile __u32 first = 0; /* the key of a map with one element, kept off the stack, too */

#define ALWAYS static __always_inline
#define APART static __noinline /* off the fast path: functions with registers and stack of their own */
#define VOLATILE(x) (*(volatile typeof(x) *)&(x))

/* OPAQUE is its argument, of which the optimiser knows nothing any more. */
#define OPAQUE(x)                                                                                                      \
    ({                                                                                                                 \
        typeof(x) opaque = (x);                                                                                        \
        asm volatile("" : "+r"(opaque));                                                                               \
        opaque;                                                                                                        \
    })

/* advance moves a packet pointer by a constant. The optimiser would otherwise merge the VLAN branches into "base plus
 * register". */
ALWAYS void *advance(void *p, unsigned constant)
{
    return OPAQUE(p + constant);
}

/* beyond names the reason why a header that ends after `data_end` cannot be read: the frame ends early, or the rest is
 * in a fragment of a multi-buffer frame. `end` is the offset behind the header, `length` that of the whole frame. */
ALWAYS int beyond(__u64 end, __u64 length)
{
    return end > length ? AB_XDP_PASS_TRUNCATED : AB_XDP_PASS_NONLINEAR;
}

/* --- Budgets. A token bucket as one word (the generic cell rate algorithm, ITU-T I.371): `full_ns` is the time at
 * which the bucket will be full again. A packet moves it on by the interval one packet costs, and is refused if that
 * took it further ahead of now than the window, burst times interval. One word means one compare-and-swap and no lock,
 * exact under concurrency. --- */

ALWAYS bool budget_empty(const struct ab_bucket *bucket, const struct ab_xdp_budget *budget, __u64 now)
{
    __u64 full_ns = VOLATILE(bucket->full_ns);

    return budget->interval_ns && full_ns > now && full_ns - now + budget->interval_ns > budget->window_ns;
}

ALWAYS bool budget_take(struct ab_bucket *bucket, const struct ab_xdp_budget *budget, __u64 now)
{
    __u64 interval = budget->interval_ns, window = budget->window_ns;

    if (!interval)
        return true;
#pragma unroll
    for (int i = 0; i < BUCKET_ATTEMPTS; i++) {
        __u64 old = VOLATILE(bucket->full_ns);
        __u64 next = (old > now ? old : now) + interval;

        if (next - now > window)
            return false;
        if (__sync_val_compare_and_swap(&bucket->full_ns, old, next) == old)
            return true;
    }
    return false;
}

/* budget_take_source takes from the bucket of the packet's source: the IPv4 address, or the /64 of the IPv6 address
 * (what one customer of a provider has at least; RFC 6177). */
ALWAYS bool budget_take_source(struct processor *cpu, const struct ab_xdp_budget *budget, __u64 now)
{
    struct ab_bucket *bucket;

    if (!budget->interval_ns)
        return true;
    cpu->source.hi = cpu->keys.src.hi;
    cpu->source.lo = IS_MAPPED(cpu->keys.src) ? cpu->keys.src.lo : 0;
    bucket = bpf_map_lookup_elem(&buckets, &cpu->source);
    if (!bucket) {
        cpu->bucket.full_ns = now + budget->interval_ns;
        if (bpf_map_update_elem(&buckets, &cpu->source, &cpu->bucket, BPF_NOEXIST) == 0)
            return budget->interval_ns <= budget->window_ns;
        bucket = bpf_map_lookup_elem(&buckets, &cpu->source); /* another processor was first ... */
        if (!bucket)
            return false; /* ... or the table has no room: a guard that cannot count does not admit */
    }
    return budget_take(bucket, budget, now);
}

ALWAYS struct ab_bucket *global_bucket(struct processor *cpu, __u32 slot)
{
    cpu->slot = slot;
    return bpf_map_lookup_elem(&gbuckets, &cpu->slot);
}

/* --- What is done with a frame. Each of these returns the reason, and the reason implies the verdict. --- */

/* settings_now is asked for wherever settings are needed: kept across a call they would take a register too many. */
ALWAYS const struct ab_xdp_settings *settings_now(void)
{
    return bpf_map_lookup_elem(&settings, (const void *)&first);
}

/* stamp writes the arrival time in front of the frame. Whoever reads it clears the magic word afterwards: a UMEM frame
 * is used again, and drivers without metadata support leave what was there. */
ALWAYS void stamp(struct xdp_md *ctx)
{
    struct ab_xdp_meta *meta;

    if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
        return;
    meta = (void *)(long)ctx->data_meta;
    if ((void *)(meta + 1) > (void *)(long)ctx->data)
        return;
    meta->ktime_ns = bpf_ktime_get_ns();
    meta->magic = AB_STAMP_MAGIC;
}

ALWAYS __u32 to_socket(struct xdp_md *ctx, __u32 reason)
{
    const struct ab_xdp_settings *set;

    if (bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP) != XDP_REDIRECT)
        return AB_XDP_DROP_WORKER_DOWN;
    /* Nobody looks at the arrival of a packet of QUIC, and a stamp would cost it a cache line on both sides. */
    if (reason != AB_XDP_REDIRECT_CAPTURE)
        return reason;
    set = settings_now();
    if (set && set->flags & AB_XDP_STAMP)
        stamp(ctx);
    return reason;
}

/* note_flow remembers on which queue a flow's long-header packets arrive; the supervisor has the connection adopted by
 * the worker of that queue. */
ALWAYS void note_flow(struct xdp_md *ctx, struct processor *cpu, __u64 now)
{
    struct ab_flow *known;

    cpu->keys.ports = cpu->ports;
    known = bpf_map_lookup_elem(&flows, FLOW_KEY(&cpu->keys));
    if (known) {
        known->rx_queue = ctx->rx_queue_index;
        known->seen_ns = now;
        return;
    }
    cpu->flow.rx_queue = ctx->rx_queue_index;
    cpu->flow.seen_ns = now;
    bpf_map_update_elem(&flows, FLOW_KEY(&cpu->keys), &cpu->flow, BPF_ANY);
}

APART __u32 quic_long(struct xdp_md *ctx, struct processor *cpu)
{
    __u64 now = bpf_ktime_get_ns();
    const struct ab_xdp_settings *set;
    struct ab_bucket *all;

    if (cpu->listen) {
        set = settings_now();
        all = global_bucket(cpu, AB_GBUCKET_INITIAL);
        /* The global budget is looked at before the source's bucket is touched: a flood from made-up sources must not
         * turn over the table of buckets once nothing is left to give. */
        if (!set || !all || budget_empty(all, &set->initial_global, now))
            return AB_XDP_DROP_INITIAL_GLOBAL;
        if (!budget_take_source(cpu, &set->initial_source, now))
            return AB_XDP_DROP_INITIAL_SOURCE;
        if (!budget_take(all, &set->initial_global, now))
            return AB_XDP_DROP_INITIAL_GLOBAL;
    }
    note_flow(ctx, cpu, now);
    return cpu->listen ? AB_XDP_PASS_INITIAL : AB_XDP_PASS_LONG;
}

APART __u32 quic_stray(struct processor *cpu)
{
    const struct ab_xdp_settings *set = settings_now();
    struct ab_bucket *all = global_bucket(cpu, AB_GBUCKET_SHORT);

    if (!set || !all || !budget_take(all, &set->short_global, bpf_ktime_get_ns()))
        return AB_XDP_DROP_SHORT_GLOBAL;
    return AB_XDP_PASS_SHORT_UNKNOWN;
}

/* quic_classify looks as far as a stranger may (RFC 8999), plus at the packet types of version 1. It never looks behind
 * the UDP payload, although a frame may be longer: Ethernet pads to 60 bytes, and padding is no connection ID. */
ALWAYS __u32 quic_classify(struct xdp_md *ctx, struct processor *cpu, const struct udp *udp)
{
    const __u8 *payload = (const __u8 *)(udp + 1);
    void *data_end = (void *)(long)ctx->data_end;
    bool is_long = false;

    if (cpu->size >= QUIC_LOOK) {
        if ((void *)(payload + QUIC_LOOK) > data_end)
            return AB_XDP_PASS_NONLINEAR;
        is_long = payload[0] & QUIC_LONG;
        if (!is_long) {
            if (bpf_map_lookup_elem(&cids, payload + 1))
                return to_socket(ctx, AB_XDP_REDIRECT_CID);
        } else if (*(const __u32 *)(payload + 1) == bpf_htonl(QUIC_V1) &&
                   (payload[0] & QUIC_V1_TYPE) >= QUIC_V1_HANDSHAKE) {
            cpu->listen = 0;
        }
    } else if (cpu->size) { /* no packet of either form is this short, but the first byte says whom it costs */
        if ((void *)(payload + 1) > data_end)
            return AB_XDP_PASS_NONLINEAR;
        is_long = payload[0] & QUIC_LONG;
    }
    return is_long ? quic_long(ctx, cpu) : quic_stray(cpu);
}

/* --- The way down to UDP. Each step returns AB_XDP_END to go on, or the reason to pass. --- */

/* Extension headers of IPv6 (IANA, IPv6 Extension Header Types). */
ALWAYS bool is_extension(__u8 next)
{
    switch (next) {
    case 0:   /* hop-by-hop options */
    case 43:  /* routing */
    case 44:  /* fragment */
    case 50:  /* encapsulating security payload */
    case 51:  /* authentication */
    case 60:  /* destination options */
    case 135: /* mobility */
    case 139: /* host identity */
    case 140: /* shim6 */
    case 253: /* experiments */
    case 254:
        return true;
    }
    return false;
}

ALWAYS bool is_vlan(__be16 ethertype)
{
    return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

/* udp_parse has a UDP header of which nothing is known, and `size` bytes of IP payload that lie within the frame. */
ALWAYS __u32 udp_parse(struct processor *cpu, const struct udp *udp, __u64 size, void *data_end)
{
    __u16 length;

    if (size < sizeof(*udp))
        return AB_XDP_PASS_UDP_SHORT;
    if ((void *)(udp + 1) > data_end)
        return AB_XDP_PASS_NONLINEAR;
    length = bpf_ntohs(udp->length);
    if (length != size)
        return length < sizeof(*udp) ? AB_XDP_PASS_UDP_SHORT : AB_XDP_PASS_UDP_LENGTH;
    cpu->ports = *(const __u32 *)&udp->sport;
    cpu->keys.port = udp->dport;
    cpu->size = length - sizeof(*udp);
    return AB_XDP_END;
}

/* ipv4_parse has `length` bytes of frame from `ip` on. The checks stand in this order so that a packet counted as odd
 * is one that says UDP, and not somebody's TCP or IGMP. */
ALWAYS __u32 ipv4_parse(struct processor *cpu, const struct ipv4 *ip, __u64 length, const struct udp **udp,
                        void *data_end)
{
    __u64 total;

    if ((void *)(ip + 1) > data_end)
        return beyond(sizeof(*ip), length);
    if (ip->version_ihl >> 4 != 4)
        return AB_XDP_PASS_IP_VERSION;
    if (ip->protocol != IPPROTO_UDP)
        return AB_XDP_PASS_NOT_UDP;
    if (ip->version_ihl != IPV4_PLAIN)
        return ip->version_ihl < IPV4_PLAIN ? AB_XDP_PASS_IPV4_IHL : AB_XDP_PASS_IPV4_OPTIONS;
    if (ip->fragment & bpf_htons((__u16)~IPV4_DF))
        return AB_XDP_PASS_FRAGMENT;
    total = OPAQUE((__u64)bpf_ntohs(ip->total_length));
    if (total < sizeof(*ip) || total > length)
        return AB_XDP_PASS_IP_LENGTH;
    cpu->keys.src = (struct address){0, MAPPED(ip->src)};
    cpu->keys.dst = (struct address){0, MAPPED(ip->dst)};
    *udp = advance((void *)ip, sizeof(*ip));
    return udp_parse(cpu, *udp, total - sizeof(*ip), data_end);
}

ALWAYS __u32 ipv6_parse(struct processor *cpu, const struct ipv6 *ip, __u64 length, const struct udp **udp,
                        void *data_end)
{
    __u64 size;

    if ((void *)(ip + 1) > data_end)
        return beyond(sizeof(*ip), length);
    if (*(const __u8 *)ip >> 4 != 6)
        return AB_XDP_PASS_IP_VERSION;
    if (ip->next_header != IPPROTO_UDP)
        return is_extension(ip->next_header) ? AB_XDP_PASS_IPV6_EXTENSION : AB_XDP_PASS_NOT_UDP;
    size = OPAQUE((__u64)bpf_ntohs(ip->payload_length));
    if (size + sizeof(*ip) > length)
        return AB_XDP_PASS_IP_LENGTH;
    cpu->keys.src = (struct address){ip->src[0], ip->src[1]};
    cpu->keys.dst = (struct address){ip->dst[0], ip->dst[1]};
    /* ::ffff:a.b.c.d on the wire would otherwise be taken for IPv4 in every map. */
    if (IS_MAPPED(cpu->keys.src) || IS_MAPPED(cpu->keys.dst))
        return AB_XDP_PASS_IPV6_MAPPED;
    *udp = advance((void *)ip, sizeof(*ip));
    return udp_parse(cpu, *udp, size, data_end);
}

ALWAYS __u32 frame_parse(struct xdp_md *ctx, struct processor *cpu, const struct udp **udp)
{
    const struct ab_xdp_settings *set = settings_now();
    void *p = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
    const struct ethhdr *eth = p;
    __u64 offset = sizeof(*eth), vlans = 0;
    __be16 type;

    if (!set) /* cannot be: the map has one element */
        return AB_XDP_PASS_NOT_OURS;
    if ((void *)(eth + 1) > data_end)
        return beyond(offset, cpu->length);
    if (eth->h_dest[0] & 1)
        return AB_XDP_PASS_MULTICAST;
    if (*(const __u32 *)eth->h_dest != *(const __u32 *)set->mac ||
        *(const __u16 *)(eth->h_dest + 4) != *(const __u16 *)(set->mac + 4))
        return AB_XDP_PASS_OTHER_HOST;
    type = eth->h_proto;
    p = advance(p, sizeof(*eth));
#pragma unroll
    for (int i = 0; i < VLAN_TAGS; i++) {
        const struct vlan_tag *tag = p;
        __u64 vid;

        if (!is_vlan(type))
            break;
        offset += sizeof(*tag);
        if ((void *)(tag + 1) > data_end)
            return beyond(offset, cpu->length);
        /* VID 0 is priority without a VLAN (IEEE 802.1Q 9.6): it leaves no trace, as if the tag were not there. The
         * kernel strips such a tag and goes on, too. */
        vid = bpf_ntohs(tag->tci) & VLAN_VID;
        vlans = vlans ? vlans | vid << 32 : vid << 16;
        type = tag->ethertype;
        p = advance(p, sizeof(*tag));
    }
    cpu->keys.ports = vlans; /* the port follows in udp_parse */
    if (type == bpf_htons(ETH_P_IP))
        return ipv4_parse(cpu, p, cpu->length - offset, udp, data_end);
    if (type == bpf_htons(ETH_P_IPV6))
        return ipv6_parse(cpu, p, cpu->length - offset, udp, data_end);
    return is_vlan(type) ? AB_XDP_PASS_VLAN_DEPTH : AB_XDP_PASS_NOT_IP;
}

ALWAYS __u32 classify(struct xdp_md *ctx, struct processor *cpu)
{
    const struct udp *udp;
    struct ab_port *port;
    __u32 reason;

    reason = frame_parse(ctx, cpu, &udp);
    if (reason != AB_XDP_END)
        return reason;
    port = bpf_map_lookup_elem(&ports, PORT_KEY(&cpu->keys));
    if (!port)
        return AB_XDP_PASS_NOT_OURS;
    if (port->kind == AB_PORT_KIND_CAPTURE)
        return to_socket(ctx, AB_XDP_REDIRECT_CAPTURE);
    cpu->listen = port->flags & AB_PORT_LISTEN;
    return quic_classify(ctx, cpu, udp);
}

APART int busy(struct xdp_md *ctx, struct processor *cpu)
{
    cpu->counts[AB_XDP_PASS_BUSY].packets++;
    cpu->counts[AB_XDP_PASS_BUSY].octets += bpf_xdp_get_buff_len(ctx);
    return XDP_PASS;
}

SEC("xdp.frags")
int afterburner_xdp(struct xdp_md *ctx)
{
    struct processor *cpu = bpf_map_lookup_elem(&counters, (const void *)&first);
    __u32 reason;

    if (!cpu) /* cannot be: the map has one element */
        return OPAQUE((int)XDP_PASS);
    if (VOLATILE(cpu->busy))
        return busy(ctx, cpu);
    VOLATILE(cpu->busy) = 1;
    cpu->length = bpf_xdp_get_buff_len(ctx);
    /* Through memory, so that it is unknown to the verifier: it masks the index of a map value for speculation's sake,
     * and refuses the place where paths with different known indices meet. */
    VOLATILE(cpu->reason) = classify(ctx, cpu);
    reason = VOLATILE(cpu->reason);
    if (reason < AB_XDP_END) {
        cpu->counts[reason].packets++;
        cpu->counts[reason].octets += cpu->length;
    }
    VOLATILE(cpu->busy) = 0;
    /* The reasons are in the order of their verdicts. */
    return reason < AB_XDP_REDIRECT_CID ? XDP_PASS : reason < AB_XDP_DROP_WORKER_DOWN ? XDP_REDIRECT : XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
