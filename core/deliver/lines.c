#include "core/deliver/lines.h"

#include "io/net/stream.h"

void lines_begin(struct lines *l, lines_each *each, void *ctx)
{
    *l = (struct lines){.each = each, .ctx = ctx};
}

/* Gives out all lines that `have` decides; returns how many bytes they were. */
static size_t take_lines(struct lines *l, struct str have)
{
    size_t at = 0;
    struct line line;
    size_t took;
    while (at < have.len && line_scan(str_from(have, at), LINES_PIECE_MAX, &l->scanned, &line, &took)) {
        bool starts = !l->inside;
        l->inside = line.end == LINE_LONG;
        l->scanned = 0;
        l->each(l->ctx, line.text, starts, !l->inside);
        at += took;
    }
    return at;
}

/* Only the end of a piece is copied: what the next one decides. */
void lines_push(struct lines *l, struct str piece)
{
    while (l->carry.len > 0 && piece.len > 0) {
        size_t before = l->carry.len;
        const char *lf = memchr(piece.ptr, '\n', piece.len);
        size_t n = lf ? (size_t)(lf - piece.ptr) + 1 : piece.len;
        if (n > LINES_PIECE_MAX)
            n = LINES_PIECE_MAX;
        buf_add(&l->carry, piece.ptr, n);
        size_t took = take_lines(l, buf_str(&l->carry));
        piece = str_from(piece, n);
        if (took == 0)
            continue;
        size_t left = before + n - took;
        memmove(l->carry.ptr, l->carry.ptr + took, left);
        l->carry.len = left;
    }
    if (piece.len == 0)
        return;
    size_t took = take_lines(l, piece);
    buf_add_str(&l->carry, str_from(piece, took));
}

void lines_end(struct lines *l)
{
    if (l->carry.len > 0 || l->inside)
        l->each(l->ctx, buf_str(&l->carry), !l->inside, true);
    buf_fini(&l->carry);
    l->inside = false;
}
