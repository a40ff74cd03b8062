#include "core/error/error.h"

#include "core/deliver/report.h"

/* nexthop is "[x.y.z ]text" (error(8)): the status first, if there is one. */
static const char *split_status(const char *nexthop, const char *fallback, char status_out[12])
{
    struct str s = str_of(nexthop);
    size_t n = 0;
    int dots = 0;
    while (n < s.len && n < 11 && (str_is_digit(s.ptr[n]) || s.ptr[n] == '.'))
        dots += s.ptr[n++] == '.';
    bool status = dots == 2 && n >= 5 && strchr("245", s.ptr[0]) && (n == s.len || str_is_space(s.ptr[n]));
    if (!status) {
        str_copy(status_out, 12, str_of(fallback));
        return nexthop;
    }
    str_copy(status_out, 12, str_head(s, n));
    while (n < s.len && str_is_space(s.ptr[n]))
        n++;
    return nexthop + n;
}

void error_deliver(const struct service *svc, struct request *r)
{
    char status[12];
    const char *text = split_status(r->nexthop, "5.0.0", status);
    report_failed_rest(svc, r, true, "none", status, text, NULL, NULL);
    request_done(r);
}

void retry_deliver(const struct service *svc, struct request *r)
{
    char status[12];
    const char *text = split_status(r->nexthop, "4.0.0", status);
    report_failed_rest(svc, r, false, "none", status, text, NULL, NULL);
    request_done(r);
}

void discard_deliver(const struct service *svc, struct request *r)
{
    char status[12];
    const char *text = split_status(r->nexthop, "2.0.0", status);
    for (size_t i = 0; i < r->rcpt_count; i++)
        report_sent(svc, r, i, "none", status, text);
    request_done(r);
}
