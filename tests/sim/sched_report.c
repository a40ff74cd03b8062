#include "sched_report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "driver.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "queue/private.h"
#include "sched_plot.h"

enum { CLOSE_LOOK_S = 120, DOTS = 2500 };

struct attempt {
    float at_s;
    uint16_t site;
    int16_t window, busy;
};
struct arrival {
    float at_s, delay_s;
    uint16_t kind;
};
struct sample {
    float at_s;
    uint32_t out, active;
};

static struct {
    const char *dir;
    struct attempt *attempts;
    struct arrival *arrivals;
    struct sample *samples;
    float *retries; /* s after the burst */
    size_t n_attempts, n_arrivals, n_samples, n_retries;
    FILE *index;
    bool failed;
} rep;

int __real_mkdir(const char *path, mode_t mode); /* of this world */

void report_begin(const char *dir)
{
    mem_free(rep.attempts);
    mem_free(rep.arrivals);
    mem_free(rep.samples);
    mem_free(rep.retries);
    memset(&rep, 0, sizeof rep);
    rep.dir = dir;
}

static float now_s(void)
{
    return (float)((double)clock_mono_ns() / 1e9);
}

/* Room for one more: a list of n has as much as the next power of two. */
static void *grown(void *list, size_t n, size_t size)
{
    return n == 0 || (n >= 64 && (n & (n - 1)) == 0) ? mem_realloc(list, (n < 64 ? 64 : 2 * n) * size)
                                                     : list;
}

void report_attempt(const struct site *s, const struct request *r)
{
    if (!rep.dir)
        return;
    rep.attempts = grown(rep.attempts, rep.n_attempts, sizeof *rep.attempts);
    rep.attempts[rep.n_attempts++] = (struct attempt){.at_s = now_s(),
                                                      .site = (uint16_t)(s - model.sites),
                                                      .window = (int16_t)r->dest->window.size,
                                                      .busy = (int16_t)(s->busy + 1)};
}

void report_arrival(const struct site *s, int64_t sent_ns)
{
    if (!rep.dir)
        return;
    rep.arrivals = grown(rep.arrivals, rep.n_arrivals, sizeof *rep.arrivals);
    float delay = (float)((double)(clock_mono_ns() - sent_ns) / 1e9);
    rep.arrivals[rep.n_arrivals++] = (struct arrival){now_s(), delay, (uint16_t)s->kind};
}

void report_retry(int64_t after_ns)
{
    if (!rep.dir)
        return;
    rep.retries = grown(rep.retries, rep.n_retries, sizeof *rep.retries);
    rep.retries[rep.n_retries++] = (float)((double)after_ns / 1e9);
}

void report_sample(uint64_t active)
{
    if (!rep.dir)
        return;
    rep.samples = grown(rep.samples, rep.n_samples, sizeof *rep.samples);
    rep.samples[rep.n_samples++] = (struct sample){
        now_s(), (uint32_t)(model.out[0] + model.out[1]), (uint32_t)active};
}

/* --- charts */

static struct plot *open_chart(const char *name, const struct plot_axes *axes)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s.svg", rep.dir, name);
    struct plot *p = plot_open(path, axes);
    if (!p) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        rep.failed = true;
        return NULL;
    }
    fprintf(rep.index, "![%s](%s.svg)\n\n", axes->title, name);
    return p;
}

static void close_chart(struct plot *p)
{
    if (!plot_close(p))
        rep.failed = true;
}

struct curve {
    enum plot_form form;
    int colour;
    const char *name;
    double *y;
};

/* Two curves over one x; frees all three. */
static void chart_two(const char *name, const struct plot_axes *axes, double *x,
                      const struct curve curves[2], size_t n)
{
    struct plot *p = open_chart(name, axes);
    for (int i = 0; i < 2; i++) {
        const struct curve *c = &curves[i];
        if (p)
            plot_series(p, c->form, c->colour, c->name, x, c->y, n);
        mem_free(c->y);
    }
    if (p)
        close_chart(p);
    mem_free(x);
}

