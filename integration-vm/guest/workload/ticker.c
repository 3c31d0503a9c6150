#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "workload.h"

enum { RING = 1024, NOTES = 256 };
enum { GAP_TICKS = 20 };

static uint64_t period_ns;

_Atomic uint64_t ticks, gaps, max_gap_ns, clock_errors;
int ticker_event;

/* The ring holds the last ticks; an entry is written before `ticks` says that it is there. */
static struct {
    _Atomic uint64_t number, ns;
} ring[RING];

/* A gap or a clock error, which the ticker leaves to others to say. */
static struct note {
    bool clock_is_wrong;
    int cpu, last_cpu;
    uint64_t tick, deadline, now, last, real, last_real;
} notes[NOTES];
static _Atomic uint64_t notes_queued, notes_said;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

static void leave(const struct note *note)
{
    if (notes_queued - notes_said < NOTES) {
        notes[notes_queued % NOTES] = *note;
        notes_queued++;
    }
    uint64_t one = 1;
    if (write(ticker_event, &one, sizeof one) < 0 && errno != EAGAIN)
        abort();
}

static void *tick_forever(void *unused)
{
    (void)unused;
    uint64_t last = monotonic_ns(), last_real = now_ns(CLOCK_REALTIME), deadline = last, tick = 0;
    int last_cpu = sched_getcpu();
    for (;;) {
        deadline += period_ns;
        struct timespec t = {(time_t)(deadline / (1000 * NS_PER_MS)), (long)(deadline % (1000 * NS_PER_MS))};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
            ;
        uint64_t now = monotonic_ns(), real = now_ns(CLOCK_REALTIME);
        int cpu = sched_getcpu();
        uint64_t gap = now > last ? now - last : 0;
        tick++;
        ring[tick % RING].number = tick;
        ring[tick % RING].ns = now;
        ticks = tick;
        if (gap > max_gap_ns)
            max_gap_ns = gap;
        struct note note = {now < last || now < deadline || real < last_real, cpu, last_cpu, tick, deadline, now, last, real, last_real};
        clock_errors += note.clock_is_wrong;
        gaps += gap > GAP_TICKS * period_ns;
        if (note.clock_is_wrong || gap > GAP_TICKS * period_ns)
            leave(&note);
        last = now;
        last_real = real;
        last_cpu = cpu;
    }
    return NULL;
}

void ticker_snapshot(struct tick out[BLOCK_TICKS])
{
    uint64_t newest;
    do {
        newest = ticks;
        for (uint64_t i = 0; i < BLOCK_TICKS; i++) {
            uint64_t number = newest + i + 1 > BLOCK_TICKS ? newest + i + 1 - BLOCK_TICKS : 0;
            out[i] = (struct tick){0, 0};
            if (number)
                out[i] = (struct tick){ring[number % RING].number, ring[number % RING].ns};
        }
    } while (ticks - newest > RING - BLOCK_TICKS); /* overtaken: the ticker made up for a long gap meanwhile */
}

static long long us(uint64_t later, uint64_t earlier)
{
    return (long long)(later - earlier) / 1000;
}

void ticker_report(void)
{
    uint64_t count;
    if (read(ticker_event, &count, sizeof count) < 0)
        return;
    /* Not those that come meanwhile: saying them may take as long as making them. */
    for (uint64_t until = notes_queued; notes_said < until;) {
        struct note n = notes[notes_said % NOTES];
        if (n.clock_is_wrong)
            say("clock error tick=%llu t=%llu: %lld us after the last tick, %lld us after its time, by the wall clock %lld us; CPU %d, before %d",
                (unsigned long long)n.tick, (unsigned long long)(n.now / NS_PER_MS), us(n.now, n.last), us(n.now, n.deadline),
                us(n.real, n.last_real), n.cpu, n.last_cpu);
        else
            say("gap ms=%.1f t=%llu tick=%llu", (double)(n.now - n.last) / NS_PER_MS, (unsigned long long)(n.now / NS_PER_MS),
                (unsigned long long)n.tick);
        notes_said++;
    }
}

void ticker_start(size_t period_ms)
{
    period_ns = period_ms * NS_PER_MS;
    ticker_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    pthread_attr_setschedparam(&attributes, &(struct sched_param){.sched_priority = 50});
    if (ticker_event < 0 || pthread_create(&thread, &attributes, tick_forever, NULL) != 0) {
        say("fatal: no ticker thread: %m");
        abort();
    }
}
