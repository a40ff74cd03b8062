/* postqueue(1): list and flush the queue, for everybody. */
#include "core/cmd/postqueue.h"

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/cmd.h"
#include "core/cmd/format.h"
#include "core/cmd/tell.h"
#include "core/mail/address.h"

static const char usage[] =
    "postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site";

static const char help[] =
    "usage: postqueue [-v] [-c config_dir] -p | -j | -f | -i queue_id | -s site\n"
    "       postqueue [-c config_dir] [--json] --why what | --suspended\n"
    "       postqueue [-c config_dir] --suspend what | --resume what\n"
    "\n"
    "  -p           list the queue, as mailq does: * active, ! on hold, # to be expired\n"
    "  -j           list the queue as JSON, one message a line\n"
    "  -f           try all deferred mail now\n"
    "  -i queue_id  try this message now\n"
    "  -s site      try the mail that waits for this site now (fast_flush_domains)\n"
    "\n"
    "  --why what       why mail waits: for a recipient domain, a destination (smtp:[relay.example]:25), a\n"
    "                   transport (smtp:) or one message (its queue id)\n"
    "  --suspend what   no more deliveries there: example.com (a recipient domain), smtp:[relay.example]:25 (a\n"
    "                   destination), [relay.example]:25 (by any transport) or smtp: (a transport). Its mail\n"
    "                   waits in the queue, is not tried and does not expire, until\n"
    "  --resume what    it may go again; ALL: all that is suspended\n"
    "  --suspended      what is suspended, and since when\n"
    "  --json           with --why and --suspended: as JSON\n"
    "\n"
    "Listing also works while the mail system is down, for whoever may read the queue. While the index of the queue\n"
    "is being built again (after a crash, or when it was deleted) it waits for all mail to be known, and says so.\n";

/* --- listing */

struct listing {
    bool json, long_ids;
    uint64_t count, bytes;
    struct buf out;
};

static bool list_one(void *ctx, const struct queue_entry *e)
{
    struct listing *l = ctx;
    buf_reset(&l->out);
    if (l->json)
        format_json_entry(&l->out, e);
    else {
        if (l->count == 0)
            format_list_head(&l->out, l->long_ids);
        format_list_entry(&l->out, l->long_ids, e);
    }
    l->count++;
    l->bytes += e->env->data_size;
    return fwrite(l->out.ptr, 1, l->out.len, stdout) == l->out.len;
}

static int list_all(struct access *a, void *ctx)
{
    struct listing *l = ctx;
    struct err *e = access_list(a, list_one, l);
    if (!e && !l->json) {
        buf_reset(&l->out);
        if (l->count == 0)
            buf_add_c(&l->out, "Mail queue is empty\n");
        else
            format_list_foot(&l->out, l->bytes, l->count);
        fwrite(l->out.ptr, 1, l->out.len, stdout);
    }
    buf_fini(&l->out);
    return e ? tell_fatal(POSTQUEUE_FAILED, "%s", e->text) : 0;
}

int postqueue_list(const struct snapshot *s, bool json)
{
    struct listing l = {.json = json, .long_ids = s->params->enable_long_queue_ids};
    int rc = access_run(s, "postqueue", true, list_all, &l);
    if (fflush(stdout) != 0 && rc == 0)
        rc = tell_fatal(POSTQUEUE_FAILED, "write error: %s", strerror(errno));
    return rc ? POSTQUEUE_FAILED : 0;
}

/* --- flushing */

struct flushing {
    struct str id, site;
};

static int flush(struct access *a, void *ctx)
{
    const struct flushing *f = ctx;
    bool found;
    struct err *e = access_flush(a, f->id, f->site, &found);
    return e ? tell_fatal(POSTQUEUE_FAILED, "%s", e->text) : 0;
}

static int run_flush(const struct snapshot *s, struct str id, struct str site)
{
    struct flushing f = {id, site};
    if (access_is_down(s))
        return tell_fatal(POSTQUEUE_FAILED, "Cannot flush mail queue - mail system is down");
    return access_run(s, "postqueue", false, flush, &f) ? POSTQUEUE_FAILED : 0;
}