static void chart_outline(double end_h)
{
    size_t n = rep.n_samples;
    double most = 1, *x = mem_alloc((n + 1) * sizeof *x), *out = mem_alloc((n + 1) * sizeof *out),
           *active = mem_alloc((n + 1) * sizeof *active);
    for (size_t i = 0; i < n; i++) {
        x[i] = (double)rep.samples[i].at_s / 3600;
        out[i] = rep.samples[i].out;
        active[i] = rep.samples[i].active;
        most = fmax(most, fmax(out[i], active[i]));
    }
    const struct plot_axes axes = {.title = "Messages in memory, deliveries out",
                                   .x = "hours",
                                   .y = "number",
                                   .x_to = end_h,
                                   .y_to = most * 1.05};
    chart_two("outline", &axes, x,
              (const struct curve[]){{PLOT_LINE, 5, "messages in memory", active},
                                     {PLOT_LINE, 0, "deliveries out", out}},
              n);
}

static void chart_delays(double end_h)
{
    size_t n = rep.n_arrivals, every = n / DOTS + 1;
    double *x = mem_alloc((n + 1) * sizeof *x), *y = mem_alloc((n + 1) * sizeof *y), most = 10;
    for (size_t i = 0; i < n; i++)
        while ((double)rep.arrivals[i].delay_s > most)
            most *= 10;
    struct plot *p = open_chart("delays", &(struct plot_axes){.title = "Small mail: from acceptance to delivery",
                                                              .x = "hours",
                                                              .y = "seconds",
                                                              .x_to = end_h,
                                                              .y_from = 0.01,
                                                              .y_to = most,
                                                              .log_y = true});
    for (int kind = SITE_KINDS - 1; p && kind >= 0; kind--) {
        size_t k = 0;
        for (size_t i = 0; i < n; i += every)
            if (rep.arrivals[i].kind == kind) {
                x[k] = (double)rep.arrivals[i].at_s / 3600;
                y[k++] = (double)rep.arrivals[i].delay_s;
            }
        plot_series(p, PLOT_DOTS, kind, site_kinds[kind], x, y, k);
    }
    if (p)
        close_chart(p);
    mem_free(x);
    mem_free(y);
}

/* The site of this kind with the most attempts within CLOSE_LOOK_S, and when that begins. */
static int busiest(enum site_kind kind, float *from_out)
{
    static size_t first[SITES_MAX], last[SITES_MAX], count[SITES_MAX];
    size_t best = 0, n = rep.n_attempts, *next = mem_alloc((n + 1) * sizeof *next);
    int found = -1;
    for (size_t i = 0; i < model.count; i++)
        first[i] = last[i] = n, count[i] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t site = rep.attempts[i].site;
        next[i] = n;
        if (model.sites[site].kind != kind || model.sites[site].paced)
            continue;
        if (last[site] < n)
            next[last[site]] = i;
        if (first[site] == n)
            first[site] = i;
        last[site] = i;
        count[site]++;
        while (rep.attempts[i].at_s - rep.attempts[first[site]].at_s > CLOSE_LOOK_S) {
            first[site] = next[first[site]];
            count[site]--;
        }
        if (count[site] > best) {
            best = count[site];
            found = (int)site;
            *from_out = rep.attempts[first[site]].at_s;
        }
    }
    mem_free(next);
    return found;
}

static void chart_window(enum site_kind kind)
{
    char title[100], name[20];
    float from = 0;
    int site = busiest(kind, &from);
    size_t k = 0;
    double *x = mem_alloc((rep.n_attempts + 1) * sizeof *x), most = 1,
           *window = mem_alloc((rep.n_attempts + 1) * sizeof *window),
           *busy = mem_alloc((rep.n_attempts + 1) * sizeof *busy);
    for (size_t i = 0; i < rep.n_attempts; i++) {
        const struct attempt *a = &rep.attempts[i];
        if (a->site != site || a->at_s < from || a->at_s > from + CLOSE_LOOK_S)
            continue;
        x[k] = (double)(a->at_s - from);
        window[k] = a->window;
        busy[k] = a->busy;
        most = fmax(most, fmax(window[k], busy[k]));
        k++;
    }
    snprintf(title, sizeof title, "%s: site s%d", site_kinds[kind], site);
    snprintf(name, sizeof name, "window-%d", (int)kind);
    double span = k > 0 && x[k - 1] > 1 ? x[k - 1] : 1;
    const struct plot_axes axes = {.title = title,
                                   .x = "seconds of its busiest time",
                                   .y = "deliveries",
                                   .x_to = span,
                                   .y_to = most * 1.1};
    chart_two(name, &axes, x,
              (const struct curve[]){{PLOT_DOTS, 1, "out as one begins", busy},
                                     {PLOT_STEPS, 0, "window", window}},
              k);
}

