#include "core/import/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "io/ring/ring.h"

enum { PIECE = 64 * 1024, LOCK_WAIT_S = 3 };

struct ledger {
    int fd;
    uint64_t size; /* whole lines */
    uint64_t at;   /* of ledger_next */
    char *piece;
};

/* Up to PIECE bytes from `at` on. */
static struct err *look(struct ledger *l, uint64_t at, struct str *out)
{
    size_t len = 0, got = 1;
    size_t want = l->size - at < PIECE ? (size_t)(l->size - at) : PIECE;
    while (len < want && got > 0) {
        struct err *e = io_pread(l->fd, l->piece + len, want - len, at + len, &got);
        if (e)
            return err_in(e, "read the file of what was imported");
        len += got;
    }
    *out = str_make(l->piece, len);
    return NULL;
}

/* A line that was torn by a crash was never told of. */
static struct err *find_end(struct ledger *l, bool *orderly_out)
{
    struct stat st;
    struct str tail;
    if (fstat(l->fd, &st) < 0)
        return err_errno(errno, "stat");
    l->size = (uint64_t)st.st_size;
    uint64_t from = l->size > PIECE ? l->size - PIECE : 0;
    struct err *e = look(l, from, &tail);
    if (e)
        return e;
    ssize_t lf = str_rindex(tail, '\n');
    if (lf < 0 && from > 0)
        return err_new(ERR_DAMAGED, 0, "the file of what was imported has no lines at its end");
    tail = str_head(tail, (size_t)(lf + 1));
    l->size = from + tail.len;
    *orderly_out = l->size == 0 || str_eq(tail, LEDGER_END) || str_ends(tail, STR("\nend\n"));
    return NULL;
}

struct err *ledger_open(const char *queue_directory, struct ledger **out, bool *orderly_out)
{
    char folder[1024], path[1040];
    snprintf(folder, sizeof(folder), "%s/log", queue_directory);
    snprintf(path, sizeof(path), "%s/imported", folder);
    int fd;
    struct err *e = io_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, &fd);
    if (e)
        return err_in(e, "%s", folder);
    struct ledger *l = MEM_NEW(struct ledger);
    l->fd = fd;
    l->piece = mem_alloc(PIECE);
    /* One that was killed may still be at its last lines. */
    e = file_lock(fd, FILE_LOCK_FLOCK, clock_in_s(LOCK_WAIT_S));
    if (e && e->kind == ERR_TIMEOUT)
        e = err_new(ERR_REFUSED, EWOULDBLOCK, "another import is running");
    if (!e)
        e = find_end(l, orderly_out);
    if (!e)
        e = file_sync_dir(folder);
    if (e) {
        ledger_close(l);
        return e;
    }
    *out = l;
    return NULL;
}

struct err *ledger_append(struct ledger *l, struct str lines)
{
    struct err *e = NULL;
    if (ftruncate(l->fd, (off_t)l->size) < 0) /* whatever an attempt before this one left behind */
        e = err_errno(errno, "truncate");
    if (!e)
        e = io_pwrite(l->fd, lines.ptr, lines.len, l->size);
    if (!e)
        e = io_fsync(l->fd, false);
    if (e)
        return err_in(e, "write the file of what was imported");
    l->size += lines.len;
    return NULL;
}

struct err *ledger_next(struct ledger *l, struct str *lines_out)
{
    *lines_out = STR("");
    if (l->at == l->size)
        return NULL;
    struct str lines;
    struct err *e = look(l, l->at, &lines);
    if (e)
        return e;
    ssize_t lf = str_rindex(lines, '\n');
    if (lf < 0)
        return err_new(ERR_DAMAGED, 0, "the file of what was imported is damaged at byte %llu",
                       (unsigned long long)l->at);
    *lines_out = str_head(lines, (size_t)lf + 1);
    l->at += lines_out->len;
    return NULL;
}

void ledger_rewind(struct ledger *l)
{
    l->at = 0;
}

void ledger_close(struct ledger *l)
{
    (void)io_close(l->fd);
    mem_free(l->piece);
    mem_free(l);
}

bool ledger_line(struct str *lines, struct str *origin_out, struct str *id_out)
{
    ssize_t lf = str_index(*lines, '\n');
    if (lf < 0)
        return false;
    struct str line = str_head(*lines, (size_t)lf);
    *lines = str_from(*lines, (size_t)lf + 1);
    ssize_t blank = str_index(line, ' ');
    *origin_out = blank < 0 ? STR("") : str_head(line, (size_t)blank);
    *id_out = blank < 0 ? STR("") : str_from(line, (size_t)blank + 1);
    return true;
}
