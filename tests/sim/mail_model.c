#include "mail_model.h"

#include "audit.h"
#include "driver.h"
#include "io/base/mem.h"
#include "work.h"

void letter_content(const struct letter *l, uint64_t n, struct buf *out)
{
    work_content(out, n * 2654435761U + 99, l->size);
}

struct envelope *letter_envelope(const struct letter *l, uint64_t n, struct arena *a)
{
    struct envelope *e = ARENA_NEW(a, struct envelope);
    e->sender =
        l->bounce ? STR("") : arena_printf(a, "from-%llu@example.com", (unsigned long long)n);
    e->envid = STR("");
    e->data_size = n;
    e->flags = l->bounce ? ENV_BOUNCE : 0;
    e->rcpt_count = l->rcpt_count;
    e->rcpts = arena_zalloc(a, l->rcpt_count * sizeof *e->rcpts);
    for (unsigned i = 0; i < l->rcpt_count; i++) {
        struct rcpt *r = &e->rcpts[i];
        r->address = r->original = arena_printf(a, "to-%u-%llu@%c.example", i,
                                                (unsigned long long)n, 'a' + (int)(n + i) % 3);
        r->orcpt = STR("");
        r->why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    }
    return e;
}

uint64_t letter_of(const struct mail_model *m, const struct envelope *env)
{
    uint64_t n = env->data_size;
    if (n >= m->count)
        sim_fail("a letter that was never sent: number %llu", (unsigned long long)n);
    const struct letter *l = &m->letters[n];
    struct arena *a = arena_new(0, 0);
    const struct envelope *sent = letter_envelope(l, n, a);
    bool same = str_eq(sent->sender, env->sender) && env->size == l->size &&
                env->rcpt_count == sent->rcpt_count;
    for (unsigned i = 0; same && i < l->rcpt_count; i++)
        same = str_eq(sent->rcpts[i].address, env->rcpts[i].address);
    arena_free(a);
    if (!same)
        sim_fail("letter %llu: another envelope", (unsigned long long)n);
    return n;
}

unsigned letter_index(const struct qmsg *msg, uint32_t at)
{
    return msg->part != NULL ? msg->env->rcpts[at].index : at;
}

uint64_t letter_of_message(const struct mail_model *m, const struct qmsg *msg)
{
    const struct envelope *env = msg->env;
    if (msg->part == NULL)
        return letter_of(m, env);
    uint64_t n = env->data_size;
    if (n >= m->count || qmsg_recipients(msg) != m->letters[n].rcpt_count)
        sim_fail("a letter that was never sent: number %llu", (unsigned long long)n);
    struct arena *a = arena_new(0, 0);
    const struct envelope *sent = letter_envelope(&m->letters[n], n, a);
    for (size_t i = 0; i < env->rcpt_count; i++) {
        const struct rcpt *r = &env->rcpts[i];
        if (r->address.len > 0 && !str_eq(r->address, sent->rcpts[r->index].address))
            sim_fail("letter %llu: another recipient", (unsigned long long)n);
    }
    arena_free(a);
    return n;
}

static bool rcpt_settled(const struct letter_rcpt *r)
{
    return r->delivered || r->told;
}

bool letter_settled(const struct letter *l)
{
    for (unsigned i = 0; i < l->rcpt_count; i++) {
        if (!rcpt_settled(&l->rcpts[i]))
            return false;
    }
    return true;
}

/* --- promises */

void promise_take(const struct mail_model *m, struct queue *q, struct promise *out)
{
    struct arena *a = arena_new(0, 0);
    memset(out, 0, sizeof *out);
    for (uint64_t n = 0; n < m->count; n++) {
        struct store_row *row = NULL;
        if (!m->letters[n].acked)
            continue;
        struct err *e = store_show(q->store, m->letters[n].seq, a, &row);
        out->looked[n] = e == NULL && !store_hidden(q->store, m->letters[n].seq);
        out->there[n] = row != NULL;
        for (unsigned i = 0; row != NULL && i < m->letters[n].rcpt_count; i++)
            out->states[n][i] = (uint8_t)row->env->rcpts[i].state;
    }
    arena_free(a);
}

