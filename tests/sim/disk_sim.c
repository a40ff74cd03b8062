#include "disk_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dice.h"
#include "io/base/check.h"
#include "io/base/clock.h"

enum { PAGE = 4096, SECTOR = 512, INODES = 256, ENTRIES = 512, FDS = 256 };

struct page {
    uint32_t refs;
    uint8_t bytes[PAGE];
};

struct image {
    struct page **pages; /* NULL: zeros */
    size_t n;
    uint64_t size;
};

struct inode {
    bool used, is_dir;
    bool broken; /* a synced write to it failed: none after it lasts, in this process */
    struct image live, durable;
    struct kv_image *kv;
    int64_t mtime_s;
};

struct entry {
    uint64_t dir, ino;
    char name[SIM_NAME_MAX];
};

struct names {
    struct entry *at;
    size_t n, cap;
};

enum effect { EFFECT_WRITE, EFFECT_SIZE, EFFECT_LINK, EFFECT_UNLINK, EFFECT_RENAME };

/* The bytes of a write, shared by the copies of a disk. */
struct blob {
    uint32_t refs;
    size_t n;
    uint8_t bytes[];
};

struct pending {
    enum effect what;
    uint64_t ino, at; /* SIZE: at = the size */
    uint64_t dir, to_dir;
    char name[SIM_NAME_MAX], to[SIM_NAME_MAX];
    struct blob *data;
    uint64_t id;
    bool under_way; /* its call has not returned: an fsync does not cover it */
};

struct disk {
    struct inode inodes[INODES];
    struct names live, durable;
    struct pending *pending;
    size_t pending_n, pending_cap;
    uint64_t next_id;
};

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

/* --- images */

static void image_free(struct image *m)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->pages[i] != NULL && --m->pages[i]->refs == 0)
            free(m->pages[i]);
    }
    free(m->pages);
    *m = (struct image){0};
}

static struct image image_copy(const struct image *m)
{
    struct image to = *m;
    to.pages = m->n != 0 ? malloc(m->n * sizeof *to.pages) : NULL;
    for (size_t i = 0; i < m->n; i++) {
        to.pages[i] = m->pages[i];
        if (to.pages[i] != NULL)
            to.pages[i]->refs++;
    }
    return to;
}

static void image_room(struct image *m, uint64_t size)
{
    size_t need = (size_t)((size + PAGE - 1) / PAGE);
    if (need > m->n) {
        m->pages = realloc(m->pages, need * sizeof *m->pages);
        memset(m->pages + m->n, 0, (need - m->n) * sizeof *m->pages);
        m->n = need;
    }
    if (size > m->size)
        m->size = size;
}

static struct page *own_page(struct image *m, size_t i)
{
    struct page *old = m->pages[i];
    if (old != NULL && old->refs == 1)
        return old;
    struct page *fresh = malloc(sizeof *fresh);
    fresh->refs = 1;
    if (old != NULL) {
        memcpy(fresh->bytes, old->bytes, PAGE);
        old->refs--;
    } else {
        memset(fresh->bytes, 0, PAGE);
    }
    m->pages[i] = fresh;
    return fresh;
}

static bool all_zero(const uint8_t *from, size_t n)
{
    return n == 0 || (from[0] == 0 && memcmp(from, from + 1, n - 1) == 0);
}

static void image_write(struct image *m, uint64_t at, const uint8_t *from, size_t n)
{
    image_room(m, at + n);
    while (n > 0) {
        size_t in = (size_t)(at % PAGE), part = PAGE - in < n ? PAGE - in : n, i = (size_t)(at / PAGE);
        if (m->pages[i] != NULL || !all_zero(from, part))
            memcpy(own_page(m, i)->bytes + in, from, part);
        at += part;
        from += part;
        n -= part;
    }
}

static size_t image_read(const struct image *m, uint64_t at, uint8_t *to, size_t n)
{
    if (at >= m->size)
        return 0;
    if (n > m->size - at)
        n = (size_t)(m->size - at);
    for (size_t done = 0; done < n;) {
        size_t in = (size_t)((at + done) % PAGE), part = PAGE - in, i = (size_t)((at + done) / PAGE);
        if (part > n - done)
            part = n - done;
        if (m->pages[i] != NULL)
            memcpy(to + done, m->pages[i]->bytes + in, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return n;
}

static void image_size(struct image *m, uint64_t size)
{
    image_room(m, size);
    m->size = size;
    size_t keep = (size_t)((size + PAGE - 1) / PAGE);
    for (size_t i = keep; i < m->n; i++) {
        if (m->pages[i] != NULL && --m->pages[i]->refs == 0)
            free(m->pages[i]);
        m->pages[i] = NULL;
    }
    m->n = keep;
}

/* --- names */

static struct entry *name_find(const struct names *t, uint64_t dir, const char *name)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->at[i].dir == dir && strcmp(t->at[i].name, name) == 0)
            return &t->at[i];
    }
    return NULL;
}

