/* fuzz: what the targets share. A target is a file with LLVMFuzzerTestOneInput: any bytes at all go in, and what a caller relies on
 * is CHECKed of what comes out. It is driven by libFuzzer (preset fuzz) or by driver.c (every other build). */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "io/base/arena.h"
#include "io/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline struct str fuzz_str(const uint8_t *data, size_t size)
{
    return str_make((const char *)data, size);
}

/* Is part within whole? A view must not point anywhere else. */
static inline bool fuzz_inside(struct str part, struct str whole)
{
    return part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

/* The next line of *rest, without its LF. False at the end. */
static inline bool fuzz_line(struct str *rest, struct str *line_out)
{
    if (rest->len == 0)
        return false;
    ssize_t lf = str_index(*rest, '\n');
    *line_out = lf < 0 ? *rest : str_head(*rest, (size_t)lf);
    *rest = str_from(*rest, lf < 0 ? rest->len : (size_t)lf + 1);
    return true;
}

/* Numbers that follow from the input, so that the same input always takes the same way. */
struct fuzz_rand {
    uint64_t state;
};
struct fuzz_rand fuzz_rand_of(struct str input, uint64_t salt);
uint64_t fuzz_next(struct fuzz_rand *r);
static inline size_t fuzz_below(struct fuzz_rand *r, size_t n)
{
    return (size_t)(fuzz_next(r) % n);
}

/* A path that opens as a file with these bytes, until the next call. */
const char *fuzz_file(struct str bytes);
/* Warnings are what most inputs deserve; nobody reads them. */
void fuzz_quiet(void);

#endif