static void chart_spread(void)
{
    enum { STEPS = 120 };
    double x[STEPS], y[STEPS] = {0}, most = 1, last = 60;
    for (size_t i = 0; i < rep.n_retries; i++)
        last = fmax(last, (double)rep.retries[i] + 1);
    for (size_t i = 0; i < rep.n_retries; i++)
        y[(size_t)((double)rep.retries[i] / last * STEPS)]++;
    for (size_t i = 0; i < STEPS; i++) {
        x[i] = (double)i * last / STEPS / 60;
        most = fmax(most, y[i]);
    }
    struct plot *p = open_chart("spread", &(struct plot_axes){.title = "A backlog that was deferred together comes back",
                                                              .x = "minutes after it came",
                                                              .y = "retries",
                                                              .x_to = last / 60,
                                                              .y_to = most * 1.1});
    if (!p)
        return;
    plot_series(p, PLOT_BARS, 2, "messages tried again", x, y, STEPS);
    close_chart(p);
}

/* --- figures */

static int by_size(const void *left, const void *right)
{
    float l = *(const float *)left, r = *(const float *)right;
    return (l > r) - (l < r);
}

static void row(enum site_kind kind)
{
    uint64_t sites = 0, attempts = 0, refused = 0, probes = 0, asked = 0, passed = 0;
    float *delays = mem_alloc((rep.n_arrivals + 1) * sizeof *delays);
    size_t n = 0;
    for (size_t i = 0; i < model.count; i++) {
        const struct site *s = &model.sites[i];
        if (s->kind != kind)
            continue;
        sites++;
        attempts += s->attempts;
        refused += s->refused;
        probes += s->probes;
        asked += s->asked_dead;
        passed += s->passed_by;
    }
    for (size_t i = 0; i < rep.n_arrivals; i++)
        if (rep.arrivals[i].kind == kind)
            delays[n++] = rep.arrivals[i].delay_s;
    qsort(delays, n, sizeof *delays, by_size);
    fprintf(rep.index, "| %s | %llu | %llu | %llu | %llu | %llu | %llu |", site_kinds[kind],
            (unsigned long long)sites, (unsigned long long)attempts, (unsigned long long)refused,
            (unsigned long long)probes, (unsigned long long)asked, (unsigned long long)passed);
    if (n > 0)
        fprintf(rep.index, " %.2f | %.2f | %.0f |\n", (double)delays[n / 2],
                (double)delays[n * 99 / 100], (double)delays[n - 1]);
    else
        fprintf(rep.index, " | | |\n");
    mem_free(delays);
}

static void figures(void)
{
    fprintf(rep.index,
            "| sites | number | attempts | refused | probes of a dead site | attempts at a dead host "
            "| attempts that passed it by | delay of small mail, median s | p99 s | most s |\n"
            "|---|---|---|---|---|---|---|---|---|---|\n");
    for (int kind = 0; kind < SITE_KINDS; kind++)
        row((enum site_kind)kind);
    fprintf(rep.index, "\n");
}

bool report_write(int64_t end_ns)
{
    char path[600];
    double end_h = (double)end_ns / 3600e9;
    if (!rep.dir)
        return true;
    if (__real_mkdir(rep.dir, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "%s: %s\n", rep.dir, strerror(errno));
        return false;
    }
    snprintf(path, sizeof path, "%s/index.md", rep.dir);
    rep.index = fopen(path, "w");
    if (!rep.index) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    fprintf(rep.index, "# sim.sched, seed %llu: %.1f hours\n\n", (unsigned long long)sim.seed, end_h);
    figures();
    chart_outline(end_h);
    chart_delays(end_h);
    fprintf(rep.index, "## Windows\n\n");
    for (int kind = 0; kind < SITE_KINDS; kind++)
        chart_window((enum site_kind)kind);
    fprintf(rep.index, "## Retries\n\n");
    chart_spread();
    rep.failed |= ferror(rep.index) != 0;
    rep.failed |= fclose(rep.index) != 0;
    return !rep.failed;
}
