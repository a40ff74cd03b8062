#include "driver.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "io/base/clock.h"

struct range {
    uint64_t from, to;
    int64_t minutes;
};

struct sim_run sim = {.point = -1, .phase = "workload", .note = ""};
struct sim_asked sim_asked = {.point = -1};

static const struct driver *self;

/* --- telling */

static const char *kind_of_fault(void)
{
    return sim.kind == FAULT_READ ? "read" : "change";
}

static void say_where(void)
{
    fprintf(stderr, "sim: %s%s: seed %llu", sim.phase, sim.note, (unsigned long long)sim.seed);
    if (sim.fault != 0)
        fprintf(stderr, ", %s %llu fails", kind_of_fault(), (unsigned long long)sim.fault);
    if (sim.point >= 0)
        fprintf(stderr, ", power cut at point %ld", sim.point);
    fprintf(stderr, "\nsim: repeat it with: %s --seed %llu", self->name,
            (unsigned long long)sim.seed);
    if (sim.fault != 0)
        fprintf(stderr, " --%s %llu", kind_of_fault(), (unsigned long long)sim.fault);
    if (sim.point >= 0)
        fprintf(stderr, " --point %ld", sim.point);
    fprintf(stderr, " --verbose\n");
}

void sim_fail(const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    fprintf(stderr, "sim: FAILED at %.3f s: ", (double)clock_mono_ns() / 1e9);
    vfprintf(stderr, fmt, list);
    fputc('\n', stderr);
    va_end(list);
    say_where();
    fflush(NULL);
    _exit(1);
}

static void on_abort(int number)
{
    (void)number;
    say_where();
    _exit(1);
}

void __wrap_log_at(enum log_level level, const char *service, const char *fmt, ...) PRINTF(3, 4);
void __wrap_log_at(enum log_level level, const char *service, const char *fmt, ...)
{
    char text[1000];
    va_list list;
    bool read = self->logged != NULL && level != LOG_LEVEL_INFO;
    if (!sim.verbose && !read)
        return;
    va_start(list, fmt);
    vsnprintf(text, sizeof text, fmt, list);
    va_end(list);
    if (read)
        self->logged(text);
    if (sim.verbose)
        fprintf(stderr, "%12.6f %d %s: %s\n", (double)clock_mono_ns() / 1e9, (int)level, service,
                text);
}

/* The keys of hash tables are a part of the world too. */
ssize_t __wrap_getrandom(void *to, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *to, size_t n, unsigned flags)
{
    (void)flags;
    memset(to, 0x5a, n);
    return (ssize_t)n;
}

/* --- options */

static const char help[] = "usage: %s [options]\n"
                           "  --seeds A-B     run these (default 1-%llu)\n"
                           "  --seed N        run one\n"
                           "  --minutes M     go on from A for so long\n"
                           "  --must-fail     succeed only if some seed fails (for mutations)\n"
                           "  --verbose       show what is logged\n";
static const char help_cuts[] =
    "  --point K       cut the power at this point only\n"
    "  --change N      in this run the N-th change of the disk fails; --read N: the N-th read\n"
    "  --faults        every operation in turn fails, not one a seed\n";

static void show_help(FILE *to)
{
    fprintf(to, help, self->name, (unsigned long long)self->seeds);
    for (const struct driver_option *o = self->options; o != NULL && o->name != NULL; o++)
        fprintf(to, "  --%s %s\n", o->name, o->help);
    if (self->cuts)
        fputs(help_cuts, to);
}

static void set_range(struct range *r, const char *text, char **end)
{
    r->from = r->to = strtoull(text, end, 10);
    if (**end == '-')
        r->to = strtoull(*end + 1, end, 10);
}

/* An option with a value; where that ends. */
static char *set_number(struct range *r, int option, const char *text)
{
    char *end = NULL;
    if (option == 's')
        set_range(r, text, &end);
    else if (option == 'm')
        r->minutes = strtol(text, &end, 10);
    else if (option == 'p')
        sim_asked.point = strtol(text, &end, 10);
    else if (option == 'c')
        sim_asked.change = strtoull(text, &end, 10);
    else
        sim_asked.read = strtoull(text, &end, 10);
    return end;
}

enum { OWN = 256, OWN_MAX = 8 };

/* Those of all simulations, and then those of this one. */
static void list_options(struct option *list)
{
    static const struct option all[] = {
        {"seeds", 1, NULL, 's'},     {"seed", 1, NULL, 's'},    {"minutes", 1, NULL, 'm'},
        {"must-fail", 0, NULL, 'x'}, {"verbose", 0, NULL, 'v'}, {"help", 0, NULL, 'h'},
        {"point", 1, NULL, 'p'},     {"change", 1, NULL, 'c'},  {"read", 1, NULL, 'r'},
        {"faults", 0, NULL, 'f'}};
    memcpy(list, all, sizeof all);
    list += sizeof all / sizeof all[0];
    for (int i = 0; self->options != NULL && i < OWN_MAX && self->options[i].name != NULL; i++)
        *list++ = (struct option){self->options[i].name, 1, NULL, OWN + i};
}

static void parse(int argc, char **argv, struct range *r, bool *must_fail)
{
    struct option options[10 + OWN_MAX + 1] = {{0}};
    int option;
    list_options(options);
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        bool known = self->cuts || strchr("pcrf", option) == NULL;
        if (option >= OWN) {
            *self->options[option - OWN].value = optarg;
        } else if (option == 'v') {
            sim.verbose = true;
        } else if (option == 'x') {
            *must_fail = true;
        } else if (option == 'f' && known) {
            sim_asked.every_fault = true;
        } else if (optarg == NULL || option == '?' || !known) {
            show_help(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        } else if (*set_number(r, option, optarg) != '\0') {
            fprintf(stderr, "%s: not a number: %s\n", self->name, optarg);
            exit(2);
        }
    }
}

/* --- the seeds */

static int64_t real_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static int drive(const struct range *r)
{
    int64_t began = real_s(), told = began;
    signal(SIGABRT, on_abort);
    if (self->begin != NULL)
        self->begin();
    for (sim.seed = r->from; r->minutes > 0 || sim.seed <= r->to; sim.seed++) {
        self->one_seed();
        int64_t now = real_s();
        if (self->progress != NULL && isatty(STDERR_FILENO) && now != told) {
            told = now;
            fputc('\r', stderr);
            self->progress();
        }
        if (r->minutes > 0 && now - began >= r->minutes * 60)
            break;
    }
    if (self->end != NULL)
        self->end();
    return 0;
}

/* In a child, for it ends where it fails. */
static int must_see(const struct range *r)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        exit(drive(r));
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 2;
    bool failed = WIFEXITED(status) && WEXITSTATUS(status) == 1;
    puts(failed ? "the mutation was caught" : "THE MUTATION WAS NOT CAUGHT");
    return failed ? 0 : 1;
}

int driver_main(const struct driver *d, int argc, char **argv)
{
    struct range r = {.from = 1, .to = d->seeds};
    bool must_fail = false;
    self = d;
    parse(argc, argv, &r, &must_fail);
    return must_fail ? must_see(&r) : drive(&r);
}
