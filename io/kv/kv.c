#include "io/kv/kv.h"

#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/kv/kv_file.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAP_BYTES ((size_t)4 << 30) /* shadow memory is address space too */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MAP_BYTES ((size_t)4 << 30)
#endif
#endif
#ifndef MAP_BYTES
#define MAP_BYTES ((size_t)64 << 30)
#endif

enum { READERS_DEFAULT = 512, KEY_MAX = 511, PAGE = 4096, LINE = 64 };

struct kv {
    MDB_env *env;
    MDB_dbi unnamed;
    bool read_only;
    bool often_written;
    uint64_t looked_to; /* of the file: its pages up to here are in the page cache one by one, or were */
    char *path;
    _Atomic(void *) map; /* LMDB's, which stays where it is; NULL = not looked for */
    /* One finished read transaction, kept for the next reader: renewing is several times cheaper
     * than beginning. It pins no pages meanwhile. */
    _Atomic(struct kv_txn *) spare;
};

struct kv_txn {
    struct kv *kv;
    MDB_txn *txn;
    bool write, guarded, opened;
};

struct kv_cursor {
    struct kv_txn *t;
    MDB_cursor *cursor;
    bool started;
    size_t from_len;
    char from[KEY_MAX + 1];
};

static enum err_kind kind_of(int rc)
{
    switch (rc) {
    case MDB_MAP_FULL:
    case MDB_DBS_FULL:
        return ERR_FULL;
    case MDB_READERS_FULL:
    case MDB_TXN_FULL:
    case MDB_BAD_VALSIZE:
        return ERR_LIMIT;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
    case MDB_BAD_TXN:
    case MDB_BAD_DBI:
    case MDB_PAGE_FULL:
    case MDB_CURSOR_FULL:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return ERR_DAMAGED;
    default:
        return ERR_IO;
    }
}

static struct err *failed(const struct kv *kv, const char *what, int rc)
{
    if (rc > 0)
        return err_errno(rc, "%s: %s", kv->path, what);
    if (rc == MDB_MAP_FULL) {
        MDB_envinfo info = {0};
        mdb_env_info(kv->env, &info);
        return err_new(ERR_FULL, rc, "%s: %s: its limit of %zu MiB is reached", kv->path, what,
                       info.me_mapsize >> 20);
    }
    return err_new(kind_of(rc), rc, "%s: %s: %s", kv->path, what, mdb_strerror(rc));
}

/* --- environments */

/* A file that is only read keeps its size: its map needs no room to grow. */
static size_t map_bytes(const char *path, const struct kv_options *o)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = o->map_bytes ? o->map_bytes : MAP_BYTES;
    struct stat st;
    if (!o->map_bytes && o->read_only && o->one_file && stat(path, &st) == 0)
        bytes = (size_t)st.st_size + (1 << 20);
    return (bytes + page - 1) / page * page;
}

static unsigned env_flags(const struct kv_options *o)
{
    unsigned flags = MDB_NOTLS;
    if (o->read_only)
        flags |= MDB_RDONLY;
    if (o->one_file)
        flags |= MDB_NOSUBDIR;
    if (o->no_sync)
        flags |= MDB_NOSYNC;
    /* Map files are built aside by one writer and renamed into place, never changed where readers
     * are. Without locks no "-lock" files lie about, and the folder may be root's. */
    if (o->one_file && (o->read_only || o->no_sync))
        flags |= MDB_NOLOCK;
    return flags;
}

static int file_of(struct kv *kv)
{
    int fd;
    return mdb_env_get_fd(kv->env, &fd) == 0 ? fd : -1;
}

/* A page that the file says it has and that lies behind its end is a fault of the memory map, which
 * ends the process. With zeros in its place it is one that LMDB itself sees to be damaged. */
static int complete(struct kv *kv)
{
    MDB_envinfo info = {0};
    MDB_stat st = {0};
    struct stat file;
    int fd;
    int rc = mdb_env_info(kv->env, &info);
    if (rc == 0)
        rc = mdb_env_stat(kv->env, &st);
    if (rc == 0)
        rc = mdb_env_get_fd(kv->env, &fd);
    if (rc != 0)
        return rc;
    off_t bytes = (off_t)((info.me_last_pgno + 1) * st.ms_psize);
    if (fstat(fd, &file) != 0 || (file.st_size < bytes && ftruncate(fd, bytes) != 0))
        return errno;
    return 0;
}

