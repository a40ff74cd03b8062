#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "io/base/err.h"

static void a_clause_goes_before_the_text(void **state)
{
    (void)state;
    struct err *e = err_errno(ENOSPC, "write %s", "segment 3");
    assert_int_equal(e->kind, ERR_FULL);
    assert_int_equal(e->code, ENOSPC);
    assert_string_equal(err_in(e, "commit %s", "3EDA64")->text,
                        "commit 3EDA64: write segment 3: No space left on device");
}

static void kinds_follow_the_number(void **state)
{
    (void)state;
    static const struct {
        int number;
        enum err_kind kind;
    } rows[] = {{EDQUOT, ERR_FULL},
                {ECANCELED, ERR_CANCELED},
                {ETIMEDOUT, ERR_TIMEOUT},
                {ETIME, ERR_TIMEOUT},
                {ENOENT, ERR_NOTFOUND},
                {EACCES, ERR_REFUSED},
                {EPERM, ERR_REFUSED},
                {ECONNRESET, ERR_CLOSED},
                {EPIPE, ERR_CLOSED},
                {ECONNREFUSED, ERR_IO},
                {EIO, ERR_IO}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(err_errno(rows[i].number, "x")->kind, rows[i].kind);
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    struct err *e = err_new(ERR_SYNTAX, 0, "%0600d", 1);
    assert_int_equal(strlen(e->text), ERR_TEXT_MAX - 1);
    e = err_in(err_errno(EIO, "%0600d", 1), "%0600d", 2);
    assert_int_equal(strlen(e->text), ERR_TEXT_MAX - 1);
}

static void an_error_stays_good_while_the_reserve_lasts(void **state)
{
    (void)state;
    struct err *first = err_new(ERR_IO, 1, "first");
    for (int i = 1; i < ERR_RESERVE; i++)
        (void)err_new(ERR_IO, 2, "later %s", first->text);
    assert_string_equal(first->text, "first");
}

static void each_fiber_has_its_own_reserve(void **state)
{
    (void)state;
    struct err *mine = err_new(ERR_IO, 0, "mine");
    struct err_reserve **slot = err_reserve_slot(), *own = *slot;
    *slot = NULL; /* as a switch to a fresh fiber does */
    for (int i = 0; i < 3 * ERR_RESERVE; i++)
        (void)err_new(ERR_IO, 0, "theirs");
    struct err_reserve *theirs = *slot;
    assert_ptr_not_equal(theirs, own);
    *slot = own;
    err_reserve_free(theirs);
    assert_string_equal(mine->text, "mine");
}

static void *fail_once(void *unused)
{
    return err_new(ERR_IO, 0, "in a thread") ? NULL : unused;
}

/* The leak checker of the ASan build sees whether the thread's reserve went with it. */
static void a_thread_takes_its_reserve_along(void **state)
{
    (void)state;
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, fail_once, NULL), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
}

static void a_reserve_that_was_given_back_comes_again(void **state)
{
    (void)state;
    err_forget_all();
    err_forget_all();
    assert_null(*err_reserve_slot());
    assert_string_equal(err_new(ERR_IO, 0, "new")->text, "new");
    assert_non_null(*err_reserve_slot());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clause_goes_before_the_text),
        cmocka_unit_test(kinds_follow_the_number),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(an_error_stays_good_while_the_reserve_lasts),
        cmocka_unit_test(each_fiber_has_its_own_reserve),
        cmocka_unit_test(a_thread_takes_its_reserve_along),
        cmocka_unit_test(a_reserve_that_was_given_back_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
