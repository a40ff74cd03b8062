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

enum param_type {
    PARAM_STRING,
    PARAM_RAW,
    PARAM_INT,
    PARAM_SIZE,
    PARAM_TIME,
    PARAM_BOOL,
    PARAM_LIST,
};

#endif
