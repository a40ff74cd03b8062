/* pattern: texts made from a counter, for addresses that spread over many users and domains.
 *
 *     pattern = *( character / place )
 *     place   = "%d"                   the counter itself
 *             / "%{" from "-" to "}"   goes round: the last place of the pattern is the fastest
 *             / "%{" from "-" to "?}"  at random
 *             / "%%"
 *
 * user%{1-100}@dest%{1-1000}.test: counter 0 is user1@dest1.test, 1 user1@dest2.test, 1000
 * user2@dest1.test, 100000 user1@dest1.test again. A pattern "@file" is the lines of that file, in
 * order, over and over. Read only once made: any thread. */
#ifndef PERF_LOAD_PATTERN_H
#define PERF_LOAD_PATTERN_H

#include "io/base/arena.h"
#include "io/base/buf.h"
#include "io/base/err.h"

#define PATTERN_PARTS_MAX 16

enum pattern_part { PATTERN_TEXT, PATTERN_COUNTER, PATTERN_ROUND, PATTERN_RANDOM };

struct pattern {
    size_t count;
    struct {
        enum pattern_part kind;
        struct str text;
        uint64_t from, size; /* size values from `from` on */
        uint64_t divisor;    /* ROUND: product of the sizes of later places that go round */
    } parts[PATTERN_PARTS_MAX];
    const struct str *lines; /* @file */
    size_t line_count;
};

/* The arena must outlive the pattern; so must the text. */
struct err *pattern_parse(struct arena *a, struct str text, struct pattern *out) MUST_USE;
void pattern_make(const struct pattern *p, uint64_t counter, struct buf *to); /* appends */

#endif
