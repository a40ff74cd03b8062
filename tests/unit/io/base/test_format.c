/* text_format says what vsnprintf says: every row in every room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "io/base/format.h"

static void check(const char *fmt, ...) PRINTF(1, 2);

static void check(const char *fmt, ...)
{
    char want[512], got[512];
    for (size_t room = 0; room < 70; room++) {
        va_list ap, again;
        va_start(ap, fmt);
        va_copy(again, ap);
        memset(want, 'z', sizeof want);
        memset(got, 'z', sizeof got);
        int n = vsnprintf(want, room, fmt, ap);
        size_t len = text_format(got, room, fmt, again);
        va_end(again);
        va_end(ap);
        if (len != (size_t)n || (room && strcmp(want, got) != 0) || got[room] != 'z')
            fail_msg("\"%s\" in %zu bytes: want %d \"%s\" got %zu \"%s\"", fmt, room, n,
                     room ? want : "", len, room ? got : "");
    }
}

static void it_says_what_vsnprintf_says(void **state)
{
    (void)state;
    char open[] = {'a', 'b', 'c'}; /* no NUL */
    check("nothing to put in");
    check("%s", "");
    check("%s: to=<%s>, relay=%s", "4abc", "someone@example.com", "none");
    check("[%.*s][%.*s][%.*s]", 3, open, 0, open, 2, "a");
    check("[%.2s][%.0s][%.9s][%.s]", "abcdef", "abc", "abc", "abc");
    check("[%.*s]", -1, "whole");
    check("[%8s][%2s][%8.3s]", "abc", "abcdef", "abcdef");
    check("%d %d %d %d %i", 0, 1, INT_MAX, INT_MIN, -7);
    check("%u %u %ld %ld %lu", 0U, UINT_MAX, LONG_MIN, LONG_MAX, ULONG_MAX);
    check("%lld %llu %zu %jd %zd", LLONG_MIN, ULLONG_MAX, SIZE_MAX, INTMAX_MIN, (ssize_t)-5);
    check("%x %x %lx %016llx %02x", 0U, 0xdeadbeefU, 0xabcUL, 0x123456789abcULL, 5U);
    check("[%5d][%05d][%05d][%3d][%03d]", 42, 42, -42, 12345, -12345);
    check("%02d:%02d:%02d", 1, 22, 333);
    check("100%% of %c%c", 'x', '\n');
    check("%.3f [%-5s] [%+d] [%#x] [%5.3d] [%hhu] %p", 1.5, "ab", 3, 255U, 7, (unsigned char)200,
          (void *)open);
    check("%s then %e", "something", 1e300);
    check("[%300s]", "wide");
    check("%lc", L'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_says_what_vsnprintf_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
