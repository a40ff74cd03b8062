#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "io/base/rand.h"
#include "queue/envelope.h"

static struct envelope *sample(struct arena *a)
{
    struct envelope *e = ARENA_NEW(a, struct envelope);
    e->sender = STR("alice@example.com");
    e->arrival_us = 1700000000123456;
    e->flags = ENV_8BIT | ENV_DOTS;
    e->ret = RET_HDRS;
    e->envid = STR("QQ314159");
    e->size = 10240;
    e->data_size = 10000;
    e->attr_count = 2;
    e->attrs = arena_zalloc(a, 2 * sizeof *e->attrs);
    e->attrs[0] = (struct attr){STR("log_client_name"), STR("client.example")};
    e->attrs[1] = (struct attr){STR("log_client_address"), STR("192.0.2.1")};
    e->rcpt_count = 3;
    e->rcpts = arena_zalloc(a, 3 * sizeof *e->rcpts);
    e->rcpts[0] =
        (struct rcpt){.address = STR("bob@example.org"), .original = STR("bob@example.org")};
    e->rcpts[1] = (struct rcpt){.address = STR("c@example.net"),
                                .original = STR("Carol@Example.net"),
                                .orcpt = STR("rfc822;carol@example.net"),
                                .notify = NOTIFY_SUCCESS | NOTIFY_FAILURE,
                                .state = RCPT_DEFERRED,
                                .why = {.status = "4.4.1",
                                        .text = STR("connect to x[192.0.2.2]:25: refused"),
                                        .mta = STR("x"),
                                        .diagnostic = STR("X-Postfix; refused")}};
    e->rcpts[2] =
        (struct rcpt){.address = STR("\"a\\\"b\"@x"), .original = STR("d"), .state = RCPT_DONE};
    return e;
}

static void an_orcpt_that_is_the_recipient_costs_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *address, *original, *orcpt;
        size_t bytes; /* more than without */
    } rows[] = {
        {"a@b.example", "a@b.example", "rfc822;a@b.example", 0},
        {"a@b.example", "x@y.example", "rfc822;x@y.example", 0},
        {"a@b.example", "x@y.example", "rfc822;a@b.example", 4 + 18},
        {"a@b.example", "a@b.example", "rfc822;A@b.example", 4 + 18},
        {"a@b.example", "a@b.example", "utf-8;a@b.example", 4 + 17},
        {"a@b.example", "a@b.example", "rfc822;", 4 + 7},
        {"a@b.example", "a@b.example", "", 0},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rcpt r = {.address = str_of(rows[i].address), .original = str_of(rows[i].original)};
        struct envelope e = {.sender = STR(""), .envid = STR(""), .rcpts = &r, .rcpt_count = 1}, *back = NULL;
        struct buf without = {0}, with = {0};
        r.why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
        r.orcpt = STR("");
        envelope_pack(&e, &without);
        r.orcpt = str_of(rows[i].orcpt);
        envelope_pack(&e, &with);
        assert_int_equal(with.len - without.len, rows[i].bytes);
        assert_null(envelope_unpack(buf_str(&with), a, &back));
        assert_true(str_eq(back->rcpts[0].orcpt, r.orcpt));
        assert_true(str_eq(back->rcpts[0].original, r.original));
        buf_fini(&without);
        buf_fini(&with);
    }
    arena_free(a);
}

static void assert_str(struct str a, struct str b)
{
    if (!str_eq(a, b))
        fail_msg("'%.*s' is not '%.*s'", STR_ARG(a), STR_ARG(b));
}

static void assert_same(const struct envelope *a, const struct envelope *b)
{
    assert_str(a->sender, b->sender);
    assert_str(a->envid, b->envid);
    assert_int_equal(a->arrival_us, b->arrival_us);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->ret, b->ret);
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->data_size, b->data_size);
    assert_int_equal(a->attr_count, b->attr_count);
    for (size_t i = 0; i < a->attr_count; i++) {
        assert_str(a->attrs[i].name, b->attrs[i].name);
        assert_str(a->attrs[i].value, b->attrs[i].value);
    }
    assert_int_equal(a->rcpt_count, b->rcpt_count);
    for (size_t i = 0; i < a->rcpt_count; i++) {
        const struct rcpt *x = &a->rcpts[i], *y = &b->rcpts[i];
        assert_str(x->address, y->address);
        assert_str(x->original, y->original);
        assert_str(x->orcpt, y->orcpt);
        assert_int_equal(x->notify, y->notify);
        assert_int_equal(x->state, y->state);
        assert_string_equal(x->why.status, y->why.status);
        assert_str(x->why.text, y->why.text);
        assert_str(x->why.mta, y->why.mta);
        assert_str(x->why.diagnostic, y->why.diagnostic);
    }
}

