#include "core/cmd/import.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "core/cmd/import_mail.h"
#include "core/cmd/tell.h"
#include "core/import/ledger.h"
#include "io/base/clock.h"
#include "io/base/hash.h"
#include "io/base/mem.h"
#include "io/proc/proc.h"

#define SHOW_EVERY_NS (NS_PER_S / 4)

struct importer {
    const struct snapshot *snapshot;
    struct import_dir dir;
    bool ours; /* DIR is our own queue directory */
    struct access *access;
    struct hmap known; /* origins that are here */
    struct arena *arena;
    struct err *trouble; /* with our queue: ends it */
    uint64_t imported, held, before, finished, unfinished, failed;
    bool terminal, shown;
    int64_t shown_ns;
};

/* --- what is said */

static void show_clear(struct importer *im)
{
    if (im->shown)
        fputs("\r\033[K", stderr);
    im->shown = false;
}

static void show(struct importer *im)
{
    int64_t now = clock_mono_ns();
    if (!im->terminal || now - im->shown_ns < SHOW_EVERY_NS)
        return;
    im->shown_ns = now;
    im->shown = true;
    fprintf(stderr, "\r%llu imported, %llu imported before ", (unsigned long long)im->imported,
            (unsigned long long)im->before);
    fflush(stderr);
}

PRINTF(3, 4)
static void warn(struct importer *im, const struct import_entry *entry, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    show_clear(im);
    tell_warning("%s: %s", entry->path, text);
}

static void summary(struct importer *im)
{
    show_clear(im);
    tell_info("Imported: %llu message%s, %llu of these on hold; imported before: %llu; nothing to import: %llu; "
              "not imported: %llu",
              (unsigned long long)im->imported, im->imported == 1 ? "" : "s", (unsigned long long)im->held,
              (unsigned long long)im->before, (unsigned long long)(im->finished + im->unfinished),
              (unsigned long long)im->failed);
}

/* --- one file */

static void take(struct importer *im, const struct import_entry *entry, struct import_mail *m)
{
    char id[QUEUE_ID_MAX] = "";
    struct err *unreadable;
    const struct queue_file *f = &m->file;
    im->trouble = import_mail_send(im->access, m, im->snapshot->params->cleanup_replace_stray_cr_lf, id, &unreadable);
    if (im->trouble)
        return;
    if (unreadable) {
        warn(im, entry, "%s", unreadable->text);
        im->failed++;
        return;
    }
    (void)hmap_put(&im->known, m->origin, im);
    im->imported++;
    im->held += m->hold;
    if (f->filter.len > 0)
        warn(im, entry, "was to go through the content filter %.*s, which is not supported: placed on hold as %s",
             STR_ARG(f->filter), id);
    if (f->verp.len > 0)
        warn(im, entry, "was to be sent with a sender address for each recipient (VERP), which is not supported: imported "
                        "as %s with its plain sender", id);
}

static void look_at(struct importer *im, const struct import_entry *entry)
{
    struct import_mail m;
    struct err *e = import_mail_open(&im->dir, entry, im->arena, &m);
    if (!e && m.file.sized == m.posted) {
        import_mail_close(&m);
        e = err_new(ERR_DAMAGED, 0, m.posted ? "not as sendmail leaves it" : "no sizes");
    }
    if (e) {
        warn(im, entry, "%s: left where it is", e->text);
        im->failed++;
        return;
    }
    if (m.file.probe) {
        warn(im, entry, "verifies an address, and is no mail: left where it is");
        im->finished++;
    } else if (m.file.env.rcpt_count == 0) {
        im->finished++;
    } else if (hmap_get(&im->known, m.origin)) {
        im->before++;
    } else {
        take(im, entry, &m);
    }
    import_mail_close(&m);
}

static bool each_file(void *ctx, const struct import_entry *entry)
{
    struct importer *im = ctx;
    arena_reset(im->arena);
    if (!S_ISREG(entry->st.st_mode) || !queue_id_parse(str_of(entry->name), NULL, NULL)) {
        warn(im, entry, "is not a queue file: left where it is");
        im->failed++;
    } else if ((entry->st.st_mode & S_IXUSR) == 0) {
        /* The sender was not told that it is safe, and will have tried again. */
        warn(im, entry, "was not complete when Postfix stopped: left where it is");
        im->unfinished++;
    } else {
        look_at(im, entry);
    }
    show(im);
    return !im->trouble;
}

/* --- all of it */

static void note_known(struct importer *im, struct str lines)
{
    struct str origin, id;
    while (ledger_line(&lines, &origin, &id))
        if (origin.len > 0)
            (void)hmap_put(&im->known, origin, im);
}

