#include "quic_mtu.h"

/* Sizes that the search tries below max, largest first: what is left of a common MTU without IPv4's (28) or IPv6's (48)
 * and UDP's headers. 9000: jumbo frames; 4352: some clouds and FDDI; 1500: Ethernet; 1492: PPPoE; 1460: Google's cloud;
 * 1420: WireGuard; 1400: other tunnels; 1280: IPv6's least, also many overlays. */
static const uint16_t candidates[] = {8972, 8952, 4324, 4304, 1472, 1452, 1444,
                                      1432, 1412, 1392, 1372, 1352, 1252, 1232};

static void search(struct ab_quic_mtu *m)
{
    m->state = AB_QUIC_MTU_SEARCHING;
    m->failed = (uint16_t)(m->max + 1);
    m->probe = 0;
    m->tries = 0;
    m->waiting = false;
}

void ab_quic_mtu_init(struct ab_quic_mtu *m, uint32_t max, bool search_it)
{
    *m = (struct ab_quic_mtu){
        .raise_ns = UINT64_MAX,
        .large_acked = UINT64_MAX,
        .size = AB_QUIC_MTU_BASE,
        .max = (uint16_t)AB_MIN(AB_MAX(max, AB_QUIC_MTU_BASE), 65527),
    };
    if (search_it && m->max > AB_QUIC_MTU_BASE)
        search(m);
}

void ab_quic_mtu_set_max(struct ab_quic_mtu *m, uint32_t max)
{
    m->max = (uint16_t)AB_MIN(AB_MAX(max, AB_QUIC_MTU_BASE), 65527);
    m->size = AB_MIN(m->size, m->max);
    if (m->state != AB_QUIC_MTU_DISABLED)
        search(m);
}

/* next: the size to be tried now, 0 where nothing is left to be gained. */
static uint16_t next(const struct ab_quic_mtu *m)
{
    uint32_t high = m->failed - 1u, size = m->size;

    if (high == m->max)
        return high > size ? m->max : 0;
    if (high < size + AB_QUIC_MTU_GAIN)
        return 0;
    for (uint32_t i = 0; i < AB_ARRAY_LEN(candidates); i++) {
        if (candidates[i] <= high && candidates[i] > size)
            return candidates[i];
    }
    return (uint16_t)((size + high + 1) / 2);
}

uint32_t ab_quic_mtu_probe(struct ab_quic_mtu *m, uint64_t now)
{
    if (m->state == AB_QUIC_MTU_COMPLETE && now >= m->raise_ns)
        search(m);
    if (m->state != AB_QUIC_MTU_SEARCHING || m->waiting)
        return 0;
    if (m->probe == 0)
        m->probe = next(m);
    if (m->probe == 0) {
        m->state = AB_QUIC_MTU_COMPLETE;
        m->raise_ns = m->size < m->max ? now + AB_QUIC_MTU_RAISE_NS : UINT64_MAX;
    }
    return m->probe;
}

void ab_quic_mtu_probe_sent(struct ab_quic_mtu *m)
{
    m->waiting = true;
}

/* settle: whether the probe is decided, and with it the search. */
static void settle(struct ab_quic_mtu *m, uint64_t now)
{
    if (m->waiting || m->state != AB_QUIC_MTU_SEARCHING)
        return;
    if (m->probe <= m->size || m->probe >= m->failed) {
        m->probe = 0;
        m->tries = 0;
        ab_quic_mtu_probe(m, now);
    }
}

bool ab_quic_mtu_probe_acked(struct ab_quic_mtu *m, uint32_t size, uint64_t now)
{
    bool larger = size > m->size && size <= m->max; /* max may have shrunk meanwhile */

    if (larger) {
        m->size = (uint16_t)size;
        m->lost = 0;
        if (m->failed <= size) /* it was only slow */
            m->failed = (uint16_t)(m->max + 1);
    }
    if (m->waiting && size == m->probe)
        m->waiting = false;
    settle(m, now);
    return larger;
}

void ab_quic_mtu_probe_lost(struct ab_quic_mtu *m, uint32_t size, uint64_t now)
{
    if (!m->waiting || size != m->probe)
        return;
    m->waiting = false;
    if (size > m->size && ++m->tries >= AB_QUIC_MTU_PROBES)
        m->failed = (uint16_t)size;
    settle(m, now);
}

static bool fall_back(struct ab_quic_mtu *m, uint64_t now)
{
    m->lost = 0;
    if (m->size <= AB_QUIC_MTU_BASE)
        return false;
    m->size = AB_QUIC_MTU_BASE;
    m->black_holes++;
    if (m->state == AB_QUIC_MTU_DISABLED)
        return true;
    search(m);
    if (m->black_holes > 1) {
        m->state = AB_QUIC_MTU_COMPLETE;
        m->raise_ns = now + AB_MIN(AB_QUIC_MTU_AGAIN_NS << AB_MIN(m->black_holes - 2, 20), AB_QUIC_MTU_RAISE_NS);
    }
    return true;
}

bool ab_quic_mtu_lost(struct ab_quic_mtu *m, uint64_t pn, uint32_t size, uint64_t now)
{
    if (size <= AB_QUIC_MTU_BASE || (m->large_acked != UINT64_MAX && pn < m->large_acked))
        return false;
    if (m->lost && m->lost_ns == now) /* found at the same time: one event */
        return false;
    m->lost_ns = now;
    return ++m->lost >= AB_QUIC_MTU_BLACKHOLE && fall_back(m, now);
}

bool ab_quic_mtu_pto(struct ab_quic_mtu *m, uint32_t count, uint64_t now)
{
    return count >= AB_QUIC_MTU_BLACKHOLE && fall_back(m, now);
}
