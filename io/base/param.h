/* param: the type of a *_params.def row (style §4.1). Parameters stand in a table beside their
 * reader; core/config/params.c gathers the tables and generates the struct, the defaults, postconf's
 * output and the range test from the rows.
 *
 *     PARAM(smtpd_timeout, TIME, "${stress?{10}:{300}}s", "1s", "", "time limit for ...")
 *
 * name    as postconf(5)
 * type    STRING  char *, $name expanded
 *         RAW     char *, not expanded (texts with $ of their own)
 *         INT     int64_t, decimal
 *         SIZE    int64_t bytes
 *         TIME    int64_t seconds; a number without unit takes the unit of the default
 *         BOOL    bool, yes or no
 *         LIST    char *, expanded; split at commas and blanks by the reader
 * default before expansion, as `postconf -d` prints it
 * min max for INT SIZE TIME, "" = no bound
 * doc     one line */
#ifndef IO_BASE_PARAM_H
#define IO_BASE_PARAM_H

#include "io/base/err.h"

enum param_type {
    PARAM_STRING,
    PARAM_RAW,
    PARAM_INT,
    PARAM_SIZE,
    PARAM_TIME,
    PARAM_BOOL,
    PARAM_LIST,
};

/* Reading one value, already expanded; white space around it does not count. Errors are ERR_CONFIG
 * in Postfix's words, with the name in them; the output stays untouched. */

/* Decimal, within 32 bits as Postfix's int. */
MUST_USE struct err *param_int(const char *name, struct str text, int64_t *out);
/* Decimal, 64 bits. */
MUST_USE struct err *param_size(const char *name, struct str text, int64_t *out);
/* Digits and a unit: s m h d w; `unit` when there is none. Not negative, at most 2^31-1 seconds. What
 * follows the unit letter does not count, as in Postfix ("5min"). */
MUST_USE struct err *param_time(const char *name, struct str text, char unit, int64_t *seconds_out);
/* The unit of a default before expansion: its last letter, 's' when that is none of the units. */
char param_time_unit(const char *default_text);
/* yes or no, any case. */
MUST_USE struct err *param_bool(const char *name, struct str text, bool *out);
/* min and max as in the row: "" = no bound. type is INT, SIZE or TIME. */
MUST_USE struct err *param_range(const char *name, enum param_type type, int64_t value,
                                 const char *min, const char *max);

#endif
