/* kv_sim: io/kv/kv.h in memory. A commit is one step: the disk has the image before it or the one
 * after it. Images are never changed once they are committed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dice.h"
#include "disk_sim.h"
#include "io/base/check.h"
#include "io/base/str.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/kv/kv.h"

enum { TABLES = 16 };

struct pair {
    uint32_t refs;
    size_t key_len, value_len;
    char bytes[];
};

struct table {
    char name[32];
    bool integer_keys;
    struct pair **at;
    size_t n, cap;
};

struct kv_image {
    uint32_t refs;
    struct table tables[TABLES];
    size_t n;
};

struct kv {
    char path[256];
    bool read_only;
    struct kv_txn *writer;
};

struct kv_txn {
    struct kv *kv;
    struct kv_image *image;
    bool write;
    uint64_t changes;
};

struct kv_cursor {
    struct kv_txn *txn;
    kv_table table;
    struct pair *last; /* held: the walk goes on behind it, whatever happens to the table */
    struct str from;
    bool started;
};

struct kv_image *kv_image_ref(struct kv_image *m)
{
    m->refs++;
    return m;
}

static void pair_unref(struct pair *p)
{
    if (p != NULL && --p->refs == 0)
        free(p);
}

void kv_image_unref(struct kv_image *m)
{
    if (--m->refs != 0)
        return;
    for (size_t i = 0; i < m->n; i++) {
        for (size_t k = 0; k < m->tables[i].n; k++)
            pair_unref(m->tables[i].at[k]);
        free(m->tables[i].at);
    }
    free(m);
}

static struct kv_image *image_copy(const struct kv_image *from)
{
    struct kv_image *m = calloc(1, sizeof *m);
    m->refs = 1;
    if (from == NULL)
        return m;
    m->n = from->n;
    for (size_t i = 0; i < from->n; i++) {
        struct table *t = &m->tables[i];
        *t = from->tables[i];
        t->cap = t->n + 16;
        t->at = malloc(t->cap * sizeof *t->at);
        for (size_t k = 0; k < t->n; k++) {
            t->at[k] = from->tables[i].at[k];
            t->at[k]->refs++;
        }
    }
    return m;
}

/* --- order */

static int compare(const struct table *t, struct str a, struct str b)
{
    if (t->integer_keys) {
        uint64_t x = 0, y = 0;
        memcpy(&x, a.ptr, a.len < 8 ? a.len : 8);
        memcpy(&y, b.ptr, b.len < 8 ? b.len : 8);
        return x < y ? -1 : x > y;
    }
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n != 0 ? memcmp(a.ptr, b.ptr, n) : 0;
    return c != 0 ? c : a.len < b.len ? -1 : a.len > b.len;
}

static struct str key_str(const struct pair *p)
{
    return str_make(p->bytes, p->key_len);
}

static struct str value_str(const struct pair *p)
{
    return str_make(p->bytes + p->key_len, p->value_len);
}

