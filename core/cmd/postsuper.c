/* postsuper(1): what only the superuser may do to the queue. */
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/cmd.h"
#include "core/cmd/format.h"
#include "core/cmd/import.h"
#include "core/cmd/input.h"
#include "core/cmd/tell.h"
#include "io/base/mem.h"

static const char usage[] =
    "[-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] "
    "[-h queue_id (hold)] [-H queue_id (un-hold)] [--import directory] [-p (purge temporary files)] [-r queue_id (requeue)] "
    "[-s (structure fix)] [-S (redundant structure fix)][-v (verbose)] [queue...]";

static const char help[] =
    "usage: postsuper [-c config_dir] [-d id] [-h id] [-H id] [-r id] [-e id] [-f id] [queue...]\n"
    "\n"
    "  -d id   delete the message\n"
    "  -h id   put it on hold          -H id   release it from hold\n"
    "  -r id   requeue it: through cleanup again, under a new id\n"
    "  -e id   expire it: back to the sender at the next attempt\n"
    "  -f id   expire it, and release it from hold\n"
    "  --import DIR  queue what a Postfix queue directory holds (incoming, active, deferred, hold), each message\n"
    "          once, with its times, reasons and hold state; DIR is only read, its Postfix must be stopped, and\n"
    "          the same command may be given again\n"
    "  -p -s -S  accepted: this queue has no stray files to clean up\n"
    "\n"
    "An id may be ALL (upper case), or - to read ids from standard input, one a line. Queues (incoming, active,\n"
    "deferred, hold) restrict what is touched: postsuper -d ALL deferred. Only the superuser may do this.\n";

/* In the order in which they are done. The report has an order of its own. */
static const struct action {
    char option;
    enum queue_act act;
    const char *done;   /* for one message */
    const char *report; /* for all */
    unsigned report_at;
} actions[] = {
    {'d', QUEUE_ACT_REMOVE, "removed", "Deleted", 1},
    {'r', QUEUE_ACT_REQUEUE, "requeued", "Requeued", 0},
    {'e', QUEUE_ACT_EXPIRE, "expired", "Force-expired", 2},
    {'h', QUEUE_ACT_HOLD, "placed on hold", "Placed on hold", 3},
    {'H', QUEUE_ACT_RELEASE, "released from hold", "Released from hold", 4},
};
#define ACTION_COUNT (sizeof(actions) / sizeof(actions[0]))

/* -f is an expiry and a release of the same messages. */
struct order {
    char option;
    const char *id;
};

struct super {
    const struct snapshot *snapshot;
    const char *import; /* a Postfix queue directory */
    struct order *orders;
    size_t order_count;
    enum queue_name queues[8];
    size_t queue_count; /* 0 = all */
    bool restricted;    /* queues were named, maybe only such as are always empty here */
    bool asked[ACTION_COUNT];
    uint64_t counts[ACTION_COUNT];
    const struct action *now;
};

static void one_done(void *ctx, const char *id)
{
    const struct super *s = ctx;
    tell_info("%s: %s", id, s->now->done);
}

static struct err *act(struct super *s, struct access *a, size_t i, struct str id)
{
    bool all = str_eq(id, STR("ALL"));
    s->now = &actions[i];
    for (size_t q = 0; q < (s->restricted ? s->queue_count : 1); q++) {
        struct queue_select what = {.id = all ? STR("") : id,
                                    .queue = s->restricted ? s->queues[q] : QUEUE_ANY};
        uint64_t n = 0;
        struct err *e = access_do(a, actions[i].act, &what, all ? NULL : one_done, s, &n);
        if (e)
            return e;
        s->counts[i] += n;
    }
    return NULL;
}

static struct err *one_id(struct super *s, struct access *a, char option, struct str id)
{
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        bool wanted = actions[i].option == option ||
                      (option == 'f' && (actions[i].option == 'e' || actions[i].option == 'H'));
        if (!wanted)
            continue;
        if (!format_id_valid(id)) {
            tell_warning("invalid mail queue id: %.*s", STR_ARG(id));
            continue;
        }
        struct err *e = act(s, a, i, id);
        if (e)
            return e;
    }
    return NULL;
}

