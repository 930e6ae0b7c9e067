/* A bad router's way with packets: loss, repetition, spoiled bytes, delay, darkness, a smaller MTU, NAT, ECN.
 *
 *   from_client ─┐ fate of a packet, by a draw   ┌─► to_server: source behind the NAT, counted
 *   from_server ─┤ ────────► kernel routes it ───┤
 *                └─► shelf ··· held back ··· ────┘─► to_client: counted
 *
 * `from_*` hang at the ingress of the router's two ports, `to_*` at their egress; between them the kernel forwards as
 * any router does. BPF cannot wait, so what is to come later is redirected to the shelf, a veth pair at whose other end
 * a program (router.py) holds it for as long as its source MAC says; what comes back from there has had its fate.
 *
 * Only UDP over IPv4 without options is touched. A draw is a hash of seed, direction and the packet's number in it, so
 * a seed means the same fates for the same packets. Settings and counts lie in memory that router.py maps: its structs
 * there mirror these. Parts are of a million. */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MILLION 1000000
#define IP_AT ETH_HLEN
#define UDP_AT (ETH_HLEN + sizeof(struct iphdr))
#define DATA_AT (UDP_AT + sizeof(struct udphdr))
#define BIG                                                                                                            \
    250 /* bytes of IP: more than any packet of acknowledgements alone, less than any with a message of the tests */

struct faults {                                  /* of one direction */
    __u32 loss, duplicate, corrupt, delay, mark; /* parts of a million */
    __u32 delay_us, jitter_us;                   /* held back so long, and up to so much longer */
    __u32 again_us;                              /* by which a repetition comes later */
    __u32 mtu;                                   /* larger IP packets vanish; 0: none do */
    __u32 dark;                                  /* nothing passes */
    __u32 bleach;                                /* ECN is wiped */
    __u32 repaired;                              /* a spoiled packet gets a checksum that fits */
    __u32 skip;                                  /* bytes of the UDP payload, from its first, that are never spoiled */
};

struct config {
    struct faults faults[2]; /* to the server, to the client */
    __u64 seed;
    __u32 shelf;      /* interface index */
    __u32 nat;        /* a number for each binding, 0: no NAT */
    __u32 nat_addr;   /* network order; 0: the client's own */
    __u32 nat_change; /* host order: XORed onto the client's port */
};

struct counts { /* of one direction and one kind of header; packets */
    __u64 in, out, lost, dark, oversize, corrupted, duplicated, delayed, marked, bleached, unbound;
    __u64 ect;      /* arrived with ECT(0) or ECT(1) */
    __u64 lost_big; /* of all that did not pass, or not whole, those of more than BIG bytes */
    __u64 foreign;  /* behind the NAT, sent to a binding of before */
};

struct state {
    struct counts counts[2][2]; /* by direction; long header, short header */
    __u64 drawn[2];
};

struct binding {
    __u32 addr, number;
    __u16 port, pad;
};

struct outside {
    __u32 addr;
    __u16 port, pad;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct config);
} config SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct state);
} state SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct outside);
    __type(value, struct binding);
} bindings SEC(".maps");

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

static __always_inline __u64 mixed(__u64 x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static __always_inline bool falls(__u64 *draw, __u32 parts)
{
    *draw = mixed(*draw);
    return *draw % MILLION < parts;
}

/* The headers, 0: not a packet to play with. The kind of its QUIC header comes in `kind`. */
static __always_inline bool headers(struct __sk_buff *skb, struct iphdr *ip, struct udphdr *udp, __u32 *kind)
{
    __u8 first;

    if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, IP_AT, ip, sizeof(*ip)) || ip->ihl != 5 ||
        ip->protocol != IPPROTO_UDP || bpf_skb_load_bytes(skb, UDP_AT, udp, sizeof(*udp)) ||
        bpf_skb_load_bytes(skb, DATA_AT, &first, 1))
        return false;
    *kind = first & 0x80 ? 0 : 1;
    return true;
}

static __always_inline void readdressed(struct __sk_buff *skb, __u32 at, __u32 from, __u32 to)
{
    bpf_l4_csum_replace(skb, UDP_AT + offsetof(struct udphdr, check), from, to,
                        BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | sizeof(to));
    bpf_l3_csum_replace(skb, IP_AT + offsetof(struct iphdr, check), from, to, sizeof(to));
    bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0);
}

static __always_inline void reported(struct __sk_buff *skb, __u32 at, __u16 from, __u16 to)
{
    bpf_l4_csum_replace(skb, UDP_AT + offsetof(struct udphdr, check), from, to, BPF_F_MARK_MANGLED_0 | sizeof(to));
    bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0);
}

static __always_inline void with_ecn(struct __sk_buff *skb, __u8 tos, __u8 ecn)
{
    __u8 now = (tos & ~3) | ecn;

    bpf_l3_csum_replace(skb, IP_AT + offsetof(struct iphdr, check), bpf_htons(tos), bpf_htons(now), 2);
    bpf_skb_store_bytes(skb, IP_AT + offsetof(struct iphdr, tos), &now, 1, 0);
}

