#include "core/smtp/downgrade.h"

#include "io/base/mem.h"

enum {
    PIECE_MAX = 4096,     /* a longer line is dealt with in pieces */
    HEADER_MAX = 102400,  /* header_size_limit: of a longer field only the beginning counts */
    BOUNDARY_MAX = 2048,  /* mime_boundary_length_limit */
    CODED_MAX = 72,       /* a coded line is broken behind this many, as Postfix breaks it */
};

static void begin_header(struct downgrade *d, enum downgrade_type type)
{
    d->in_header = true;
    d->coded = d->eight = d->digest = false;
    d->type = type;
    buf_reset(&d->boundary);
}

struct downgrade *downgrade_new(void)
{
    struct downgrade *d = MEM_NEW(struct downgrade);
    begin_header(d, DOWNGRADE_LEAF);
    return d;
}

static void pop(struct downgrade *d)
{
    d->depth--;
    mem_free((char *)(uintptr_t)d->levels[d->depth].boundary.ptr);
}

void downgrade_free(struct downgrade *d)
{
    if (!d)
        return;
    while (d->depth > 0)
        pop(d);
    buf_fini(&d->line);
    buf_fini(&d->head);
    buf_fini(&d->boundary);
    mem_free(d);
}

/* --- the words of a header field */

/* Past blanks and comments, which nest. */
static struct str skip_blanks(struct str s)
{
    int depth = 0;
    for (; s.len > 0; s = str_from(s, 1)) {
        char c = s.ptr[0];
        if (depth > 0 && c == '\\')
            s = str_from(s, 1);
        else if (c == '(')
            depth++;
        else if (c == ')' && depth > 0)
            depth--;
        else if (depth == 0 && !str_is_space(c))
            break;
    }
    return s;
}

/* A token or a quoted string (RFC 2045 §5.1); else one byte. Its text is appended. */
static bool next_word(struct str *rest, struct buf *out)
{
    static const struct str specials = STR("()<>@,;:\\\"/[]?=");
    struct str s = skip_blanks(*rest);
    buf_reset(out);
    if (s.len == 0)
        return false;
    if (s.ptr[0] == '"') {
        for (s = str_from(s, 1); s.len > 0 && s.ptr[0] != '"'; s = str_from(s, 1)) {
            if (s.ptr[0] == '\\' && s.len > 1)
                s = str_from(s, 1);
            if (s.ptr[0] != '\r' && s.ptr[0] != '\n')
                buf_add_char(out, s.ptr[0]);
        }
        *rest = str_from(s, 1);
        return true;
    }
    do {
        buf_add_char(out, s.ptr[0]);
        bool special = str_index(specials, s.ptr[0]) >= 0;
        s = str_from(s, 1);
        if (special)
            break;
    } while (s.len > 0 && !str_is_space(s.ptr[0]) && str_index(specials, s.ptr[0]) < 0);
    *rest = s;
    return true;
}

static bool word_is(struct str *rest, struct buf *word, const char *text)
{
    return next_word(rest, word) && str_eq_nocase(buf_str(word), str_of(text));
}

static void read_boundary(struct downgrade *d, struct str rest, struct buf *word)
{
    while (next_word(&rest, word)) {
        if (!str_eq(buf_str(word), STR(";")) || !word_is(&rest, word, "boundary") ||
            !word_is(&rest, word, "=") || !next_word(&rest, word))
            continue;
        buf_reset(&d->boundary);
        buf_add_str(&d->boundary, str_head(buf_str(word), BOUNDARY_MAX));
        return;
    }
}

/* message/global may be coded (RFC 6532 §3.7); partial, external-body and delivery-status may not. */
static enum downgrade_type message_type(struct str subtype)
{
    if (str_eq_nocase(subtype, STR("rfc822")))
        return DOWNGRADE_MESSAGE;
    return str_eq_nocase(subtype, STR("global")) ? DOWNGRADE_LEAF : DOWNGRADE_FIXED;
}

