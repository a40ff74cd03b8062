#include "model.h"

#include <stdio.h>

#include "driver.h"
#include "io/base/check.h"
#include "io/base/mem.h"

enum { SLICE = 16, DUE_AT_ONCE = 64 };

void model_content(struct buf *b, uint64_t n, size_t size)
{
    buf_reset(b);
    uint64_t x = n * 2654435761U + 1;
    while (b->len < size) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        buf_add(b, &x, size - b->len < 8 ? size - b->len : 8);
    }
}

struct envelope *model_envelope(struct arena *a, uint64_t n)
{
    struct envelope *e = ARENA_NEW(a, struct envelope);
    e->sender = arena_printf(a, "sender-%llu@example.com", (unsigned long long)n);
    e->envid = STR("");
    e->data_size = n;
    e->rcpt_count = RCPTS;
    e->rcpts = arena_zalloc(a, RCPTS * sizeof *e->rcpts);
    for (int i = 0; i < RCPTS; i++) {
        e->rcpts[i].address = e->rcpts[i].original = e->rcpts[i].resolved =
            arena_printf(a, "rcpt-%d-%llu@example.org", i, (unsigned long long)n);
        e->rcpts[i].orcpt = STR("");
        e->rcpts[i].why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    }
    return e;
}

void model_act(struct model_message *m, const struct version *v)
{
    CHECK(m->count < VERSIONS);
    m->versions[m->count++] = *v;
}

/* Each part of its state is one that an act gave it, and not one from before `safe`. They may be of
 * different acts: a row of the index may know of a mark that was not yet safe, and the marks before
 * it are replayed over it. */
static bool state_is(const struct model_message *want, const struct store_row *row)
{
    bool flags = false, due = false, states[RCPTS] = {false};
    for (unsigned i = want->safe; i < want->count; i++) {
        const struct version *v = &want->versions[i];
        if (v->removed)
            continue;
        flags |= v->flags == row->flags;
        due |= v->due_us == row->due_us;
        for (int k = 0; k < RCPTS; k++)
            states[k] |= v->states[k] == row->env->rcpts[k].state;
    }
    for (int k = 0; k < RCPTS; k++)
        flags &= states[k];
    return flags && due;
}

static void check_row(const struct model *m, const struct store_row *row, bool seen[MESSAGES])
{
    const struct envelope *env = row->env;
    uint64_t n = env->data_size;
    if (n >= m->count || env->rcpt_count != RCPTS)
        sim_fail("a message that was never sent: number %llu", (unsigned long long)n);
    const struct model_message *want = &m->messages[n];
    struct arena *a = arena_new(0, 0);
    const struct envelope *sent = model_envelope(a, n);
    bool same = str_eq(sent->sender, env->sender) && env->size == want->size;
    for (int i = 0; same && i < RCPTS; i++)
        same = str_eq(sent->rcpts[i].address, env->rcpts[i].address);
    arena_free(a);
    if (!same)
        sim_fail("message %llu: another envelope", (unsigned long long)n);
    if (seen[n])
        sim_fail("message %llu is there twice", (unsigned long long)n);
    seen[n] = true;
    if (state_is(want, row))
        return;
    for (unsigned i = 0; i < want->count; i++)
        fprintf(stderr, "  state %u%s: %s flags %u due %lld states %d %d\n", i,
                i == want->safe ? " (safe)" : "", want->versions[i].removed ? "removed" : "",
                want->versions[i].flags, (long long)want->versions[i].due_us,
                (int)want->versions[i].states[0], (int)want->versions[i].states[1]);
    sim_fail("message %llu (%s): flags %u due %lld states %d %d: none of its states %u to %u%s",
             (unsigned long long)n, want->acked ? "acknowledged" : "not acknowledged", row->flags,
             (long long)row->due_us, (int)env->rcpts[0].state, (int)env->rcpts[1].state, want->safe,
             want->count - 1, want->versions[want->safe].removed ? ": it was removed" : "");
}

static void check_content(struct store *s, const struct store_row *row)
{
    struct qmsg *q = NULL;
    struct content_reader *r = NULL;
    struct buf want = {0}, got = {0};
    struct str piece = STR("x");
    uint64_t n = row->env->data_size;
    struct err *e = store_get(s, row->seq, &q);
    if (e == NULL && q == NULL)
        sim_fail("message %llu is listed and not there", (unsigned long long)n);
    if (e == NULL)
        e = content_open(q, &r);
    while (e == NULL && piece.len != 0) {
        e = content_next(r, &piece);
        if (e == NULL)
            buf_add_str(&got, piece);
    }
    if (e != NULL)
        sim_fail("message %llu cannot be read: %s", (unsigned long long)n, e->text);
    content_close(r);
    qmsg_unref(q);
    model_content(&want, n, row->env->size);
    if (!str_eq(buf_str(&want), buf_str(&got)))
        sim_fail("message %llu has other content", (unsigned long long)n);
    buf_fini(&want);
    buf_fini(&got);
}

/* Whatever is not on hold comes up again. */
static void check_due(struct store *s, const uint64_t *seqs, size_t count)
{
    struct store_due list[DUE_AT_ONCE + MESSAGES];
    size_t n = 0;
    struct err *e =
        store_due(s, (struct store_due){0}, INT64_MAX, list, DUE_AT_ONCE + MESSAGES, &n);
    if (e != NULL)
        sim_fail("due: %s", e->text);
    for (size_t i = 0; i < count; i++) {
        bool found = false;
        for (size_t k = 0; !found && k < n; k++)
            found = list[k].seq == seqs[i];
        if (!found)
            sim_fail("message with number %llx never comes up again", (unsigned long long)seqs[i]);
    }
}

static void check_absent(const struct model *m, const bool seen[MESSAGES])
{
    for (uint64_t n = 0; n < m->count; n++) {
        const struct model_message *want = &m->messages[n];
        bool may_be_gone = seen[n] || !want->acked;
        for (unsigned i = want->safe; !may_be_gone && i < want->count; i++)
            may_be_gone = want->versions[i].removed;
        if (!may_be_gone)
            sim_fail("message %llu was acknowledged, and is LOST", (unsigned long long)n);
    }
}

void model_check(const struct model *m, struct store *s)
{
    bool seen[MESSAGES] = {false};
    uint64_t after = 0, due[MESSAGES];
    size_t n = 1, due_count = 0;
    struct arena *a = arena_new(0, 0);
    struct err *e = store_wait_ready(s);
    while (e == NULL && n > 0) {
        struct store_row *rows = NULL;
        arena_reset(a);
        e = store_list(s, after, SLICE, a, &rows, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            after = rows[i].seq;
            check_row(m, &rows[i], seen);
            check_content(s, &rows[i]);
            if (!(rows[i].flags & MESSAGE_HOLD))
                due[due_count++] = rows[i].seq;
        }
    }
    if (e != NULL)
        sim_fail("listing: %s", e->text);
    arena_free(a);
    check_absent(m, seen);
    check_due(s, due, due_count);
    if (store_counts(s).corrupt != 0)
        sim_fail("%llu places were set aside as corrupt on a disk that was not damaged",
                 (unsigned long long)store_counts(s).corrupt);
}
