/* date: strftime would ask the locale and the zone lock for every message; so the text of the current
 * second is kept per thread. Names are English whatever the locale. */
#include "core/mail/date.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

#define US_PER_SECOND INT64_C(1000000)

/* Towards minus infinity, so that times before 1970 come out right too. */
static time_t seconds_of(int64_t wall_us)
{
    int64_t s = wall_us / US_PER_SECOND;
    return (time_t)(wall_us % US_PER_SECOND < 0 ? s - 1 : s);
}

const char *date_rfc5322(int64_t wall_us, char out[DATE_TEXT_MAX])
{
    static _Thread_local struct {
        time_t second;
        char text[DATE_TEXT_MAX];
    } last;
    time_t second = seconds_of(wall_us);

    if (second != last.second || last.text[0] == '\0') {
        struct tm tm;
        if (!localtime_r(&second, &tm))
            memset(&tm, 0, sizeof tm);
        long minutes = tm.tm_gmtoff / 60;
        char sign = minutes < 0 ? '-' : '+';
        if (minutes < 0)
            minutes = -minutes;
        snprintf(last.text, sizeof last.text, "%.3s, %2d %.3s %d %02d:%02d:%02d %c%02d%02d (%.8s)",
                 day_names[tm.tm_wday], tm.tm_mday, month_names[tm.tm_mon], tm.tm_year + 1900,
                 tm.tm_hour, tm.tm_min, tm.tm_sec, sign, (int)(minutes / 60), (int)(minutes % 60),
                 tm.tm_zone ? tm.tm_zone : "UTC");
        last.second = second;
    }
    memcpy(out, last.text, DATE_TEXT_MAX);
    return out;
}

const char *date_ctime(int64_t wall_us, char out[DATE_TEXT_MAX])
{
    time_t second = seconds_of(wall_us);
    struct tm tm;

    if (!localtime_r(&second, &tm))
        memset(&tm, 0, sizeof tm);
    snprintf(out, DATE_TEXT_MAX, "%.3s %.3s %2d %02d:%02d:%02d", day_names[tm.tm_wday],
             month_names[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return out;
}
