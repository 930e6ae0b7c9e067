/* libFuzzer target of two QUIC engines and the network between them: the input decides the draws of a simulation.
 *
 * The grammar is that of sim/c/plan.c and scenario.c: streams, DATAGRAMs, resets, key updates, rebindings, closes,
 * limits and pools, loss and delay. So are the invariants: each byte once, each fate once, no pair of key and number
 * twice, no timer stuck, pools empty at the end. Where the input ends, the draws go on from a fixed seed.
 *
 * An input may choose a network and windows on which an hour of virtual time is not enough: it ends there without a
 * verdict, as long as something was still done or told now and then. What stands still is an error. */
#include "../sim/c/must.h"
#include "../sim/c/world.h"
#include "fuzz.h"

unsigned long long sim_seed;
int sim_verbose;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    static bool ready;

    if (!ready)
        world_init(&w);
    ready = true;
    world_run(&w, 1, data, size);
    return 0;
}
