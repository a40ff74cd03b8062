#include "sched_plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 920, HEIGHT = 300, LEFT = 64, RIGHT = 20, TOP = 48, BOTTOM = 46, TICKS = 6 };

static const char *const colours[] = {"#2f7ed8", "#d6452c", "#3a9a4d",
                                      "#b07cc6", "#d99000", "#7a8594"};

struct plot {
    FILE *to;
    struct plot_axes axes;
    int legend_x;
};

static double x_at(const struct plot *p, double x)
{
    double span = p->axes.x_to - p->axes.x_from;
    return LEFT + (x - p->axes.x_from) / (span > 0 ? span : 1) * (WIDTH - LEFT - RIGHT);
}

static double y_at(const struct plot *p, double y)
{
    const struct plot_axes *a = &p->axes;
    double part = y / (a->y_to > 0 ? a->y_to : 1);
    if (a->log_y)
        part = log(fmax(y, a->y_from) / a->y_from) / log(a->y_to / a->y_from);
    return HEIGHT - BOTTOM - fmin(fmax(part, 0), 1) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, so that there are about TICKS of them. */
static double step_of(double span)
{
    double power = pow(10, floor(log10(span / TICKS))), times = span / TICKS / power;
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

static void y_tick(const struct plot *p, double y)
{
    double at = y_at(p, y);
    fprintf(p->to,
            "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' stroke='#888' stroke-opacity='.25'/>"
            "<text x='%d' y='%.1f' text-anchor='end'>%g</text>\n",
            LEFT, WIDTH - RIGHT, at, at, LEFT - 6, at + 4, y);
}

static void draw_axes(const struct plot *p)
{
    const struct plot_axes *a = &p->axes;
    double step = step_of(a->x_to > a->x_from ? a->x_to - a->x_from : 1);
    for (double x = ceil(a->x_from / step) * step; x <= a->x_to + step / 1e6; x += step)
        fprintf(p->to,
                "<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' stroke='#888'/>"
                "<text x='%.1f' y='%d' text-anchor='middle'>%g</text>\n",
                x_at(p, x), x_at(p, x), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4, x_at(p, x),
                HEIGHT - BOTTOM + 17, fabs(x) < step / 1e6 ? 0 : x);
    if (a->log_y) {
        for (double y = a->y_from; y <= a->y_to * 1.001; y *= 10)
            y_tick(p, y);
    } else {
        step = step_of(a->y_to > 0 ? a->y_to : 1);
        for (double y = 0; y <= a->y_to + step / 1e6; y += step)
            y_tick(p, y);
    }
    fprintf(p->to, "<text x='%d' y='18' font-weight='bold'>%s</text>\n", LEFT, a->title);
    fprintf(p->to, "<text x='%d' y='%d' text-anchor='middle'>%s</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, a->x);
    fprintf(p->to, "<text transform='translate(14 %d) rotate(-90)' text-anchor='middle'>%s</text>\n",
            (TOP + HEIGHT - BOTTOM) / 2, a->y);
}

struct plot *plot_open(const char *path, const struct plot_axes *axes)
{
    FILE *to = fopen(path, "w");
    struct plot *p = to ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        if (to)
            fclose(to);
        return NULL;
    }
    *p = (struct plot){.to = to, .axes = *axes, .legend_x = WIDTH - RIGHT};
    fprintf(to,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' "
            "font-family='sans-serif' font-size='12' fill='#777'>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_axes(p);
    return p;
}

static void draw_path(struct plot *p, bool steps, const char *colour, const double *x,
                      const double *y, size_t n)
{
    fprintf(p->to, "<path fill='none' stroke='%s' stroke-width='1.5' d='", colour);
    for (size_t i = 0; i < n; i++) {
        if (steps && i > 0)
            fprintf(p->to, "H%.1f", x_at(p, x[i]));
        fprintf(p->to, "%s%.1f %.1f", i == 0 ? "M" : "L", x_at(p, x[i]), y_at(p, y[i]));
    }
    fprintf(p->to, "'/>\n");
}

static void draw_bars(struct plot *p, const char *colour, const double *x, const double *y, size_t n)
{
    double width = n > 1 ? (x_at(p, x[1]) - x_at(p, x[0])) * 0.85 : 8;
    for (size_t i = 0; i < n; i++)
        if (y[i] > 0)
            fprintf(p->to, "<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>\n",
                    x_at(p, x[i]), y_at(p, y[i]), width, HEIGHT - BOTTOM - y_at(p, y[i]), colour);
}

/* From the right to the left, one name after the other. */
static void draw_legend(struct plot *p, const char *colour, const char *name)
{
    fprintf(p->to, "<text x='%d' y='36' text-anchor='end' fill='%s'>%s</text>\n", p->legend_x,
            colour, name);
    for (; *name; name++)
        p->legend_x -= 7;
    p->legend_x -= 14;
}

void plot_series(struct plot *p, enum plot_form form, int colour, const char *name, const double *x,
                 const double *y, size_t n)
{
    const char *ink = colours[colour];
    if (form == PLOT_LINE || form == PLOT_STEPS)
        draw_path(p, form == PLOT_STEPS, ink, x, y, n);
    if (form == PLOT_BARS)
        draw_bars(p, ink, x, y, n);
    for (size_t i = 0; form == PLOT_DOTS && i < n; i++)
        fprintf(p->to, "<circle cx='%.1f' cy='%.1f' r='1.6' fill='%s' fill-opacity='.6'/>\n",
                x_at(p, x[i]), y_at(p, y[i]), ink);
    draw_legend(p, ink, name);
}

bool plot_close(struct plot *p)
{
    fprintf(p->to, "</svg>\n");
    bool whole = !ferror(p->to);
    whole = fclose(p->to) == 0 && whole;
    free(p);
    return whole;
}
