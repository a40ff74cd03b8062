/* postfix(1): start, stop and look after the mail system. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/cmd.h"
#include "core/server/engine.h"
#include "core/server/supervise.h"
#include "core/smtpd/smtpd.h"
#include "io/base/buf.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/proc/proc.h"
#include "io/ring/ring.h"

#define STOP_WAIT_S   45
#define ROTATE_WAIT_S 1

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
    "  logrotate   rename the log file, open a new one, compress the old one\n";

struct call {
    const char *config_dir;
    struct snapshot *snapshot; /* NULL: main.cf is broken, and the command can do without */
    struct arena *arena;
    const char *syslog_name, *pid_path;
};

static int fatal(const char *text)
{
    fprintf(stderr, "postfix: fatal: %s\n", text);
    return 1;
}

/* The script's words in the log and on a terminal, as Postfix says them; what went wrong on any stderr. */
static void say(struct call *c, const char *level, const char *text)
{
    if (level[0] || !c->snapshot || isatty(STDERR_FILENO))
        fprintf(stderr, "%s/postfix-script: %s%s\n", c->syslog_name, level, text);
    if (!c->snapshot)
        return; /* there is no log either */
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
    struct err *e = c->snapshot ? engine_log_start(c->snapshot, false) : NULL;
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

static int become_supervisor(struct call *c, int ready_fd)
{
    struct snapshot *s = c->snapshot;
    c->snapshot = NULL;
    return supervise(s, ready_fd);
}

static int start_background(struct call *c)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return fatal(err_errno(errno, "pipe")->text);
    log_stop(); /* the child starts its own logger */
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return fatal(err_errno(errno, "fork")->text);
    if (pid == 0) {
        close(fds[0]);
        setsid();
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; null >= 0 && fd < 3; fd++)
            dup2(null, fd);
        if (null > 2)
            close(null);
        return become_supervisor(c, fds[1]);
    }
    close(fds[1]);
    int status = wait_ready(fds[0]);
    close(fds[0]);
    return status;
}

static int start(struct call *c, bool foreground)
{
    struct err *e = ring_probe();
    if (!e)
        e = supervise_make_dirs(c->snapshot);
    if (e)
        return fatal(e->text);
    open_log(c);
    if (running_pid(c)) {
        say(c, "fatal: ", "the Postfix mail system is already running");
        return 1;
    }
    say(c, "", "starting the Postfix mail system");
    if (!foreground)
        return start_background(c);
    log_stop();
    return become_supervisor(c, -1);
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
        return fatal(err_errno(errno, "kill %lld", (long long)pid)->text);
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
        return fatal(err_errno(errno, "kill %lld", (long long)pid)->text);
    return 0;
}

/* --- logrotate */

static int compress(const char *program, const char *path)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execlp(program, program, path, (char *)NULL);
        fprintf(stderr, "postfix: fatal: %s: %s\n", program, strerror(errno));
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return fatal(err_errno(errno, "run %s", program)->text);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

/* The letters of date(1) that make sense in a name; what else is after a % stays as it is. */
static const char *date_text(struct arena *a, const char *format)
{
    struct buf b = {0};
    struct tm t;
    time_t now = time(NULL);
    localtime_r(&now, &t);
    for (const char *p = format; *p; p++) {
        if (*p != '%' || !p[1]) {
            buf_add_char(&b, *p);
            continue;
        }
        switch (*++p) {
        case 'Y': buf_printf(&b, "%d", t.tm_year + 1900); break;
        case 'm': buf_printf(&b, "%02d", t.tm_mon + 1); break;
        case 'd': buf_printf(&b, "%02d", t.tm_mday); break;
        case 'H': buf_printf(&b, "%02d", t.tm_hour); break;
        case 'M': buf_printf(&b, "%02d", t.tm_min); break;
        case 'S': buf_printf(&b, "%02d", t.tm_sec); break;
        case 'j': buf_printf(&b, "%03d", t.tm_yday + 1); break;
        case 's': buf_printf(&b, "%lld", (long long)now); break;
        case '%': buf_add_char(&b, '%'); break;
        default: buf_printf(&b, "%%%c", *p);
        }
    }
    const char *text = arena_cstr(a, buf_str(&b));
    buf_fini(&b);
    return text;
}