/* The first that is not before key. */
static size_t lower(const struct table *t, struct str key, bool *equal_out)
{
    size_t from = 0, to = t->n;
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (compare(t, key_str(t->at[middle]), key) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    *equal_out = from < t->n && compare(t, key_str(t->at[from]), key) == 0;
    return from;
}

/* --- environments */

static void data_path(const struct kv *kv, char out[300])
{
    snprintf(out, 300, "%s/data.mdb", kv->path);
}

static struct err *fault(enum fault_at at, const char *what)
{
    int number = sim_fault_now(at);
    return number != 0 ? err_errno(number, "%s", what) : NULL;
}

struct err *kv_open(const char *path, const struct kv_options *options, struct kv **out)
{
    char data[300];
    struct kv *kv = MEM_NEW(struct kv);
    snprintf(kv->path, sizeof kv->path, "%s", path);
    kv->read_only = options->read_only;
    data_path(kv, data);
    int rc = options->read_only ? 0 : disk_mkdir(path);
    int flags = O_RDWR | (options->read_only ? 0 : O_CREAT);
    int fd = rc == 0 || rc == -EEXIST ? disk_open(-1, data, flags) : rc;
    if (fd < 0) {
        mem_free(kv);
        return err_errno(-fd, "%s", path);
    }
    (void)disk_close(fd);
    struct disk_stat st;
    if (disk_kv(data) == NULL && disk_stat(-1, data, &st) == 0 && st.size != 0) {
        mem_free(kv);
        return err_new(ERR_DAMAGED, 0, "%s: not a database", path);
    }
    *out = kv;
    return NULL;
}

void kv_close(struct kv *kv)
{
    mem_free(kv);
}

struct err *kv_sync(struct kv *kv)
{
    (void)kv;
    return NULL;
}

void kv_forget(struct kv *kv, size_t beyond)
{
    (void)kv;
    (void)beyond;
}

uint64_t kv_bytes(struct kv *kv)
{
    (void)kv;
    return 0;
}

struct err *kv_path_id(const char *path, uint64_t *dev_out, uint64_t *ino_out,
                       int64_t *mtime_ns_out)
{
    (void)path;
    *dev_out = *ino_out = 0;
    *mtime_ns_out = 0;
    return NULL;
}

/* --- transactions */

struct err *kv_begin(struct kv *kv, bool write, struct kv_txn **out)
{
    char data[300];
    struct err *e = fault(write ? FAULT_CHANGE : FAULT_READ, "begin");
    if (e != NULL)
        return e;
    CHECK(!write || kv->writer == NULL);
    data_path(kv, data);
    struct kv_image *now = disk_kv(data);
    struct kv_txn *t = MEM_NEW(struct kv_txn);
    t->kv = kv;
    t->write = write;
    t->image = write || now == NULL ? image_copy(now) : kv_image_ref(now);
    if (write)
        kv->writer = t;
    if (fiber_self() != NULL)
        fiber_no_yield_begin();
    *out = t;
    return NULL;
}

void kv_abort(struct kv_txn *t)
{
    if (t == NULL)
        return;
    if (t->write)
        t->kv->writer = NULL;
    if (fiber_self() != NULL)
        fiber_no_yield_end();
    kv_image_unref(t->image);
    mem_free(t);
}

struct err *kv_commit(struct kv_txn *t)
{
    char data[300];
    struct err *e = t->write ? fault(FAULT_CHANGE, "commit") : NULL;
    if (e == NULL && t->write) {
        data_path(t->kv, data);
        sim_point();
        disk_kv_set(data, kv_image_ref(t->image));
        sim_point();
    }
    kv_abort(t);
    return e;
}

struct err *kv_table_open(struct kv_txn *t, const char *name, bool create, bool integer_keys,
                          kv_table *out)
{
    if (name == NULL)
        name = "";
    for (size_t i = 0; i < t->image->n; i++) {
        if (strcmp(t->image->tables[i].name, name) == 0) {
            *out = (kv_table)i;
            return NULL;
        }
    }
    if (!create || !t->write)
        return err_new(ERR_NOTFOUND, 0, "no table %s", name);
    CHECK(t->image->n < TABLES);
    struct table *fresh = &t->image->tables[t->image->n];
    snprintf(fresh->name, sizeof fresh->name, "%s", name);
    fresh->integer_keys = integer_keys;
    *out = (kv_table)t->image->n++;
    return NULL;
}

static struct table *table_of(struct kv_txn *t, kv_table table)
{
    CHECK(table < t->image->n);
    return &t->image->tables[table];
}

struct err *kv_get(struct kv_txn *t, kv_table table, struct str key, struct str *value_out,
                   bool *found_out)
{
    const struct table *at = table_of(t, table);
    size_t i = lower(at, key, found_out);
    if (*found_out)
        *value_out = value_str(at->at[i]);
    return NULL;
}

struct err *kv_put(struct kv_txn *t, kv_table table, struct str key, struct str value)
{
    struct table *to = table_of(t, table);
    bool equal;
    struct pair *p = malloc(sizeof *p + key.len + value.len);
    CHECK(t->write);
    p->refs = 1;
    p->key_len = key.len;
    p->value_len = value.len;
    memcpy(p->bytes, key.ptr, key.len);
    if (value.len != 0)
        memcpy(p->bytes + key.len, value.ptr, value.len);
    size_t i = lower(to, key_str(p), &equal);
    if (equal) {
        pair_unref(to->at[i]);
        to->at[i] = p;
        return NULL;
    }
    if (to->n == to->cap) {
        to->cap = to->cap != 0 ? 2 * to->cap : 16;
        to->at = realloc(to->at, to->cap * sizeof *to->at);
    }
    memmove(to->at + i + 1, to->at + i, (to->n - i) * sizeof *to->at);
    to->at[i] = p;
    to->n++;
    return NULL;
}

struct err *kv_put_new(struct kv_txn *t, kv_table table, struct str key, struct str value,
                       bool *existed_out)
{
    (void)lower(table_of(t, table), key, existed_out);
    return *existed_out ? NULL : kv_put(t, table, key, value);
}

struct err *kv_put_last(struct kv_txn *t, kv_table table, struct str key, struct str value)
{
    return kv_put(t, table, key, value);
}

struct err *kv_del(struct kv_txn *t, kv_table table, struct str key, bool *found_out)
{
    struct table *from = table_of(t, table);
    CHECK(t->write);
    size_t i = lower(from, key, found_out);
    if (!*found_out)
        return NULL;
    pair_unref(from->at[i]);
    memmove(from->at + i, from->at + i + 1, (--from->n - i) * sizeof *from->at);
    return NULL;
}

struct err *kv_count(struct kv_txn *t, kv_table table, uint64_t *out)
{
    *out = table_of(t, table)->n;
    return NULL;
}

struct err *kv_clear(struct kv_txn *t, kv_table table)
{
    struct table *all = table_of(t, table);
    for (size_t i = 0; i < all->n; i++)
        pair_unref(all->at[i]);
    all->n = 0;
    return NULL;
}

/* --- cursors */

struct err *kv_cursor_open(struct kv_txn *t, kv_table table, struct str from,
                           struct kv_cursor **out)
{
    struct kv_cursor *c = MEM_NEW(struct kv_cursor);
    char *copy = from.len != 0 ? mem_alloc(from.len) : NULL;
    if (copy != NULL)
        memcpy(copy, from.ptr, from.len);
    c->txn = t;
    c->table = table;
    c->from = str_make(copy, from.len);
    *out = c;
    return NULL;
}

struct err *kv_cursor_next(struct kv_cursor *c, struct str *key_out, struct str *value_out,
                           bool *found_out)
{
    const struct table *t = table_of(c->txn, c->table);
    bool equal = false;
    size_t i = 0;
    if (c->started)
        i = lower(t, key_str(c->last), &equal) + equal;
    else if (c->from.len != 0)
        i = lower(t, c->from, &equal);
    *found_out = i < t->n;
    if (!*found_out)
        return NULL;
    pair_unref(c->last);
    c->last = t->at[i];
    c->last->refs++;
    c->started = true;
    *key_out = key_str(c->last);
    *value_out = value_str(c->last);
    return NULL;
}

struct err *kv_cursor_seek(struct kv_cursor *c, struct str key, struct str *value_out,
                           bool *found_out)
{
    const struct table *t = table_of(c->txn, c->table);
    size_t i = lower(t, key, found_out);
    c->started = *found_out;
    if (!*found_out)
        return NULL;
    pair_unref(c->last);
    c->last = t->at[i];
    c->last->refs++;
    *value_out = value_str(c->last);
    return NULL;
}

struct err *kv_cursor_del(struct kv_cursor *c)
{
    bool found;
    CHECK(c->started);
    struct err *e = kv_del(c->txn, c->table, key_str(c->last), &found);
    CHECK(found);
    return e;
}

void kv_cursor_close(struct kv_cursor *c)
{
    if (c == NULL)
        return;
    pair_unref(c->last);
    mem_free((char *)(uintptr_t)c->from.ptr);
    mem_free(c);
}
