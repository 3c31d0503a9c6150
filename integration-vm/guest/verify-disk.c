/*
 * verify-disk IMAGE: proves on a raw image that every block which the guest has written is whole and that no
 * block between the oldest and the newest is missing. The guest must be off, or have answered "synced".
 * Prints: slots=N whole=N torn=N highest_seq=N missing=N empty=N
 * Exits 0 if nothing is torn or missing, 1 if something is, 2 if the image cannot be read.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "workload/block.h"

static struct block blocks[MAX_SLOTS];

static uint64_t least_seq_for(uint64_t slot, uint64_t slots, uint64_t highest)
{
    uint64_t behind = (highest % slots + slots - slot) % slots;
    return highest >= behind ? highest - behind : 0;
}

int main(int argc, char **argv)
{
    FILE *image = argc == 2 ? fopen(argv[1], "rb") : NULL;
    struct stat st;
    if (!image || fstat(fileno(image), &st) != 0) {
        fprintf(stderr, argc == 2 ? "verify-disk: cannot open %s\n" : "usage: verify-disk IMAGE%.0s\n", argv[argc - 1]);
        return 2;
    }
    uint64_t slots = block_slots((uint64_t)st.st_size), whole = 0, torn = 0, empty = 0, missing = 0, highest = 0;
    if (slots < 2 || fread(blocks, BLOCK_BYTES, slots, image) != slots) {
        fprintf(stderr, "verify-disk: %s holds no blocks, or cannot be read\n", argv[1]);
        return 2;
    }
    fclose(image);

    static const struct block zeros;
    static bool good[MAX_SLOTS];
    for (uint64_t slot = 0; slot < slots; slot++) {
        const char *fault = block_fault(&blocks[slot], slot, slots);
        if (!fault) {
            good[slot] = true;
            whole++;
            if (blocks[slot].seq > highest)
                highest = blocks[slot].seq;
        } else if (memcmp(&blocks[slot], &zeros, BLOCK_BYTES) == 0) {
            empty++;
        } else {
            torn++;
            fprintf(stderr, "slot %llu: %s\n", (unsigned long long)slot, fault);
        }
    }
    for (uint64_t slot = 0; slot < slots; slot++) {
        uint64_t expected = least_seq_for(slot, slots, highest);
        if (expected > 0 && (!good[slot] || blocks[slot].seq != expected)) {
            missing++;
            fprintf(stderr, "slot %llu: block %llu is missing\n", (unsigned long long)slot, (unsigned long long)expected);
        }
    }
    printf("slots=%llu whole=%llu torn=%llu highest_seq=%llu missing=%llu empty=%llu\n", (unsigned long long)slots,
           (unsigned long long)whole, (unsigned long long)torn, (unsigned long long)highest,
           (unsigned long long)missing, (unsigned long long)empty);
    return torn || missing ? 1 : 0;
}
