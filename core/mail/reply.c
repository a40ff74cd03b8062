#include "core/mail/reply.h"

void reply_soften(char *text, size_t len)
{
    if (len < 4 || text[0] != '5')
        return;
    text[0] = '4';
    if (len > 6 && text[4] == '5' && text[5] == '.')
        text[4] = '4';
}

/* status-code = class "." subject "." detail, RFC 3463 §2 */
size_t reply_prefix(struct str text)
{
    size_t at = 4, dots = 0, digits = 0;

    if (text.len < 6 || text.ptr[5] != '.')
        return text.len < 4 ? text.len : 4;
    for (; at < text.len && (str_is_digit(text.ptr[at]) || text.ptr[at] == '.'); at++) {
        if (text.ptr[at] == '.') {
            if (digits == 0)
                return 4;
            dots++;
            digits = 0;
        } else {
            digits++;
        }
    }
    return dots == 2 && digits && at < text.len && text.ptr[at] == ' ' ? at + 1 : 4;
}

static void add_line(struct buf *out, struct str prefix, struct str text, bool last)
{
    size_t at = out->len;

    buf_add_str(out, prefix);
    buf_add_str(out, text);
    buf_add_c(out, "\r\n");
    if (!last && out->len - at > 3)
        out->ptr[at + 3] = '-';
}

void reply_with_footer(struct buf *out, struct str text, struct str footer)
{
    struct str prefix = str_head(text, reply_prefix(text));
    struct str first = str_from(text, prefix.len);
    ssize_t cut;

    if (str_starts(footer, STR("\\c"))) {
        footer = str_from(footer, 2);
        cut = str_find(footer, STR("\\n"));
        struct str joined = cut < 0 ? footer : str_head(footer, (size_t)cut);
        size_t at = out->len;
        buf_add_str(out, prefix);
        buf_add_str(out, first);
        buf_add_str(out, joined);
        buf_add_c(out, "\r\n");
        if (cut < 0)
            return;
        out->ptr[at + 3] = '-';
        footer = str_from(footer, (size_t)cut + 2);
    } else {
        add_line(out, prefix, first, false);
    }
    while ((cut = str_find(footer, STR("\\n"))) >= 0) {
        add_line(out, prefix, str_head(footer, (size_t)cut), false);
        footer = str_from(footer, (size_t)cut + 2);
    }
    add_line(out, prefix, footer, true);
}