void promise_keep(struct mail_model *m, const struct promise *p)
{
    for (uint64_t n = 0; n < LETTERS; n++) {
        struct letter *l = &m->letters[n];
        if (!p->looked[n])
            continue;
        l->gone |= !p->there[n];
        for (unsigned i = 0; p->there[n] && i < l->rcpt_count; i++) {
            l->rcpts[i].safe_done |= p->states[n][i] == RCPT_DONE;
            l->rcpts[i].safe_told |= p->states[n][i] == RCPT_NOTIFIED;
        }
    }
}

/* --- what is there after a start */

static void check_rcpt(const struct letter *l, uint64_t n, unsigned i, enum rcpt_state state)
{
    const struct letter_rcpt *r = &l->rcpts[i];
    bool fine = true;
    switch (state) {
    case RCPT_TODO:
    case RCPT_DEFERRED:
        fine = !r->safe_done && !r->safe_told;
        break;
    case RCPT_DONE:
        fine = r->delivered;
        break;
    case RCPT_BOUNCED:
        fine = (r->failed || l->expired != NO) && !r->safe_told;
        break;
    case RCPT_NOTIFIED:
        fine = r->told;
        break;
    }
    if (!fine)
        sim_fail("letter %llu, recipient %u: state %d; "
                 "delivered %d (safe %d) failed %d told %d (safe %d)",
                 (unsigned long long)n, i, (int)state, r->delivered, r->safe_done, r->failed,
                 r->told, r->safe_told);
}

static void check_flag(enum maybe want, bool is, const char *what, uint64_t n)
{
    if (want != OPEN && is != (want == YES))
        sim_fail("letter %llu: %s is %s", (unsigned long long)n, what, is ? "set" : "not set");
}

/* One look through the store. */
struct looking {
    const struct mail_model *model;
    bool seen[LETTERS];
};

static void check_row(void *ctx, const struct store_row *row)
{
    struct looking *k = ctx;
    uint64_t n = letter_of(k->model, row->env);
    const struct letter *l = &k->model->letters[n];
    if (k->seen[n])
        sim_fail("letter %llu is there twice", (unsigned long long)n);
    k->seen[n] = true;
    if (l->removed == YES)
        sim_fail("letter %llu was removed, and is back", (unsigned long long)n);
    if (l->gone)
        sim_fail("letter %llu had ended, and is back", (unsigned long long)n);
    for (unsigned i = 0; i < l->rcpt_count; i++)
        check_rcpt(l, n, i, row->env->rcpts[i].state);
    if (!l->acked)
        return;
    check_flag(l->held, row->flags & MESSAGE_HOLD, "hold", n);
    check_flag(l->expired, row->flags & MESSAGE_EXPIRE, "expire", n);
}

static void content_of(const void *ctx, const struct store_row *row, struct buf *out)
{
    const struct looking *k = ctx;
    letter_content(&k->model->letters[row->env->data_size], row->env->data_size, out);
}

/* Only where a write has failed, as in model.c. */
static bool may_be_gone(const void *ctx, const struct store_row *row)
{
    const struct looking *k = ctx;
    return sim.fault != 0 && !k->model->letters[row->env->data_size].acked;
}

static uint64_t may_be_aside(const struct mail_model *m)
{
    uint64_t count = 0;
    for (uint64_t n = 0; sim.fault != 0 && n < m->count; n++)
        count += !m->letters[n].acked;
    return count;
}

void mail_check(const struct mail_model *m, struct store *s)
{
    struct looking k = {.model = m};
    audit_store(s, &(struct audit){.ctx = &k,
                                   .row = check_row,
                                   .content = content_of,
                                   .may_be_gone = may_be_gone,
                                   .may_be_aside = may_be_aside(m)});
    for (uint64_t i = 0; i < m->count; i++) {
        const struct letter *l = &m->letters[i];
        if (l->acked && !k.seen[i] && l->removed == NO && !letter_settled(l))
            sim_fail("letter %llu (%s) was acknowledged, and is LOST", (unsigned long long)i,
                     l->id);
    }
}
