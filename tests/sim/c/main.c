/* Runs seeds of the simulation of the engine against itself: `sim [fleet] SEEDS [FROM [verbose]]`; SEEDS 0 never ends;
 * `fleet`: several connections in the same two engines. The
 * first seed that does not hold ends the program and is told; `sim 1 SEED verbose` shows it packet by packet. */
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "must.h"
#include "world.h"

unsigned long long sim_seed;
int sim_verbose;

/* A seed takes milliseconds, the longest some seconds: of the processor, which a busy machine does not change. */
enum { PATIENCE = 120 };

static void endless(int signal)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "seed %llu: it does not come to an end\n", sim_seed);

    (void)signal;
    if (write(STDERR_FILENO, text, (size_t)len) < 0) /* there is nobody to tell */
        _exit(1);
    _exit(1);
}

static void tell(uint64_t seeds, uint64_t packets)
{
    static const char *const tally[WORLD_TALLY] = {
        "cids_low",    "cid_retired",   "reset_token",    "key_update",     "migrated",    "pushed_back",
        "stopped",     "reset",         "own_update",     "refused",        "held",        "net_lost",
        "net_dark",    "net_full",      "net_big",        "net_duplicated", "net_damaged", "net_reordered",
        "net_rebound", "spurious_loss", "duplicate",      "undecryptable",  "pto",         "congestion",
        "resent",      "ecn_marked",    "server_moved_on"};

    printf("seeds %llu\npackets %llu\n", (unsigned long long)seeds, (unsigned long long)packets);
    for (int i = 0; i < WATCH_KINDS; i++)
        if (world_kinds[i])
            printf("frame 0x%02x %llu\n", i, (unsigned long long)world_kinds[i]);
    for (int i = 0; i < 8; i++)
        if (world_closes[i])
            printf("close %d %llu\n", i, (unsigned long long)world_closes[i]);
    for (int i = 0; i < 8; i++)
        if (world_outcomes[i])
            printf("outcome %d %llu\n", i, (unsigned long long)world_outcomes[i]);
    for (int i = 0; i < WORLD_TALLY && tally[i]; i++)
        printf("%s %llu\n", tally[i], (unsigned long long)world_tally[i]);
}

static int run(struct world *w, bool fleet, int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 0) : 100, from = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
    uint64_t packets = 0;

    sim_verbose = argc > 3;
    signal(SIGPROF, endless);
    world_init(w);
    fleet_init();
    for (uint64_t i = 0; seeds == 0 || i < seeds; i++) {
        setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = PATIENCE}, NULL);
        if (fleet)
            fleet_run(from + i);
        else
            world_run(w, from + i, NULL, 0);
        packets += w->packets;
        if (seeds == 0 && i % 1000 == 999) {
            printf("%llu seeds\n", (unsigned long long)i + 1);
            fflush(stdout);
        }
    }
    tell(seeds, packets + fleet_packets);
    world_fini(w);
    fleet_fini();
    return 0;
}

int main(int argc, char **argv)
{
    static struct world w;
    bool fleet = argc > 1 && strcmp(argv[1], "fleet") == 0;

    argc -= fleet;
    argv += fleet;
    return run(&w, fleet, argc, argv);
}
