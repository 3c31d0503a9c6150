/*
 * The block that the guest writes and the host verifies: one format, one definition.
 * Little-endian, as both sides are x86-64.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { BLOCK_BYTES = 4096, BLOCK_TICKS = 64, BLOCK_FILL = 379, MAX_SLOTS = 4096 };

#define BLOCK_MAGIC UINT64_C(0x314b4c4252504300) /* "\0CPRBLK1" */

struct tick {
    uint64_t number;
    uint64_t monotonic_ns;
};

struct block {
    uint64_t magic;
    uint64_t seq;                   /* from 1, one more with every block; lives in slot seq % slots */
    uint64_t slots;
    uint64_t boot_id;               /* random, one per boot of the guest */
    uint64_t fill[BLOCK_FILL];      /* follows from seq, so that no part of a block can be an older block's */
    struct tick ticks[BLOCK_TICKS]; /* the last ticks before this block was written, oldest first */
    uint32_t zero;
    uint32_t crc;                   /* CRC-32 (IEEE) of everything before it */
};

_Static_assert(sizeof(struct block) == BLOCK_BYTES, "a block fills its slot");
_Static_assert(offsetof(struct block, crc) == BLOCK_BYTES - 4, "the checksum comes last");

static inline uint64_t block_fill_word(uint64_t seq, size_t i)
{
    uint64_t x = (seq << 16 ^ i) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 31;
}

static inline uint32_t block_crc(const struct block *b)
{
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 255; i > 0; i--) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++)
                c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
            table[i] = c;
        }
    uint32_t crc = ~0u;
    const unsigned char *p = (const unsigned char *)b;
    for (size_t i = 0; i < offsetof(struct block, crc); i++)
        crc = table[(crc ^ p[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

/* NULL if the block is whole, else what is wrong with it. */
static inline const char *block_fault(const struct block *b, uint64_t slot, uint64_t slots)
{
    if (b->magic != BLOCK_MAGIC)
        return "no magic";
    if (b->crc != block_crc(b))
        return "checksum";
    if (b->slots != slots || b->seq % slots != slot)
        return "in the wrong slot";
    for (size_t i = 0; i < BLOCK_FILL; i++)
        if (b->fill[i] != block_fill_word(b->seq, i))
            return "filling of another block";
    for (size_t i = 1; i < BLOCK_TICKS; i++) {
        const struct tick *was = &b->ticks[i - 1], *is = &b->ticks[i];
        if (is->number && was->number && is->number != was->number + 1)
            return "ticks not contiguous";
        if (is->number && is->monotonic_ns < was->monotonic_ns)
            return "ticks go back in time";
    }
    return NULL;
}

static inline uint64_t block_slots(uint64_t bytes)
{
    uint64_t slots = bytes / BLOCK_BYTES;
    return slots < MAX_SLOTS ? slots : MAX_SLOTS;
}
