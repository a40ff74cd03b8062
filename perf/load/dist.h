/* dist: numbers drawn from a distribution that stands on the command line or in a rules file.
 *
 *     dist   = value / value "-" value / list / name
 *     list   = value ":" weight *( "," value ":" weight )
 *     name   = "exp:" mean / "lognormal:" median "," sigma [ "," highest ]
 *     value  = digits [ "." digits ] unit
 *
 * A range is uniform, both ends included. sigma is that of the logarithm: with 1, two thirds lie
 * between median/2.7 and median*2.7. Units: sizes k m g (1024 each), times ns us ms s m h (a
 * number alone: seconds). */
#ifndef PERF_LOAD_DIST_H
#define PERF_LOAD_DIST_H

#include "io/base/err.h"

enum dist_unit { DIST_SIZE, DIST_TIME_NS, DIST_COUNT };
enum dist_shape { DIST_FIXED, DIST_RANGE, DIST_LIST, DIST_EXP, DIST_LOGNORMAL };

#define DIST_LIST_MAX 16

struct dist {
    enum dist_shape shape;
    int64_t low, high; /* FIXED low; RANGE both; EXP mean in low; LOGNORMAL median, highest */
    double sigma;
    size_t count; /* LIST */
    struct {
        int64_t value;
        double up_to; /* sum of the shares of this and those before it */
    } list[DIST_LIST_MAX];
};

struct err *dist_parse(struct str text, enum dist_unit unit, struct dist *out) MUST_USE;
/* Digits, perhaps with a point: not negative, nothing else. */
bool dist_number(struct str text, double *out);
/* One value with its unit. */
struct err *dist_value(struct str text, enum dist_unit unit, int64_t *out) MUST_USE;
int64_t dist_draw(const struct dist *d); /* never negative, never above dist_highest */
int64_t dist_highest(const struct dist *d); /* EXP: 20 times the mean */

#endif
