/* report: what a tool says at its end, for people and as JSON, and what both tools share on the way
 * there: CPU time, the progress line, reading options. */
#ifndef PERF_LOAD_REPORT_H
#define PERF_LOAD_REPORT_H

#include <stdio.h>
#include "io/base/buf.h"
#include "io/base/err.h"
#include "perf/load/hist.h"

/* --- JSON, written as it comes: no nesting deeper than 8. */
struct json {
    struct buf out;
    int depth;
    bool first[8];
};
void json_begin(struct json *j, const char *key, char bracket); /* '{' or '['; key NULL in arrays */
void json_end(struct json *j, char bracket);                    /* '}' or ']' */
void json_str(struct json *j, const char *key, struct str value);
void json_int(struct json *j, const char *key, int64_t value);
void json_num(struct json *j, const char *key, double value);
/* {"count":…, "min_us", "mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"} */
void json_hist(struct json *j, const char *key, const struct hist *h);
/* Writes it and frees it; path NULL only frees. */
struct err *json_finish(struct json *j, const char *path) MUST_USE;

/* --- people. One line of a table of latencies; title NULL prints the table's head. */
void report_hist(FILE *to, const char *title, const struct hist *h);

/* User and system time of this process so far, in seconds. */
struct cpu_time {
    double user_s, system_s;
};
struct cpu_time cpu_time(void);

/* --- options. Each ends the program with a message when the text is wrong. */
_Noreturn void die(const char *fmt, ...) PRINTF(1, 2);
void must(struct err *e, const char *what); /* NULL is fine */
uint64_t option_number(const char *name, const char *text, uint64_t min, uint64_t max);
/* 127.0.0.1:25, [::1]:25, localhost:25. */
struct addr;
void option_addr(const char *name, struct str text, struct addr *out);

/* --- the main thread. Blocks until SIGINT, SIGTERM (true), or until the time is over (false). Call
 * main_signals before the first thread starts: workers inherit the block. */
void main_signals(void);
bool main_wait(int64_t deadline_ns);
/* Wakes main_wait from any thread: it returns true at once, main_stopped() stays false. */
void main_wake(void);
bool main_stopped(void); /* SIGINT or SIGTERM came */

#endif
