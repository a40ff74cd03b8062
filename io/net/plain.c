/* plain_lines: content in bulk. Most of a message's body are lines that nobody has to look at one by one. Where
 * CR and LF are is asked for 64 bytes at a time; everything else is decided at those places. */
#include "io/net/stream_in.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64U

/* Bit i: block[i] is one. */
struct ends {
    uint64_t cr, lf;
};

static inline struct ends ends_in(const char *block)
{
    struct ends found = {0, 0};
#ifdef __SSE2__
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n');
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(block + i));
        found.cr |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, cr)) << i;
        found.lf |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, lf)) << i;
    }
#else
    for (unsigned i = 0; i < BLOCK; i++) {
        found.cr |= (uint64_t)(block[i] == '\r') << i;
        found.lf |= (uint64_t)(block[i] == '\n') << i;
    }
#endif
    return found;
}

/* The last block is shorter. */
static struct ends ends_in_tail(struct str tail)
{
    char block[BLOCK] = {0};
    memcpy(block, tail.ptr, tail.len);
    return ends_in(block);
}

/* Where the last of them ends. */
static inline size_t count(struct str have, size_t longest, size_t *lines, size_t *over_127)
{
    size_t line = 0;       /* where the current one begins */
    uint64_t after_cr = 0; /* the block begins behind one */

    for (size_t at = 0; at < have.len && at <= line + longest; at += BLOCK) {
        struct ends ends = have.len - at >= BLOCK ? ends_in(have.ptr + at)
                                                  : ends_in_tail(str_from(have, at));
        /* A LF stands behind each CR and nowhere else, up to the first place where it is not so. */
        uint64_t wrong = ends.lf ^ (ends.cr << 1 | after_cr);
        after_cr = ends.cr >> (BLOCK - 1);
        for (uint64_t lf = ends.lf & ((wrong & -wrong) - 1); lf; lf &= lf - 1) {
            size_t end = at + (size_t)__builtin_ctzll(lf), len = end - 1 - line;
            if (len > longest)
                return line;
            ++*lines;
            *over_127 += len > 127;
            line = end + 1;
            if (line < have.len && have.ptr[line] == '.')
                return line;
        }
        if (wrong)
            return line;
    }
    return line;
}

bool plain_lines(struct str have, size_t longest, struct plain *out)
{
    size_t lines = 0, over_127 = 0, end = 0;

    if (have.len > 0 && have.ptr[0] != '.')
        end = count(have, longest, &lines, &over_127);
    *out = (struct plain){str_head(have, end), lines, over_127};
    return end > 0;
}
