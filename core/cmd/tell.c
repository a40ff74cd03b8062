#include "core/cmd/tell.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "core/server/engine.h"
#include "io/base/log.h"

static struct {
    const char *name, *service;
    const struct snapshot *snapshot;
    bool tried, open, waiting;
} self = {.name = "ringpost", .service = "ringpost"};

void tell_begin(const char *name, const char *service)
{
    self.name = name;
    self.service = service;
}

void tell_log(const struct snapshot *s)
{
    self.snapshot = s;
}

void tell_end(void)
{
    fflush(stdout);
    if (self.open)
        log_stop();
    self.open = self.tried = false;
    self.snapshot = NULL;
}

/* A user who may not write the mail log is told on stderr all the same. */
static void open_log(void)
{
    if (self.tried || !self.snapshot)
        return;
    self.tried = true;
    self.open = engine_log_start(self.snapshot, false) == NULL;
}

PRINTF(3, 0)
static void say(enum log_level level, const char *word, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    fprintf(stderr, "%s: %s", self.name, word);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    open_log();
    if (self.open)
        log_vat(level, self.service, fmt, again);
    va_end(again);
}

void tell_info(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(LOG_LEVEL_INFO, "", fmt, ap);
    va_end(ap);
}

void tell_warning(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(LOG_LEVEL_WARNING, "warning: ", fmt, ap);
    va_end(ap);
}

int tell_fatal(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(LOG_LEVEL_FATAL, "fatal: ", fmt, ap);
    va_end(ap);
    return status;
}

void tell_progress(int percent)
{
    if (percent >= 100 && !self.waiting)
        return;
    bool terminal = isatty(STDERR_FILENO);
    if (percent < 100 && terminal)
        fprintf(stderr, "\r%s: waiting: the index of the queue is being built again, %d %% of the log is read ", self.name,
                percent);
    else if (percent < 100 && !self.waiting)
        fprintf(stderr, "%s: waiting: the index of the queue is being built again, %d %% of the log is read\n", self.name,
                percent);
    else if (self.waiting && terminal)
        fputs("\r\033[K", stderr);
    self.waiting = percent < 100;
}

const char *command_name(char **argv)
{
    char *slash = strrchr(argv[0], '/');
    if (slash)
        argv[0] = slash + 1;
    return argv[0];
}

struct snapshot *command_config(const char *dash_c)
{
    struct snapshot *s = NULL;
    struct err *e = config_load_main(config_dir_choose(dash_c), &s);
    if (e) {
        tell_fatal(0, "%s", e->text);
        return NULL;
    }
    if (access(s->params->queue_directory, X_OK) < 0) { /* a slip in main.cf is not an empty queue */
        tell_fatal(0, "chdir %s: %s", s->params->queue_directory, strerror(errno));
        snapshot_unref(s);
        return NULL;
    }
    tell_log(s);
    return s;
}

bool command_privileged(const struct snapshot *s)
{
    struct passwd *owner = getpwnam(s->params->mail_owner);
    return geteuid() == 0 || (owner && owner->pw_uid == geteuid());
}
