#include "disk_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dice.h"
#include "disk_state.h"
#include "io/base/check.h"
#include "io/base/clock.h"

enum { FDS = 256 };

struct disk_write {
    uint64_t id, ino, at;
    size_t n;
    bool dsync;
};

struct file {
    bool open;
    uint64_t ino;
    int flags;
};

static struct disk *current;
static struct file files[FDS];

void disk_use(struct disk *d)
{
    current = d;
    memset(files, 0, sizeof files);
}

void disk_new_process(void)
{
    for (size_t i = 0; i < INODES; i++)
        current->inodes[i].broken = false;
}

struct disk *disk_current(void)
{
    return current;
}

/* --- finding */

static struct file *file_of(int fd)
{
    if (fd < SIM_FD || fd >= SIM_FD + FDS || !files[fd - SIM_FD].open)
        return NULL;
    return &files[fd - SIM_FD];
}

/* The folder and the last name of path. */
static int walk(int dir_fd, const char *path, uint64_t *dir_out, char name[SIM_NAME_MAX])
{
    uint64_t dir = SIM_ROOT_INO;
    if (strncmp(path, SIM_ROOT, strlen(SIM_ROOT)) == 0)
        path += strlen(SIM_ROOT);
    else if (file_of(dir_fd) != NULL)
        dir = file_of(dir_fd)->ino;
    else
        return -ENOENT;
    name[0] = '\0';
    for (;;) {
        while (*path == '/')
            path++;
        size_t n = strcspn(path, "/");
        if (n == 0)
            break;
        if (name[0] != '\0') {
            const struct entry *e = name_find(&current->live, dir, name);
            if (e == NULL || !current->inodes[e->ino].is_dir)
                return -ENOENT;
            dir = e->ino;
        }
        if (n >= SIM_NAME_MAX)
            return -ENAMETOOLONG;
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
    }
    *dir_out = dir;
    return 0;
}

static int find(int dir_fd, const char *path, uint64_t *ino_out)
{
    uint64_t dir;
    char name[SIM_NAME_MAX];
    int rc = walk(dir_fd, path, &dir, name);
    if (rc != 0)
        return rc;
    if (name[0] == '\0' || strcmp(name, ".") == 0) {
        *ino_out = dir;
        return 0;
    }
    const struct entry *e = name_find(&current->live, dir, name);
    if (e == NULL)
        return -ENOENT;
    *ino_out = e->ino;
    return 0;
}

static bool inode_wanted(uint64_t ino)
{
    for (size_t i = 0; i < current->live.n; i++) {
        if (current->live.at[i].ino == ino)
            return true;
    }
    for (size_t i = 0; i < current->durable.n; i++) {
        if (current->durable.at[i].ino == ino)
            return true;
    }
    for (size_t i = 0; i < current->pending_n; i++) {
        if (current->pending[i].ino == ino)
            return true;
    }
    for (int i = 0; i < FDS; i++) {
        if (files[i].open && files[i].ino == ino)
            return true;
    }
    return false;
}

static uint64_t inode_new(bool is_dir)
{
    for (uint64_t i = SIM_ROOT_INO + 1; i < INODES; i++) {
        if (current->inodes[i].used && !inode_wanted(i))
            inode_free(&current->inodes[i]);
    }
    for (uint64_t i = SIM_ROOT_INO + 1; i < INODES; i++) {
        if (!current->inodes[i].used) {
            current->inodes[i] = (struct inode){.used = true, .is_dir = is_dir};
            current->inodes[i].mtime_s = clock_wall_us() / 1000000;
            return i;
        }
    }
    fprintf(stderr, "sim: too many files\n");
    abort();
}

static int fd_new(uint64_t ino, int flags)
{
    for (int i = 0; i < FDS; i++) {
        if (!files[i].open) {
            files[i] = (struct file){.open = true, .ino = ino, .flags = flags};
            return SIM_FD + i;
        }
    }
    fprintf(stderr, "sim: too many open files\n");
    abort();
}

static void link_new(uint64_t dir, const char *name, uint64_t ino)
{
    name_put(&current->live, dir, name, ino);
    struct pending *p = pending_add(current, EFFECT_LINK);
    p->dir = dir;
    p->ino = ino;
    snprintf(p->name, sizeof p->name, "%s", name);
}

/* --- what a program does */