static __always_inline void spoil(struct __sk_buff *skb, const struct faults *f, __u64 *draw)
{
    __u32 bytes = skb->len - DATA_AT, at;
    __u8 byte[2], was[2];

    if (skb->len <= DATA_AT + f->skip + 2)
        return;
    *draw = mixed(*draw);
    /* An even offset from the UDP header, so that the two bytes are one word of its checksum. */
    at = DATA_AT + ((f->skip + (__u32)*draw % (bytes - f->skip - 1)) & ~1U);
    if (bpf_skb_load_bytes(skb, at, byte, 2))
        return;
    was[0] = byte[0], was[1] = byte[1];
    byte[(at & ~1U) < DATA_AT + f->skip ? 1 : *draw >> 32 & 1] ^= 1 << (*draw >> 40 & 7);
    if (f->repaired)
        bpf_l4_csum_replace(skb, UDP_AT + offsetof(struct udphdr, check), was[0] | was[1] << 8, byte[0] | byte[1] << 8,
                            BPF_F_MARK_MANGLED_0 | 2);
    bpf_skb_store_bytes(skb, at, byte, 2, 0);
}

/* What the shelf is told: the source MAC says for how many microseconds. */
static __always_inline void labelled(struct __sk_buff *skb, __u32 us)
{
    __u8 mac[6] = {2, 0, us >> 24, us >> 16, us >> 8, us};

    bpf_skb_store_bytes(skb, ETH_ALEN, mac, sizeof(mac), 0);
}

static __always_inline int from(struct __sk_buff *skb, __u32 direction)
{
    __u32 zero = 0, kind, size;
    struct config *c = bpf_map_lookup_elem(&config, &zero);
    struct state *s = bpf_map_lookup_elem(&state, &zero);
    struct counts *n;
    struct faults *f;
    struct udphdr udp;
    struct iphdr ip;
    __u64 draw;

    if (!c || !s || !headers(skb, &ip, &udp, &kind))
        return TC_ACT_OK;
    f = &c->faults[direction];
    n = &s->counts[direction][kind];
    size = bpf_ntohs(ip.tot_len);
    COUNT(n->in);
    if (ip.tos & 3)
        COUNT(n->ect);
    draw = mixed(c->seed ^ (__u64)direction << 62 ^ COUNT(s->drawn[direction]));
    if (direction == 1 && c->nat) {
        struct outside out = {.addr = ip.daddr, .port = udp.dest};
        struct binding *b = bpf_map_lookup_elem(&bindings, &out);

        if (!b) { /* nobody has sent from there: for the router itself, or a stray */
            COUNT(n->unbound);
            return TC_ACT_SHOT;
        }
        if (b->number != c->nat) {
            COUNT(n->foreign);
            COUNT(n->unbound);
            return TC_ACT_SHOT;
        }
        if (b->addr != ip.daddr)
            readdressed(skb, IP_AT + offsetof(struct iphdr, daddr), ip.daddr, b->addr);
        reported(skb, UDP_AT + offsetof(struct udphdr, dest), udp.dest, b->port);
    }
    if (f->dark || (f->mtu && size > f->mtu) || falls(&draw, f->loss)) {
        if (f->dark)
            COUNT(n->dark);
        else if (f->mtu && size > f->mtu)
            COUNT(n->oversize);
        else
            COUNT(n->lost);
        if (size > BIG)
            COUNT(n->lost_big);
        return TC_ACT_SHOT;
    }
    if (f->bleach && ip.tos & 3) {
        with_ecn(skb, ip.tos, 0);
        COUNT(n->bleached);
    } else if (falls(&draw, f->mark) && (ip.tos & 3) && (ip.tos & 3) != 3) {
        with_ecn(skb, ip.tos, 3);
        COUNT(n->marked);
    }
    if (falls(&draw, f->duplicate)) {
        labelled(skb, f->again_us);
        bpf_clone_redirect(skb, c->shelf, 0);
        COUNT(n->duplicated);
    }
    if (falls(&draw, f->corrupt)) {
        spoil(skb, f, &draw);
        COUNT(n->corrupted);
        if (size > BIG)
            COUNT(n->lost_big);
    }
    if (falls(&draw, f->delay)) {
        draw = mixed(draw);
        labelled(skb, f->delay_us + (f->jitter_us ? (__u32)(draw >> 20) % f->jitter_us : 0));
        COUNT(n->delayed);
        return bpf_redirect(c->shelf, 0);
    }
    return TC_ACT_OK;
}

static __always_inline int to(struct __sk_buff *skb, __u32 direction)
{
    __u32 zero = 0, kind;
    struct config *c = bpf_map_lookup_elem(&config, &zero);
    struct state *s = bpf_map_lookup_elem(&state, &zero);
    struct udphdr udp;
    struct iphdr ip;

    if (!c || !s || !headers(skb, &ip, &udp, &kind))
        return TC_ACT_OK;
    COUNT(s->counts[direction][kind].out);
    if (direction == 0 && c->nat) {
        struct binding b = {.addr = ip.saddr, .number = c->nat, .port = udp.source};
        struct outside out = {.addr = c->nat_addr ? c->nat_addr : ip.saddr,
                              .port = udp.source ^ bpf_htons((__u16)c->nat_change)};

        bpf_map_update_elem(&bindings, &out, &b, BPF_ANY);
        if (out.addr != ip.saddr)
            readdressed(skb, IP_AT + offsetof(struct iphdr, saddr), ip.saddr, out.addr);
        if (out.port != udp.source)
            reported(skb, UDP_AT + offsetof(struct udphdr, source), udp.source, out.port);
    }
    return TC_ACT_OK;
}

SEC("tc") int from_client(struct __sk_buff *skb)
{
    return from(skb, 0);
}
SEC("tc") int from_server(struct __sk_buff *skb)
{
    return from(skb, 1);
}
SEC("tc") int to_server(struct __sk_buff *skb)
{
    return to(skb, 0);
}
SEC("tc") int to_client(struct __sk_buff *skb)
{
    return to(skb, 1);
}

char _license[] SEC("license") = "Dual BSD/GPL";