int postqueue_flush_all(const struct snapshot *s)
{
    return run_flush(s, STR(""), STR(""));
}

int postqueue_flush_id(const struct snapshot *s, const char *id)
{
    if (!format_id_valid(str_of(id)))
        return tell_fatal(POSTQUEUE_FAILED, "Cannot flush queue ID - invalid name: \"%s\"", id);
    return run_flush(s, str_of(id), STR(""));
}

int postqueue_flush_site(const struct snapshot *s, const char *site)
{
    if (!address_domain_valid(str_of(site)))
        return tell_fatal(POSTQUEUE_FAILED, "Cannot flush mail queue - invalid destination: \"%s\"", site);
    struct arena *a = arena_new(0, 0);
    struct match_list *domains = NULL;
    bool listed = false;
    struct err *e = match_list_open("fast_flush_domains", s->params->fast_flush_domains, MATCH_DOMAIN_PARENTS,
                                    &(struct map_options){s->config_dir, s->params->default_database_type},
                                    &domains);
    if (!e)
        e = match_list_name(domains, a, str_of(site), &listed);
    int rc = e ? tell_fatal(POSTQUEUE_FAILED, "%s", e->text) : 0;
    if (!rc && !listed)
        rc = tell_fatal(POSTQUEUE_FAILED, "Flush service is not configured for destination \"%s\"", site);
    match_list_close(domains);
    arena_free(a);
    return rc ? rc : run_flush(s, STR(""), str_of(site));
}

/* --- command line */

static int bad_usage(void)
{
    return tell_fatal(POSTQUEUE_FAILED, "usage: %s", usage);
}

enum { OPTION_WHY = 256, OPTION_SUSPEND, OPTION_RESUME, OPTION_SUSPENDED, OPTION_JSON };
static const struct option long_options[] = {
    {"why", required_argument, NULL, OPTION_WHY},
    {"suspend", required_argument, NULL, OPTION_SUSPEND},
    {"resume", required_argument, NULL, OPTION_RESUME},
    {"suspended", no_argument, NULL, OPTION_SUSPENDED},
    {"json", no_argument, NULL, OPTION_JSON},
    {0},
};

static int run_mode(const struct snapshot *s, int mode, const char *value, bool json)
{
    switch (mode) {
    case 'p':
    case 'j':
        return postqueue_list(s, mode == 'j');
    case 'f':
        return postqueue_flush_all(s);
    case 'i':
        return postqueue_flush_id(s, value);
    case 's':
        return postqueue_flush_site(s, value);
    case OPTION_WHY:
        return postqueue_why(s, value, json);
    case OPTION_SUSPENDED:
        return postqueue_suspended(s, json);
    default:
        return postqueue_suspend(s, value, mode == OPTION_SUSPEND);
    }
}

int cmd_postqueue(int argc, char **argv)
{
    const char *dash_c = NULL, *value = NULL;
    int mode = 0, opt;
    bool bad = false, json = false;
    tell_begin(command_name(argv), "postqueue");
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout), 0;
    while ((opt = getopt_long(argc, argv, "+c:fi:jps:v", long_options, NULL)) > 0) {
        if (opt == 'c') {
            dash_c = optarg;
        } else if (opt == '?') {
            bad = true;
            break;
        } else if (opt == OPTION_JSON) {
            json = true;
        } else if (opt != 'v') {
            bad |= mode != 0;
            mode = opt;
            value = optarg;
        }
    }
    bad |= json && mode != OPTION_WHY && mode != OPTION_SUSPENDED;
    if (bad)
        return bad_usage();
    struct snapshot *s = command_config(dash_c);
    if (!s)
        return POSTQUEUE_FAILED;
    int rc = mode == 0 || optind < argc ? bad_usage() : run_mode(s, mode, value, json);
    tell_end();
    snapshot_unref(s);
    return rc;
}
