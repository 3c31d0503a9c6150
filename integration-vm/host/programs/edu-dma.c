/*
 * edu-dma CDEV map SECONDS   has QEMU's edu device copy pages of a memfd through its buffer, back and forth, and
 *                            compares: the checksum that shows whether DMA goes on.
 * edu-dma CDEV stray         has it read from an address that is not mapped: the fault must be seen in the log.
 * edu-dma CDEV swap SECONDS  as map, while the memory under it is unmapped and mapped again: faults must be seen.
 *
 * edu: docs/specs/edu.rst of QEMU. A transfer takes it 100 ms.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64, EDU_BUFFER = 0x40000, TO_EDU = 1, FROM_EDU = 3, BUSY = 1 };
enum { EDU_SRC = 0x80, EDU_DST = 0x88, EDU_COUNT = 0x90, EDU_COMMAND = 0x98 };
static const uint64_t iova = 0x10000000, stray = 0x7000000000;

static int iommu, device, memfd;
static uint32_t ioas;
static volatile uint8_t *edu;
static uint8_t *memory;
static atomic_bool ended;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
    int error = errno;
    va_list values;
    va_start(values, format);
    fputs("edu-dma: ", stderr);
    vfprintf(stderr, format, values);
    va_end(values);
    fprintf(stderr, ": %s\n", strerror(error));
    exit(2);
}

static void request(int fd, unsigned long number, void *argument, const char *name)
{
    if (ioctl(fd, number, argument) != 0)
        die("%s", name);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void map(void)
{
    struct iommu_ioas_map_file m = {
        .size = sizeof m, .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas, .fd = memfd, .length = PAGES * PAGE, .iova = iova};
    request(iommu, IOMMU_IOAS_MAP_FILE, &m, "IOMMU_IOAS_MAP_FILE");
}

static void unmap(void)
{
    struct iommu_ioas_unmap u = {.size = sizeof u, .ioas_id = ioas, .iova = iova, .length = PAGES * PAGE};
    request(iommu, IOMMU_IOAS_UNMAP, &u, "IOMMU_IOAS_UNMAP");
}

static void attach(const char *cdev)
{
    if ((iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC)) < 0 || (device = open(cdev, O_RDWR | O_CLOEXEC)) < 0)
        die("%s", iommu < 0 ? "/dev/iommu" : cdev);
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommu};
    struct vfio_device_attach_iommufd_pt to = {.argsz = sizeof to};
    request(iommu, IOMMU_IOAS_ALLOC, &alloc, "IOMMU_IOAS_ALLOC");
    ioas = to.pt_id = alloc.out_ioas_id;
    request(device, VFIO_DEVICE_BIND_IOMMUFD, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
    request(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &to, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");

    memfd = memfd_create("edu-dma", MFD_CLOEXEC);
    if (memfd < 0 || ftruncate(memfd, PAGES * PAGE) != 0)
        die("memfd");
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

    struct vfio_region_info bar = {.argsz = sizeof bar, .index = VFIO_PCI_BAR0_REGION_INDEX};
    struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
    request(device, VFIO_DEVICE_GET_REGION_INFO, &bar, "VFIO_DEVICE_GET_REGION_INFO");
    request(device, VFIO_DEVICE_GET_REGION_INFO, &config, "VFIO_DEVICE_GET_REGION_INFO");
    uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    if (pwrite(device, &command, sizeof command, (off_t)config.offset + PCI_COMMAND) != sizeof command)
        die("PCI command register");
    edu = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)bar.offset);
    if (memory == MAP_FAILED || edu == MAP_FAILED)
        die("mmap");
}

static void set(int reg, uint64_t value)
{
    *(volatile uint64_t *)(edu + reg) = value;
}

static void transfer(uint64_t from, uint64_t to, uint64_t command)
{
    set(EDU_SRC, from);
    set(EDU_DST, to);
    set(EDU_COUNT, PAGE);
    set(EDU_COMMAND, command);
    for (double deadline = now() + 30; *(volatile uint64_t *)(edu + EDU_COMMAND) & BUSY; usleep(2000))
        if (now() > deadline) {
            errno = ETIMEDOUT;
            die("a transfer of edu");
        }
}

/* One page there and back; false if it came back as something else. */
static bool round_trip(uint64_t seq)
{
    uint64_t from = seq * 2 % PAGES * PAGE, to = from + PAGE;
    uint64_t *sent = (uint64_t *)(memory + from), *came = (uint64_t *)(memory + to);
    for (size_t i = 0; i < PAGE / sizeof *sent; i++) {
        sent[i] = (seq << 16 | i) * 0x9e3779b97f4a7c15u;
        came[i] = 0;
    }
    transfer(iova + from, EDU_BUFFER, TO_EDU);
    transfer(EDU_BUFFER, iova + to, FROM_EDU);
    return memcmp(sent, came, PAGE) == 0;
}

static void *swap(void *unused)
{
    (void)unused;
    while (!ended) {
        unmap();
        usleep(150000);
        map();
        usleep(150000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "";
    double seconds = argc > 3 ? atof(argv[3]) : 0;
    bool swapping = strcmp(what, "swap") == 0;
    if (strcmp(what, "stray") != 0 && seconds <= 0) {
        fprintf(stderr, "usage: edu-dma CDEV map|swap SECONDS | edu-dma CDEV stray\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    attach(argv[1]);
    map();
    if (strcmp(what, "stray") == 0) {
        transfer(stray, EDU_BUFFER, TO_EDU);
        printf("edu read a page at %#llx, where nothing is mapped\n", (unsigned long long)stray);
        return 0;
    }
    pthread_t swapper;
    if (swapping && (errno = pthread_create(&swapper, NULL, swap, NULL)) != 0)
        die("pthread_create");
    uint64_t rounds = 0, errors = 0;
    for (double end = now() + seconds; now() < end; rounds++)
        if (!round_trip(rounds))
            errors++;
    ended = true;
    if (swapping)
        pthread_join(swapper, NULL);
    printf("rounds=%llu errors=%llu\n", (unsigned long long)rounds, (unsigned long long)errors);
    return swapping || rounds == 0 ? errors == 0 : errors != 0;
}
