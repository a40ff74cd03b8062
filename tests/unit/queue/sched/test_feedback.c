/* Windows: rows of (transport options, events) -> sizes. SCHEDULER_README "concurrency scheduling". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/sched/feedback.h"

struct row {
    const char *name;
    struct sched_transport t;
    const char *events; /* '+' success with a full window, '.' success of a lone delivery, '-' failure, 'r' revive */
    int64_t size;
    bool dead;
};

#define ONE .positive_feedback = 1, .negative_feedback = 1
#define PER_WINDOW .positive_per_window = 1, .negative_per_window = 1
#define ROOT PER_WINDOW, .positive_sqrt = true, .negative_sqrt = true
static const struct row rows[] = {
    {"a new destination starts at the initial concurrency", {.initial_concurrency = 5, .concurrency_limit = 20, ONE}, "", 5, false},
    {"the initial concurrency stays under the limit", {.initial_concurrency = 5, .concurrency_limit = 2, ONE}, "", 2, false},
    {"each success adds one with feedback 1", {.initial_concurrency = 5, .concurrency_limit = 20, ONE}, "+++", 8, false},
    {"the limit stops growth", {.initial_concurrency = 5, .concurrency_limit = 6, ONE}, "+++", 6, false},
    {"no limit", {.initial_concurrency = 1, .concurrency_limit = 0, ONE}, "++++++++++", 11, false},
    {"an unused window does not grow beyond busy + initial", {.initial_concurrency = 5, .concurrency_limit = 20, ONE}, "......", 6, false},
    {"1/concurrency grows by one a cohort", {.initial_concurrency = 4, .concurrency_limit = 20, .positive_per_window = 1, .negative_feedback = 1}, "++++", 5, false},
    {"the first failure takes two away with feedback 1", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 10, ONE}, "-", 3, false},
    {"the next one takes one", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 10, ONE}, "--", 2, false},
    {"after growth a failure is the first again", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 10, ONE}, "++-", 5, false},
    {"1/concurrency takes one away at once", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 10, PER_WINDOW}, "-", 4, false},
    {"and no more for a cohort", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 10, PER_WINDOW}, "---", 4, false},
    {"then one more", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 10, PER_WINDOW}, "-----", 3, false},
    {"1/sqrt(concurrency) grows by one for as many as the root of the window, half a one being rounding", {.initial_concurrency = 4, .concurrency_limit = 20, .positive_per_window = 1, .positive_sqrt = true, .negative_feedback = 1}, "++", 5, false},
    {"and not for fewer", {.initial_concurrency = 16, .concurrency_limit = 20, .positive_per_window = 1, .positive_sqrt = true, .negative_feedback = 1}, "+++", 16, false},
    {"1/sqrt(concurrency) takes one away at once", {.initial_concurrency = 16, .concurrency_limit = 20, .failed_cohort_limit = 10, ROOT}, "-", 15, false},
    {"and no more for about as many as the root of the window", {.initial_concurrency = 16, .concurrency_limit = 20, .failed_cohort_limit = 10, ROOT}, "---", 15, false},
    {"then one more at a root", {.initial_concurrency = 16, .concurrency_limit = 20, .failed_cohort_limit = 10, ROOT}, "----", 14, false},
    {"the window does not fall under one while the site is not dead", {.initial_concurrency = 2, .concurrency_limit = 20, .failed_cohort_limit = 100, ONE}, "------", 1, false},
    {"one pseudo-cohort of failures makes a site dead", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, "----", 0, true},
    {"a window of one is dead at the first failure", {.initial_concurrency = 1, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, "-", 0, true},
    {"a success forgets the failures", {.initial_concurrency = 6, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, "---+-", 1, false},
    {"a revived site gets one probe", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, "----r", 1, false},
    {"a probe that gets through opens it to the initial concurrency", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, "----r.", 5, false},
    {"the initial concurrency stays under the limit then", {.initial_concurrency = 5, .concurrency_limit = 3, .failed_cohort_limit = 1, ONE}, "----r.", 3, false},
    {"a probe that fails is enough, whatever the limit", {.initial_concurrency = 1, .concurrency_limit = 20, .failed_cohort_limit = 3, ONE}, "---r-", 0, true},
    {"after the probe failures count as before", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, "----r.--", 2, false},
};

static void windows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct window w;
        bool dead = false;
        feedback_init(&w, &r->t);
        for (const char *e = r->events; *e; e++) {
            if (*e == '+')
                feedback_success(&w, &r->t, w.size);
            else if (*e == '.')
                feedback_success(&w, &r->t, 1);
            else if (*e == '-')
                dead = feedback_failure(&w, &r->t, 0);
            else
                feedback_revive(&w), dead = false;
        }
        if (w.size != r->size || dead != r->dead)
            fail_msg("%s: size %lld dead %d", r->name, (long long)w.size, dead);
    }
}

/* A site that takes so many at a time, under constant load, one event after the other: how many it
 * refuses beside 3,000 deliveries, and how many are under way at the end. */
struct site_row {
    const char *name;
    struct sched_transport t;
    int64_t takes, later; /* from the 1,000th delivery on */
    int refused_most;
    int64_t busy_end;
};

static const struct site_row sites[] = {
    {"feedback 1: a third would be refused without a ceiling", {.initial_concurrency = 5, .concurrency_limit = 50, .failed_cohort_limit = 1, ONE}, 10, 10, 25, 10},
    {"1/concurrency: a tenth would be", {.initial_concurrency = 5, .concurrency_limit = 50, .failed_cohort_limit = 1, PER_WINDOW}, 10, 10, 25, 10},
    {"a site that takes one at a time", {.initial_concurrency = 5, .concurrency_limit = 50, .failed_cohort_limit = 9, ONE}, 1, 1, 200, 1},
    {"no limit is met", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, 20, 20, 0, 20},
    {"a limit that is raised is found", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, 4, 20, 20, 20},
    {"a limit that is lowered too", {.initial_concurrency = 5, .concurrency_limit = 20, .failed_cohort_limit = 1, ONE}, 16, 4, 50, 4},
};

static int play(const struct site_row *r, struct window *w, int64_t *busy_out)
{
    int64_t busy = 0;
    int refused = 0;
    for (int n = 0; n < 3000; n++) {
        int64_t takes = n < 1000 ? r->takes : r->later;
        /* Refusals come at once, deliveries end later, one at a time. */
        while (busy < feedback_limit(w)) {
            if (busy < takes) {
                busy++;
                continue;
            }
            refused++;
            assert_false(feedback_failure(w, &r->t, busy));
        }
        *busy_out = busy;
        busy--;
        feedback_success(w, &r->t, busy + 1);
        if (busy > takes)
            busy = takes;
    }
    return refused;
}

static void ceilings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sites) / sizeof(sites[0]); i++) {
        const struct site_row *r = &sites[i];
        struct window w;
        int64_t busy;
        feedback_init(&w, &r->t);
        int refused = play(r, &w, &busy);
        if (refused > r->refused_most || busy != r->busy_end)
            fail_msg("%s: refused %d, busy %lld", r->name, refused, (long long)busy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(windows), cmocka_unit_test(ceilings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
