#include "core/server/supervise.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/server/engine.h"
#include "core/server/link.h"
#include "core/server/sockets.h"
#include "core/smtpd/smtpd.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/file/file.h"
#include "io/proc/proc.h"

/* An engine that dies young is started again after a pause that doubles; one that has served mail before it died
 * is missed, and costs about a second at most. */
#define YOUNG_NS        (INT64_C(10) * NS_PER_S)
#define PAUSE_MS_FIRST  100
#define PAUSE_MS_SERVED 1000
#define PAUSE_MS_LAST   60000
#define STOP_S          30

struct supervisor {
    struct snapshot *snapshot;
    struct sockets sockets;
    pid_t engine;
    int link_fd;
    int signal_fd;
    int ready_fd;
    int64_t started_ns, restart_ns, stop_by_ns;
    int64_t pause_ms;
    bool logging, stopping, reloading, was_ready, killed_starting;
    bool served; /* the present engine */
    int status;
};

/* --- directories */

static struct err *own_dir(const char *path, mode_t mode, const struct passwd *owner)
{
    struct err *e = file_mkdirs(path, mode);
    if (!e && owner && chown(path, owner->pw_uid, (gid_t)-1) < 0)
        e = err_errno(errno, "chown %s", path);
    return e;
}

static struct err *owner_of(const struct snapshot *s, struct passwd **out)
{
    *out = NULL;
    if (geteuid() != 0)
        return NULL;
    *out = getpwnam(s->params->mail_owner);
    if (!*out)
        return err_new(ERR_CONFIG, 0, "%s/main.cf: mail_owner: unknown user %s: create it, or start as the "
                       "user who should own the mail", s->config_dir, s->params->mail_owner);
    if ((*out)->pw_uid == 0)
        return err_new(ERR_CONFIG, 0, "%s/main.cf: mail_owner: %s is root; choose an account of its own",
                       s->config_dir, s->params->mail_owner);
    return NULL;
}

/* The engine writes to it, but may not make files where it lies. */
static struct err *make_log_file(const struct snapshot *s, const struct passwd *owner)
{
    const char *log = s->params->maillog_file;
    if (!log[0] || strncmp(log, "/dev/", 5) == 0)
        return NULL;
    int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
    if (fd < 0)
        return err_errno(errno, "maillog_file %s", log);
    struct err *e = NULL;
    if (owner && fchown(fd, owner->pw_uid, (gid_t)-1) < 0)
        e = err_errno(errno, "chown maillog_file %s", log);
    close(fd);
    return e;
}

struct err *supervise_make_dirs(const struct snapshot *s)
{
    static const char *const owned[] = {"log", "content", "index", "corrupt", "public", "private", NULL};
    char path[1024];
    struct passwd *owner;
    struct err *e = owner_of(s, &owner);
    if (!e) {
        e = file_mkdirs(s->params->queue_directory, 0755);
        if (e)
            e = err_in(e, "queue_directory %s", s->params->queue_directory);
    }
    snprintf(path, sizeof(path), "%s/%s", s->params->queue_directory, s->params->process_id_directory);
    if (!e)
        e = file_mkdirs(path, 0755);
    for (int i = 0; !e && owned[i]; i++) {
        snprintf(path, sizeof(path), "%s/%s", s->params->queue_directory, owned[i]);
        e = own_dir(path, strcmp(owned[i], "public") == 0 ? 0755 : 0700, owner);
    }
    if (!e)
        e = own_dir(s->params->data_directory, 0700, owner);
    return e ? e : make_log_file(s, owner);
}

const char *supervise_pid_path(const struct snapshot *s, struct arena *a)
{
    return arena_printf(a, "%s/%s/master.pid", s->params->queue_directory,
                        s->params->process_id_directory).ptr;
}

/* --- telling whoever waits for the start */

static void tell_ready(struct supervisor *v, const char *why_not)
{
    if (v->ready_fd < 0)
        return;
    if (why_not)
        (void)!write(v->ready_fd, why_not, strlen(why_not));
    else
        (void)!write(v->ready_fd, "", 1);
    close(v->ready_fd);
    v->ready_fd = -1;
}

static void close_link(struct supervisor *v)
{
    if (v->link_fd >= 0)
        close(v->link_fd);
    v->link_fd = -1;
}

