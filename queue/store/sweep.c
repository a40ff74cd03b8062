/* Sweep: files of content/ without a row. */
#include "io/base/log.h"
#include "io/ring/ring.h"
#include "queue/store/recover.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SWEEP_SLICE = 256 };

/* When something was set aside last; 0 = there is nothing. */
static int64_t damage_time(struct store *s)
{
    int64_t latest = 0;
    const struct dirent *entry;
    struct stat st;
    DIR *dir = fdopendir(dup(s->corrupt_dir_fd));
    if (dir == NULL)
        return 0;
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (!str_ends(str_of(entry->d_name), STR(".content")) && entry->d_name[0] != '.' &&
            fstatat(s->corrupt_dir_fd, entry->d_name, &st, 0) == 0 && st.st_mtime > latest)
            latest = st.st_mtime;
    }
    (void)closedir(dir);
    return latest;
}

static struct err *drop_content(struct store *s, const char *name, int64_t damage_s)
{
    struct stat st;
    struct buf to = {0};
    if (damage_s == 0 || fstatat(s->content_dir_fd, name, &st, 0) != 0 || st.st_mtime > damage_s)
        return io_unlinkat(s->content_dir_fd, name, 0);
    buf_printf(&to, "%s.content", name);
    log_warning("queue", "corrupt/%s: no whole record tells of it, and the log was damaged: set aside",
                to.ptr);
    struct err *e = io_renameat(s->content_dir_fd, name, s->corrupt_dir_fd, to.ptr);
    buf_fini(&to);
    return e;
}

void number_above_content(struct recovery *r)
{
    const struct dirent *entry;
    uint64_t most = r->next_seq + SEQ_GAP;
    DIR *dir = fdopendir(dup(r->store->content_dir_fd));
    if (dir == NULL)
        return;
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL) {
        unsigned long long seq;
        if (entry->d_name[0] != '.' && sscanf(entry->d_name, "%16llx", &seq) == 1 &&
            seq >= r->next_seq && seq < most)
            r->next_seq = seq + 1;
    }
    (void)closedir(dir);
}

struct err *sweep_content(struct store *s, uint64_t below)
{
    struct err *e = NULL;
    const struct dirent *entry;
    int64_t damage_s = damage_time(s);
    size_t n = 0;
    DIR *dir = fdopendir(dup(s->content_dir_fd));
    if (dir == NULL)
        return err_errno(errno, "%s/content", s->directory);
    rewinddir(dir);
    while (e == NULL && !s->stopping && (entry = readdir(dir)) != NULL) {
        unsigned long long seq;
        struct index_row row;
        bool found = false;
        if (entry->d_name[0] == '.' || sscanf(entry->d_name, "%16llx", &seq) != 1 || seq >= below)
            continue;
        e = index_get(s->index, seq, NULL, &row, &found);
        if (e == NULL && !found)
            e = drop_content(s, entry->d_name, damage_s);
        if (e != NULL && e->kind == ERR_NOTFOUND)
            e = NULL;
        if (++n % SWEEP_SLICE == 0)
            fiber_yield();
    }
    (void)closedir(dir);
    return e;
}
