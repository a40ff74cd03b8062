#include "queue/store/alive.h"

#include "io/base/mem.h"

/* 16 bits a row: of neighbours hardly two share one. At the most 16 MiB, which is enough for 50 million rows to
 * find two of three that are gone. */
enum { BITS_MIN = 16, BITS_MAX = 27, BITS_PER_ROW = 16, WORD_BITS = 6 };

void alive_init(struct alive *v, uint64_t rows)
{
    unsigned bits = BITS_MIN;
    while (bits < BITS_MAX && (UINT64_C(1) << bits) / BITS_PER_ROW < rows)
        bits++;
    *v = (struct alive){.words = mem_zalloc(sizeof(uint64_t) << (bits - WORD_BITS)), .shift = 64 - bits};
}

void alive_fini(struct alive *v)
{
    mem_free(v->words);
    *v = (struct alive){0};
}

/* Numbers in a row lie far from each other. */
static uint64_t bit_of(const struct alive *v, uint64_t seq)
{
    return seq * UINT64_C(0x9e3779b97f4a7c15) >> v->shift;
}

void alive_add(struct alive *v, uint64_t seq)
{
    uint64_t bit = bit_of(v, seq), one = UINT64_C(1) << (bit & 63);
    uint64_t *word = &v->words[bit >> WORD_BITS];
    v->set += (*word & one) == 0;
    *word |= one;
}

bool alive_has(const struct alive *v, uint64_t seq)
{
    uint64_t bit = bit_of(v, seq);
    return v->words[bit >> WORD_BITS] >> (bit & 63) & 1;
}

unsigned alive_wrong_percent(const struct alive *v)
{
    return (unsigned)(v->set * 100 >> (64 - v->shift));
}
