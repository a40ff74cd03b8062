#include "mail_system.h"

#include "audit.h"
#include "cuts.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "work.h"

struct mail_done mail_done;

/* --- letters are sent */

static size_t some_size(void)
{
    uint64_t kind = sim_below(10);
    return kind < 6   ? 50 + (size_t)sim_below(2500)
           : kind < 8 ? 2500 + (size_t)sim_below(WORK_INLINE_MAX - 2500)
                      : WORK_INLINE_MAX + 1 + (size_t)sim_below(9000);
}

uint64_t letter_new(struct mail *w, bool bounce)
{
    if (w->m->count == LETTERS)
        return LETTERS;
    uint64_t n = w->m->count++;
    w->m->letters[n] = (struct letter){
        .bounce = bounce,
        .size = bounce ? 200 : some_size(),
        .rcpt_count = bounce ? 1 : 1 + (unsigned)sim_below(LETTER_RCPTS),
    };
    mail_done.letters++;
    return n;
}

void letter_open(struct letter *l, enum queue_act what)
{
    if (what == QUEUE_ACT_REMOVE)
        l->removed = OPEN;
    else if (what == QUEUE_ACT_EXPIRE)
        l->expired = OPEN;
    else
        l->held = OPEN;
}

struct err *letter_send(struct mail *w, uint64_t n, bool hold)
{
    struct letter *l = &w->m->letters[n];
    struct arena *a = arena_new(0, 0);
    struct draft *d = NULL;
    struct buf content = {0};
    struct envelope *env = letter_envelope(l, n, a);
    if (hold) {
        env->flags |= ENV_HOLD;
        l->held = YES;
    }
    if (w->acting != NULL)
        letter_open(l, *w->acting);
    struct err *e = queue_begin(w->q, &d);
    if (e == NULL) {
        l->seq = d->seq;
        memcpy(l->id, d->id, sizeof l->id);
        letter_content(l, n, &content);
        e = work_write(d, buf_str(&content));
        if (e != NULL)
            queue_abort(d);
        else
            e = queue_commit(d, env);
    }
    l->acked = e == NULL;
    if (e != NULL && sim.fault == 0)
        sim_fail("letter %llu is refused: %s", (unsigned long long)n, e->text);
    buf_fini(&content);
    arena_free(a);
    return e;
}

/* --- and delivered */

static void resolve(void *ctx, struct qmsg *m)
{
    (void)ctx;
    for (size_t i = 0; i < m->env->rcpt_count; i++) {
        struct rcpt *r = &m->env->rcpts[i];
        if (r->state != RCPT_TODO && r->state != RCPT_DEFERRED)
            continue;
        r->transport = r->address.ptr[3] == '1' ? "relay" : "smtp"; /* the second recipient */
        r->nexthop =
            arena_cstr(m->arena, str_from(r->address, (size_t)str_rindex(r->address, '@') + 1));
        r->resolved = r->address;
    }
}

static void answer(struct request *r, size_t i, enum request_result result, const char *status)
{
    r->rcpts[i].result = result;
    str_copy(r->rcpts[i].dsn.status, sizeof r->rcpts[i].dsn.status, str_of(status));
    r->rcpts[i].dsn.text = STR("said so");
    r->rcpts[i].dsn.mta = r->rcpts[i].dsn.diagnostic = STR("");
}

/* false: it could not be read now. */
static bool read_letter(struct mail *w, struct qmsg *m, uint64_t n)
{
    struct buf want = {0}, got = {0};
    struct err *e = audit_read(m, &got);
    if (e != NULL && (sim.fault == 0 || e->kind == ERR_DAMAGED))
        sim_fail("letter %llu cannot be read for delivery: %s", (unsigned long long)n, e->text);
    letter_content(&w->m->letters[n], n, &want);
    if (e == NULL && !str_eq(buf_str(&want), buf_str(&got)))
        sim_fail("letter %llu is delivered with other content", (unsigned long long)n);
    buf_fini(&want);
    buf_fini(&got);
    return e == NULL;
}

static void deliver_rcpt(struct mail *w, struct request *r, size_t i, uint64_t n)
{
    unsigned index = letter_index(r->msg, r->rcpts[i].index);
    struct letter_rcpt *to = &w->m->letters[n].rcpts[index];
    uint64_t dice = w->calm ? 0 : sim_below(10);
    if (to->safe_done || to->safe_told || (to->delivered && !w->after_cut && sim.fault == 0))
        sim_fail("letter %llu goes to recipient %u again", (unsigned long long)n, index);
    if (dice < 5) {
        to->delivered = true;
        mail_done.deliveries++;
        answer(r, i, REQUEST_SENT, "2.0.0");
    } else if (dice < 9) {
        answer(r, i, REQUEST_DEFER, "4.2.0");
    } else {
        to->failed = true;
        answer(r, i, REQUEST_BOUNCE, "5.1.1");
    }
}

