#include "core/smtp/wire.h"

void smtp_wire_begin(struct smtp_wire *w, size_t limit)
{
    /* One byte is the blank of a broken line, and one must be left to get on. */
    *w = (struct smtp_wire){.limit = limit == 1 ? 2 : limit};
}

/* Bytes of one line, without its end. */
static void add_text(struct smtp_wire *w, struct str text, struct buf *out)
{
    while (text.len > 0) {
        if (w->column == 0 && text.ptr[0] == '.')
            buf_add_char(out, '.'); /* does not count: the receiver takes it away */
        if (w->limit > 0 && w->column >= w->limit) {
            buf_add(out, "\r\n ", 3);
            w->column = 1;
            w->broke = true;
        }
        struct str part = w->limit > 0 ? str_head(text, w->limit - w->column) : text;
        buf_add_str(out, part);
        w->column += part.len;
        text = str_from(text, part.len);
    }
}

static void end_line(struct smtp_wire *w, struct buf *out)
{
    buf_add(out, "\r\n", 2);
    w->column = 0;
    w->cr = false;
}

void smtp_wire_feed(struct smtp_wire *w, struct str piece, struct buf *out)
{
    while (piece.len > 0) {
        const char *end = memchr(piece.ptr, '\n', piece.len);
        struct str line = end ? str_head(piece, (size_t)(end - piece.ptr)) : piece;
        piece = str_from(piece, line.len + (end ? 1 : 0));
        if (w->cr && line.len > 0) {
            add_text(w, STR("\r"), out);
            w->cr = false;
        }
        if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
            w->cr = true;
            line.len--;
        }
        add_text(w, line, out);
        if (end)
            end_line(w, out);
    }
}

void smtp_wire_end(struct smtp_wire *w, struct buf *out)
{
    if (w->cr || w->column > 0)
        end_line(w, out);
}
