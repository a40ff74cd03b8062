#include "core/server/supervise.h"

#include <fcntl.h>
#include <grp.h>
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
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/file/file.h"
#include "io/proc/proc.h"

/* An engine that dies young is started again after a pause that doubles. */
#define YOUNG_NS       (INT64_C(10) * NS_PER_S)
#define PAUSE_MS_FIRST 100
#define PAUSE_MS_LAST  60000
#define STOP_S         30

struct supervisor {
    struct snapshot *snapshot;
    struct sockets sockets;
    pid_t engine;
    int link_fd;
    int signal_fd;
    int ready_fd;
    int64_t started_ns, restart_ns, stop_by_ns;
    int64_t pause_ms;
    bool stopping, was_ready;
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

struct err *supervise_make_dirs(const struct snapshot *s)
{
    static const char *const owned[] = {"log", "content", "index", "corrupt", "public", "private", NULL};
    char path[1024];
    struct passwd *owner;
    struct err *e = owner_of(s, &owner);
    if (!e)
        e = file_mkdirs(s->params->queue_directory, 0755);
    snprintf(path, sizeof(path), "%s/%s", s->params->queue_directory, s->params->process_id_directory);
    if (!e)
        e = file_mkdirs(path, 0755);
    for (int i = 0; !e && owned[i]; i++) {
        snprintf(path, sizeof(path), "%s/%s", s->params->queue_directory, owned[i]);
        e = own_dir(path, strcmp(owned[i], "public") == 0 ? 0755 : 0700, owner);
    }
    if (!e)
        e = own_dir(s->params->data_directory, 0700, owner);
    const char *log = s->params->maillog_file;
    if (!e && log[0] && strncmp(log, "/dev/", 5) != 0) {
        int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0 || (owner && fchown(fd, owner->pw_uid, (gid_t)-1) < 0))
            e = err_errno(errno, "maillog_file %s", log);
        if (fd >= 0)
            close(fd);
    }
    return e;
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

/* --- the engine */

static void exec_engine(struct supervisor *v, int link_fd)
{
    char fd_text[16];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
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

static void start_engine(struct supervisor *v)
{
    int engine_fd;
    v->restart_ns = 0;
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
    if (e)
        log_error("master", "start of the engine: %s", e->text);
}

static void engine_died(struct supervisor *v, int status)
{
    close(v->link_fd);
    v->link_fd = -1;
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
    if (!v->was_ready) { /* it never served: whoever starts us must hear of it */
        tell_ready(v, "the engine ended while starting; the log says why");
        v->stopping = true;
        v->status = 1;
        return;
    }
    bool young = clock_mono_ns() - v->started_ns < YOUNG_NS;
    v->pause_ms = !young ? PAUSE_MS_FIRST : v->pause_ms * 2;
    if (v->pause_ms > PAUSE_MS_LAST)
        v->pause_ms = PAUSE_MS_LAST;
    v->restart_ns = clock_mono_ns() + v->pause_ms * NS_PER_MS;
    log_warning("master", "starting it again in %lld ms", (long long)v->pause_ms);
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
    struct err *e = config_load(v->snapshot->config_dir, NULL, &s);
    if (!e) {
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
    log_info("master", "reload -- version %s, configuration %s", s->params->mail_version, s->config_dir);
    if (v->engine > 0 && (e = send_sockets(v)) != NULL)
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

static void on_link(struct supervisor *v)
{
    struct link_msg m;
    if (link_recv(v->link_fd, &m)) {
        close(v->link_fd); /* SIGCHLD tells the rest */
        v->link_fd = -1;
        return;
    }
    if (m.verb == LINK_READY) {
        v->was_ready = true;
        tell_ready(v, NULL);
    } else if (m.verb == LINK_FAILED) {
        tell_ready(v, m.text);
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

int supervise(struct snapshot *s, int ready_fd)
{
    static const int signals[] = {SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGABRT, 0};
    struct supervisor v = {.snapshot = s, .link_fd = -1, .ready_fd = ready_fd,
                           .pause_ms = PAUSE_MS_FIRST};
    struct arena *a = arena_new(0, 0);
    int pid_fd = -1;
    proc_raise_limits();
    signal(SIGPIPE, SIG_IGN);
    struct err *e = supervise_make_dirs(s);
    if (!e)
        e = proc_pidfile_lock(supervise_pid_path(s, a), &pid_fd);
    if (!e)
        e = proc_pidfile_write(pid_fd);
    if (!e)
        e = proc_signal_fd(signals, &v.signal_fd);
    if (!e)
        e = engine_log_start(s, false);
    if (!e)
        e = sockets_update(s, &v.sockets);
    if (e) {
        log_fatal("master", "%s", e->text);
        log_stop();
        tell_ready(&v, e->text);
        if (ready_fd < 0)
            fprintf(stderr, "postfix: fatal: %s\n", e->text);
        arena_free(a);
        return 1;
    }
    log_info("master", "daemon started -- version %s, configuration %s", s->params->mail_version,
             s->config_dir);
    loop(&v);
    sockets_close(&v.sockets);
    (void)!ftruncate(pid_fd, 0);
    close(pid_fd);
    snapshot_unref(v.snapshot);
    log_stop();
    arena_free(a);
    return v.status;
}
