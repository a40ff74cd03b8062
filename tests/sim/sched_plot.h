/* sched_plot: a chart with axes as an SVG file: lines, steps, dots or bars, up to six colours. No
 * scripts, no fonts of its own; readable on a light and a dark ground. */
#ifndef SIM_SCHED_PLOT_H
#define SIM_SCHED_PLOT_H

#include <stddef.h>
#include <stdbool.h>

struct plot;

struct plot_axes {
    const char *title, *x, *y; /* what stands along the axes */
    double x_from, x_to, y_to; /* y begins at 0, or at y_from where it is logarithmic */
    double y_from;
    bool log_y;
};

/* path: a new file. NULL when it cannot be written. */
struct plot *plot_open(const char *path, const struct plot_axes *axes);
enum plot_form { PLOT_LINE, PLOT_STEPS, PLOT_DOTS, PLOT_BARS };
/* colour: 0 to 5; name: for the legend. */
void plot_series(struct plot *p, enum plot_form form, int colour, const char *name, const double *x,
                 const double *y, size_t n);
bool plot_close(struct plot *p); /* false: could not be written as a whole */

#endif