static void read_type(struct downgrade *d, struct str value)
{
    struct buf word = {0};
    d->type = DOWNGRADE_LEAF;
    d->digest = false;
    buf_reset(&d->boundary);
    bool any = next_word(&value, &word);
    bool multipart = any && str_eq_nocase(buf_str(&word), STR("multipart"));
    bool message = any && str_eq_nocase(buf_str(&word), STR("message"));
    if ((multipart || message) && word_is(&value, &word, "/") && next_word(&value, &word)) {
        d->digest = multipart && str_eq_nocase(buf_str(&word), STR("digest"));
        d->type = multipart ? DOWNGRADE_MULTIPART : message_type(buf_str(&word));
        if (multipart)
            read_boundary(d, value, &word);
    }
    buf_fini(&word);
}

static bool says_eight(struct str value)
{
    struct buf word = {0};
    bool eight = next_word(&value, &word) && (str_eq_nocase(buf_str(&word), STR("8bit")) ||
                                              str_eq_nocase(buf_str(&word), STR("binary")));
    buf_fini(&word);
    return eight;
}

/* The field in d->head is whole: it goes out, unless another will stand for it. */
static void flush_head(struct downgrade *d, struct buf *out)
{
    struct str head = buf_str(&d->head);
    ssize_t colon = str_index(head, ':');
    struct str name = colon > 0 ? str_trim(str_head(head, (size_t)colon)) : STR("");
    struct str value = colon > 0 ? str_from(head, (size_t)colon + 1) : STR("");
    bool replaced = false;
    if (str_eq_nocase(name, STR("Content-Type"))) {
        read_type(d, value);
    } else if (str_eq_nocase(name, STR("Content-Transfer-Encoding"))) {
        d->eight = says_eight(value);
        replaced = d->eight;
    }
    if (!replaced)
        buf_add_str(out, head);
    buf_reset(&d->head);
}

/* --- header and body, line by line */

static void open_level(struct downgrade *d)
{
    struct str b = buf_str(&d->boundary);
    if (b.len == 0 || d->depth == DOWNGRADE_DEPTH_MAX)
        return;
    char *copy = mem_alloc(b.len);
    memcpy(copy, b.ptr, b.len);
    d->levels[d->depth++] = (struct downgrade_level){str_make(copy, b.len), d->digest};
}

static void end_fields(struct downgrade *d, struct buf *out)
{
    flush_head(d, out);
    if (!d->eight)
        return;
    buf_add_c(out, "Content-Transfer-Encoding: ");
    buf_add_c(out, d->type == DOWNGRADE_LEAF ? "quoted-printable\r\n" : "7bit\r\n");
}

static void end_header(struct downgrade *d, struct buf *out)
{
    end_fields(d, out);
    d->in_header = false;
    d->coded = d->eight && d->type == DOWNGRADE_LEAF;
    d->column = 0;
    d->blank = 0;
    if (d->type == DOWNGRADE_MULTIPART)
        open_level(d);
    else if (d->type == DOWNGRADE_MESSAGE)
        begin_header(d, DOWNGRADE_LEAF);
}

static bool is_field(struct str line)
{
    ssize_t colon = str_index(line, ':');
    if (colon <= 0)
        return false;
    struct str name = str_trim(str_head(line, (size_t)colon));
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] > '~')
            return false;
    return name.len > 0;
}

/* False: the line is no part of a header, which has ended before it. */
static bool header_line(struct downgrade *d, struct str line, bool first, bool whole,
                        struct buf *out)
{
    bool more = !first || (line.len > 0 && str_is_space(line.ptr[0]));
    if (!more && line.len == 0) {
        end_header(d, out);
        buf_add_c(out, "\r\n");
        return true;
    }
    if (!more && !is_field(line)) {
        end_header(d, out);
        return false;
    }
    if (!more || d->head.len > HEADER_MAX)
        flush_head(d, out);
    buf_add_str(&d->head, line);
    if (whole)
        buf_add_c(&d->head, "\r\n");
    return true;
}