static int env_open(struct kv *kv, const char *path, const struct kv_options *o)
{
    mode_t mode = o->mode ? o->mode : 0600;
    int rc = mdb_env_create(&kv->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(kv->env, map_bytes(path, o));
    if (rc == 0)
        rc = mdb_env_set_maxreaders(kv->env, o->readers_max ? o->readers_max : READERS_DEFAULT);
    if (rc == 0 && o->tables_max)
        rc = mdb_env_set_maxdbs(kv->env, o->tables_max);
    if (rc == 0 && !o->one_file && !o->read_only && mkdir(path, mode | 0100) != 0 &&
        errno != EEXIST)
        rc = errno;
    if (rc == 0)
        rc = mdb_env_open(kv->env, path, env_flags(o), mode);
    if (rc == 0 && !o->read_only)
        rc = complete(kv);
    if (rc == 0 && o->spare_bytes && !o->read_only)
        kv_file_reserve(file_of(kv), kv_bytes(kv), o->spare_bytes);
    return rc;
}

/* The unnamed table is opened once, here, so that no two threads ever do it at the same time. */
static int open_unnamed(struct kv *kv)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(kv->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &kv->unnamed);
    if (rc == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

struct err *kv_open(const char *path, const struct kv_options *options, struct kv **out)
{
    struct kv *kv = MEM_NEW(struct kv);
    kv->path = mem_strdup(path);
    kv->read_only = options->read_only;
    kv->often_written = options->often_written;
    int rc = env_open(kv, path, options);
    if (rc == 0) {
        int dead;
        (void)mdb_reader_check(kv->env, &dead); /* slots of processes that were killed */
        rc = open_unnamed(kv);
    }
    if (rc != 0) {
        struct err *e = failed(kv, "open", rc);
        kv_close(kv);
        return e;
    }
    *out = kv;
    return NULL;
}

void kv_close(struct kv *kv)
{
    if (!kv)
        return;
    struct kv_txn *spare = atomic_exchange(&kv->spare, NULL);
    if (spare) {
        mdb_txn_abort(spare->txn);
        mem_free(spare);
    }
    if (kv->env) {
        if (kv->looked_to)
            kv_file_look_back(file_of(kv), kv_bytes(kv));
        mdb_env_close(kv->env);
    }
    mem_free(kv->path);
    mem_free(kv);
}

struct err *kv_sync(struct kv *kv)
{
    int rc = mdb_env_sync(kv->env, 1);
    return rc ? failed(kv, "sync", rc) : NULL;
}

uint64_t kv_bytes(struct kv *kv)
{
    MDB_envinfo info = {0};
    MDB_stat st = {0};
    if (mdb_env_info(kv->env, &info) != 0 || mdb_env_stat(kv->env, &st) != 0)
        return 0;
    return (uint64_t)(info.me_last_pgno + 1) * st.ms_psize;
}

void kv_forget(struct kv *kv, size_t beyond)
{
    MDB_envinfo info = {0};
    uint64_t bytes = kv_bytes(kv);
    if (bytes <= beyond || kv_file_resident() <= beyond || mdb_env_info(kv->env, &info) != 0)
        return;
    void *map = atomic_load_explicit(&kv->map, memory_order_relaxed);
    if (!map)
        map = kv_file_map(file_of(kv), info.me_mapsize);
    atomic_store_explicit(&kv->map, map, memory_order_relaxed);
    if (map)
        (void)madvise(map, bytes, MADV_DONTNEED);
}

struct err *kv_path_id(const char *path, uint64_t *dev_out, uint64_t *ino_out,
                       int64_t *mtime_ns_out)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(errno, "open database %s", path);
    *dev_out = st.st_dev;
    *ino_out = st.st_ino;
    *mtime_ns_out = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
    return NULL;
}

/* --- transactions */

static int begin_read(struct kv *kv, struct kv_txn **out)
{
    struct kv_txn *t = atomic_exchange(&kv->spare, NULL);
    if (t) {
        int rc = mdb_txn_renew(t->txn);
        if (rc == 0) {
            *out = t;
            return 0;
        }
        mdb_txn_abort(t->txn);
        mem_free(t);
    }
    MDB_txn *txn;
    int rc = mdb_txn_begin(kv->env, NULL, MDB_RDONLY, &txn);
    if (rc == MDB_READERS_FULL) {
        int dead = 0;
        if (mdb_reader_check(kv->env, &dead) == 0 && dead > 0)
            rc = mdb_txn_begin(kv->env, NULL, MDB_RDONLY, &txn);
    }
    if (rc != 0)
        return rc;
    t = MEM_NEW(struct kv_txn);
    t->txn = txn;
    *out = t;
    return 0;
}

static int begin_write(struct kv *kv, struct kv_txn **out)
{
    MDB_txn *txn;
    if (kv->often_written)
        kv_file_look_ahead(file_of(kv), kv_bytes(kv), &kv->looked_to);
    int rc = mdb_txn_begin(kv->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    *out = MEM_NEW(struct kv_txn);
    (*out)->txn = txn;
    return 0;
}

struct err *kv_begin(struct kv *kv, bool write, struct kv_txn **out)
{
    struct kv_txn *t = NULL;
    int rc = write ? begin_write(kv, &t) : begin_read(kv, &t);
    if (rc != 0)
        return failed(kv, "begin", rc);
    t->kv = kv;
    t->write = write;
    t->opened = false;
    t->guarded = fiber_self() != NULL;
    if (t->guarded)
        fiber_no_yield_begin();
    *out = t;
    return NULL;
}

static void unguard(struct kv_txn *t)
{
    if (t->guarded)
        fiber_no_yield_end();
    t->guarded = false;
}

struct err *kv_commit(struct kv_txn *t)
{
    struct kv *kv = t->kv;
    if (!t->write && !t->opened) {
        kv_abort(t);
        return NULL;
    }
    int rc = mdb_txn_commit(t->txn);
    unguard(t);
    mem_free(t);
    return rc ? failed(kv, "commit", rc) : NULL;
}

void kv_abort(struct kv_txn *t)
{
    if (!t)
        return;
    unguard(t);
    if (!t->write && t->opened) {
        (void)mdb_txn_commit(t->txn); /* nothing to write; aborting would close the new tables */
        mem_free(t);
        return;
    }
    if (!t->write) {
        mdb_txn_reset(t->txn);
        struct kv_txn *none = NULL;
        if (atomic_compare_exchange_strong(&t->kv->spare, &none, t))
            return;
    }
    mdb_txn_abort(t->txn);
    mem_free(t);
}

/* --- tables and values */

static MDB_val val_of(struct str s)
{
    return (MDB_val){s.len, (void *)(uintptr_t)s.ptr};
}

static struct str str_of_val(const MDB_val *v)
{
    return str_make(v->mv_data, v->mv_size);
}

struct err *kv_table_open(struct kv_txn *t, const char *name, bool create, bool integer_keys,
                          kv_table *out)
{
    if (!name && !integer_keys) {
        *out = t->kv->unnamed;
        return NULL;
    }
    MDB_dbi dbi;
    unsigned flags = (create ? MDB_CREATE : 0) | (integer_keys ? MDB_INTEGERKEY : 0);
    int rc = mdb_dbi_open(t->txn, name, flags, &dbi);
    if (rc == MDB_NOTFOUND)
        return err_new(ERR_NOTFOUND, rc, "%s: no table %s", t->kv->path, name ? name : "");
    if (rc != 0)
        return failed(t->kv, name ? name : "open table", rc);
    t->opened = true;
    *out = dbi;
    return NULL;
}

/* A key that cannot be stored is simply not there. */
static bool key_possible(struct str key)
{
    return key.len > 0 && key.len <= KEY_MAX;
}

struct err *kv_get(struct kv_txn *t, kv_table table, struct str key, struct str *value_out,
                   bool *found_out)
{
    MDB_val k = val_of(key), v;
    int rc = key_possible(key) ? mdb_get(t->txn, table, &k, &v) : MDB_NOTFOUND;
    if (rc != 0 && rc != MDB_NOTFOUND)
        return failed(t->kv, "get", rc);
    *found_out = rc == 0;
    if (rc == 0)
        *value_out = str_of_val(&v);
    return NULL;
}

struct err *kv_put(struct kv_txn *t, kv_table table, struct str key, struct str value)
{
    MDB_val k = val_of(key), v = val_of(value);
    int rc = mdb_put(t->txn, table, &k, &v, 0);
    return rc ? failed(t->kv, "put", rc) : NULL;
}

struct err *kv_put_last(struct kv_txn *t, kv_table table, struct str key, struct str value)
{
    MDB_val k = val_of(key), v = val_of(value);
    int rc = mdb_put(t->txn, table, &k, &v, MDB_APPEND);
    if (rc == MDB_KEYEXIST) /* it is not the greatest */
        return kv_put(t, table, key, value);
    return rc ? failed(t->kv, "put", rc) : NULL;
}

struct err *kv_put_new(struct kv_txn *t, kv_table table, struct str key, struct str value,
                       bool *existed_out)
{
    MDB_val k = val_of(key), v = val_of(value);
    int rc = mdb_put(t->txn, table, &k, &v, MDB_NOOVERWRITE);
    if (rc != 0 && rc != MDB_KEYEXIST)
        return failed(t->kv, "put", rc);
    *existed_out = rc == MDB_KEYEXIST;
    return NULL;
}

struct err *kv_del(struct kv_txn *t, kv_table table, struct str key, bool *found_out)
{
    MDB_val k = val_of(key);
    int rc = key_possible(key) ? mdb_del(t->txn, table, &k, NULL) : MDB_NOTFOUND;
    if (rc != 0 && rc != MDB_NOTFOUND)
        return failed(t->kv, "delete", rc);
    *found_out = rc == 0;
    return NULL;
}

struct err *kv_count(struct kv_txn *t, kv_table table, uint64_t *out)
{
    MDB_stat st;
    int rc = mdb_stat(t->txn, table, &st);
    if (rc != 0)
        return failed(t->kv, "count", rc);
    *out = st.ms_entries;
    return NULL;
}

struct err *kv_clear(struct kv_txn *t, kv_table table)
{
    int rc = mdb_drop(t->txn, table, 0);
    return rc ? failed(t->kv, "clear", rc) : NULL;
}

/* --- walking */

struct err *kv_cursor_open(struct kv_txn *t, kv_table table, struct str from, struct kv_cursor **out)
{
    if (from.len > KEY_MAX)
        return err_new(ERR_LIMIT, 0, "%s: key of %zu bytes", t->kv->path, from.len);
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->txn, table, &cursor);
    if (rc != 0)
        return failed(t->kv, "walk", rc);
    struct kv_cursor *c = MEM_NEW(struct kv_cursor);
    c->t = t;
    c->cursor = cursor;
    c->from_len = from.len;
    if (from.len > 0)
        memcpy(c->from, from.ptr, from.len);
    *out = c;
    return NULL;
}

/* What was added to a page in order lies in it from its end to its beginning, key and value together: of long values the
 * next one is on its way from memory while this one is looked at. To be wrong does no harm. */
static void fetch_next(const struct str *key, const struct str *value)
{
    size_t n = key->len + value->len;
    for (size_t at = 0; n >= LINE && n <= PAGE / 4 && at < n; at += LINE)
        __builtin_prefetch(key->ptr - LINE - at);
}

struct err *kv_cursor_next(struct kv_cursor *c, struct str *key_out, struct str *value_out,
                           bool *found_out)
{
    MDB_val k = {c->from_len, c->from}, v;
    MDB_cursor_op op = c->started ? MDB_NEXT : c->from_len > 0 ? MDB_SET_RANGE : MDB_FIRST;
    int rc = mdb_cursor_get(c->cursor, &k, &v, op);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return failed(c->t->kv, "walk", rc);
    c->started = true;
    *found_out = rc == 0;
    if (rc == 0) {
        *key_out = str_of_val(&k);
        *value_out = str_of_val(&v);
        fetch_next(key_out, value_out);
    }
    return NULL;
}

struct err *kv_cursor_seek(struct kv_cursor *c, struct str key, struct str *value_out,
                           bool *found_out)
{
    MDB_val k = val_of(key), v;
    int rc = key_possible(key) ? mdb_cursor_get(c->cursor, &k, &v, MDB_SET) : MDB_NOTFOUND;
    if (rc != 0 && rc != MDB_NOTFOUND)
        return failed(c->t->kv, "walk", rc);
    c->started = rc == 0;
    *found_out = rc == 0;
    if (rc == 0)
        *value_out = str_of_val(&v);
    return NULL;
}

struct err *kv_cursor_del(struct kv_cursor *c)
{
    int rc = mdb_cursor_del(c->cursor, 0);
    return rc ? failed(c->t->kv, "delete", rc) : NULL;
}

void kv_cursor_close(struct kv_cursor *c)
{
    if (!c)
        return;
    mdb_cursor_close(c->cursor);
    mem_free(c);
}