static void name_del(struct names *t, uint64_t dir, const char *name)
{
    struct entry *e = name_find(t, dir, name);
    if (e != NULL)
        *e = t->at[--t->n];
}

static void name_put(struct names *t, uint64_t dir, const char *name, uint64_t ino)
{
    struct entry *e = name_find(t, dir, name);
    if (e == NULL) {
        if (t->n == t->cap) {
            t->cap = t->cap != 0 ? 2 * t->cap : 32;
            t->at = realloc(t->at, t->cap * sizeof *t->at);
        }
        e = &t->at[t->n++];
    }
    e->dir = dir;
    e->ino = ino;
    snprintf(e->name, sizeof e->name, "%s", name);
}

static const struct entry *name_of(const struct names *t, uint64_t ino)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->at[i].ino == ino)
            return &t->at[i];
    }
    return NULL;
}

static struct names names_copy(const struct names *t)
{
    struct names to = {.n = t->n, .cap = t->n};
    to.at = t->n != 0 ? malloc(t->n * sizeof *to.at) : NULL;
    if (t->n != 0)
        memcpy(to.at, t->at, t->n * sizeof *to.at);
    return to;
}

/* --- pending effects */

static struct pending *pend(struct disk *d, enum effect what)
{
    if (d->pending_n == d->pending_cap) {
        d->pending_cap = d->pending_cap != 0 ? 2 * d->pending_cap : 32;
        d->pending = realloc(d->pending, d->pending_cap * sizeof *d->pending);
    }
    struct pending *p = &d->pending[d->pending_n++];
    memset(p, 0, sizeof *p);
    p->what = what;
    p->id = ++d->next_id;
    return p;
}

static void pending_drop(struct disk *d, size_t i)
{
    struct pending *p = &d->pending[i];
    if (p->data != NULL && --p->data->refs == 0)
        free(p->data);
    memmove(p, p + 1, (--d->pending_n - i) * sizeof *p);
}

/* Whole. */
static void effect_keep(struct disk *d, const struct pending *p)
{
    const struct entry *e;
    switch (p->what) {
    case EFFECT_WRITE:
        image_write(&d->inodes[p->ino].durable, p->at, p->data->bytes, p->data->n);
        break;
    case EFFECT_SIZE:
        image_size(&d->inodes[p->ino].durable, p->at);
        break;
    case EFFECT_LINK:
        name_put(&d->durable, p->dir, p->name, p->ino);
        break;
    case EFFECT_UNLINK:
        name_del(&d->durable, p->dir, p->name);
        break;
    case EFFECT_RENAME: /* the file is there under its new name even when the old one was lost */
        while ((e = name_of(&d->durable, p->ino)) != NULL) /* and under that one alone */
            name_del(&d->durable, e->dir, e->name);
        name_put(&d->durable, p->to_dir, p->to, p->ino);
        break;
    }
}

/* Any of its units may be there. */
static void effect_tear(struct disk *d, const struct pending *p)
{
    size_t unit = sim_chance(50) ? SECTOR : PAGE;
    for (uint64_t at = p->at, end = p->at + p->data->n; at < end;) {
        uint64_t stop = (at / unit + 1) * unit;
        if (stop > end)
            stop = end;
        if (sim_chance(50))
            image_write(&d->inodes[p->ino].durable, at, p->data->bytes + (at - p->at),
                        (size_t)(stop - at));
        at = stop;
    }
}

static void fate(struct disk *d, const struct pending *p)
{
    uint64_t dice = sim_below(p->what == EFFECT_WRITE ? 4 : 2);
    if (dice == 0)
        return;
    if (dice == 1)
        effect_keep(d, p);
    else
        effect_tear(d, p);
}

/* --- disks */

struct disk *disk_new(void)
{
    struct disk *d = calloc(1, sizeof *d);
    d->inodes[SIM_ROOT_INO].used = d->inodes[SIM_ROOT_INO].is_dir = true;
    return d;
}

struct disk *disk_copy(const struct disk *from)
{
    struct disk *d = calloc(1, sizeof *d);
    for (size_t i = 0; i < INODES; i++) {
        const struct inode *n = &from->inodes[i];
        if (!n->used)
            continue;
        d->inodes[i] = *n;
        d->inodes[i].live = image_copy(&n->live);
        d->inodes[i].durable = image_copy(&n->durable);
        if (n->kv != NULL)
            (void)kv_image_ref(n->kv);
    }
    d->live = names_copy(&from->live);
    d->durable = names_copy(&from->durable);
    d->pending_n = d->pending_cap = from->pending_n;
    d->pending = from->pending_n != 0 ? malloc(from->pending_n * sizeof *d->pending) : NULL;
    for (size_t i = 0; i < from->pending_n; i++) {
        d->pending[i] = from->pending[i];
        if (d->pending[i].data != NULL)
            d->pending[i].data->refs++;
    }
    d->next_id = from->next_id;
    return d;
}

