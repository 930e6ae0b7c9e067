/* `afterburner-labio engine`: two QUIC engines in one thread. */
#ifndef AB_LAB_ENGINE_H
#define AB_LAB_ENGINE_H

#include "modes.h"
#include "quic.h"

/* Where the time goes, by the call that takes it. */
enum {
    AB_ENGINE_SEND, /* accepting transactions */
    AB_ENGINE_TX,   /* client: building and sealing */
    AB_ENGINE_TX_ACK,
    AB_ENGINE_RX, /* server: opening, frames, streams */
    AB_ENGINE_RX_ACK,
    AB_ENGINE_STAGES,
};

struct ab_engine_stage {
    uint64_t cycles, count;
};

static inline uint64_t ab_engine_cycles(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return ab_now_ns();
#endif
}

#endif
