/*
 * What the iommufd library is measured against: the same calls, made by hand. Does what it is told on standard
 * input, line by line, and answers each with the nanoseconds that it took.
 *
 *   calls N                 a context of its own: an address space, N times map and unmap a page, no address space
 *   map IOAS AREAS LENGTH   in the context of descriptor 3, so many areas of the memory of descriptor 4, side by side
 *   take                    makes itself the owner of that context
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <linux/iommufd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { CONTEXT = 3, MEMORY = 4, PAGE = 4096 };

static const uint64_t START = 1ull << 32;   /* as IommufdInside.cs */

static void check(int result, const char *what)
{
    if (result >= 0)
        return;
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void map_file(int context, uint32_t ioas, int file, uint64_t offset, uint64_t length)
{
    struct iommu_ioas_map_file map = {
        .size = sizeof map,
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas,
        .fd = file,
        .start = offset,
        .length = length,
        .iova = START + offset,
    };
    check(ioctl(context, IOMMU_IOAS_MAP_FILE, &map), "IOMMU_IOAS_MAP_FILE");
}

static void calls(int times)
{
    int file = memfd_create("cost", MFD_CLOEXEC);
    check(file, "memfd_create");
    check(ftruncate(file, PAGE), "ftruncate");

    uint64_t begin = now();
    int context = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    check(context, "/dev/iommu");
    struct iommu_ioas_alloc alloc = { .size = sizeof alloc };
    check(ioctl(context, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
    for (int i = 0; i < times; i++) {
        map_file(context, alloc.out_ioas_id, file, 0, PAGE);
        struct iommu_ioas_unmap unmap = { .size = sizeof unmap, .ioas_id = alloc.out_ioas_id, .iova = START, .length = PAGE };
        check(ioctl(context, IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
    }
    struct iommu_destroy destroy = { .size = sizeof destroy, .id = alloc.out_ioas_id };
    check(ioctl(context, IOMMU_DESTROY, &destroy), "IOMMU_DESTROY");
    close(context);
    printf("%" PRIu64 "\n", now() - begin);
    close(file);
}

static void map(uint32_t ioas, unsigned areas, uint64_t length)
{
    uint64_t begin = now();
    for (unsigned i = 0; i < areas; i++)
        map_file(CONTEXT, ioas, MEMORY, i * length, length);
    printf("%" PRIu64 "\n", now() - begin);
}

static void take(void)
{
    uint64_t begin = now();
    struct iommu_ioas_change_process change = { .size = sizeof change };
    check(ioctl(CONTEXT, IOMMU_IOAS_CHANGE_PROCESS, &change), "IOMMU_IOAS_CHANGE_PROCESS");
    printf("%" PRIu64 "\n", now() - begin);
}

int main(void)
{
    char line[128];
    uint32_t ioas;
    unsigned areas;
    uint64_t length;
    int times, end;

    setlinebuf(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "calls %d", &times) == 1)
            calls(times);
        else if (sscanf(line, "map %" SCNu32 " %u %" SCNu64, &ioas, &areas, &length) == 3)
            map(ioas, areas, length);
        else if (end = 0, sscanf(line, "take%n", &end), end)
            take();
        else
            return 2;
    }
    return 0;
}