static struct err *ids_from_stdin(struct super *s, struct access *a, char option)
{
    struct input in;
    struct str line;
    bool whole;
    struct err *e;
    input_open(&in);
    while (input_line(&in, &line, &whole, &e) && !e)
        if (whole)
            e = one_id(s, a, option, line);
        else
            e = err_new(ERR_LIMIT, 0, "a line of standard input is too long for a queue id");
    input_close(&in);
    return e;
}

static void report(const struct super *s)
{
    for (unsigned at = 0; at < ACTION_COUNT; at++)
        for (size_t i = 0; i < ACTION_COUNT; i++)
            if (s->asked[i] && actions[i].report_at == at)
                tell_info("%s: %llu message%s", actions[i].report, (unsigned long long)s->counts[i],
                          s->counts[i] == 1 ? "" : "s");
}

static int run(struct access *a, void *ctx)
{
    struct super *s = ctx;
    static const char sequence[] = "drefhH";
    struct err *e = NULL;
    for (const char *option = sequence; *option && !e; option++)
        for (size_t i = 0; i < s->order_count && !e; i++) {
            if (s->orders[i].option != *option)
                continue;
            if (strcmp(s->orders[i].id, "-") == 0)
                e = ids_from_stdin(s, a, *option);
            else
                e = one_id(s, a, *option, str_of(s->orders[i].id));
        }
    report(s);
    return e ? tell_fatal(1, "%s", e->text) : 0;
}

/* Queues of Postfix that hold nothing here are fine to name. */
static bool add_queue(struct super *s, const char *name)
{
    static const char *const empty[] = {"maildrop", "bounce", "defer", "trace", "flush", "saved", NULL};
    for (enum queue_name q = QUEUE_INCOMING; q <= QUEUE_HOLD; q++)
        if (strcmp(name, format_queue_name(q)) == 0) {
            bool twice = false;
            for (size_t i = 0; i < s->queue_count; i++)
                twice |= s->queues[i] == q;
            if (!twice)
                s->queues[s->queue_count++] = q;
            return true;
        }
    for (size_t i = 0; empty[i]; i++)
        if (strcmp(name, empty[i]) == 0)
            return true;
    return false;
}

static int carry_out(struct super *s, int argc, char **argv)
{
    if (!command_privileged(s->snapshot))
        return tell_fatal(1, "use of this command is reserved for the superuser");
    for (int i = 0; i < argc; i++)
        if (!add_queue(s, argv[i]))
            return tell_fatal(1, "invalid directory name: %s", argv[i]);
    s->restricted = argc > 0;
    for (size_t i = 0; i < s->order_count; i++)
        for (size_t k = 0; k < ACTION_COUNT; k++)
            s->asked[k] |= s->orders[i].option == actions[k].option ||
                           (s->orders[i].option == 'f' &&
                            (actions[k].option == 'e' || actions[k].option == 'H'));
    if (s->import && (s->order_count > 0 || argc > 0))
        return tell_fatal(1, "--import goes with no other act");
    if (s->import)
        return import_run(s->snapshot, s->import);
    if (s->order_count == 0) /* the structure of this queue is checked at each start */
        return 0;
    return access_run(s->snapshot, "postsuper", true, run, s);
}

int cmd_postsuper(int argc, char **argv)
{
    static const struct option words[] = {{"import", required_argument, NULL, 'I'}, {NULL, 0, NULL, 0}};
    const char *dash_c = NULL;
    bool bad = false;
    int opt;
    tell_begin(command_name(argv), "postsuper");
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout), 0;
    struct super s = {.orders = mem_zalloc((size_t)argc * sizeof(struct order))};
    while (!bad && (opt = getopt_long(argc, argv, "+c:d:e:f:h:H:pr:sSv", words, NULL)) > 0) {
        if (opt == 'c')
            dash_c = optarg;
        else if (opt == 'I')
            s.import = optarg;
        else if (strchr("defhHr", opt))
            s.orders[s.order_count++] = (struct order){(char)opt, optarg};
        else
            bad = opt == '?';
    }
    int rc = 1;
    struct snapshot *config = NULL;
    if (bad)
        rc = tell_fatal(1, "usage: postsuper %s", usage);
    else if (dash_c && dash_c[0] != '/')
        rc = tell_fatal(1, "-c requires absolute pathname");
    else if ((config = command_config(dash_c)) != NULL) {
        s.snapshot = config;
        rc = carry_out(&s, argc - optind, argv + optind);
    }
    tell_end();
    mem_free(s.orders);
    if (config)
        snapshot_unref(config);
    return rc;
}
