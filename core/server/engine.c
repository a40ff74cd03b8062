#include "core/server/engine.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <unistd.h>

#include "core/server/agents.h"
#include "core/server/control.h"
#include "core/server/link.h"
#include "core/server/listener.h"
#include "core/smtpd/smtpd.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/fiber/offload.h"
#include "io/fiber/wait.h"
#include "io/fiber/watchdog.h"
#include "io/net/dns.h"
#include "io/proc/proc.h"
#include "io/ring/ring.h"

/* Deliveries under way at a stop get this long; they are repeated at the next start otherwise. */
#define STOP_DRAIN_S 5

struct engine {
    int link_fd;
    const char *config_dir;
    struct queue_hooks hooks;
    struct worker *sched;
    struct worker **workers;
    size_t n_workers;
    struct queue *queue;
    struct listeners *listeners;
    struct control *control;
    struct err_text {
        bool set;
        char text[ERR_TEXT_MAX];
    } trouble;
};

/* Room for one and a half messages there must be in any case, as in Postfix. */
static uint64_t minfree(const struct params *p)
{
    int64_t one = p->message_size_limit + p->message_size_limit / 2;
    return (uint64_t)(p->queue_minfree > one ? p->queue_minfree : one);
}

void engine_queue_options(const struct snapshot *s, struct queue_options *out,
                          struct sched_options *sched_out)
{
    const struct params *p = s->params;
    config_sched_options(s, agents_exists, sched_out);
    *out = (struct queue_options){
        .directory = p->queue_directory,
        .data_directory = p->data_directory,
        .long_ids = p->enable_long_queue_ids,
        .minfree_bytes = minfree(p),
        .inline_limit_bytes = (uint64_t)p->queue_inline_limit,
        .segment_bytes = (uint64_t)p->queue_segment_size,
        .mark_delay_ms = p->queue_mark_delay,
        .replay_at_once_bytes = (uint64_t)p->queue_replay_limit,
        .memory_limit_bytes = (uint64_t)p->queue_memory_limit,
        .sched = sched_out,
    };
}

static int facility_of(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } rows[] = {{"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},
                {"daemon", LOG_DAEMON}, {"ftp", LOG_FTP},           {"kern", LOG_KERN},
                {"lpr", LOG_LPR},       {"mail", LOG_MAIL},         {"news", LOG_NEWS},
                {"syslog", LOG_SYSLOG}, {"user", LOG_USER},         {"uucp", LOG_UUCP},
                {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2},
                {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5},
                {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].value;
    return LOG_MAIL;
}

struct err *engine_log_start(const struct snapshot *s, bool also_stderr)
{
    return log_start(&(struct log_options){
        .file = s->params->maillog_file,
        .syslog_name = s->params->syslog_name,
        .host = s->params->myhostname,
        .facility = facility_of(s->params->syslog_facility),
        .also_stderr = also_stderr,
    });
}

/* --- start */

struct opening {
    struct engine *engine;
    struct snapshot *snapshot;
};

static void keep_trouble(struct engine *en, struct err *e)
{
    if (!e)
        return;
    en->trouble.set = true;
    snprintf(en->trouble.text, sizeof(en->trouble.text), "%s", e->text);
}

/* Runs fn in a fiber of w; the main thread waits. */
struct main_call {
    void (*fn)(void *arg);
    void *arg;
    int done_fd;
};

static void main_call_fiber(void *arg)
{
    struct main_call *c = arg;
    c->fn(c->arg);
    (void)!write(c->done_fd, "x", 1);
}

static void call_on(struct worker *w, void (*fn)(void *arg), void *arg)
{
    int fds[2];
    char byte;
    if (pipe(fds) < 0) {
        log_fatal("master", "pipe: %s", strerror(errno));
        exit(1);
    }
    struct main_call c = {fn, arg, fds[1]};
    worker_spawn(w, "main", main_call_fiber, &c);
    while (read(fds[0], &byte, 1) < 0 && errno == EINTR)
        continue;
    close(fds[0]);
    close(fds[1]);
}

static void open_queue(void *arg)
{
    struct opening *o = arg;
    struct engine *en = o->engine;
    struct queue_options qo;
    struct sched_options so;
    engine_queue_options(o->snapshot, &qo, &so);
    agents_hooks(&en->hooks);
    int64_t until = clock_in_s(STOP_DRAIN_S + 2); /* an engine whose supervisor was killed is about to end */
    struct err *e;
    while ((e = queue_open(&qo, &en->hooks, en->workers, en->n_workers, &en->queue)) != NULL)
        if (e->code != EWOULDBLOCK || clock_mono_ns() >= until || fiber_sleep_until(clock_in_ms(50)))
            break;
    keep_trouble(en, e);
}

static struct err *start_resolver(const struct params *p)
{
    return dns_start(&(struct dns_options){
        .forward = p->dns_forward,
        .resolv_conf = p->dns_resolv_conf,
        .hosts = p->dns_hosts_file,
        .dnssec = p->dnssec_validation,
        .anchor_file = p->dnssec_anchor_file,
        .timeout_ms = p->dns_timeout * 1000,
    });
}

static struct err *start_workers(struct engine *en, const struct params *p)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    en->n_workers = p->worker_threads > 0 ? (size_t)p->worker_threads : cpus > 0 ? (size_t)cpus : 1;
    en->workers = mem_zalloc(en->n_workers * sizeof(*en->workers));
    for (size_t i = 0; i < en->n_workers; i++) {
        char name[16];
        snprintf(name, sizeof(name), "worker-%u", (unsigned)(i % 1000));
        struct err *e = worker_start(&(struct worker_options){.name = name, .cpu = -1}, NULL, NULL,
                                     &en->workers[i]);
        if (e)
            return e;
    }
    const struct worker_options options = {.name = "sched", .cpu = -1, .ring_entries = 256};
    return worker_start(&options, NULL, NULL, &en->sched);
}

