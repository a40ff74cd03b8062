/* perf/load: the words of its tools' users, the queries and the content of its tests' servers. */
#include "fuzz.h"
#include "perf/load/dist.h"
#include "perf/load/pattern.h"
#include "perf/load/sink.h"
#include "perf/load/zone.h"

static void words(struct arena *a, struct str line)
{
    static const enum dist_unit units[] = {DIST_SIZE, DIST_TIME_NS, DIST_COUNT};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        struct dist d;
        if (dist_parse(line, units[i], &d))
            continue;
        for (int k = 0; k < 3; k++) {
            int64_t v = dist_draw(&d);
            CHECK(v >= 0 && v <= dist_highest(&d));
        }
    }
    struct pattern p;
    if ((line.len == 0 || line.ptr[0] != '@') && !pattern_parse(a, line, &p)) {
        struct buf b = {0};
        pattern_make(&p, line.len * UINT64_C(0x9E3779B97F4A7C15), &b);
        CHECK(b.len <= line.len + PATTERN_PARTS_MAX * 20);
        buf_fini(&b);
    }
    struct manner *m = ARENA_NEW(a, struct manner);
    if (!manner_parse(a, line, m))
        for (int s = 0; s < SINK_STAGES; s++) {
            const struct answer *r = manner_answer(m, (enum sink_stage)s, line.len, 1);
            CHECK(r == NULL || m->acts[s]);
            CHECK(r == NULL || r->kind != ANSWER_REPLY || str_ends(r->reply, STR("\r\n")));
        }
}

static size_t plain_end(struct str have, bool after_line)
{
    if (after_line && str_starts(have, STR(".\r\n")))
        return 3;
    ssize_t at = str_find(have, STR("\r\n.\r\n"));
    return at < 0 ? 0 : (size_t)at + 5;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str all = fuzz_str(data, size), rest = all, line, id;
    struct arena *a = arena_new(0, 0);
    int64_t us;
    while (fuzz_line(&rest, &line))
        words(a, line);
    CHECK(content_end(all, true) == plain_end(all, true));
    CHECK(content_end(all, false) == plain_end(all, false));
    if (content_mark(all, &id, &us) == 1)
        CHECK(fuzz_inside(id, all) && id.len > 0);
    static const struct zone zone = {.prefix = STR("dest"),
                                     .suffix = STR(".test"),
                                     .count = 1000,
                                     .sites = 10,
                                     .mx = 20,
                                     .servfail_every = 5};
    char reply[ZONE_REPLY_MAX];
    size_t n = 0;
    if (zone_answer(&zone, all, reply, &n) != ZONE_IGNORED)
        CHECK(n > 12 && n <= ZONE_REPLY_MAX && (reply[2] & 0x80) != 0);
    arena_free(a);
    return 0;
}
