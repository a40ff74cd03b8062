/* A queue that has seen much: 1,500 messages, some deferred, some on hold, some removed, some of
 * that long after they came. What there is of it later is compared with what was done, message by
 * message. */
#ifndef TEST_STORE_OLD_WORLD_H
#define TEST_STORE_OLD_WORLD_H

#include "world.h"

enum { OLD = 1500, NEW = 150, ALL = OLD + NEW, GANGS = 16 };

/* What the world must look like, by number. */
enum fate { NEVER, PLAIN, DEFERRED, HELD, REMOVED };
static enum fate fates[ALL];
static uint64_t seqs[ALL];

static inline struct store_options rebuild_options(void)
{
    struct store_options o = world_options();
    o.replay_at_once_bytes = 1;
    o.replay_rows = 20;
    o.index_delay_ms = 20;
    return o;
}

static inline size_t size_of(uint64_t n)
{
    return n % 400 == 7 ? 70000 : 300 + n * 37 % 1500;
}

static inline void hold(struct qmsg *m, bool on)
{
    store_mark(m, &(struct mark){.flags = on ? MESSAGE_HOLD : 0, .due_us = 0});
}

static inline void fate_is(struct qmsg *m, uint64_t n, enum fate f)
{
    if (f == DEFERRED)
        defer_first(m, (int64_t)n + 1);
    if (f == HELD)
        hold(m, true);
    if (f == REMOVED)
        store_remove(m);
    fates[n] = f;
}

struct gang {
    struct store *store;
    uint64_t next, end;
};

static inline void old_fiber(void *arg)
{
    struct gang *g = arg;
    while (g->next < g->end) {
        uint64_t n = g->next++;
        struct qmsg *m = commit(g->store, n, size_of(n));
        seqs[n] = m->seq;
        fates[n] = PLAIN;
        qmsg_unref(m);
    }
}

static inline enum fate fate_of(uint64_t n)
{
    return n % 5 == 0 ? REMOVED : n % 5 == 1 ? DEFERRED : n % 5 == 2 ? HELD : PLAIN;
}

static inline void commit_some(struct store *s, uint64_t from, uint64_t to)
{
    struct gang gang = {.store = s, .next = from, .end = to};
    struct group g;
    group_init(&g);
    for (int i = 0; i < GANGS; i++)
        MUST(group_spawn(&g, "old", old_fiber, &gang));
    OK(group_join(&g, DEADLINE_NEVER));
}

static inline void settle_some(struct store *s, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++) {
        struct qmsg *m = NULL;
        OK(store_get(s, seqs[n], &m));
        MUST(m != NULL);
        fate_is(m, n, fate_of(n));
        qmsg_unref(m);
    }
}

static inline void old_world(void *arg)
{
    struct store_options o = rebuild_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    MUST(store_ready(s));
    commit_some(s, 0, OLD / 2);
    settle_some(s, 0, OLD / 2);
    commit_some(s, OLD / 2, OLD);
    settle_some(s, OLD / 2, OLD);
    /* Said long after the message. */
    for (uint64_t n = 3; n < OLD; n += 50) {
        struct qmsg *m = NULL;
        OK(store_get(s, seqs[n], &m));
        if (m != NULL)
            fate_is(m, n, REMOVED);
        qmsg_unref(m);
    }
    OK(store_close(s));
}

static inline void drop_index(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/index", world_dir);
    remove_tree(path);
}

static inline int make_old_world(void **state)
{
    if (world_setup(state) != 0)
        return 1;
    memset(fates, 0, sizeof fates);
    in_fiber(old_world, NULL);
    return 0;
}

/* --- the comparison */

static inline void check_one(struct store *s, const struct store_row *row)
{
    struct qmsg *m = NULL;
    uint64_t n = row->env->data_size;
    MUST(n < ALL && row->seq == seqs[n]);
    OK(store_get(s, row->seq, &m));
    MUST(m != NULL);
    if (fates[n] == PLAIN)
        MUST(qmsg_flags(m) == 0 && qmsg_due_us(m) == 0);
    if (fates[n] == DEFERRED)
        MUST(qmsg_due_us(m) == (int64_t)n + 1 && m->env->rcpts[0].state == RCPT_DEFERRED);
    MUST((fates[n] == HELD) == ((qmsg_flags(m) & MESSAGE_HOLD) != 0));
    check_content(m);
    qmsg_unref(m);
}

static inline void check_world(struct store *s)
{
    struct arena *a = arena_new(0, 0);
    bool *seen = mem_zalloc(ALL);
    uint64_t after = 0, alive = 0, held = 0;
    size_t n = 1;
    while (n > 0) {
        struct store_row *rows = NULL;
        arena_reset(a);
        OK(store_list(s, after, 100, a, &rows, &n));
        for (size_t i = 0; i < n; i++) {
            check_one(s, &rows[i]);
            MUST(!seen[rows[i].env->data_size]);
            seen[rows[i].env->data_size] = true;
            after = rows[i].seq;
        }
    }
    for (uint64_t i = 0; i < ALL; i++) {
        if (seen[i] != (fates[i] != NEVER && fates[i] != REMOVED)) {
            fprintf(stderr, "message %llu, fate %d: seen %d\n", (unsigned long long)i, fates[i],
                    seen[i]);
            abort();
        }
        alive += seen[i];
        held += fates[i] == HELD;
    }
    MUST(store_counts(s).messages == alive);
    MUST(store_counts(s).held == held);
    mem_free(seen);
    arena_free(a);
}

static inline bool was_removed(uint64_t seq)
{
    for (uint64_t n = 0; n < ALL; n++) {
        if (seqs[n] == seq)
            return fates[n] == REMOVED;
    }
    return false;
}

/* What is given as due is never an old message whose state is not known. */
static inline void check_due(struct store *s)
{
    struct store_due list[64], after = {0};
    size_t n = 64;
    while (n == 64) {
        OK(store_due(s, after, INT64_MAX, list, 64, &n));
        for (size_t i = 0; i < n; i++) {
            struct qmsg *m = NULL;
            after = list[i];
            struct err *e = store_get(s, list[i].seq, &m);
            if (e == NULL && m == NULL)
                MUST(was_removed(list[i].seq)); /* its row goes when the index is there */
            else if (store_hidden(s, list[i].seq))
                MUST(e != NULL ? e->kind == ERR_TIMEOUT : m->refs > 1);
            else
                MUST(e == NULL);
            qmsg_unref(m);
        }
    }
}

static inline void look_again(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    MUST(store_ready(s));
    check_world(s);
    OK(store_close(s));
}

static inline void new_mail(struct store *s, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++) {
        struct qmsg *m = commit(s, n, size_of(n));
        seqs[n] = m->seq;
        fates[n] = PLAIN;
        for (uint64_t i = 0; i < OLD; i++)
            MUST(seqs[i] != m->seq);
        check_content(m);
        fate_is(m, n, fate_of(n));
        qmsg_unref(m);
    }
}

static inline struct qmsg *get(struct store *s, uint64_t n)
{
    struct qmsg *m = NULL;
    OK(store_get(s, seqs[n], &m));
    MUST(m != NULL && m->env->data_size == n);
    return m;
}

#endif