/* Index rows keep what never changes apart from what each deferral changes. */
static void both_halves_come_back_whole(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t rcpts;
        struct dsn why; /* of all of them, but for odd ones */
        int odd;        /* this one has none; -1: all have */
        size_t states_max;
    } rows[] = {
        {"one recipient that was not tried yet takes a byte", 1, {.text = {"", 0}}, -1, 1},
        {"a reply that the text has in it is written once",
         1,
         {.status = "4.3.0",
          .text = STR("host mx.example[192.0.2.1] said: 450 4.3.0 later (in reply to RCPT TO command)"),
          .mta = STR("mx.example"),
          .diagnostic = STR("smtp; 450 4.3.0 later")},
         -1,
         95},
        {"what all recipients have in common is written once",
         1000,
         {.status = "4.4.1", .text = STR("connect to x: refused"), .mta = STR("x"), .diagnostic = STR("X; no")},
         -1,
         50},
        {"an odd one among many", 50, {.status = "4.4.1", .text = STR("refused")}, 20, 80},
        {"an odd one at the end", 50, {.status = "4.4.1", .text = STR("refused")}, 49, 80},
        {"no recipients", 0, {.text = {"", 0}}, -1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *a = arena_new(0, 0);
        struct buf fixed = {0}, states = {0};
        struct envelope *e = sample(a), *back = NULL;
        struct envelope_view v;
        enum rcpt_state was;
        struct str address;
        e->rcpt_count = rows[i].rcpts;
        e->rcpts = arena_zalloc(a, (rows[i].rcpts + 1) * sizeof *e->rcpts);
        for (size_t n = 0; n < e->rcpt_count; n++) {
            e->rcpts[n] = (struct rcpt){.address = STR("a@b"), .original = STR("a@b")};
            if ((int)n != rows[i].odd)
                e->rcpts[n].why = rows[i].why;
            if (rows[i].why.status[0] != '\0')
                e->rcpts[n].state = (int)n == rows[i].odd ? RCPT_DONE : RCPT_DEFERRED;
        }
        envelope_pack_fixed(e, &fixed);
        envelope_pack_states(e, &states);
        if (states.len > rows[i].states_max)
            fail_msg("%s: %zu bytes of states", rows[i].name, states.len);
        assert_null(envelope_unpack_halves(buf_str(&fixed), buf_str(&states), a, &back));
        assert_same(e, back);
        assert_true(envelope_look(buf_str(&fixed), buf_str(&states), &v));
        for (size_t n = 0; n < e->rcpt_count; n++) {
            assert_true(envelope_next_rcpt(&v, &was, &address));
            assert_int_equal(was, e->rcpts[n].state);
            assert_str(address, e->rcpts[n].address);
        }
        assert_false(envelope_next_rcpt(&v, &was, &address));
        buf_fini(&fixed);
        buf_fini(&states);
        arena_free(a);
    }
}

static void states_of_all_kinds_come_back(void **state)
{
    struct arena *a = arena_new(0, 0);
    struct buf fixed = {0}, states = {0};
    struct envelope *e = sample(a), *back = NULL;
    (void)state;
    envelope_pack_fixed(e, &fixed);
    envelope_pack_states(e, &states);
    assert_null(envelope_unpack_halves(buf_str(&fixed), buf_str(&states), a, &back));
    assert_same(e, back);
    buf_fini(&fixed);
    buf_fini(&states);
    arena_free(a);
}