int disk_open(int dir_fd, const char *path, int flags)
{
    uint64_t ino, dir;
    char name[SIM_NAME_MAX];
    int rc = find(dir_fd, path, &ino);
    if (rc == 0 && (flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if (rc == 0 && (flags & O_DIRECTORY) && !current->inodes[ino].is_dir)
        return -ENOTDIR;
    if (rc == -ENOENT && (flags & O_CREAT)) {
        int number = sim_fault_now(FAULT_CHANGE);
        if (number != 0)
            return -number;
        rc = walk(dir_fd, path, &dir, name);
        if (rc != 0)
            return rc;
        ino = inode_new(false);
        link_new(dir, name, ino);
        sim_point();
    }
    if (rc != 0)
        return rc;
    if (flags & O_TRUNC && current->inodes[ino].live.size != 0) {
        image_size(&current->inodes[ino].live, 0);
        struct pending *p = pending_add(current, EFFECT_SIZE);
        p->ino = ino;
    }
    return fd_new(ino, flags);
}

int disk_close(int fd)
{
    struct file *f = file_of(fd);
    if (f == NULL)
        return -EBADF;
    f->open = false;
    return 0;
}

int disk_dup(int fd)
{
    const struct file *f = file_of(fd);
    return f == NULL ? -EBADF : fd_new(f->ino, f->flags);
}

bool disk_dsync(int fd)
{
    const struct file *f = file_of(fd);
    return f != NULL && (f->flags & O_DSYNC) == O_DSYNC;
}

ssize_t disk_read(int fd, void *to, size_t n, uint64_t at)
{
    const struct file *f = file_of(fd);
    if (f == NULL)
        return -EBADF;
    int number = sim_fault_now(FAULT_READ);
    if (number != 0)
        return -number;
    const struct inode *i = &current->inodes[f->ino];
    if (i->bad_n > 0 && at < i->bad_at + i->bad_n && at + n > i->bad_at) {
        /* The kernel gives what stands before it, or nothing. */
        if (at >= i->bad_at || sim_chance(50))
            return -EIO;
        n = (size_t)(i->bad_at - at);
    }
    return (ssize_t)image_read(&i->live, at, to, n);
}

bool disk_unreadable(const char *path, uint64_t at, uint64_t n)
{
    uint64_t ino;
    if (find(-1, path, &ino) != 0)
        return false;
    current->inodes[ino].bad_at = at;
    current->inodes[ino].bad_n = n;
    return true;
}

void disk_repair(void)
{
    for (size_t i = 0; i < INODES; i++)
        current->inodes[i].bad_n = 0;
}

struct disk_write *disk_write_begin(int fd, const void *from, size_t n, uint64_t at)
{
    const struct file *f = file_of(fd);
    CHECK(f != NULL);
    struct disk_write *w = malloc(sizeof *w);
    struct pending *p = pending_add(current, EFFECT_WRITE);
    p->ino = f->ino;
    p->at = at;
    p->data = malloc(sizeof *p->data + n);
    p->data->refs = 1;
    p->data->n = n;
    p->under_way = true;
    memcpy(p->data->bytes, from, n);
    *w = (struct disk_write){
        .id = p->id, .ino = f->ino, .at = at, .n = n, .dsync = (f->flags & O_DSYNC) == O_DSYNC};
    sim_point();
    return w;
}

/* The disk would have to read a place that cannot be read, to write a part of it. */
static bool fills_up_what_is_bad(const struct inode *i, const struct disk_write *w)
{
    uint64_t end = w->at + w->n, bad_end = i->bad_at + i->bad_n;
    return i->bad_n > 0 && end > i->bad_at && end < bad_end && end % PAGE != 0;
}

ssize_t disk_write_end(struct disk_write *w, int fail)
{
    if (fail == 0 && fills_up_what_is_bad(&current->inodes[w->ino], w))
        fail = EIO;
    size_t i = 0;
    ssize_t res = (ssize_t)w->n;
    while (i < current->pending_n && current->pending[i].id != w->id)
        i++;
    CHECK(i < current->pending_n);
    struct pending *p = &current->pending[i];
    p->under_way = false;
    /* A write that failed may be there or not; who reads before the crash may see either. */
    if (fail == 0 || sim_chance(50))
        image_write(&current->inodes[w->ino].live, w->at, p->data->bytes, w->n);
    struct inode *written = &current->inodes[w->ino];
    written->mtime_s = clock_wall_us() / 1000000;
    /* A place that is written to is given another sector. */
    if (fail == 0 && w->at <= written->bad_at && w->at + w->n >= written->bad_at + written->bad_n)
        written->bad_n = 0;
    if (fail != 0) {
        pending_fate(current, p);
        pending_drop(current, i);
        current->inodes[w->ino].broken = w->dsync;
        res = -fail;
    } else if (w->dsync && !current->inodes[w->ino].broken) {
        pending_keep(current, p);
        pending_drop(current, i);
    }
    free(w);
    sim_point();
    return res;
}

/* After a failed one the writes stay what they are, and a later one does not make them safe: the
 * kernel has told once, and forgotten. They are moved out of reach. Names are tried again. */
int disk_fsync(int fd)
{
    const struct file *f = file_of(fd);
    if (f == NULL)
        return -EBADF;
    uint64_t ino = f->ino;
    bool is_dir = current->inodes[ino].is_dir;
    int number = sim_fault_now(FAULT_CHANGE);
    for (size_t i = 0; i < current->pending_n; i++) {
        struct pending *p = &current->pending[i];
        bool of_names = p->what >= EFFECT_LINK;
        bool of_file = !is_dir && p->ino == ino && !of_names;
        bool of_dir = is_dir && p->dir == ino && of_names;
        if (p->under_way || (!of_file && !of_dir))
            continue;
        if (number != 0) {
            p->under_way = of_file;
            continue;
        }
        pending_keep(current, p);
        pending_drop(current, i--);
    }
    sim_point();
    return -number;
}

int disk_size(int fd, uint64_t size, bool only_grow)
{
    const struct file *f = file_of(fd);
    if (f == NULL)
        return -EBADF;
    int number = sim_fault_now(FAULT_CHANGE);
    if (number != 0)
        return -number;
    struct inode *n = &current->inodes[f->ino];
    if (only_grow && size <= n->live.size)
        return 0;
    image_size(&n->live, size);
    struct pending *p = pending_add(current, EFFECT_SIZE);
    p->ino = f->ino;
    p->at = size;
    sim_point();
    return 0;
}

int disk_unlink(int dir_fd, const char *path, bool directory)
{
    uint64_t dir, ino;
    char name[SIM_NAME_MAX];
    int rc = find(dir_fd, path, &ino);
    if (rc == 0 && current->inodes[ino].is_dir != directory)
        rc = directory ? -ENOTDIR : -EISDIR;
    if (rc != 0)
        return rc;
    int number = sim_fault_now(FAULT_CHANGE);
    if (number != 0)
        return -number;
    (void)walk(dir_fd, path, &dir, name);
    name_del(&current->live, dir, name);
    struct pending *p = pending_add(current, EFFECT_UNLINK);
    p->dir = dir;
    snprintf(p->name, sizeof p->name, "%s", name);
    sim_point();
    return 0;
}

int disk_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    uint64_t dir, dir2, ino;
    char name[SIM_NAME_MAX], name2[SIM_NAME_MAX];
    int rc = find(from_dir, from, &ino);
    if (rc == 0)
        rc = walk(from_dir, from, &dir, name);
    if (rc == 0)
        rc = walk(to_dir, to, &dir2, name2);
    if (rc != 0)
        return rc;
    int number = sim_fault_now(FAULT_CHANGE);
    if (number != 0)
        return -number;
    name_del(&current->live, dir, name);
    name_put(&current->live, dir2, name2, ino);
    struct pending *p = pending_add(current, EFFECT_RENAME);
    p->dir = dir;
    p->to_dir = dir2;
    p->ino = ino;
    memcpy(p->name, name, sizeof name);
    memcpy(p->to, name2, sizeof name2);
    sim_point();
    return 0;
}

int disk_mkdir(const char *path)
{
    uint64_t dir, ino;
    char name[SIM_NAME_MAX];
    int rc = find(-1, path, &ino);
    if (rc == 0)
        return -EEXIST;
    rc = walk(-1, path, &dir, name);
    if (rc != 0)
        return rc;
    int number = sim_fault_now(FAULT_CHANGE);
    if (number != 0)
        return -number;
    link_new(dir, name, inode_new(true));
    sim_point();
    return 0;
}

static void stat_of(uint64_t ino, struct disk_stat *out)
{
    const struct inode *n = &current->inodes[ino];
    *out = (struct disk_stat){
        .is_dir = n->is_dir, .ino = ino, .size = n->live.size, .mtime_s = n->mtime_s};
}

int disk_stat(int dir_fd, const char *path, struct disk_stat *out)
{
    uint64_t ino;
    int rc = find(dir_fd, path, &ino);
    if (rc == 0)
        stat_of(ino, out);
    return rc;
}

int disk_fstat(int fd, struct disk_stat *out)
{
    const struct file *f = file_of(fd);
    if (f == NULL)
        return -EBADF;
    stat_of(f->ino, out);
    return 0;
}

bool disk_name(int fd, size_t at, char out[SIM_NAME_MAX])
{
    const struct file *f = file_of(fd);
    for (size_t i = 0; f != NULL && i < current->live.n; i++) {
        if (current->live.at[i].dir != f->ino || at-- > 0)
            continue;
        memcpy(out, current->live.at[i].name, SIM_NAME_MAX);
        return true;
    }
    return false;
}

/* --- databases */

struct kv_image *disk_kv(const char *path)
{
    uint64_t ino;
    return find(-1, path, &ino) == 0 ? current->inodes[ino].kv : NULL;
}

void disk_kv_set(const char *path, struct kv_image *image)
{
    uint64_t ino;
    int rc = find(-1, path, &ino);
    CHECK(rc == 0);
    if (current->inodes[ino].kv != NULL)
        kv_image_unref(current->inodes[ino].kv);
    current->inodes[ino].kv = image;
}
