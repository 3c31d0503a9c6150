#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "workload.h"

_Atomic uint64_t memory_rounds, memory_errors;

static uint64_t *area;
static size_t words;
static struct duty duty;

enum { CHUNK_WORDS = 32768 };

static uint64_t pattern(uint64_t round, size_t i)
{
    uint64_t x = ((uint64_t)i ^ round << 40) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

static void complain(size_t i, uint64_t round)
{
    if (memory_errors++ < 16)
        say("memory error offset=%#zx round=%llu expected=%#llx found=%#llx", i * sizeof *area,
            (unsigned long long)round, (unsigned long long)pattern(round, i), (unsigned long long)area[i]);
}

static void *check_forever(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < words; i++)
        area[i] = pattern(0, i);
    duty.worked_since = monotonic_ns();
    for (uint64_t round = 0;; round++) {
        for (size_t start = 0; start < words; start += CHUNK_WORDS) {
            for (size_t i = start; i < start + CHUNK_WORDS && i < words; i++) {
                if (area[i] != pattern(round, i))
                    complain(i, round);
                area[i] = pattern(round + 1, i);
            }
            duty_rest(&duty);
        }
        memory_rounds = round + 1;
    }
    return NULL;
}

void memory_start(size_t bytes, unsigned duty_percent)
{
    words = bytes / sizeof *area;
    duty.percent = duty_percent;
    if (words == 0)
        return;
    area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    if (area == MAP_FAILED || pthread_create(&thread, NULL, check_forever, NULL) != 0) {
        say("fatal: no memory to check: %m");
        abort();
    }
}
