/* libFuzzer target of two QUIC engines and the network between them: the input decides the draws of a simulation.
 *
 * The grammar is that of sim/c/plan.c and scenario.c: streams, DATAGRAMs, resets, key updates, rebindings, closes,
 * limits and pools, loss and delay. So are the invariants: each byte once, each fate once, no pair of key and number
 * twice, no timer stuck, pools empty at the end. Where the input ends, the draws go on from a fixed seed.
 *
 * Whether a transfer ends in time is for the simulation to judge, not for this: an input can choose draws under which
 * it cannot, such as every slot taken by transactions that wait for the credit which an open stream holds. */
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
