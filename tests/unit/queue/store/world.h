/* What the store's tests share: a private folder, a worker of the calling thread, messages whose
 * content tells who they are. */
#ifndef TEST_STORE_WORLD_H
#define TEST_STORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "io/fiber/offload.h"
#include "io/fiber/wait.h"
#include "queue/store/private.h"

static char world_dir[64];

/* An error here is a bug of the store or the test: say which, in any fiber or thread. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        struct err *ok_e = (call);                                                                 \
        if (ok_e != NULL) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, ok_e->text);             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* In a fiber. The bound is for a test that fails; it plays no part in one that passes. */
#define COMES(cond)                                                                                \
    do {                                                                                           \
        int64_t comes_until = clock_mono_ns() + 60 * NS_PER_S;                                     \
        while (!(cond) && clock_mono_ns() < comes_until)                                           \
            OK(fiber_sleep_until(clock_in_ms(2)));                                                 \
        MUST(cond);                                                                                \
    } while (0)

/* The scheduler thread's: it stands still while a test looks. */
static inline bool has_row(struct qmsg *m)
{
    return CONTAINER(m, struct message, pub)->stage == STAGE_INDEXED;
}

static inline void remove_tree(const char *path)
{
    char cmd[256];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", path);
    if (system(cmd) != 0)
        abort();
}

static inline int world_setup(void **state)
{
    (void)state;
    snprintf(world_dir, sizeof world_dir, "%s/rp-store-XXXXXX",
             access("/var/tmp", W_OK) == 0 ? "/var/tmp" : "/tmp");
    return mkdtemp(world_dir) == NULL;
}

static inline int world_teardown(void **state)
{
    (void)state;
    remove_tree(world_dir);
    return 0;
}

static inline struct store_options world_options(void)
{
    return (struct store_options){.directory = world_dir,
                                  .segment_bytes = 256 << 10,
                                  .inline_limit_bytes = 48 << 10,
                                  .index_delay_ms = 1000,
                                  .mark_delay_ms = 5};
}

/* Runs fn in a fiber on this thread. */
static inline void in_fiber(void (*fn)(void *arg), void *arg)
{
    static const struct worker_options options = {.name = "sched", .cpu = -1};
    OK(worker_run_here(&options, fn, arg));
}

/* Content of message n: its number, then bytes that depend on it. */
static inline void fill_content(struct buf *b, uint64_t n, size_t size)
{
    buf_reset(b);
    buf_printf(b, "Subject: %llu %zu\r\n\r\n", (unsigned long long)n, size);
    if (b->len > size)
        b->len = size;
    uint64_t x = n * 2654435761U + 1;
    while (b->len < size) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        buf_add(b, &x, size - b->len < 8 ? size - b->len : 8);
    }
}

static inline struct envelope *plain_env(struct arena *a, uint64_t n)
{
    struct envelope *e = ARENA_NEW(a, struct envelope);
    e->sender = arena_printf(a, "sender-%llu@example.com", (unsigned long long)n);
    e->envid = STR("");
    e->data_size = n;
    e->rcpt_count = 2;
    e->rcpts = arena_zalloc(a, 2 * sizeof *e->rcpts);
    for (int i = 0; i < 2; i++) {
        e->rcpts[i].address = e->rcpts[i].original = e->rcpts[i].resolved =
            arena_printf(a, "rcpt-%d@example.org", i);
        e->rcpts[i].orcpt = STR("");
        e->rcpts[i].why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    }
    return e;
}

static inline struct err *try_commit(struct store *s, uint64_t n, size_t size, struct qmsg **out)
{
    struct arena *a = arena_new(0, 0);
    struct buf b = {0};
    struct draft *d = NULL;
    fill_content(&b, n, size);
    struct err *e = store_begin(s, NULL, &d);
    for (size_t at = 0; e == NULL && at < b.len; at += 7000) {
        e = draft_write(d, str_head(str_from(buf_str(&b), at), 7000));
        if (e != NULL)
            queue_abort(d);
    }
    if (e == NULL)
        e = store_commit(d, plain_env(a, n), out);
    buf_fini(&b);
    arena_free(a);
    return e;
}

static inline struct qmsg *commit(struct store *s, uint64_t n, size_t size)
{
    struct qmsg *m = NULL;
    OK(try_commit(s, n, size, &m));
    return m;
}

/* Envelope and content are those of message n (data_size carries n). */
static inline void check_content(struct qmsg *m)
{
    struct buf want = {0}, got = {0};
    struct content_reader *r = NULL;
    struct str piece;
    uint64_t n = m->env->data_size;
    OK(content_open(m, &r));
    for (;;) {
        OK(content_next(r, &piece));
        if (piece.len == 0)
            break;
        buf_add_str(&got, piece);
    }
    fill_content(&want, n, m->env->size);
    MUST(str_eq(buf_str(&want), buf_str(&got)));
    content_close(r);
    buf_fini(&want);
    buf_fini(&got);
}

static inline void defer_first(struct qmsg *m, int64_t due_us)
{
    struct mark_rcpt r = {.index = 0,
                          .state = RCPT_DEFERRED,
                          .why = {.status = "4.4.1",
                                  .text = STR("connection refused"),
                                  .mta = STR("mx"),
                                  .diagnostic = STR("")}};
    store_mark(m, &(struct mark){.due_us = due_us, .rcpts = &r, .rcpt_count = 1});
}

static inline size_t count_files(const char *sub, const char *prefix)
{
    char path[128];
    size_t n = 0;
    const struct dirent *d;
    snprintf(path, sizeof path, "%s/%s", world_dir, sub);
    DIR *dir = opendir(path);
    MUST(dir != NULL);
    while ((d = readdir(dir)) != NULL)
        n += d->d_name[0] != '.' && str_starts(str_of(d->d_name), str_of(prefix));
    closedir(dir);
    return n;
}

#endif