static void attempt(struct mail *w, struct request *r)
{
    uint64_t n = letter_of_message(w->m, r->msg);
    bool retry = strcmp(r->transport, "retry") == 0;
    bool readable = retry || read_letter(w, r->msg, n);
    if (w->m->letters[n].gone)
        sim_fail("letter %llu had ended, and is being delivered", (unsigned long long)n);
    if (!w->calm && sim_chance(30))
        work_rest(2500);
    for (size_t i = 0; i < r->rcpt_count; i++) {
        if (retry || !readable)
            answer(r, i, REQUEST_DEFER, "4.3.0");
        else
            deliver_rcpt(w, r, i, n);
        if (sim_chance(10))
            work_rest(50);
    }
}

static void deliver(void *ctx, struct request *r)
{
    struct mail *w = ctx;
    w->agents++;
    while (r != NULL) {
        attempt(w, r);
        if (sim_chance(70)) {
            request_done(r);
            break;
        }
        r = request_next(r, clock_in_ms(400));
    }
    w->agents--;
}

/* As core/bounce does: the notice is a letter of its own, and the sender is told when that is safe.
 * Who has no address to be told at is not told. */
static struct err *notify(void *ctx, const struct notice *t)
{
    struct mail *w = ctx;
    uint64_t n = letter_of_message(w->m, t->msg);
    CHECK(t->kind == NOTICE_BOUNCE);
    if (!w->m->letters[n].bounce) {
        uint64_t bounce = letter_new(w, true);
        if (bounce < LETTERS) {
            struct err *e = letter_send(w, bounce, false);
            if (e != NULL)
                return e;
        }
    }
    for (size_t i = 0; i < t->rcpt_count; i++)
        w->m->letters[n].rcpts[letter_index(t->msg, t->rcpts[i])].told = true;
    return NULL;
}

/* --- the queue */

static const struct sched_transport smtp = {.name = "smtp",
                                            .initial_concurrency = 3,
                                            .concurrency_limit = 5,
                                            .recipient_limit = 2,
                                            .failed_cohort_limit = 1,
                                            .positive_per_window = 1,
                                            .negative_per_window = 1,
                                            .slot_cost = 5,
                                            .slot_loan = 3,
                                            .slot_discount = 50,
                                            .minimum_slots = 1,
                                            .refill_limit = 1,
                                            .refill_delay_s = 1};

struct err *mail_open(struct mail *w)
{
    static const struct queue_hooks hooks = {
        .resolve = resolve, .deliver = deliver, .notify = notify};
    struct queue_hooks own = hooks;
    own.ctx = w;
    struct sched_transport transports[2] = {smtp, smtp};
    transports[1].name = "relay";
    for (size_t i = 0; i < 2; i++)
        transports[i].pool = (int64_t[]){100, 1, 0}[(sim.seed / 6 + i) % 3]; /* seats for long letters */
    struct sched_options so = {
        .transports = transports,
        .transport_count = 2,
        .fallback = smtp,
        .message_active_limit = sim.seed % 4 == 0 ? 3 : 100,
        .message_recipient_limit = (int64_t)(sim.seed / 2 % 3), /* 0: all letters are in memory whole */
        .queue_run_delay_s = 1,
        .minimal_backoff_s = 1,
        .maximal_backoff_s = 4,
        .maximal_lifetime_s = 100000,
        .bounce_lifetime_s = 100000,
        .defer_transports = "",
    };
    so.fallback.name = "";
    so.fallback.why = "mail transport unavailable";
    struct queue_options o = {.directory = CUTS_QUEUE,
                              .segment_bytes = WORK_SEGMENT,
                              .inline_limit_bytes = WORK_INLINE_MAX,
                              .long_ids = sim.seed % 2,
                              .mark_delay_ms = 5,
                              .replay_at_once_bytes = sim.seed % 3 == 0 ? 1 : 0,
                              .memory_limit_bytes = sim.seed % 5 == 0 ? 1 : 0,
                              .sched = &so};
    struct worker *self = worker_self();
    disk_new_process(); /* each life is a process of its own */
    return queue_open(&o, &own, &self, 1, &w->q);
}

void mail_sync(struct mail *w)
{
    struct promise *p = MEM_NEW(struct promise);
    promise_take(w->m, w->q, p);
    struct err *e = store_sync(w->q->store);
    if (e == NULL)
        promise_keep(w->m, p);
    log_info("sim", "sync: %s", e == NULL ? "safe" : e->text);
    mem_free(p);
}

void mail_close(struct mail *w)
{
    struct promise *p = MEM_NEW(struct promise);
    struct err *e = queue_drain(w->q, clock_in_s(300));
    if (e != NULL)
        sim_fail("the queue does not come to rest: %s", e->text);
    /* The last of them are closing their connections; queue_close wants them gone. */
    for (int tries = 0; w->agents > 0; tries++) {
        CHECK(tries < 1000);
        work_rest(2);
    }
    promise_take(w->m, w->q, p);
    e = queue_close(w->q);
    w->q = NULL;
    log_info("sim", "stop: %s", e == NULL ? "safe" : e->text);
    if (e == NULL)
        promise_keep(w->m, p);
    else if (sim.fault == 0)
        sim_fail("stop: %s", e->text);
    mem_free(p);
}
