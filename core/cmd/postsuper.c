/* postsuper(1): what only the superuser may do to the queue. */
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/check.h"
#include "core/cmd/cmd.h"
#include "core/cmd/format.h"
#include "core/cmd/import.h"
#include "core/cmd/input.h"
#include "core/cmd/tell.h"
#include "io/base/mem.h"

/* Postfix's words; what goes beyond them is told by --help. */
static const char usage[] =
    "[-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] "
    "[-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] [-r queue_id (requeue)] "
    "[-s (structure fix)] [-S (redundant structure fix)][-v (verbose)] [queue...]";

static const char help[] =
    "usage: postsuper [-c config_dir] [-d id] [-h id] [-H id] [-r id] [-e id] [-f id]\n"
    "                 [--sender address] [--domain domain] [--destination nexthop] [queue...]\n"
    "\n"
    "  -d id   delete the message\n"
    "  -h id   put it on hold          -H id   release it from hold\n"
    "  -r id   requeue it: through cleanup again, under a new id\n"
    "  -e id   expire it: back to the sender at once, what is on hold when it is released\n"
    "  -f id   expire it, and release it from hold\n"
    "  --import DIR  queue what a Postfix queue directory holds (incoming, active, deferred, hold, maildrop), each\n"
    "          message once, with its times, reasons and hold state; DIR is only read, its Postfix must be stopped,\n"
    "          and the same command may be given again\n"
    "  -s      check: the log, each message, large contents and the index. With the mail system down, damaged\n"
    "          messages are moved to the corrupt queue and a damaged index is removed (the next start builds it\n"
    "          again); while it runs nothing is changed. Silent when nothing is wrong; -v says what was looked at\n"
    "  -S      the same as -s          -p   accepted: this queue has no stray files to clean up\n"
    "\n"
    "An id may be ALL (upper case), or - to read ids from standard input, one a line. Queues (incoming, active,\n"
    "deferred, hold) restrict what is touched: postsuper -d ALL deferred. Only the superuser, or who owns the instance,\n"
    "may do this.\n"
    "\n"
    "These restrict it further; what is given has to fit, all of it, also for ids that are named:\n"
    "  --sender user@example.com      its sender; <> is the null sender\n"
    "  --sender @example.com          any sender in this domain\n"
    "  --domain example.org           some recipient that is left is in this domain\n"
    "  --destination nexthop          some recipient goes there: [relay.example]:25, or with its transport,\n"
    "                                 smtp:[relay.example]:25; as last looked up for a delivery. After the index was\n"
    "                                 built again (a warning in the log) it finds what has been tried since; --domain\n"
    "                                 and --sender find all\n"
    "A message with several recipients is acted on as a whole: postsuper -h ALL --domain example.org\n";

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
enum { IDS_AT_ONCE = 1000 };
enum { OPTION_IMPORT = 256, OPTION_SENDER, OPTION_DOMAIN, OPTION_DESTINATION };
#define ACTION_COUNT (sizeof(actions) / sizeof(actions[0]))

/* -f is an expiry and a release of the same messages. */
struct order {
    char option;
    const char *id;
};

struct super {
    const struct snapshot *snapshot;
    const char *import; /* a Postfix queue directory */
    bool check, verbose;
    struct order *orders;
    size_t order_count;
    enum queue_name queues[8];
    size_t queue_count; /* 0 = all */
    bool restricted;    /* queues were named, maybe only such as are always empty here */
    struct str sender, domain, destination;
    bool asked[ACTION_COUNT];
    uint64_t counts[ACTION_COUNT];
    const struct action *now;
};

static void one_done(void *ctx, const char *id)
{
    const struct super *s = ctx;
    tell_info("%s: %s", id, s->now->done);
}

/* ids: one, or some with spaces between; empty = all. */
static struct err *act(struct super *s, struct access *a, size_t i, struct str ids)
{
    s->now = &actions[i];
    for (size_t q = 0; q < (s->restricted ? s->queue_count : 1); q++) {
        struct queue_select what = {.id = ids,
                                    .queue = s->restricted ? s->queues[q] : QUEUE_ANY,
                                    .sender = s->sender,
                                    .domain = s->domain,
                                    .destination = s->destination};
        uint64_t n = 0;
        struct err *e = access_do(a, actions[i].act, &what, ids.len ? one_done : NULL, s, &n);
        s->counts[i] += n;
        if (e)
            return e;
    }
    return NULL;
}

static bool asks_for(char option, const struct action *k)
{
    return k->option == option || (option == 'f' && (k->option == 'e' || k->option == 'H'));
}

