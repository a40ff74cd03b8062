/* plain_lines: content in bulk. Most of a message's body are lines that nobody has to look at one by one. Where
 * CR and LF are is asked for 64 bytes at a time; everything else is decided at those places. */
#include "io/net/stream_in.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64U

/* Bit i: block[i] is CR or LF. */
static inline uint64_t ends_in(const char *block)
{
    uint64_t found = 0;
#ifdef __SSE2__
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n');
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(block + i));
        __m128i either = _mm_or_si128(_mm_cmpeq_epi8(bytes, cr), _mm_cmpeq_epi8(bytes, lf));
        found |= (uint64_t)(unsigned)_mm_movemask_epi8(either) << i;
    }
#else
    for (unsigned i = 0; i < BLOCK; i++)
        found |= (uint64_t)(block[i] == '\r' || block[i] == '\n') << i;
#endif
    return found;
}

/* The places of CR and LF in the block at `at`, which may be the last and shorter. */
static inline uint64_t ends_at(struct str have, size_t at)
{
    char tail[BLOCK] = {0};
    if (have.len - at >= BLOCK)
        return ends_in(have.ptr + at);
    memcpy(tail, have.ptr + at, have.len - at);
    return ends_in(tail);
}

bool plain_lines(struct str have, size_t longest, struct plain *out)
{
    size_t line = 0, lines = 0, over_127 = 0; /* line: where the current one begins */
    bool more = have.len > 0 && have.ptr[0] != '.';

    for (size_t at = 0; more && at < have.len && at <= line + longest; at += BLOCK) {
        for (uint64_t ends = ends_at(have, at); ends && more; ends &= ends - 1) {
            size_t end = at + (size_t)__builtin_ctzll(ends), len = end - line;
            if (end < line)
                continue; /* the LF after the CR that ended the last line */
            more = have.ptr[end] == '\r' && end + 1 < have.len && have.ptr[end + 1] == '\n' &&
                   len <= longest;
            if (more) {
                lines++;
                over_127 += len > 127;
                line = end + 2;
                more = line == have.len || have.ptr[line] != '.';
            }
        }
    }
    *out = (struct plain){str_head(have, line), lines, over_127};
    return line > 0;
}
