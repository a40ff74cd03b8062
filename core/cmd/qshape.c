/* qshape(1): the queue's mail by domain and age. The layout is that of Postfix's, figure for figure; the rows come from
 * the index of the queue instead of from reading each file, so nothing is shown in between. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/cmd.h"
#include "core/cmd/shape.h"
#include "core/cmd/tell.h"

enum { TOP_DOMAINS = 20 };

static const char usage[] =
    "usage: qshape [-s] [-p] [-m min_subdomains] [-l] [-b bucket_count] [-t bucket_time]\n"
    "              [-w terminal_width] [-N batch_msg_count] [-n batch_top_domains]\n"
    "              [-c config_directory] [queue_name ...]\n";

static const char help[] =
    "\n"
    "How many recipients wait, by domain (T: all of them) and by age in minutes.\n"
    "\n"
    "  -s   by the sender's domain instead; messages are counted\n"
    "  -p   parent domains too, as .example.com, where they have at least\n"
    "  -m   so many subdomains (5)\n"
    "  -b   columns of age (10); each is for an age up to twice that of the one before\n"
    "  -t   minutes of the first column (5)\n"
    "  -l   all columns cover the same time\n"
    "  -w   width in characters (80), not less than that\n"
    "  -n   on a terminal: only so many domains (20; 0 = all)\n"
    "  -N   accepted: results do not come piece by piece here\n"
    "\n"
    "Queues: incoming and active when none is named; deferred, hold. As a path too: queue_directory/deferred.\n";

struct running {
    const struct snapshot *snapshot;
    struct shape shape;
    unsigned queues;
};

static void take(void *ctx, struct str rows)
{
    shape_add(ctx, rows);
}

static int run(struct access *a, void *ctx)
{
    struct running *r = ctx;
    struct err *e = access_channel(a);
    wire_begin(&a->out, WIRE_SHAPE);
    buf_add_u32(&a->out, r->queues);
    buf_add_u8(&a->out, r->shape.senders);
    if (!e)
        e = access_ask(a, take, &r->shape, NULL, NULL);
    return e ? tell_fatal(1, "%s", e->text) : 0;
}

/* --- command line */

static bool is_number(const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v))
        return false;
    *out = v;
    return true;
}

/* "deferred", or its whole path. False: no queue of ours. */
static bool add_queue(struct running *r, const char *name)
{
    static const struct {
        const char *name;
        unsigned bit;
    } queues[] = {{"incoming", 1U << QUEUE_INCOMING}, {"active", 1U << QUEUE_ACTIVE},
                  {"deferred", 1U << QUEUE_DEFERRED}, {"hold", 1U << QUEUE_HOLD},
                  {"maildrop", 0}, {"corrupt", 0}};
    struct str dir = str_of(r->snapshot->params->queue_directory), wanted = str_of(name);
    if (str_starts(wanted, dir) && wanted.len > dir.len && wanted.ptr[dir.len] == '/')
        wanted = str_from(wanted, dir.len + 1);
    while (wanted.len > 1 && wanted.ptr[wanted.len - 1] == '/')
        wanted.len--;
    for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++)
        if (str_eq(wanted, str_of(queues[i].name))) {
            r->queues |= queues[i].bit;
            return true;
        }
    return false;
}

static bool set_number(struct shape *s, int option, double v)
{
    switch (option) {
    case 'w':
        s->width = v > 80 && v <= 10000 ? (int)v : s->width;
        return true;
    case 'b':
        if (v >= 1)
            s->buckets = (size_t)(v < SHAPE_BUCKETS_MAX ? v : SHAPE_BUCKETS_MAX);
        return true;
    case 't':
        if (v > 0)
            s->tick_min = v;
        return true;
    case 'm':
        if (v >= 1)
            s->min_subdomains = (uint64_t)(v < 1e9 ? v : 1e9);
        return true;
    case 'n':
        if (isatty(STDOUT_FILENO))
            s->top = v >= 1 ? (size_t)(v < 1e9 ? v : 1e9) : 0;
        return true;
    default:
        return true;
    }
}

static bool parse(int argc, char **argv, struct shape *s, const char **dash_c)
{
    int opt;
    double v;
    while ((opt = getopt(argc, argv, "+lhc:psw:b:t:m:n:N:")) > 0) {
        if (opt == 'h' || opt == '?')
            return false;
        if (opt == 'c')
            *dash_c = optarg;
        else if (opt == 'l')
            s->linear = true;
        else if (opt == 'p')
            s->parents = true;
        else if (opt == 's')
            s->senders = true;
        else if (!is_number(optarg, &v) || !set_number(s, opt, v))
            return false;
    }
    return true;
}

static int count_and_print(struct running *r)
{
    int rc = r->queues ? access_run(r->snapshot, "qshape", true, run, r) : 0;
    if (rc)
        return 1;
    struct buf out = {0};
    shape_print(&r->shape, &out);
    fwrite(out.ptr, 1, out.len, stdout);
    buf_fini(&out);
    return fflush(stdout) != 0 ? tell_fatal(1, "write error: %s", strerror(errno)) : 0;
}

int cmd_qshape(int argc, char **argv)
{
    struct running r = {0};
    const char *dash_c = NULL;
    tell_begin(command_name(argv), "qshape");
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout), fputs(help, stdout), 0;
    shape_init(&r.shape, (int64_t)time(NULL));
    r.shape.top = isatty(STDOUT_FILENO) ? TOP_DOMAINS : 0;
    if (!parse(argc, argv, &r.shape, &dash_c)) {
        shape_fini(&r.shape);
        fputs(usage, stderr);
        return 255; /* Perl's, for one that dies */
    }
    struct snapshot *s = command_config(dash_c);
    int rc = s ? 0 : 1;
    r.snapshot = s;
    for (int i = optind; s && i < argc; i++)
        if (!add_queue(&r, argv[i]))
            fprintf(stderr, "Can't stat %s: No such file or directory\n", argv[i]);
    if (optind >= argc)
        r.queues = 1U << QUEUE_INCOMING | 1U << QUEUE_ACTIVE;
    if (s && !command_privileged(s))
        rc = tell_fatal(1, "use of this command is reserved for the superuser");
    if (rc == 0)
        rc = count_and_print(&r);
    shape_fini(&r.shape);
    tell_end();
    if (s)
        snapshot_unref(s);
    return rc;
}
