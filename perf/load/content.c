/* content: two questions about the bytes of a message, asked of whole reads. The sink takes only
 * proper line ends, so it has no use for stream_dot, which looks at each line. */
#include "perf/load/sink.h"

enum { MARK_MAX = 80, HEADER_MAX = 8192 };

size_t content_end(struct str have, bool after_line)
{
    const char *at = have.ptr, *end = have.ptr + have.len;
    if (after_line && have.len >= 3 && memcmp(at, ".\r\n", 3) == 0)
        return 3;
    /* Dots are rare in most mail, line ends are not. */
    while ((at = memchr(at, '.', (size_t)(end - at))) != NULL) {
        if (at - have.ptr >= 2 && end - at >= 3 && at[-1] == '\n' && at[-2] == '\r' &&
            at[1] == '\r' && at[2] == '\n')
            return (size_t)(at - have.ptr) + 3;
        at++;
    }
    return 0;
}

int content_mark(struct str have, struct str *id_out, int64_t *wall_us_out)
{
    static const struct str name = STR("X-Load: ");
    struct str header = str_head(have, HEADER_MAX), id, stamp;
    const char *end = memmem(header.ptr, header.len, "\r\n\r\n", 4);
    bool whole = end != NULL || have.len >= HEADER_MAX;
    if (end != NULL)
        header.len = (size_t)(end - header.ptr) + 2;
    const char *at = header.ptr;
    while ((at = memmem(at, (size_t)(header.ptr + header.len - at), name.ptr, name.len)) != NULL) {
        struct str rest = str_from(header, (size_t)(at - header.ptr) + name.len);
        const char *lf = memchr(rest.ptr, '\n', rest.len);
        if (lf == NULL)
            break;
        rest.len = (size_t)(lf - rest.ptr);
        uint64_t us;
        if ((at == header.ptr || at[-1] == '\n') && rest.len <= MARK_MAX &&
            str_token(&rest, " \r", &id) && str_token(&rest, " \r", &stamp) && str_u64(stamp, &us)) {
            *id_out = id;
            *wall_us_out = (int64_t)us;
            return 1;
        }
        at++;
    }
    return whole ? 0 : -1;
}