static void inode_free(struct inode *n)
{
    image_free(&n->live);
    image_free(&n->durable);
    if (n->kv != NULL)
        kv_image_unref(n->kv);
    *n = (struct inode){0};
}

void disk_free(struct disk *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < INODES; i++)
        inode_free(&d->inodes[i]);
    while (d->pending_n > 0)
        pending_drop(d, d->pending_n - 1);
    free(d->pending);
    free(d->live.at);
    free(d->durable.at);
    free(d);
}

/* What no name leads to is gone. */
static void forget_nameless(struct disk *d)
{
    bool more = true;
    while (more) {
        more = false;
        for (size_t i = 0; i < d->durable.n; i++) {
            if (!d->inodes[d->durable.at[i].dir].used) {
                d->durable.at[i--] = d->durable.at[--d->durable.n];
                more = true;
            }
        }
        for (size_t i = SIM_ROOT_INO + 1; i < INODES; i++) {
            bool named = false;
            for (size_t k = 0; !named && k < d->durable.n; k++)
                named = d->durable.at[k].ino == i;
            if (d->inodes[i].used && !named) {
                inode_free(&d->inodes[i]);
                more = true;
            }
        }
    }
}

struct disk *disk_crash(const struct disk *from)
{
    struct disk *d = disk_copy(from);
    for (size_t i = 0; i < d->pending_n; i++)
        fate(d, &d->pending[i]);
    while (d->pending_n > 0)
        pending_drop(d, d->pending_n - 1);
    forget_nameless(d);
    free(d->live.at);
    d->live = names_copy(&d->durable);
    for (size_t i = 0; i < INODES; i++) {
        if (!d->inodes[i].used)
            continue;
        image_free(&d->inodes[i].live);
        d->inodes[i].live = image_copy(&d->inodes[i].durable);
        d->inodes[i].broken = false;
    }
    return d;
}

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
    struct pending *p = pend(current, EFFECT_LINK);
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
        struct pending *p = pend(current, EFFECT_SIZE);
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
    return (ssize_t)image_read(&current->inodes[f->ino].live, at, to, n);
}

struct disk_write *disk_write_begin(int fd, const void *from, size_t n, uint64_t at)
{
    const struct file *f = file_of(fd);
    CHECK(f != NULL);
    struct disk_write *w = malloc(sizeof *w);
    struct pending *p = pend(current, EFFECT_WRITE);
    p->ino = f->ino;
    p->at = at;
    p->data = malloc(sizeof *p->data + n);
    p->data->refs = 1;
    p->data->n = n;
    p->under_way = true;
    memcpy(p->data->bytes, from, n);
    *w = (struct disk_write){.id = p->id,
                             .ino = f->ino,
                             .at = at,
                             .n = n,
                             .dsync = (f->flags & O_DSYNC) == O_DSYNC};
    sim_point();
    return w;
}

ssize_t disk_write_end(struct disk_write *w, int fail)
{
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
    current->inodes[w->ino].mtime_s = clock_wall_us() / 1000000;
    if (fail != 0) {
        fate(current, p);
        pending_drop(current, i);
        current->inodes[w->ino].broken = w->dsync;
        res = -fail;
    } else if (w->dsync && !current->inodes[w->ino].broken) {
        effect_keep(current, p);
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
        bool of_file = !is_dir && p->ino == ino && (p->what == EFFECT_WRITE || p->what == EFFECT_SIZE);
        bool of_dir = is_dir && p->dir == ino && p->what >= EFFECT_LINK;
        if (p->under_way || (!of_file && !of_dir))
            continue;
        if (number != 0) {
            p->under_way = of_file;
            continue;
        }
        effect_keep(current, p);
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
    struct pending *p = pend(current, EFFECT_SIZE);
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
    struct pending *p = pend(current, EFFECT_UNLINK);
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
    struct pending *p = pend(current, EFFECT_RENAME);
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

bool disk_flip(const char *path, uint64_t at, uint8_t mask)
{
    uint64_t ino;
    uint8_t byte;
    if (find(-1, path, &ino) != 0 || image_read(&current->inodes[ino].live, at, &byte, 1) != 1)
        return false;
    byte ^= mask;
    image_write(&current->inodes[ino].live, at, &byte, 1);
    image_write(&current->inodes[ino].durable, at, &byte, 1);
    return true;
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
