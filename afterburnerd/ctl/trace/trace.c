/* What the kernel drops on the way to us: four of its tracepoints, filtered, as records of one shape.
 *
 *     xdp:xdp_exception     the program or the driver gave a frame up
 *     xdp:xdp_redirect_err  a frame could not be given to an AF_XDP socket (or to whatever else a map held)
 *     xdp:xdp_devmap_xmit   frames that another device did not take
 *     skb:kfree_skb         a UDP datagram to one of our ports was dropped, with the kernel's reason
 *
 * Compiled by bcc when `afterburnerctl trace` starts, never by the build. program.py defines, by -D:
 *     IFINDEX        the interface, 0: any
 *     OURS(port)     whether a UDP port is one of ours
 *     SKB_HEAD ...   offsets into the running kernel's structures, from its BTF: the headers that bcc compiles with may
 *                    be another kernel's. Tracepoints come from tracefs, which is the running kernel's too.
 *     REASON         of a drop, where this kernel tells it
 * and unpacks struct event.
 */
/* Type of a field of skb:kfree_skb: whole here, so that no header of the kernel's has to be read for it. */
enum skb_drop_reason { REASON_NONE };
enum { EXCEPTION = 1, REDIRECT_ERR, DEVMAP_XMIT, DROP };
enum { IPV4 = 0x0800, IPV6 = 0x86dd, UDP = 17 };

struct event {
    u64 time_ns; /* CLOCK_MONOTONIC */
    u64 location;
    u32 kind;
    s32 ifindex; /* where the frame came in */
    u32 action;
    s32 error;  /* negative errno, 0: none */
    u32 reason; /* of a drop */
    s32 program;
    s32 to; /* redirected to this interface, 0: none */
    u32 map;
    u32 index; /* entry of the map: the queue, for AF_XDP sockets */
    u32 drops;
    u16 family; /* 4, 6; 0: not a datagram */
    u16 sport, dport, pad;
    u8 saddr[16], daddr[16];
};

BPF_RINGBUF_OUTPUT(events, 128);
BPF_ARRAY(lost, u64, 1);

static inline void tell(struct event *e)
{
    int first = 0;

    e->time_ns = bpf_ktime_get_ns();
    if (events.ringbuf_output(e, sizeof(*e), 0) != 0)
        lost.atomic_increment(first);
}

TRACEPOINT_PROBE(xdp, xdp_exception)
{
    struct event e = {.kind = EXCEPTION, .ifindex = args->ifindex, .action = args->act, .program = args->prog_id};

    if (!IFINDEX || args->ifindex == IFINDEX)
        tell(&e);
    return 0;
}

TRACEPOINT_PROBE(xdp, xdp_redirect_err)
{
    struct event e = {.kind = REDIRECT_ERR, .ifindex = args->ifindex, .action = args->act, .program = args->prog_id};

    e.error = args->err;
    e.to = args->to_ifindex;
    e.map = args->map_id;
    e.index = args->map_index;
    if (!IFINDEX || args->ifindex == IFINDEX)
        tell(&e);
    return 0;
}

TRACEPOINT_PROBE(xdp, xdp_devmap_xmit)
{
    struct event e = {.kind = DEVMAP_XMIT, .ifindex = args->from_ifindex, .action = args->act};

    e.error = args->err;
    e.to = args->to_ifindex;
    e.drops = args->drops;
    if (args->drops > 0 && (!IFINDEX || args->from_ifindex == IFINDEX || args->to_ifindex == IFINDEX))
        tell(&e);
    return 0;
}

TRACEPOINT_PROBE(skb, kfree_skb)
{
    struct event e = {.kind = DROP, .reason = REASON, .location = (u64)args->location};
    u64 skb = (u64)args->skbaddr, head = 0, dev = 0;
    u16 network = 0, udp[2];
    u8 ip[40];

    bpf_probe_read_kernel(&head, sizeof(head), (void *)(skb + SKB_HEAD));
    bpf_probe_read_kernel(&network, sizeof(network), (void *)(skb + SKB_NETWORK_HEADER));
    head += network;
    if (args->protocol == IPV4) {
        bpf_probe_read_kernel(ip, 20, (void *)head);
        /* no port in any fragment but the first */
        if (ip[9] != UDP || (ip[6] & 0x1f) || ip[7])
            return 0;
        e.family = 4;
        __builtin_memcpy(e.saddr, ip + 12, 4);
        __builtin_memcpy(e.daddr, ip + 16, 4);
        head += (ip[0] & 15) * 4;
    } else if (args->protocol == IPV6) {
        bpf_probe_read_kernel(ip, 40, (void *)head);
        if (ip[6] != UDP)
            return 0;
        e.family = 6;
        __builtin_memcpy(e.saddr, ip + 8, 16);
        __builtin_memcpy(e.daddr, ip + 24, 16);
        head += 40;
    } else {
        return 0;
    }
    bpf_probe_read_kernel(udp, sizeof(udp), (void *)head);
    e.sport = __builtin_bswap16(udp[0]);
    e.dport = __builtin_bswap16(udp[1]);
    if (!OURS(e.dport))
        return 0;
    bpf_probe_read_kernel(&dev, sizeof(dev), (void *)(skb + SKB_DEV));
    if (dev)
        bpf_probe_read_kernel(&e.ifindex, sizeof(e.ifindex), (void *)(dev + DEVICE_IFINDEX));
    if (!IFINDEX || !e.ifindex || e.ifindex == IFINDEX)
        tell(&e);
    return 0;
}
