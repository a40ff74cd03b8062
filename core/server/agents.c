#include "core/server/agents.h"

#include "core/bounce/bounce.h"
#include "core/deliver/report.h"
#include "core/error/error.h"
#include "core/rewrite/resolve.h"
#include "core/smtp/smtp.h"
#include "core/virtual/virtual.h"
#include "io/base/buf.h"
#include "io/base/log.h"

struct agent {
    const char *command;
    agent_deliver *deliver;
};
#define AGENT(command, function) {command, function},
static const struct agent agents[] = {
#include "core/server/service.def"
};
#undef AGENT

/* Postfix daemons that are calls, threads or other parts of the engine here. */
static const char *const inside[] = {"smtpd",   "cleanup", "qmgr",     "oqmgr",      "pickup",
                                     "bounce",  "defer",   "trace",    "rewrite",    "trivial-rewrite",
                                     "showq",   "flush",   "proxymap", "proxywrite", "scache",
                                     "postlogd", "postlog", NULL};

static const struct agent *find(const char *command)
{
    for (size_t i = 0; i < sizeof(agents) / sizeof(agents[0]); i++)
        if (strcmp(agents[i].command, command) == 0)
            return &agents[i];
    return NULL;
}

bool agents_exists(const char *command)
{
    return find(command) != NULL;
}

bool agents_service_exists(const char *command)
{
    if (find(command))
        return true;
    for (size_t i = 0; inside[i]; i++)
        if (strcmp(inside[i], command) == 0)
            return true;
    return false;
}

void agents_warn_missing(const struct snapshot *s)
{
    struct buf b = {0};
    for (size_t i = 0; i < s->service_count; i++) {
        const struct service *svc = &s->services[i];
        if (!agents_service_exists(svc->command))
            buf_printf(&b, "%s%s (%s)", b.len ? ", " : "", svc->name, svc->command);
    }
    if (b.len)
        log_warning("master", "%s/master.cf: services that this version does not have, "
                    "mail routed to them is deferred: %s", s->config_dir, b.ptr);
    buf_fini(&b);
}

/* --- hooks */

static const struct service *cleanup_service(const struct snapshot *s)
{
    const struct service *svc = config_service(s, "cleanup", "unix");
    return svc ? svc : config_service(s, "cleanup", NULL);
}

static void hook_resolve(void *ctx, struct qmsg *m)
{
    (void)ctx;
    struct snapshot *s = config_current();
    const struct service *svc = config_service(s, "rewrite", "unix");
    resolve_message(svc ? svc : cleanup_service(s), m);
    snapshot_unref(s);
}

static void unavailable(const struct snapshot *s, struct request *r, const char *command)
{
    struct service svc = *cleanup_service(s);
    struct buf why = {0};
    svc.log_tag = "qmgr";
    if (command)
        buf_printf(&why, "mail transport unavailable: this version has no \"%s\" for the %s service of "
                   "master.cf", command, r->transport);
    else
        buf_printf(&why, "mail transport unavailable: there is no %s service in master.cf", r->transport);
    report_failed_rest(&svc, r, false, "none", "4.3.0", why.ptr, NULL, NULL);
    r->transport_failed = true;
    r->dest_why = (struct dsn){.status = "4.3.0", .text = arena_str(r->arena, str_of(why.ptr))};
    buf_fini(&why);
    request_done(r);
}

static void hook_deliver(void *ctx, struct request *r)
{
    (void)ctx;
    struct snapshot *s = config_current();
    const struct service *svc = config_service(s, r->transport, "unix");
    const struct agent *agent = svc ? find(svc->command) : NULL;
    /* master.cf runs retry as "error"; what it does follows the service's name (error(8)). */
    if (agent && agent->deliver == error_deliver && strcmp(svc->name, "retry") == 0)
        retry_deliver(svc, r);
    else if (agent)
        agent->deliver(svc, r);
    else
        unavailable(s, r, svc ? svc->command : NULL);
    snapshot_unref(s);
}

static struct err *hook_notify(void *ctx, const struct notice *n)
{
    (void)ctx;
    struct snapshot *s = config_current();
    const struct service *svc = config_service(s, "bounce", "unix");
    struct err *e = bounce_notify(svc ? svc : cleanup_service(s), n);
    snapshot_unref(s);
    return e;
}

void agents_hooks(struct queue_hooks *out)
{
    *out = (struct queue_hooks){
        .resolve = hook_resolve, .deliver = hook_deliver, .notify = hook_notify};
}