static struct err *act_on(struct super *s, struct access *a, char option, struct str ids)
{
    struct err *e = NULL;
    for (size_t i = 0; i < ACTION_COUNT && !e; i++)
        if (asks_for(option, &actions[i]))
            e = act(s, a, i, ids);
    return e;
}

/* Each act complains for itself. */
static bool id_is_fine(char option, struct str id)
{
    if (format_id_valid(id))
        return true;
    for (size_t i = 0; i < ACTION_COUNT; i++)
        if (asks_for(option, &actions[i]))
            tell_warning("invalid mail queue id: %.*s", STR_ARG(id));
    return false;
}

/* Many at a time: each request is made safe before the next. ALL is a word of the command line only. */
static struct err *ids_from_stdin(struct super *s, struct access *a, char option)
{
    struct input in;
    struct buf ids = {0};
    struct str line;
    bool whole;
    size_t n = 0;
    struct err *e = NULL;
    input_open(&in);
    while (!e && input_line(&in, &line, &whole, &e) && !e) {
        if (!whole)
            e = err_new(ERR_LIMIT, 0, "a line of standard input is too long for a queue id");
        else if (id_is_fine(option, line)) {
            buf_add_str(&ids, line);
            buf_add_char(&ids, ' ');
            n++;
        }
        if (!e && n == IDS_AT_ONCE) {
            e = act_on(s, a, option, buf_str(&ids));
            buf_reset(&ids);
            n = 0;
        }
    }
    if (n > 0 && !e)
        e = act_on(s, a, option, buf_str(&ids));
    buf_fini(&ids);
    input_close(&in);
    return e;
}

static struct err *carry_out_order(struct super *s, struct access *a, const struct order *o)
{
    struct str id = str_of(o->id);
    if (str_eq(id, STR("-")))
        return ids_from_stdin(s, a, o->option);
    if (str_eq(id, STR("ALL")))
        return act_on(s, a, o->option, STR(""));
    return id_is_fine(o->option, id) ? act_on(s, a, o->option, id) : NULL;
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
        for (size_t i = 0; i < s->order_count && !e; i++)
            if (s->orders[i].option == *option)
                e = carry_out_order(s, a, &s->orders[i]);
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
            s->asked[k] |= asks_for(s->orders[i].option, &actions[k]);
    bool filtered = s->sender.len > 0 || s->domain.len > 0 || s->destination.len > 0;
    if (s->import && (s->order_count > 0 || argc > 0 || filtered))
        return tell_fatal(1, "--import goes with no other act");
    if (filtered && s->order_count == 0)
        return tell_fatal(1, "--sender, --domain and --destination say which mail: what is to be done with it?");
    if (s->import)
        return import_run(s->snapshot, s->import);
    int rc = s->check ? check_run(s->snapshot, s->verbose) : 0;
    if (s->order_count == 0 || rc != 0)
        return rc;
    return access_run(s->snapshot, "postsuper", true, run, s);
}

/* What is given twice, or empty, would touch more or other mail than meant. */
static bool set_once(struct str *to, const char *value)
{
    bool fine = to->len == 0 && value[0] != '\0';
    *to = str_of(value);
    return fine;
}

static bool take_option(struct super *s, int opt, const char *value, const char **dash_c)
{
    switch (opt) {
    case 'c':
        *dash_c = value;
        return true;
    case OPTION_IMPORT:
        s->import = value;
        return true;
    case OPTION_SENDER:
        return set_once(&s->sender, value);
    case OPTION_DOMAIN:
        return set_once(&s->domain, value);
    case OPTION_DESTINATION:
        return set_once(&s->destination, value);
    case 's':
    case 'S':
        s->check = true;
        return true;
    case 'v':
        s->verbose = true;
        return true;
    case '?':
        return false;
    default:
        if (strchr("defhHr", opt))
            s->orders[s->order_count++] = (struct order){(char)opt, value};
        return true;
    }
}

int cmd_postsuper(int argc, char **argv)
{
    static const struct option words[] = {{"import", required_argument, NULL, OPTION_IMPORT},
                                          {"sender", required_argument, NULL, OPTION_SENDER},
                                          {"domain", required_argument, NULL, OPTION_DOMAIN},
                                          {"destination", required_argument, NULL, OPTION_DESTINATION},
                                          {NULL, 0, NULL, 0}};
    const char *dash_c = NULL;
    bool bad = false;
    int opt;
    tell_begin(command_name(argv), "postsuper");
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout), 0;
    struct super s = {.orders = mem_zalloc((size_t)argc * sizeof(struct order))};
    while (!bad && (opt = getopt_long(argc, argv, "+c:d:e:f:h:H:pr:sSv", words, NULL)) > 0)
        bad = !take_option(&s, opt, optarg, &dash_c);
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
