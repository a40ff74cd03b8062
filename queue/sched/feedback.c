#include "queue/sched/feedback.h"

#include <math.h>

#define PATIENCE_MAX 16

/* postconf(5): feedback is a number, 1/concurrency or 1/sqrt_concurrency. */
static double value_at(double flat, double per_window, bool root, int64_t window)
{
    double at = window > 0 ? (double)window : 1.0;
    return flat + per_window / (root ? sqrt(at) : at);
}

void feedback_init(struct window *w, const struct sched_transport *t)
{
    *w = (struct window){.size = t->initial_concurrency > 0 ? t->initial_concurrency : 1};
    if (t->concurrency_limit > 0 && w->size > t->concurrency_limit)
        w->size = t->concurrency_limit;
}

int64_t feedback_limit(const struct window *w)
{
    return w->ceiling > 0 && w->ceiling < w->size ? w->ceiling : w->size;
}

static void lower_ceiling(struct window *w, int64_t others)
{
    if (w->ceiling == 0)
        w->patience = 1;
    else if (w->rises > 0 && w->patience < PATIENCE_MAX) /* raising it was too much; once for all refused */
        w->patience *= 2;
    w->ceiling = others;
    w->hold = others * w->patience;
    w->rises = 0;
}

static void raise_ceiling(struct window *w, const struct sched_transport *t)
{
    if (w->ceiling == 0 || --w->hold > 0)
        return;
    if (w->rises++ > 0 && w->patience > 1)
        w->patience /= 2; /* it takes more than it did */
    w->ceiling++;
    w->hold = w->ceiling * w->patience;
    if (t->concurrency_limit > 0 && w->ceiling >= t->concurrency_limit)
        w->ceiling = 0;
}

void feedback_success(struct window *w, const struct sched_transport *t, int64_t busy)
{
    w->fail_cohorts = 0;
    if (w->size <= 0 || w->probing) {
        feedback_init(w, t);
        return;
    }
    raise_ceiling(w, t);
    bool room = t->concurrency_limit == 0 || w->size < t->concurrency_limit;
    /* A window that is not used does not grow, however many deliveries succeed in it. */
    if (!room || w->size >= busy + t->initial_concurrency)
        return;
    double step = value_at(t->positive_feedback, t->positive_per_window, t->positive_sqrt, w->size);
    w->success += step;
    while (w->success + step / 2 >= 1.0) {
        w->size++;
        w->success -= 1.0;
        w->failure = 0;
    }
    if (t->concurrency_limit > 0 && w->size > t->concurrency_limit)
        w->size = t->concurrency_limit;
}

bool feedback_failure(struct window *w, const struct sched_transport *t, int64_t others)
{
    if (w->size <= 0)
        return true;
    w->fail_cohorts += 1.0 / (double)w->size;
    if (w->probing ||
        (t->failed_cohort_limit > 0 && w->fail_cohorts >= (double)t->failed_cohort_limit)) {
        w->size = 0;
        w->probing = false;
        return true;
    }
    /* Down at the start of 1/feedback failures, up at the end of 1/feedback successes: a site that limits
     * connections refuses the one that is too many once, and not until the feedback adds up to one. Half
     * a step is for rounding; with a feedback of 1 Postfix takes two away for it at the first failure. */
    double step = value_at(t->negative_feedback, t->negative_per_window, t->negative_sqrt, w->size);
    if (step > 0 && others > 0)
        lower_ceiling(w, others);
    w->failure -= step;
    while (w->failure - step / 2 < 0) {
        w->size--;
        w->success = 0;
        w->failure += 1.0;
    }
    if (w->size < 1)
        w->size = 1;
    return false;
}

void feedback_revive(struct window *w)
{
    *w = (struct window){.size = 1, .probing = true};
}