static struct err *begin(struct importer *im)
{
    struct access *a = im->access;
    enum wire_verb verb = WIRE_CONTENT;
    uint64_t finished = 0;
    struct err *e = access_channel(a);
    if (e)
        return e;
    wire_begin(&a->out, WIRE_IMPORT);
    e = wire_send(a->fd, &a->out);
    while (!e) {
        e = wire_recv(a->fd, &a->in, &verb);
        if (e || verb != WIRE_CONTENT)
            break;
        note_known(im, buf_str(&a->in));
    }
    if (!e)
        e = access_end_of(a, verb, &finished, NULL);
    if (!e && finished > 0)
        tell_info("%llu message%s of an import that was cut short: finished", (unsigned long long)finished,
                  finished == 1 ? "" : "s");
    return e;
}

static struct err *end(struct importer *im)
{
    struct access *a = im->access;
    wire_begin(&a->out, WIRE_IMPORT_CLOSE);
    struct err *e = wire_send(a->fd, &a->out);
    return e ? e : access_end(a, NULL, NULL);
}

static struct err *walk_all(struct importer *im)
{
    static const char *const queues[] = {"active", "incoming", "deferred", "hold", "maildrop"};
    bool stopped = false;
    struct err *e = NULL;
    for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]) && !e && !stopped; i++)
        e = import_walk(&im->dir, queues[i], each_file, im, &stopped);
    return e ? e : im->trouble;
}

/* Its files are read as their owner: what strangers have sent is nothing for root to parse. */
static struct err *become_owner(const struct importer *im)
{
    if (geteuid() != 0)
        return NULL;
    errno = 0;
    const struct passwd *pw = getpwuid(im->dir.owner);
    if (!pw)
        return err_new(ERR_CONFIG, 0, "%s belongs to a user without a name: %ld", im->dir.path, (long)im->dir.owner);
    char name[64];
    str_copy(name, sizeof(name), str_of(pw->pw_name));
    return proc_become(name);
}

static int run(struct access *a, void *ctx)
{
    struct importer *im = ctx;
    im->access = a;
    if (im->dir.holder != 0 && !(im->ours && a->fd >= 0))
        return tell_fatal(1, "a mail system (process %ld) is running on %s: stop it first", (long)im->dir.holder, im->dir.path);
    struct err *e = become_owner(im);
    if (!e)
        e = begin(im);
    if (e)
        return tell_fatal(1, "import: %s", e->text);
    e = walk_all(im);
    char text[ERR_TEXT_MAX] = "";
    if (e)
        str_copy(text, sizeof(text), str_of(e->text));
    struct err *closing = end(im);
    summary(im);
    if (e || closing)
        return tell_fatal(1, "import: %s: the same command goes on where this one ended", e ? text : closing->text);
    return im->failed > 0;
}

/* Whoever will read the files must be able to. */
static struct err *check_owner(const struct importer *im)
{
    const struct passwd *pw = getpwnam(im->snapshot->params->mail_owner);
    if (geteuid() != 0)
        return NULL;
    if (im->dir.owner == 0)
        return err_new(ERR_REFUSED, 0, "%s: its queues belong to root: give them to the user who ran Postfix (chown -R), as "
                                       "their mail is not read as root", im->dir.path);
    if (access_is_down(im->snapshot) && (!pw || pw->pw_uid != im->dir.owner))
        return err_new(ERR_REFUSED, 0, "%s: its queues belong to another user than mail_owner %s: start the mail system "
                                       "first, or give them to %s (chown -R)",
                       im->dir.path, im->snapshot->params->mail_owner, im->snapshot->params->mail_owner);
    return NULL;
}

int import_run(const struct snapshot *s, const char *directory)
{
    struct importer im = {.snapshot = s, .terminal = isatty(STDERR_FILENO)};
    struct stat own, theirs;
    struct err *e = import_dir_open(directory, &im.dir);
    if (e)
        return tell_fatal(1, "import: %s", e->text);
    im.ours = stat(s->params->queue_directory, &own) == 0 && fstat(im.dir.fd, &theirs) == 0 &&
              own.st_dev == theirs.st_dev && own.st_ino == theirs.st_ino;
    e = check_owner(&im);
    int status;
    if (e) {
        status = tell_fatal(1, "import: %s", e->text);
    } else {
        im.arena = arena_new(16384, 0);
        status = access_run(s, "postsuper", true, run, &im);
        hmap_fini(&im.known);
        arena_free(im.arena);
    }
    import_dir_close(&im.dir);
    return status;
}
