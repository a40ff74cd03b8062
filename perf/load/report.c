#include "perf/load/report.h"

#include <math.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/file/file.h"
#include "io/net/addr.h"

/* --- JSON */

static void json_key(struct json *j, const char *key)
{
    if (j->depth > 0) {
        if (!j->first[j->depth - 1])
            buf_add_char(&j->out, ',');
        j->first[j->depth - 1] = false;
        buf_add_char(&j->out, '\n');
        for (int i = 0; i < j->depth; i++)
            buf_add_char(&j->out, ' ');
    }
    if (key != NULL)
        buf_printf(&j->out, "\"%s\": ", key);
}

void json_begin(struct json *j, const char *key, char bracket)
{
    json_key(j, key);
    CHECK(j->depth < (int)(sizeof j->first / sizeof *j->first));
    buf_add_char(&j->out, bracket);
    j->first[j->depth++] = true;
}

void json_end(struct json *j, char bracket)
{
    CHECK(j->depth > 0);
    j->depth--;
    buf_add_char(&j->out, bracket);
}

void json_str(struct json *j, const char *key, struct str value)
{
    json_key(j, key);
    buf_add_char(&j->out, '"');
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if (c == '"' || c == '\\' || c < 32)
            buf_printf(&j->out, "\\u%04x", c);
        else
            buf_add_char(&j->out, (char)c);
    }
    buf_add_char(&j->out, '"');
}

void json_int(struct json *j, const char *key, int64_t value)
{
    json_key(j, key);
    buf_printf(&j->out, "%lld", (long long)value);
}

void json_num(struct json *j, const char *key, double value)
{
    json_key(j, key);
    buf_printf(&j->out, "%.16g", isfinite(value) ? value : 0);
}

void json_hist(struct json *j, const char *key, const struct hist *h)
{
    json_begin(j, key, '{');
    json_int(j, "count", (int64_t)h->count);
    json_num(j, "min_us", (double)h->min / 1e3);
    json_num(j, "mean_us", hist_mean(h) / 1e3);
    json_num(j, "p50_us", (double)hist_at(h, 0.5) / 1e3);
    json_num(j, "p90_us", (double)hist_at(h, 0.9) / 1e3);
    json_num(j, "p99_us", (double)hist_at(h, 0.99) / 1e3);
    json_num(j, "p999_us", (double)hist_at(h, 0.999) / 1e3);
    json_num(j, "max_us", (double)h->max / 1e3);
    json_end(j, '}');
}

struct err *json_finish(struct json *j, const char *path)
{
    struct err *e = NULL;
    buf_add_char(&j->out, '\n');
    if (path != NULL)
        e = file_replace(path, buf_str(&j->out), 0644);
    buf_fini(&j->out);
    return e;
}

/* --- people */

static void print_time(FILE *to, int64_t ns)
{
    if (ns < 10 * NS_PER_MS)
        fprintf(to, " %8.0f us", (double)ns / 1e3);
    else if (ns < 10 * NS_PER_S)
        fprintf(to, " %8.1f ms", (double)ns / 1e6);
    else
        fprintf(to, " %8.1f s ", (double)ns / 1e9);
}

void report_hist(FILE *to, const char *title, const struct hist *h)
{
    static const double shares[] = {0.5, 0.9, 0.99, 0.999};
    if (title == NULL) {
        fprintf(to, "%-18s %9s %11s %11s %11s %11s %11s %11s\n", "latency", "count", "mean", "p50",
                "p90", "p99", "p99.9", "max");
        return;
    }
    if (h->count == 0)
        return;
    fprintf(to, "%-18s %9llu", title, (unsigned long long)h->count);
    print_time(to, (int64_t)hist_mean(h));
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        print_time(to, hist_at(h, shares[i]));
    print_time(to, h->max);
    fputc('\n', to);
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

struct cpu_time cpu_time(void)
{
    struct rusage u;
    CHECK(getrusage(RUSAGE_SELF, &u) == 0);
    return (struct cpu_time){seconds(u.ru_utime), seconds(u.ru_stime)};
}

/* --- options */

void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

void must(struct err *e, const char *what)
{
    if (e != NULL)
        die("%s: %s", what, e->text);
}

uint64_t option_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    uint64_t v;
    if (!str_u64(str_of(text), &v) || v < min || v > max)
        die("--%s %s: a number from %llu to %llu is expected", name, text, (unsigned long long)min,
            (unsigned long long)max);
    return v;
}

/* A name is looked up once, before anything runs; the first address is taken. */
static bool look_up(struct str host, uint16_t port, struct addr *out)
{
    char name[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (host.len >= sizeof name)
        return false;
    str_copy(name, sizeof name, host);
    if (getaddrinfo(name, NULL, &hints, &found) != 0)
        return false;
    *out = (struct addr){.len = found->ai_addrlen};
    memcpy(&out->ss, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    addr_set_port(out, port);
    return true;
}

void option_addr(const char *name, struct str text, struct addr *out)
{
    uint64_t port;
    ssize_t colon = str_rindex(text, ':');
    struct str host = colon < 0 ? text : str_head(text, (size_t)colon);
    if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = str_make(host.ptr + 1, host.len - 2);
    if (colon < 0 || !str_u64(str_from(text, (size_t)colon + 1), &port) || port > 65535)
        die("%s %.*s: HOST:PORT is expected", name, STR_ARG(text));
    if (!addr_parse(host, (uint16_t)port, out) && !look_up(host, (uint16_t)port, out))
        die("%s %.*s: unknown host", name, STR_ARG(text));
}

/* --- the main thread */

static bool stop_seen;

static sigset_t awaited(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    return set;
}

void main_signals(void)
{
    sigset_t set = awaited();
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    (void)signal(SIGPIPE, SIG_IGN);
}

bool main_wait(int64_t deadline_ns)
{
    sigset_t set = awaited();
    int64_t left = deadline_ns - clock_mono_ns();
    struct timespec ts = {.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
    if (left <= 0)
        return false;
    int got = sigtimedwait(&set, NULL, &ts);
    if (got == SIGINT || got == SIGTERM)
        stop_seen = true;
    return got > 0;
}

void main_wake(void)
{
    (void)kill(getpid(), SIGUSR1);
}

bool main_stopped(void)
{
    return stop_seen;
}