/* Postfix looks at the beginning of the line alone, and so do we: both must see the same parts. */
static void look_for_boundary(struct downgrade *d, struct str line)
{
    if (!str_starts(line, STR("--")))
        return;
    line = str_from(line, 2);
    for (size_t i = d->depth; i > 0; i--) {
        struct downgrade_level *level = &d->levels[i - 1];
        if (!str_starts(line, level->boundary))
            continue;
        bool last = str_starts(str_from(line, level->boundary.len), STR("--"));
        enum downgrade_type type = level->digest ? DOWNGRADE_MESSAGE : DOWNGRADE_LEAF;
        while (d->depth > (last ? i - 1 : i))
            pop(d);
        begin_header(d, type);
        d->in_header = !last;
        return;
    }
}

static void add_coded(struct downgrade *d, unsigned char c, struct buf *out)
{
    if (d->blank)
        buf_add_char(out, d->blank);
    d->blank = 0;
    if (d->column > CODED_MAX) {
        buf_add_c(out, "=\r\n");
        d->column = 0;
    }
    if (c == ' ' || c == '\t') {
        d->blank = (char)c;
        d->column++;
    } else if (c < ' ' || c > '~' || c == '=') {
        buf_printf(out, "=%02X", c);
        d->column += 3;
    } else {
        buf_add_char(out, (char)c);
        d->column++;
    }
}

static void end_coded(struct downgrade *d, struct buf *out)
{
    if (d->blank)
        buf_printf(out, "=%02X", (unsigned)d->blank);
    buf_add_c(out, "\r\n");
    d->blank = 0;
    d->column = 0;
}

static void body_line(struct downgrade *d, struct str line, bool first, bool whole, struct buf *out)
{
    if (first)
        look_for_boundary(d, line);
    for (size_t i = 0; d->coded && i < line.len; i++)
        add_coded(d, (unsigned char)line.ptr[i], out);
    if (d->coded && whole)
        end_coded(d, out);
    if (d->coded)
        return;
    buf_add_str(out, line);
    if (whole)
        buf_add_c(out, "\r\n");
}

static void give_line(struct downgrade *d, bool whole, struct buf *out)
{
    struct str line = buf_str(&d->line);
    bool first = !d->inside;
    if (!d->in_header || !header_line(d, line, first, whole, out))
        body_line(d, line, first, whole, out);
    d->inside = !whole;
    buf_reset(&d->line);
}

/* A CR that ends what has come may belong to the line's end. */
static void give_part(struct downgrade *d, struct buf *out)
{
    bool cr = d->line.ptr[d->line.len - 1] == '\r';
    d->line.len -= cr;
    give_line(d, false, out);
    if (cr)
        buf_add_char(&d->line, '\r');
}

void downgrade_feed(struct downgrade *d, struct str piece, struct buf *out)
{
    while (piece.len > 0) {
        struct str part = str_head(piece, PIECE_MAX - d->line.len);
        ssize_t end = str_index(part, '\n');
        if (end >= 0)
            part = str_head(part, (size_t)end);
        buf_add_str(&d->line, part);
        piece = str_from(piece, part.len + (end >= 0));
        if (end >= 0) {
            d->line.len -= d->line.len > 0 && d->line.ptr[d->line.len - 1] == '\r';
            give_line(d, true, out);
        } else if (d->line.len == PIECE_MAX) {
            give_part(d, out);
        }
    }
}

void downgrade_end(struct downgrade *d, struct buf *out)
{
    d->line.len -= d->line.len > 0 && d->line.ptr[d->line.len - 1] == '\r';
    if (d->line.len > 0 || d->inside)
        give_line(d, true, out);
    if (d->in_header)
        end_fields(d, out);
}
