#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <time.h>

#include "core/mail/date.h"

static void test_dates(void **state)
{
    (void)state;
    char out[DATE_TEXT_MAX];

    setenv("TZ", "UTC0", 1);
    tzset();
    assert_string_equal(date_rfc5322(INT64_C(1795304174123456), out),
                        "Sat, 21 Nov 2026 23:36:14 +0000 (UTC)");
    assert_string_equal(date_ctime(INT64_C(1795304174123456), out), "Sat Nov 21 23:36:14");
    /* The day of the month is padded with a blank, as Postfix does. */
    assert_string_equal(date_rfc5322(0, out), "Thu,  1 Jan 1970 00:00:00 +0000 (UTC)");
    assert_string_equal(date_rfc5322(-1, out), "Wed, 31 Dec 1969 23:59:59 +0000 (UTC)");
    setenv("TZ", "NST3:30", 1);
    tzset();
    assert_string_equal(date_rfc5322(INT64_C(1795304175000000), out),
                        "Sat, 21 Nov 2026 20:06:15 -0330 (NST)");
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    assert_string_equal(date_rfc5322(INT64_C(1720000000000000), out),
                        "Wed,  3 Jul 2024 11:46:40 +0200 (CEST)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