static void damaged_halves_are_refused_or_read_as_something(void **state)
{
    struct arena *a = arena_new(0, 0);
    struct buf fixed = {0}, states = {0};
    struct envelope *e = sample(a), *back = NULL;
    (void)state;
    e->rcpts[1].why.text = STR("host x said: refused");
    e->rcpts[1].why.diagnostic = STR("smtp; refused");
    envelope_pack_fixed(e, &fixed);
    envelope_pack_states(e, &states);
    for (size_t n = 0; n < states.len; n++) {
        struct err *err =
            envelope_unpack_halves(buf_str(&fixed), str_make(states.ptr, n), a, &back);
        assert_non_null(err);
        assert_int_equal(err->kind, ERR_DAMAGED);
    }
    assert_non_null(envelope_unpack_halves(buf_str(&states), buf_str(&fixed), a, &back));
    for (int round = 0; round < 20000; round++) {
        struct buf *half = round % 2 ? &fixed : &states;
        struct arena *b = arena_new(0, 0);
        struct envelope_view v;
        enum rcpt_state was;
        struct str address;
        size_t at = rand_u64() % half->len;
        char old = half->ptr[at];
        half->ptr[at] = (char)rand_u64();
        if (envelope_unpack_halves(buf_str(&fixed), buf_str(&states), b, &back) == NULL) {
            for (size_t i = 0; i < back->rcpt_count; i++)
                assert_true(back->rcpts[i].state <= RCPT_NOTIFIED);
        }
        if (envelope_look(buf_str(&fixed), buf_str(&states), &v)) {
            while (envelope_next_rcpt(&v, &was, &address))
                continue;
        }
        half->ptr[at] = old;
        arena_free(b);
    }
    buf_fini(&fixed);
    buf_fini(&states);
    arena_free(a);
}

static void packed_comes_back_whole(void **state)
{
    struct arena *a = arena_new(0, 0), *b = arena_new(0, 0);
    struct buf packed = {0};
    struct envelope *e = sample(a), *back = NULL;
    (void)state;
    envelope_pack(e, &packed);
    assert_null(envelope_unpack(buf_str(&packed), b, &back));
    assert_same(e, back);
    assert_str(envelope_attr(back, "log_client_address"), STR("192.0.2.1"));
    assert_str(envelope_attr(back, "nothing"), STR(""));
    assert_same(e, envelope_copy(e, b));
    buf_fini(&packed);
    arena_free(a);
    arena_free(b);
}

static void a_plain_recipient_costs_seven_bytes_beside_its_address(void **state)
{
    struct arena *a = arena_new(0, 0);
    struct envelope *e = sample(a);
    struct buf one = {0}, two = {0};
    (void)state;
    e->rcpts[1] = e->rcpts[0];
    e->rcpt_count = 1;
    envelope_pack(e, &one);
    e->rcpt_count = 2;
    envelope_pack(e, &two);
    assert_int_equal(two.len - one.len, 7 + e->rcpts[0].address.len);
    buf_fini(&one);
    buf_fini(&two);
    arena_free(a);
}

static void every_cut_is_refused(void **state)
{
    struct arena *a = arena_new(0, 0);
    struct buf packed = {0};
    struct envelope *back = NULL;
    (void)state;
    envelope_pack(sample(a), &packed);
    for (size_t n = 0; n < packed.len; n++) {
        struct err *e = envelope_unpack(str_make(packed.ptr, n), a, &back);
        assert_non_null(e);
        assert_int_equal(e->kind, ERR_DAMAGED);
    }
    buf_add_char(&packed, 'x');
    assert_non_null(envelope_unpack(buf_str(&packed), a, &back));
    assert_null(back);
    buf_fini(&packed);
    arena_free(a);
}

/* Stored bytes are checked by sums before they come here; all the same nothing may go wrong. */
static void flipped_bytes_do_no_harm(void **state)
{
    struct buf packed = {0};
    struct arena *a = arena_new(0, 0);
    (void)state;
    envelope_pack(sample(a), &packed);
    for (size_t i = 0; i < packed.len; i++) {
        struct arena *b = arena_new(0, 0);
        struct envelope *back = NULL;
        char old = packed.ptr[i];
        packed.ptr[i] = (char)rand_u64();
        struct err *e = envelope_unpack(buf_str(&packed), b, &back);
        if (e == NULL) {
            struct buf again = {0};
            envelope_pack(back, &again);
            buf_fini(&again);
        }
        packed.ptr[i] = old;
        arena_free(b);
    }
    buf_fini(&packed);
    arena_free(a);
}

/* What changes of recipients give, packed, is what packing them changed gives; and some can be read by themselves. */
static const struct dsn some_whys[] = {
    {.text = {"", 0}, .mta = {"", 0}, .diagnostic = {"", 0}},
    {.status = "4.4.1", .text = {"refused", 7}, .mta = {"", 0}, .diagnostic = {"", 0}},
    {.status = "4.3.0", .text = {"host mx said: 450 later", 23}, .mta = {"mx", 2}, .diagnostic = {"smtp; 450 later", 15}},
};