/* As postlogd(8)'s script: rename, have it opened again, compress when nobody writes to it any more. */
static int logrotate(struct call *c)
{
    static const char *const needed[] = {"maillog_file", "maillog_file_compressor",
                                         "maillog_file_rotate_suffix", NULL};
    for (int i = 0; needed[i]; i++) {
        const char *value = config_value(c->snapshot, needed[i]);
        if (value && value[0])
            continue;
        say(c, "fatal: ", arena_printf(c->arena, "empty '%s' parameter value - logfile rotation failed",
                                       needed[i]).ptr);
        return 1;
    }
    const char *file = c->snapshot->params->maillog_file;
    if (strncmp(file, "/dev/", 5) == 0) {
        say(c, "fatal: ", arena_printf(c->arena, "not rotating '%s'", file).ptr);
        return 1;
    }
    log_stop();
    const char *suffix = date_text(c->arena, config_value(c->snapshot, needed[2]));
    const char *path = arena_printf(c->arena, "%s.%s", file, suffix).ptr;
    if (rename(file, path) < 0)
        return fatal(arena_printf(c->arena, "logfile '%s' rotation failed: %s", file, strerror(errno)).ptr);
    int64_t pid = running_pid(c);
    if (pid && kill((pid_t)pid, SIGHUP) < 0)
        return fatal(err_errno(errno, "kill %lld", (long long)pid)->text);
    if (pid)
        sleep(ROTATE_WAIT_S);
    return compress(config_value(c->snapshot, needed[1]), path);
}

/* --- looking */

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
    if (!running_pid(c)) { /* the words and the status of postqueue -f */
        say(c, "fatal: ", "Cannot flush mail queue - mail system is down");
        return EX_UNAVAILABLE;
    }
    return access_flush_all(c->snapshot, "postfix");
}

static int check(struct call *c)
{
    struct err *e = supervise_make_dirs(c->snapshot);
    return e ? fatal(e->text) : 0;
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
    if (strcmp(command, "reload") == 0)
        return reload(c);
    if (strcmp(command, "logrotate") == 0)
        return logrotate(c);
    if (strcmp(command, "status") == 0)
        return status(c);
    if (strcmp(command, "flush") == 0)
        return flush(c);
    say(c, "fatal: ", arena_printf(c->arena, "unknown command: '%s'. Usage: postfix start (or stop, reload, "
                                   "abort, flush, check, status, logrotate, start-fg)", command).ptr);
    return 1;
}

/* --- the configuration */

/* What stop, abort and status need when main.cf cannot be read as a whole: one line of it. */
static const char *plain_queue_directory(struct call *c)
{
    static const char name[] = "queue_directory";
    char line[2048];
    const char *found = NULL;
    FILE *f = fopen(arena_printf(c->arena, "%s/main.cf", c->config_dir).ptr, "re");
    while (f && fgets(line, sizeof(line), f)) {
        struct str rest = str_of(line);
        ssize_t eq = str_index(rest, '=');
        if (eq <= 0 || !str_eq(str_trim(str_head(rest, (size_t)eq)), str_of(name)) || str_is_space(line[0]))
            continue;
        found = arena_cstr(c->arena, str_trim(str_from(rest, (size_t)eq + 1)));
    }
    if (f)
        fclose(f);
    return found && found[0] == '/' && !strchr(found, '$') ? found : NULL;
}

/* Starting and reloading want the whole of it to be right; the others do with main.cf, and a mail system that runs
 * can be stopped whatever has become of the file. */
static struct err *read_config(struct call *c, struct str verb)
{
    bool whole = str_starts(verb, STR("start")) || str_eq(verb, STR("check")) || str_eq(verb, STR("reload"));
    bool needs_little = str_eq(verb, STR("stop")) || str_eq(verb, STR("abort")) || str_eq(verb, STR("status"));
    struct err *e = whole ? config_load(c->config_dir, NULL, &c->snapshot)
                          : config_load_main(c->config_dir, &c->snapshot);
    if (!e) {
        c->syslog_name = c->snapshot->params->syslog_name;
        c->pid_path = supervise_pid_path(c->snapshot, c->arena);
        return whole ? smtpd_check(c->snapshot) : NULL;
    }
    c->snapshot = NULL;
    const char *queue = needs_little ? plain_queue_directory(c) : NULL;
    if (!queue)
        return e;
    fprintf(stderr, "postfix: warning: %s\n", e->text);
    c->syslog_name = "postfix";
    c->pid_path = arena_printf(c->arena, "%s/pid/master.pid", queue).ptr;
    return NULL;
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
        return fatal("-c requires absolute pathname");
    struct call c = {.config_dir = config_dir_choose(dash_c), .arena = arena_new(0, 0)};
    struct err *e = read_config(&c, str_of(argv[optind]));
    int rc = e ? fatal(e->text) : run(&c, argv[optind]);
    log_stop();
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
