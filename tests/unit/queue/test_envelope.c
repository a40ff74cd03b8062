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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_comes_back_whole),
        cmocka_unit_test(a_plain_recipient_costs_seven_bytes_beside_its_address),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(flipped_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
