/* kv: LMDB's door. Transactions are short, on one thread, never across a yield (guarded by
 * fiber_no_yield). Values are borrowed until the transaction ends: copy out before. MDB_NOTLS
 * everywhere. found / not found / error are apart. */
#ifndef IO_KV_KV_H
#define IO_KV_KV_H

#include "io/base/err.h"

struct kv;      /* an environment */
struct kv_txn;
struct kv_cursor;
typedef unsigned kv_table;

struct kv_options {
    bool read_only;
    bool one_file;       /* MDB_NOSUBDIR: path is the file itself (maps) */
    bool no_sync;        /* only for files that are built aside and synced once */
    size_t map_bytes;    /* address space; 0 = 64 GiB (4 GiB under sanitizers) */
    size_t spare_bytes;  /* disk space to have beyond the file's end, so that a full disk does not stop the next commits */
    bool often_written;  /* many small transactions for years: the page cache is to hold its pages one by one */
    unsigned tables_max; /* 0 = 1 unnamed table only */
    unsigned readers_max;
    mode_t mode;
};
struct err *kv_open(const char *path, const struct kv_options *options, struct kv **out) MUST_USE;
void kv_close(struct kv *kv);
struct err *kv_sync(struct kv *kv) MUST_USE;
/* When files have more than so many bytes of this process's memory: the pages of this one no longer count. They
 * stay in the page cache, and what is looked at again comes back at little cost. Any time, with transactions open
 * or not. Costs some us. */
void kv_forget(struct kv *kv, size_t beyond);
uint64_t kv_bytes(struct kv *kv); /* of the file that are in use, or were */
/* File identity, to see that a map was replaced. */
struct err *kv_path_id(const char *path, uint64_t *dev_out, uint64_t *ino_out, int64_t *mtime_ns_out) MUST_USE;

struct err *kv_begin(struct kv *kv, bool write, struct kv_txn **out) MUST_USE;
struct err *kv_commit(struct kv_txn *t) MUST_USE; /* frees t also on error */
void kv_abort(struct kv_txn *t);
/* name NULL = the unnamed table. integer_keys: keys are uint64_t in host order. */
struct err *kv_table_open(struct kv_txn *t, const char *name, bool create, bool integer_keys,
                          kv_table *out) MUST_USE;
struct err *kv_get(struct kv_txn *t, kv_table table, struct str key, struct str *value_out,
                   bool *found_out) MUST_USE;
/* ERR_FULL: map or disk full. no_overwrite: *existed_out tells and nothing changes. */
struct err *kv_put(struct kv_txn *t, kv_table table, struct str key, struct str value) MUST_USE;
/* The same, for keys that are mostly greater than all that are there: pages are filled to the end and not
 * split in the middle. */
struct err *kv_put_last(struct kv_txn *t, kv_table table, struct str key, struct str value) MUST_USE;
struct err *kv_put_new(struct kv_txn *t, kv_table table, struct str key, struct str value,
                       bool *existed_out) MUST_USE;
struct err *kv_del(struct kv_txn *t, kv_table table, struct str key, bool *found_out) MUST_USE;
struct err *kv_count(struct kv_txn *t, kv_table table, uint64_t *out) MUST_USE;
struct err *kv_clear(struct kv_txn *t, kv_table table) MUST_USE;
/* Walk in key order from the first key >= `from` (NULL-view = the first). */
struct err *kv_cursor_open(struct kv_txn *t, kv_table table, struct str from, struct kv_cursor **out) MUST_USE;
struct err *kv_cursor_next(struct kv_cursor *c, struct str *key_out, struct str *value_out,
                           bool *found_out) MUST_USE;
/* This very key: the walk goes on behind it. Cheap when it lies on the page where the cursor stands. */
struct err *kv_cursor_seek(struct kv_cursor *c, struct str key, struct str *value_out,
                           bool *found_out) MUST_USE;
/* What it stands on; next gives what lies behind. */
struct err *kv_cursor_del(struct kv_cursor *c) MUST_USE;
void kv_cursor_close(struct kv_cursor *c); /* before its transaction ends */

#endif