static void change_some(struct envelope *e, size_t n, struct buf *changes)
{
    for (; n > 0; n--) {
        struct rcpt *r = &e->rcpts[rand_u64() % e->rcpt_count];
        r->state = (enum rcpt_state)(rand_u64() % (RCPT_NOTIFIED + 1));
        r->why = some_whys[rand_u64() % 3];
        envelope_pack_change(&(struct rcpt_change){(uint32_t)(r - e->rcpts), r->state, &r->why}, changes);
    }
}

static void assert_some(const struct envelope *e, struct str fixed, struct str states)
{
    struct arena *a = arena_new(0, 0);
    struct envelope_place place = {0};
    uint32_t indexes[8], at = 0;
    uint8_t known[64];
    assert_true(envelope_unpack_states(states, (uint32_t)e->rcpt_count, known));
    while (at < e->rcpt_count) {
        struct rcpt out[8];
        size_t n = 0;
        for (; at < e->rcpt_count && n < 8; at += 1 + (uint32_t)(rand_u64() % 3))
            indexes[n++] = at;
        assert_null(envelope_unpack_some(fixed, states, indexes, n, a, out, &place));
        for (size_t i = 0; i < n; i++) {
            const struct rcpt *want = &e->rcpts[indexes[i]];
            assert_int_equal(out[i].index, indexes[i]);
            assert_int_equal(out[i].state, want->state);
            assert_int_equal(known[indexes[i]], want->state);
            assert_str(out[i].address, want->address);
            assert_str(out[i].original, want->original);
            assert_str(out[i].orcpt, want->orcpt);
            assert_string_equal(out[i].why.status, want->why.status);
            assert_str(out[i].why.text, want->why.text);
            assert_str(out[i].why.diagnostic, want->why.diagnostic);
        }
    }
    arena_free(a);
}

static void changes_are_as_if_packed_anew(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct arena *a = arena_new(0, 0);
        struct envelope *e = sample(a), *head = NULL;
        struct buf fixed = {0}, states = {0}, changes = {0}, got = {0}, want = {0};
        uint32_t count = 0;
        e->rcpt_count = 1 + rand_u64() % 40;
        e->rcpts = arena_zalloc(a, e->rcpt_count * sizeof *e->rcpts);
        for (size_t i = 0; i < e->rcpt_count; i++) {
            struct rcpt *r = &e->rcpts[i];
            *r = (struct rcpt){.original = arena_printf(a, "o-%zu", i), .orcpt = i % 3 ? STR("") : STR("rfc822;x")};
            r->address = i % 2 ? r->original : arena_printf(a, "a-%zu@b", i);
            r->why = some_whys[0];
        }
        change_some(e, rand_u64() % 20, &changes);
        buf_reset(&changes);
        envelope_pack_fixed(e, &fixed);
        envelope_pack_states(e, &states);
        assert_some(e, buf_str(&fixed), buf_str(&states));
        struct envelope *copy = envelope_copy(e, a);
        change_some(e, rand_u64() % 30, &changes);
        envelope_pack_states(e, &want);
        assert_true(envelope_change_states(buf_str(&states), (uint32_t)e->rcpt_count, buf_str(&changes), &got));
        assert_str(buf_str(&got), buf_str(&want));
        envelope_change_rcpts(buf_str(&changes), NULL, copy->rcpt_count, a, copy->rcpts);
        assert_same(e, copy);
        assert_null(envelope_unpack_head(buf_str(&fixed), a, &head, &count));
        assert_int_equal(count, e->rcpt_count);
        assert_str(head->sender, e->sender);
        /* Cut short it is refused, or passed over. */
        size_t cut = rand_u64() % (states.len + 1);
        buf_reset(&got);
        assert_int_equal(envelope_change_states(str_make(states.ptr, cut), count, STR(""), &got), cut == states.len);
        struct buf *all[] = {&fixed, &states, &changes, &got, &want};
        for (size_t i = 0; i < 5; i++)
            buf_fini(all[i]);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_comes_back_whole),
        cmocka_unit_test(an_orcpt_that_is_the_recipient_costs_nothing),
        cmocka_unit_test(both_halves_come_back_whole),
        cmocka_unit_test(states_of_all_kinds_come_back),
        cmocka_unit_test(damaged_halves_are_refused_or_read_as_something),
        cmocka_unit_test(a_plain_recipient_costs_seven_bytes_beside_its_address),
        cmocka_unit_test(changes_are_as_if_packed_anew),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(flipped_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
