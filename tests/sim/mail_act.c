#include "mail_act.h"

#include "driver.h"
#include "io/base/log.h"
#include "io/base/mem.h"

struct act {
    struct mail *mail;
    enum queue_act what;
    bool told[LETTERS];
};

static void touched(void *ctx, const char *id)
{
    struct act *a = ctx;
    for (uint64_t n = 0; n < a->mail->m->count; n++) {
        if (strcmp(a->mail->m->letters[n].id, id) != 0)
            continue;
        a->told[n] = true;
        log_info("sim", "letter %llu is touched", (unsigned long long)n);
    }
}

/* Of one that was told of it is known what it is now; of another, when all went well, that nothing
 * was changed. */
static void close_up(struct letter *l, const struct letter *before, bool told, bool well,
                     enum queue_act what)
{
    if (!told && !well)
        return;
    if (what == QUEUE_ACT_REMOVE)
        l->removed = told ? YES : before->removed;
    else if (what == QUEUE_ACT_EXPIRE)
        l->expired = told ? YES : before->expired;
    else
        l->held = !told ? before->held : what == QUEUE_ACT_HOLD ? YES : NO;
}

void mail_act(struct mail *w, enum queue_act what, uint64_t to, enum queue_name in)
{
    struct act *a = MEM_NEW(struct act);
    struct letter *before = mem_alloc(sizeof w->m->letters);
    struct queue_select select = {.queue = in};
    char id[QUEUE_ID_MAX];
    uint64_t count = 0, known = w->m->count;
    a->mail = w;
    memcpy(before, w->m->letters, sizeof w->m->letters);
    if (to < LETTERS) {
        memcpy(id, w->m->letters[to].id, sizeof id);
        select.id = str_of(id);
    }
    for (uint64_t n = 0; n < known; n++) {
        if (to == LETTERS || to == n)
            letter_open(&w->m->letters[n], what);
    }
    log_info("sim", "act %d on %s", (int)what, to < LETTERS ? id : "all");
    w->acting = to == LETTERS ? &what : NULL;
    struct err *e = queue_do(w->q, what, &select, touched, a, &count);
    w->acting = NULL;
    if (e != NULL && sim.fault == 0)
        sim_fail("an act fails: %s", e->text);
    log_info("sim", "act %d on %s: %llu touched%s%s", (int)what, to < LETTERS ? id : "all",
             (unsigned long long)count, e != NULL ? ": " : "", e != NULL ? e->text : "");
    for (uint64_t n = 0; n < w->m->count; n++) {
        /* Of one that came meanwhile and was not touched it stays open. */
        if (n < known ? to == LETTERS || to == n : a->told[n])
            close_up(&w->m->letters[n], &before[n], a->told[n], e == NULL, what);
    }
    mem_free(before);
    mem_free(a);
}
