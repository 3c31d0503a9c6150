/* What the parts of the workload share. Each part runs in its own thread and owns its counters. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "block.h"

#define NS_PER_MS UINT64_C(1000000)

uint64_t monotonic_ns(void);

/* Work for a share of the time only (cprsharp.duty, percent): a guest that burns its vCPU makes the host slow. */
struct duty {
    unsigned percent;
    uint64_t worked_since;
};
void duty_rest(struct duty *d);

/* Output: one whole line per call, safe from every thread except the ticker's, which must never block. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ticker: one tick per period (a millisecond) of CLOCK_MONOTONIC, late ones made up for, none left out. */
extern _Atomic uint64_t ticks, gaps, max_gap_ns, clock_errors;
void ticker_start(size_t period_ms);
void ticker_snapshot(struct tick out[BLOCK_TICKS]);
void ticker_report(void); /* says the gaps and the clock errors */
extern int ticker_event;  /* readable when it has something to say */

/* Memory: a seeded pattern, verified and rewritten round by round. */
extern _Atomic uint64_t memory_rounds, memory_errors;
void memory_start(size_t bytes, unsigned duty_percent);

/* Disk: blocks with a sequence number, written, read back, verified. */
extern _Atomic uint64_t disk_seq, disk_errors;
void disk_start(const char *device_or_null, unsigned duty_percent);
void disk_sync(void);   /* stops writing; returns when all that was written is stable */
void disk_resume(void);

/* Commands from the console. */
void command_run(char *line);
void report(void);