/* Said when it is in force. */
static void log_reloaded(struct supervisor *v)
{
    const struct snapshot *s = v->snapshot;
    if (v->reloading)
        log_info("master", "reload -- version %s, configuration %s", s->params->mail_version, s->config_dir);
    v->reloading = false;
}

static void on_link(struct supervisor *v)
{
    struct link_msg m;
    if (link_recv(v->link_fd, &m)) {
        close_link(v); /* SIGCHLD tells the rest */
    } else if (m.verb == LINK_READY) {
        v->was_ready = v->served = true;
        tell_ready(v, NULL);
        log_reloaded(v);
    } else if (m.verb == LINK_FAILED) {
        v->reloading = false;
        log_fatal("master", "%s", m.text);
        tell_ready(v, m.text);
    }
}

/* --- the engine */

static void exec_engine(struct supervisor *v, int link_fd)
{
    char fd_text[16];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); /* what we got from our parent, too */
    fcntl(link_fd, F_SETFD, 0);
    snprintf(fd_text, sizeof(fd_text), "%d", link_fd);
    execl("/proc/self/exe", "ringpost-engine", "-c", v->snapshot->config_dir, fd_text, (char *)NULL);
    fprintf(stderr, "ringpost: fatal: cannot start the engine: %s\n", strerror(errno));
    _exit(127);
}

static struct err *send_sockets(struct supervisor *v)
{
    struct err *e = NULL;
    for (size_t i = 0; !e && i < v->sockets.count; i++) {
        char text[32];
        snprintf(text, sizeof(text), "%zu", v->sockets.rows[i].service_index);
        e = link_send(v->link_fd, LINK_LISTEN, text, v->sockets.rows[i].fd);
    }
    return e ? e : link_send(v->link_fd, LINK_RELOAD, NULL, -1);
}

static void start_again_later(struct supervisor *v)
{
    bool young = clock_mono_ns() - v->started_ns < YOUNG_NS;
    int64_t most = v->served ? PAUSE_MS_SERVED : PAUSE_MS_LAST;
    v->pause_ms = !young ? PAUSE_MS_FIRST : v->pause_ms * 2;
    if (v->pause_ms > most)
        v->pause_ms = most;
    v->restart_ns = clock_mono_ns() + v->pause_ms * NS_PER_MS;
    log_warning("master", "starting it again in %lld ms", (long long)v->pause_ms);
}

static void start_engine(struct supervisor *v)
{
    int engine_fd;
    v->restart_ns = 0;
    v->served = false;
    v->started_ns = clock_mono_ns();
    struct err *e = link_pair(&v->link_fd, &engine_fd);
    if (!e) {
        v->engine = fork();
        if (v->engine == 0)
            exec_engine(v, engine_fd);
        close(engine_fd);
        if (v->engine < 0)
            e = err_errno(errno, "fork");
    }
    if (!e)
        e = send_sockets(v);
    if (!e)
        return;
    log_error("master", "start of the engine: %s", e->text);
    if (v->engine > 0)
        return; /* it ends when it finds the link closed; SIGCHLD tells */
    v->engine = 0;
    close_link(v);
    start_again_later(v);
}

static void engine_died(struct supervisor *v, int status)
{
    while (v->link_fd >= 0)
        on_link(v); /* its last words */
    pid_t pid = v->engine;
    v->engine = 0;
    if (v->stopping) {
        v->status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        return;
    }
    if (WIFSIGNALED(status))
        log_warning("master", "process ringpost-engine pid %d killed by signal %d", (int)pid, WTERMSIG(status));
    else
        log_warning("master", "process ringpost-engine pid %d exit status %d", (int)pid, WEXITSTATUS(status));
    /* It never served: whoever starts us must hear of it. One that was killed gets a second chance:
     * it leaves alone what killed it (an index with pages that are not there). */
    bool killed_before = v->killed_starting;
    v->killed_starting = WIFSIGNALED(status);
    if (!v->was_ready && (killed_before || !WIFSIGNALED(status))) {
        tell_ready(v, "the engine ended while starting; the log says why");
        v->stopping = true;
        v->status = 1;
        return;
    }
    start_again_later(v);
}

/* --- signals */

static void begin_stop(struct supervisor *v)
{
    if (v->stopping)
        return;
    v->stopping = true;
    v->stop_by_ns = clock_in_s(STOP_S);
    log_info("master", "terminating on signal 15");
    if (v->engine > 0)
        link_send(v->link_fd, LINK_STOP, NULL, -1);
}

