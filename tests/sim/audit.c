#include "audit.h"

#include "driver.h"
#include "io/base/check.h"

/* The models have room for fewer; a store asks for what is due in batches of any size. */
enum { SLICE = 16, ROWS_MAX = 192 };

struct err *audit_read(struct qmsg *m, struct buf *out)
{
    struct content_reader *r = NULL;
    struct str piece = STR("x");
    struct err *e = content_open(m, &r);
    while (e == NULL && piece.len != 0) {
        e = content_next(r, &piece);
        if (e == NULL)
            buf_add_str(out, piece);
    }
    content_close(r);
    return e;
}

static void check_content(struct store *s, const struct audit *a, const struct store_row *row)
{
    struct qmsg *m = NULL;
    struct buf want = {0}, got = {0};
    unsigned long long n = row->env->data_size;
    struct err *e = store_get(s, row->seq, &m);
    if (e == NULL && m == NULL)
        sim_fail("message %llu is listed and not there", n);
    if (e == NULL)
        e = audit_read(m, &got);
    if (e != NULL && a->may_be_gone != NULL && a->may_be_gone(a->ctx, row)) {
        qmsg_unref(m);
        buf_fini(&got);
        return;
    }
    if (e != NULL)
        sim_fail("message %llu cannot be read: %s (segment %llx at %u)", n, e->text,
                 m != NULL ? (unsigned long long)m->place.epoch : 0, m != NULL ? m->place.at : 0);
    qmsg_unref(m);
    a->content(a->ctx, row, &want);
    if (!str_eq(buf_str(&want), buf_str(&got)))
        sim_fail("message %llu has other content", n);
    buf_fini(&want);
    buf_fini(&got);
}

static void check_due(struct store *s, const uint64_t *seqs, size_t count)
{
    static struct store_due list[ROWS_MAX];
    size_t n = 0;
    struct err *e = store_due(s, (struct store_due){0}, INT64_MAX, list, ROWS_MAX, &n);
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

void audit_store(struct store *s, const struct audit *a)
{
    static uint64_t due[ROWS_MAX];
    uint64_t after = 0;
    size_t n = 1, due_count = 0;
    struct arena *mem = arena_new(0, 0);
    struct err *e = store_wait_ready(s);
    while (e == NULL && n > 0) {
        struct store_row *rows = NULL;
        arena_reset(mem);
        e = store_list(s, after, SLICE, mem, &rows, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            after = rows[i].seq;
            a->row(a->ctx, &rows[i]);
            check_content(s, a, &rows[i]);
            CHECK(due_count < ROWS_MAX);
            if (!(rows[i].flags & MESSAGE_HOLD))
                due[due_count++] = rows[i].seq;
        }
    }
    if (e != NULL)
        sim_fail("listing: %s", e->text);
    arena_free(mem);
    check_due(s, due, due_count);
    if (store_counts(s).corrupt > a->may_be_aside)
        sim_fail("%llu places were set aside as corrupt on a disk that was not damaged",
                 (unsigned long long)store_counts(s).corrupt);
}