static struct err *start_all(struct engine *en, struct snapshot *s)
{
    struct err *e = ring_probe();
    if (!e)
        e = offload_start((unsigned)s->params->offload_threads);
    if (!e)
        e = watchdog_start(0);
    if (!e)
        e = start_resolver(s->params);
    if (!e)
        e = start_workers(en, s->params);
    if (e)
        return e;
    struct opening o = {en, s};
    call_on(en->sched, open_queue, &o);
    if (en->trouble.set)
        return err_new(ERR_IO, 0, "%s", en->trouble.text);
    e = listeners_start(en->queue, en->workers, en->n_workers, &en->listeners);
    if (!e)
        e = control_start(en->queue, en->workers[0], s->params->queue_directory, &en->control);
    return e;
}

/* --- reload */

static struct err *load(const char *config_dir, struct snapshot **out)
{
    struct err *e = config_load(config_dir, NULL, out);
    if (!e && (e = smtpd_check(*out)))
        snapshot_unref(*out);
    return e;
}

static void reload(struct engine *en)
{
    struct snapshot *s;
    struct err *e = load(en->config_dir, &s);
    if (e) {
        e = err_in(e, "the old configuration stays in force");
        link_send(en->link_fd, LINK_FAILED, e->text, -1);
        listeners_forget(en->listeners);
        return;
    }
    struct queue_options qo;
    struct sched_options so;
    engine_queue_options(s, &qo, &so);
    queue_reconfigure(en->queue, &qo);
    log_reopen();
    listeners_commit(en->listeners, s);
    agents_warn_missing(s);
    config_publish(s);
    link_send(en->link_fd, LINK_READY, NULL, -1);
}

/* --- stop */

static void drain(void *arg)
{
    struct engine *en = arg;
    struct err *e = queue_drain(en->queue, clock_in_s(STOP_DRAIN_S));
    if (e)
        log_warning("qmgr", "deliveries still running at the stop are tried again at the next start");
}

static void close_queue(void *arg)
{
    struct engine *en = arg;
    keep_trouble(en, queue_close(en->queue));
}

/* Whatever start_all got, in the opposite order. */
static void stop_all(struct engine *en)
{
    if (en->control)
        control_stop(en->control);
    if (en->listeners)
        listeners_stop(en->listeners);
    if (en->queue)
        call_on(en->sched, drain, en);
    for (size_t i = 0; i < en->n_workers && en->workers[i]; i++)
        worker_stop(en->workers[i]);
    for (size_t i = 0; i < en->n_workers && en->workers[i]; i++)
        worker_join(en->workers[i]);
    if (en->listeners)
        listeners_free(en->listeners);
    if (en->control)
        control_free(en->control);
    if (en->queue)
        call_on(en->sched, close_queue, en);
    if (en->sched) {
        worker_stop(en->sched);
        worker_join(en->sched);
    }
    dns_stop();
    watchdog_stop();
    offload_stop();
    config_publish(NULL);
    mem_free(en->workers);
}

/* --- the main thread */

/* false: time to stop. */
static bool serve_one(struct engine *en, struct link_msg *m)
{
    switch (m->verb) {
    case LINK_LISTEN:
        listeners_add(en->listeners, strtoul(m->text, NULL, 10), m->fd);
        return true;
    case LINK_RELOAD:
        reload(en);
        return true;
    case LINK_STOP:
    case LINK_READY:
    case LINK_FAILED:
        break;
    }
    return false;
}

static void serve(struct engine *en, int signal_fd)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = en->link_fd, .events = POLLIN},
                                {.fd = signal_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if (fds[1].revents)
            return;
        struct link_msg m;
        if (fds[0].revents && (link_recv(en->link_fd, &m) || !serve_one(en, &m)))
            return;
    }
}

static struct err *prepare(struct engine *en, struct snapshot *s, int *signal_fd_out)
{
    static const int signals[] = {SIGTERM, SIGINT, 0};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* a terminal that goes away; a reload comes over the link */
    proc_raise_limits();
    proc_raise_locked_memory();
    mem_serve();
    struct err *e = engine_log_start(s, false);
    if (!e && geteuid() == 0)
        e = proc_become(s->params->mail_owner);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* a change of user clears it */
    prctl(PR_SET_NAME, "ringpost-engine"); /* it was started as /proc/self/exe */
    if (!e && chdir(s->params->queue_directory) < 0)
        e = err_errno(errno, "queue directory %s", s->params->queue_directory);
    if (!e)
        e = proc_signal_fd(signals, signal_fd_out);
    return e ? e : start_all(en, s);
}

int engine_main(const char *config_dir, int link_fd)
{
    struct engine en = {.link_fd = link_fd, .config_dir = config_dir};
    struct snapshot *s;
    int signal_fd = -1;
    struct err *e = load(config_dir, &s);
    if (!e) {
        config_publish(s); /* mail that was there already is resolved as the queue opens */
        e = prepare(&en, s, &signal_fd);
    }
    if (e)
        link_send(en.link_fd, LINK_FAILED, e->text, -1); /* the supervisor logs it */
    else
        serve(&en, signal_fd);
    stop_all(&en);
    if (en.trouble.set && !e)
        log_error("master", "stop: %s", en.trouble.text);
    log_stop();
    return e || en.trouble.set ? 1 : 0;
}
