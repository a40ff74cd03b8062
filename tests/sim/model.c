#include "model.h"

#include <stdio.h>
#include "audit.h"
#include "driver.h"
#include "io/base/check.h"
#include "io/base/mem.h"
#include "work.h"

void model_content(struct buf *b, uint64_t n, size_t size)
{
    work_content(b, n * 2654435761U + 1, size);
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

/* One look through the store. */
struct looking {
    const struct model *model;
    bool seen[MESSAGES];
};

static void check_row(void *ctx, const struct store_row *row)
{
    struct looking *k = ctx;
    const struct model *m = k->model;
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
    if (k->seen[n])
        sim_fail("message %llu is there twice", (unsigned long long)n);
    k->seen[n] = true;
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

static void content_of(const void *ctx, const struct store_row *row, struct buf *out)
{
    (void)ctx;
    model_content(out, row->env->data_size, row->env->size);
}

static bool may_be_gone(const void *ctx, const struct store_row *row)
{
    const struct looking *k = ctx;
    return !k->model->messages[row->env->data_size].acked;
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

/* Only where a write has failed. */
static uint64_t may_be_aside(const struct model *m)
{
    uint64_t count = 0;
    for (uint64_t n = 0; sim.fault != 0 && n < m->count; n++)
        count += m->messages[n].begun && !m->messages[n].acked;
    return count;
}

void model_check(const struct model *m, struct store *s)
{
    struct looking k = {.model = m};
    audit_store(s, &(struct audit){.ctx = &k,
                                   .row = check_row,
                                   .content = content_of,
                                   .may_be_gone = may_be_gone,
                                   .may_be_aside = may_be_aside(m)});
    check_absent(m, k.seen);
}
