/* postfix(1): start, stop and look after the mail system. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/cmd.h"
#include "core/server/engine.h"
#include "core/server/supervise.h"
#include "core/smtpd/smtpd.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/proc/proc.h"
#include "io/ring/ring.h"

#define STOP_WAIT_S 45

static const char usage[] =
    "usage: postfix [-c config_dir] [-Dv] command\n"
    "\n"
    "  start       start in the background; returns when mail is served\n"
    "  start-fg    start in the foreground; Ctrl-C stops\n"
    "  stop        stop in an orderly way: deliveries under way may end\n"
    "  abort       stop at once; acknowledged mail is safe\n"
    "  reload      read the configuration again; a wrong one is refused and the old one stays\n"
    "  flush       try all deferred mail now\n"
    "  status      is it running?\n"
    "  check       is the configuration all right? Makes missing directories\n"
    "  logrotate   open the log file again\n";

struct call {
    const char *config_dir;
    struct snapshot *snapshot;
    struct arena *arena;
    const char *pid_path;
};

/* As Postfix: the script's words on stderr and in the log. */
static void say(struct call *c, const char *level, const char *text)
{
    fprintf(stderr, "%s/postfix-script: %s%s\n", c->snapshot->params->syslog_name, level, text);
    if (strcmp(level, "") == 0)
        log_info("postfix-script", "%s", text);
    else
        log_at(LOG_LEVEL_FATAL, "postfix-script", "%s", text);
}

static int64_t running_pid(struct call *c)
{
    int64_t pid = 0;
    struct err *e = proc_pidfile_holder(c->pid_path, &pid);
    return e ? 0 : pid;
}

/* Only this command's own lines go to the mail log; config errors and the like go to the terminal. */
static void open_log(struct call *c)
{
    struct err *e = engine_log_start(c->snapshot, false);
    if (e)
        fprintf(stderr, "postfix: warning: %s\n", e->text);
}

/* --- start */

static int wait_ready(int fd)
{
    char text[1024];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof(text) - 1 && (got = read(fd, text + n, sizeof(text) - 1 - n)) != 0) {
        if (got < 0 && errno != EINTR)
            break;
        if (got > 0)
            n += (size_t)got;
    }
    text[n] = '\0';
    if (n == 1 && text[0] == '\0')
        return 0;
    fprintf(stderr, "postfix/master: fatal: %s\n", n > 0 ? text : "the supervisor ended while starting");
    return 1;
}

static int start_background(struct call *c)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return fprintf(stderr, "postfix: fatal: pipe: %s\n", strerror(errno)), 1;
    log_stop(); /* the child starts its own logger */
    pid_t pid = fork();
    if (pid < 0)
        return fprintf(stderr, "postfix: fatal: fork: %s\n", strerror(errno)), 1;
    if (pid == 0) {
        close(fds[0]);
        setsid();
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; null >= 0 && fd < 3; fd++)
            dup2(null, fd);
        if (null > 2)
            close(null);
        arena_free(c->arena);
        _exit(supervise(c->snapshot, fds[1]));
    }
    close(fds[1]);
    int status = wait_ready(fds[0]);
    close(fds[0]);
    return status;
}

static int start(struct call *c, bool foreground)
{
    struct err *e = ring_probe();
    if (e)
        return fprintf(stderr, "postfix: fatal: %s\n", e->text), 1;
    e = supervise_make_dirs(c->snapshot);
    if (e)
        return fprintf(stderr, "postfix: fatal: %s\n", e->text), 1;
    open_log(c);
    if (running_pid(c)) {
        say(c, "fatal: ", "the Postfix mail system is already running");
        return 1;
    }
    say(c, "", "starting the Postfix mail system");
    if (!foreground)
        return start_background(c);
    log_stop();
    struct snapshot *s = c->snapshot;
    c->snapshot = NULL;
    return supervise(s, -1);
}

/* --- the running one */

static int not_running(struct call *c)
{
    say(c, "fatal: ", "the Postfix mail system is not running");
    return 1;
}

