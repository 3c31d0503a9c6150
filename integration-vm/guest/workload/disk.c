#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>
#include "workload.h"

_Atomic uint64_t disk_seq, disk_errors;

enum { FLUSH_EVERY = 64 };

static struct duty duty;
static const char *device;
static int disk = -1;
static uint64_t slots, first_seq, boot_id;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held while a block is under way */
static pthread_cond_t resumed = PTHREAD_COND_INITIALIZER;
static bool stopped;

static void complain(const char *what, uint64_t seq)
{
    if (disk_errors++ < 16)
        say("disk error seq=%llu: %s", (unsigned long long)seq, what);
}

static off_t place(uint64_t seq)
{
    return (off_t)(seq % slots * BLOCK_BYTES);
}

static bool open_disk(void)
{
    static const char *const usual[] = {"/dev/vda", "/dev/nvme0n1", "/dev/sda"};
    for (size_t i = 0; disk < 0 && i < (device ? 1 : sizeof usual / sizeof *usual); i++)
        disk = open(device ? device : usual[i], O_RDWR | O_DIRECT | O_CLOEXEC);
    uint64_t bytes = 0;
    if (disk >= 0 && ioctl(disk, BLKGETSIZE64, &bytes) == 0 && block_slots(bytes) > 1) {
        slots = block_slots(bytes);
        return true;
    }
    if (disk >= 0)
        close(disk);
    disk = -1;
    return false;
}

/* A disk that an earlier boot has written to is continued, so that the host's verifier can tell lost blocks. */
static uint64_t highest_on_disk(void)
{
    size_t bytes = slots * BLOCK_BYTES;
    struct block *all = aligned_alloc(BLOCK_BYTES, bytes);
    uint64_t highest = 0;
    for (size_t done = 0; all && done < bytes;) {
        ssize_t n = pread(disk, (char *)all + done, bytes - done, (off_t)done);
        if (n <= 0) {
            complain(n ? strerror(errno) : "the disk ends early", 0);
            break;
        }
        done += (size_t)n;
    }
    for (uint64_t slot = 0; all && slot < slots; slot++)
        if (!block_fault(&all[slot], slot, slots) && all[slot].seq > highest)
            highest = all[slot].seq;
    free(all);
    return highest;
}

static void write_block(struct block *b, uint64_t seq)
{
    memset(b, 0, sizeof *b);
    b->magic = BLOCK_MAGIC;
    b->seq = seq;
    b->slots = slots;
    b->boot_id = boot_id;
    for (size_t i = 0; i < BLOCK_FILL; i++)
        b->fill[i] = block_fill_word(seq, i);
    ticker_snapshot(b->ticks);
    b->crc = block_crc(b);
    errno = 0;
    if (pwrite(disk, b, sizeof *b, place(seq)) != sizeof *b)
        complain(errno ? strerror(errno) : "short write", seq);
    else
        disk_seq = seq;
    if (seq % FLUSH_EVERY == 0 && fdatasync(disk) != 0)
        complain(strerror(errno), seq);
}

static void check_some_block(struct block *b)
{
    uint64_t newest = disk_seq;
    if (newest < first_seq)
        return;
    uint64_t oldest = newest - first_seq >= slots ? newest - slots + 1 : first_seq;
    uint64_t seq = oldest + (uint64_t)rand() % (newest - oldest + 1);
    errno = 0;
    if (pread(disk, b, sizeof *b, place(seq)) != sizeof *b) {
        complain(errno ? strerror(errno) : "short read", seq);
        return;
    }
    const char *fault = block_fault(b, seq % slots, slots);
    if (fault || b->seq != seq)
        complain(fault ? fault : "an older block is back", seq);
}

static void *work_forever(void *unused)
{
    (void)unused;
    struct block *b = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    while (!open_disk())
        usleep(ticks < 10000 ? 50000 : 500000); /* it may be plugged in later */
    disk_seq = highest_on_disk();
    first_seq = disk_seq + 1;
    say("disk slots=%llu first_seq=%llu", (unsigned long long)slots, (unsigned long long)first_seq);
    duty.worked_since = monotonic_ns();
    for (;;) {
        pthread_mutex_lock(&lock);
        while (stopped)
            pthread_cond_wait(&resumed, &lock);
        write_block(b, disk_seq + 1);
        check_some_block(b);
        pthread_mutex_unlock(&lock);
        duty_rest(&duty);
    }
    return NULL;
}

void disk_sync(void)
{
    pthread_mutex_lock(&lock);
    stopped = true;
    if (disk >= 0 && fsync(disk) != 0)
        complain(strerror(errno), disk_seq);
    pthread_mutex_unlock(&lock);
}

void disk_resume(void)
{
    pthread_mutex_lock(&lock);
    stopped = false;
    pthread_cond_broadcast(&resumed);
    pthread_mutex_unlock(&lock);
}

void disk_start(const char *device_or_null, unsigned duty_percent)
{
    device = device_or_null;
    duty.percent = duty_percent;
    if (getrandom(&boot_id, sizeof boot_id, GRND_NONBLOCK) != sizeof boot_id)
        boot_id = monotonic_ns();
    pthread_t thread;
    if (pthread_create(&thread, NULL, work_forever, NULL) != 0) {
        say("fatal: no disk thread: %m");
        abort();
    }
}