static void reload(struct supervisor *v)
{
    struct snapshot *s;
    struct passwd *owner = NULL;
    struct err *e = config_load(v->snapshot->config_dir, NULL, &s);
    if (!e) {
        e = smtpd_check(s);
        if (!e)
            e = owner_of(s, &owner);
        if (!e)
            e = make_log_file(s, owner);
        if (!e)
            e = sockets_update(s, &v->sockets);
        if (e)
            snapshot_unref(s);
    }
    if (e) {
        log_fatal("master", "reload: %s: the old configuration stays in force", e->text);
        return;
    }
    snapshot_unref(v->snapshot);
    v->snapshot = s;
    log_reopen();
    v->reloading = true;
    if (v->engine <= 0)
        log_reloaded(v);
    else if ((e = send_sockets(v)) != NULL)
        log_error("master", "reload: %s", e->text);
}

static void on_signal(struct supervisor *v)
{
    struct signalfd_siginfo info;
    if (read(v->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    int status;
    pid_t pid;
    switch ((int)info.ssi_signo) {
    case SIGCHLD:
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            if (pid == v->engine)
                engine_died(v, status);
        break;
    case SIGHUP:
        reload(v);
        break;
    case SIGABRT: /* postfix abort: at once; what was acknowledged is safe */
        v->stopping = true;
        if (v->engine > 0)
            kill(v->engine, SIGKILL);
        break;
    default:
        begin_stop(v);
    }
}

static int poll_ms(const struct supervisor *v)
{
    int64_t at = v->stopping ? v->stop_by_ns : v->restart_ns;
    if (at == 0)
        return -1;
    int64_t ms = (at - clock_mono_ns()) / NS_PER_MS + 1;
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

static void loop(struct supervisor *v)
{
    start_engine(v);
    while (!v->stopping || v->engine > 0) {
        struct pollfd fds[2] = {{.fd = v->signal_fd, .events = POLLIN},
                                {.fd = v->link_fd, .events = POLLIN}};
        if (poll(fds, 2, poll_ms(v)) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            on_link(v);
        if (fds[0].revents)
            on_signal(v);
        int64_t now = clock_mono_ns();
        if (v->restart_ns && now >= v->restart_ns && !v->stopping)
            start_engine(v);
        if (v->stopping && v->stop_by_ns && now >= v->stop_by_ns && v->engine > 0) {
            log_warning("master", "the engine does not end: killed");
            kill(v->engine, SIGKILL);
            v->stop_by_ns = clock_in_s(STOP_S);
        }
    }
}

static struct err *take_charge(struct supervisor *v, int *pid_fd_out)
{
    static const int signals[] = {SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGABRT, 0};
    struct arena *a = arena_new(0, 0);
    proc_raise_limits();
    signal(SIGPIPE, SIG_IGN);
    struct err *e = supervise_make_dirs(v->snapshot);
    if (!e)
        e = proc_pidfile_lock(supervise_pid_path(v->snapshot, a), pid_fd_out);
    if (!e)
        e = proc_pidfile_write(*pid_fd_out);
    if (!e)
        e = proc_signal_fd(signals, &v->signal_fd);
    if (!e)
        e = engine_log_start(v->snapshot, false);
    v->logging = !e;
    arena_free(a);
    return e ? e : sockets_update(v->snapshot, &v->sockets);
}

int supervise(struct snapshot *s, int ready_fd)
{
    struct supervisor v = {.snapshot = s, .link_fd = -1, .signal_fd = -1, .ready_fd = ready_fd,
                           .pause_ms = PAUSE_MS_FIRST};
    int pid_fd = -1;
    struct err *e = take_charge(&v, &pid_fd);
    if (e) {
        v.status = 1;
        if (v.logging)
            log_fatal("master", "%s", e->text);
        if (ready_fd < 0)
            fprintf(stderr, "postfix/master: fatal: %s\n", e->text);
        tell_ready(&v, e->text);
    } else {
        log_info("master", "daemon started -- version %s, configuration %s", s->params->mail_version,
                 s->config_dir);
        loop(&v);
    }
    close_link(&v);
    sockets_close(&v.sockets);
    if (pid_fd >= 0) {
        (void)!ftruncate(pid_fd, 0);
        close(pid_fd);
    }
    if (v.signal_fd >= 0)
        close(v.signal_fd);
    snapshot_unref(v.snapshot);
    log_stop();
    return v.status;
}