static int stop(struct call *c, int signo, const char *words)
{
    int64_t pid = running_pid(c);
    if (!pid)
        return not_running(c);
    say(c, "", words);
    if (kill((pid_t)pid, signo) < 0)
        return fprintf(stderr, "postfix: fatal: kill %lld: %s\n", (long long)pid, strerror(errno)), 1;
    for (int i = 0; i < STOP_WAIT_S * 20; i++) {
        if (!running_pid(c))
            return 0;
        usleep(50000);
    }
    fprintf(stderr, "postfix: warning: process %lld has not ended after %d s\n", (long long)pid, STOP_WAIT_S);
    return 1;
}

static int reload(struct call *c)
{
    int64_t pid = running_pid(c);
    if (!pid)
        return not_running(c);
    say(c, "", "refreshing the Postfix mail system");
    if (kill((pid_t)pid, SIGHUP) < 0)
        return fprintf(stderr, "postfix: fatal: kill %lld: %s\n", (long long)pid, strerror(errno)), 1;
    return 0;
}

static int status(struct call *c)
{
    int64_t pid = running_pid(c);
    char text[128];
    if (!pid) {
        say(c, "", "the Postfix mail system is not running");
        return 1;
    }
    snprintf(text, sizeof(text), "the Postfix mail system is running: PID: %lld", (long long)pid);
    say(c, "", text);
    return 0;
}

static int flush(struct call *c)
{
    if (!running_pid(c))
        return not_running(c);
    return access_flush_all(c->snapshot, "postfix");
}

static int check(struct call *c)
{
    struct err *e = supervise_make_dirs(c->snapshot);
    if (e)
        return fprintf(stderr, "postfix: fatal: %s\n", e->text), 1;
    return 0;
}

static int run(struct call *c, const char *command)
{
    if (strcmp(command, "start") == 0)
        return start(c, false);
    if (strcmp(command, "start-fg") == 0)
        return start(c, true);
    if (strcmp(command, "check") == 0)
        return check(c);
    open_log(c);
    if (strcmp(command, "stop") == 0)
        return stop(c, SIGTERM, "stopping the Postfix mail system");
    if (strcmp(command, "abort") == 0)
        return stop(c, SIGABRT, "aborting the Postfix mail system");
    if (strcmp(command, "reload") == 0 || strcmp(command, "logrotate") == 0)
        return reload(c);
    if (strcmp(command, "status") == 0)
        return status(c);
    if (strcmp(command, "flush") == 0)
        return flush(c);
    fprintf(stderr, "postfix/postfix-script: fatal: unknown command: '%s'. Usage: postfix start (or stop, "
            "reload, abort, flush, check, status, logrotate, start-fg)\n", command);
    return 1;
}

int cmd_postfix(int argc, char **argv)
{
    const char *dash_c = NULL;
    int opt;
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout), 0;
    while ((opt = getopt(argc, argv, "c:Dv")) > 0) {
        if (opt == 'c')
            dash_c = optarg;
        else if (opt == '?')
            return fputs(usage, stderr), 1;
    }
    if (optind != argc - 1)
        return fputs(usage, stderr), 1;
    if (dash_c && dash_c[0] != '/')
        return fprintf(stderr, "postfix: fatal: -c requires absolute pathname\n"), 1;
    struct call c = {.config_dir = config_dir_choose(dash_c), .arena = arena_new(0, 0)};
    struct err *e = config_load(c.config_dir, NULL, &c.snapshot);
    struct str verb = str_of(argv[optind]);
    if (!e && (str_starts(verb, STR("start")) || str_eq(verb, STR("check")) ||
               str_eq(verb, STR("reload"))))
        e = smtpd_check(c.snapshot);
    if (e) {
        fprintf(stderr, "postfix: fatal: %s\n", e->text);
        return 1;
    }
    c.pid_path = supervise_pid_path(c.snapshot, c.arena);
    int rc = run(&c, argv[optind]);
    log_stop();
    if (c.snapshot)
        snapshot_unref(c.snapshot);
    arena_free(c.arena);
    return rc;
}

/* Started by the supervisor only: ringpost-engine -c config_dir link_fd */
int cmd_engine(int argc, char **argv)
{
    if (argc != 4 || strcmp(argv[1], "-c") != 0) {
        fprintf(stderr, "ringpost-engine: fatal: started by \"postfix start\" only\n");
        return 1;
    }
    return engine_main(argv[2], atoi(argv[3]));
}
