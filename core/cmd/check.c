#include "core/cmd/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/tell.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "io/proc/proc.h"
#include "io/ring/ring.h"
#include "queue/store/verify.h"
#include "queue/store/verify_pipe.h"

#define SHOW_EVERY_NS (NS_PER_S / 4)
#define LOCK_WAIT_S   10

/* What the process that looks tells the one that speaks: it has become mail_owner, and so can neither write the
 * log nor leave files behind that are root's. */
struct report {
    enum { REPORT_FOUND, REPORT_PROGRESS, REPORT_END } what;
    union {
        struct finding found;
        struct {
            uint64_t done, all;
        } progress;
        struct {
            bool failed, busy, index_removed;
            uint64_t segments, records, messages, large, rows, damaged;
            char why[ERR_TEXT_MAX];
        } end;
    };
};

struct check {
    const struct snapshot *snapshot;
    bool running, verbose, terminal, shown;
    int64_t shown_ns;
    struct buf ids; /* QUEUE_ID_MAX bytes each: damaged messages */
    uint64_t unread;
};

/* --- looking: a process of its own */

static void send_report(int fd, const struct report *r)
{
    if (!verify_put(fd, r, sizeof(*r)))
        _exit(1);
}

static void found(void *ctx, const struct finding *f)
{
    send_report(*(const int *)ctx, &(struct report){.what = REPORT_FOUND, .found = *f});
}

static void progress(void *ctx, uint64_t done, uint64_t all)
{
    send_report(*(const int *)ctx, &(struct report){.what = REPORT_PROGRESS, .progress = {done, all}});
}

/* Nobody may open the queue meanwhile. Held to the end of the process. */
static struct err *lock_queue(const char *queue)
{
    int fd;
    char path[1024];
    snprintf(path, sizeof(path), "%s/log/lock", queue);
    struct err *e = io_openat(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, &fd);
    return e ? e : file_lock(fd, FILE_LOCK_FCNTL, clock_in_s(LOCK_WAIT_S));
}

static struct err *remove_index(const char *queue)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    for (size_t i = 0; i < 2; i++) {
        char path[1024];
        snprintf(path, sizeof(path), "%s/index/%s", queue, files[i]);
        struct err *e = io_unlinkat(AT_FDCWD, path, 0);
        if (e && e->kind != ERR_NOTFOUND)
            return e;
    }
    return NULL;
}

static void look(const struct check *c, int fd)
{
    const char *queue = c->snapshot->params->queue_directory;
    struct report end = {.what = REPORT_END};
    struct verify v = {.directory = queue,
                       .running = c->running,
                       .ctx = &fd,
                       .found = found,
                       .progress = c->terminal ? progress : NULL};
    struct err *e = geteuid() == 0 ? proc_become(c->snapshot->params->mail_owner) : NULL;
    if (!e && !c->running) {
        e = lock_queue(queue);
        end.end.busy = e && e->kind == ERR_TIMEOUT;
    }
    if (!e)
        e = verify_queue(&v);
    if (e && e->kind == ERR_NOTFOUND) /* the first start makes what is missing */
        e = NULL;
    end.end.index_removed = !e && v.index_unfit && !c->running && !(e = remove_index(queue));
    end.end.segments = v.segments;
    end.end.records = v.records;
    end.end.messages = v.messages;
    end.end.large = v.large;
    end.end.rows = v.rows;
    end.end.damaged = v.damaged;
    end.end.failed = e != NULL;
    if (e)
        str_copy(end.end.why, sizeof(end.end.why), str_of(e->text));
    send_report(fd, &end);
}

/* --- speaking */

static void show_clear(struct check *c)
{
    if (c->shown)
        fputs("\r\033[K", stderr);
    c->shown = false;
}

static void show(struct check *c, uint64_t done, uint64_t all)
{
    int64_t now = clock_mono_ns();
    if (now - c->shown_ns < SHOW_EVERY_NS)
        return;
    c->shown_ns = now;
    c->shown = true;
    fprintf(stderr, "\r%llu %% of %llu MiB looked at ", (unsigned long long)(all ? done * 100 / all : 100),
            (unsigned long long)(all >> 20));
    fflush(stderr);
}

static bool known(const struct check *c, const char *id)
{
    for (size_t at = 0; at < c->ids.len; at += QUEUE_ID_MAX)
        if (strcmp(c->ids.ptr + at, id) == 0)
            return true;
    return false;
}

static void tell_found(struct check *c, const struct finding *f)
{
    bool note = f->kind < FINDING_HEADER;
    char name[QUEUE_ID_MAX + 32] = "";
    if (note && !c->verbose)
        return;
    show_clear(c);
    if (f->id[0])
        snprintf(name, sizeof(name), "%s: ", f->id);
    else if (f->seq)
        snprintf(name, sizeof(name), "message %llx: ", (unsigned long long)f->seq);
    if (note) {
        tell_info("%s: %s%s", f->where, name, f->why);
        return;
    }
    tell_warning("%s: %s%s", f->where, name, f->why);
    if (f->id[0] && f->kind != FINDING_INDEX && !known(c, f->id))
        buf_add(&c->ids, f->id, QUEUE_ID_MAX);
}

static struct err *look_apart(struct check *c, struct report *end_out)
{
    int fds[2], status;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(errno, "pipe");
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        look(c, fds[1]);
        _exit(0);
    }
    close(fds[1]);
    struct report r;
    bool ended = false;
    while (pid > 0 && verify_get(fds[0], &r, sizeof(r))) {
        if (r.what == REPORT_FOUND)
            tell_found(c, &r.found);
        else if (r.what == REPORT_PROGRESS)
            show(c, r.progress.done, r.progress.all);
        else
            *end_out = r;
        ended |= r.what == REPORT_END;
    }
    close(fds[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    show_clear(c);
    return ended ? NULL : err_new(ERR_IO, 0, "the check ended before its time");
}

/* --- repair */

static int set_aside(struct access *a, void *ctx)
{
    struct check *c = ctx;
    for (size_t at = 0; at < c->ids.len; at += QUEUE_ID_MAX) {
        bool aside = false;
        const char *id = c->ids.ptr + at;
        struct err *e = a->queue ? queue_check(a->queue, str_of(id), &aside)
                                 : err_new(ERR_CLOSED, 0, "the mail system was started meanwhile");
        if (e && e->kind != ERR_IO)
            return tell_fatal(1, "%s: %s", id, e->text);
        c->unread += e != NULL;
        if (e)
            tell_warning("%s: stays where it is: %s", id, e->text);
        else if (aside)
            tell_info("%s: moved to queue \"corrupt\"", id);
        else
            tell_info("%s: its content is whole, or in queue \"corrupt\" already", id);
    }
    return c->unread > 0;
}

static int summary(const struct check *c, const struct report *end)
{
    unsigned long long damaged = end->end.damaged;
    if (c->verbose)
        tell_info("looked at %llu segments, %llu records, %llu messages, %llu of them in a file of their own, "
                  "%llu rows of the index",
                  (unsigned long long)end->end.segments, (unsigned long long)end->end.records,
                  (unsigned long long)end->end.messages, (unsigned long long)end->end.large,
                  (unsigned long long)end->end.rows);
    if (damaged == 0)
        return 0;
    tell_info("%llu damaged place%s", damaged, damaged == 1 ? "" : "s");
    if (c->running) {
        tell_info("the mail system is running: nothing is changed. Damaged messages go to queue \"corrupt\" when "
                  "their turn comes; or stop it, and repeat the command");
        return 1;
    }
    if (end->end.index_removed)
        tell_info("the index was removed: the next start builds it again from the log");
    return 0;
}

int check_run(const struct snapshot *s, bool verbose)
{
    struct check c = {.snapshot = s, .running = !access_is_down(s), .verbose = verbose,
                      .terminal = isatty(STDERR_FILENO)};
    struct report end = {0};
    struct err *e = look_apart(&c, &end);
    if (!e && end.end.busy) { /* a command has it open: as with a server */
        c.running = true;
        e = look_apart(&c, &end);
    }
    int status = 0;
    if (e)
        status = tell_fatal(1, "structure check: %s", e->text);
    else if (end.end.failed)
        status = tell_fatal(1, "structure check: %s", end.end.why);
    else
        status = summary(&c, &end);
    if (status == 0 && !c.running && c.ids.len > 0)
        status = access_run(s, "postsuper", true, set_aside, &c);
    buf_fini(&c.ids);
    return status;
}
