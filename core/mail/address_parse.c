/* address_parse: RFC 5322 §3.4 as mail is really written.
 *
 *   address-list = address *("," address)
 *   address      = [phrase] "<" [route] addr-spec ">"  /  addr-spec  /  phrase ":" address-list ";"
 *   addr-spec    = 1*(word / special)          ; whatever stands together without two words in a row
 *   word         = atom / quoted-string / domain-literal
 *
 * Two words without an operator between them end one address and begin the next, as if a comma stood
 * there: "a b@c" is "a, b@c". Comments inside an address move behind it. A "<" that nothing
 * closes is part of the address; an open quote or "[" is closed. */
#include "core/mail/address.h"

#include <limits.h>

#include "io/base/check.h"

enum token_kind { TOKEN_WORD, TOKEN_MARK, TOKEN_COMMENT };

struct token {
    enum token_kind kind;
    char mark;        /* TOKEN_MARK */
    struct str plain; /* word: internal form */
    struct str raw;   /* as printed */
};

struct tokens {
    struct token *list;
    size_t count;
};

/* Words without their backslashes. Each byte of one is a byte read, so all of them together fit in room for the whole text: a
 * hostile header of thousands of words takes no more. */
struct lexer {
    struct arena *a;
    struct str s;
    size_t at;
    char *room;
};

#define PATH_TOKENS_MAX 1000

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

static bool is_special(char c)
{
    static const bool special[UCHAR_MAX + 1] = {
        ['('] = true, [')'] = true, ['<'] = true, ['>'] = true,  ['@'] = true, [','] = true,
        [';'] = true, [':'] = true, ['\\'] = true, ['"'] = true, ['.'] = true, ['['] = true,
        [']'] = true, ['|'] = true, ['%'] = true, ['!'] = true,
    };
    return special[(unsigned char)c];
}

/* Reads up to `close`, taking backslashes off. at stands behind the opening character. An open "[" ends
 * at ">" too: <a@[192.0.2.1> is taken. */
static struct str lex_quoted(struct lexer *l, char close, bool keep_slash)
{
    struct str s = l->s;
    char *out = l->room;

    while (l->at < s.len && s.ptr[l->at] != close && (close != ']' || s.ptr[l->at] != '>')) {
        char c = s.ptr[l->at];
        if (c == '\\' && l->at + 1 < s.len) {
            if (keep_slash)
                *l->room++ = c;
            c = s.ptr[++l->at];
        } else if (c == '\n') { /* a folded line: the blank after it stays */
            l->at++;
            continue;
        }
        *l->room++ = c;
        l->at++;
    }
    if (l->at < s.len && s.ptr[l->at] == close)
        l->at++;
    return str_make(out, (size_t)(l->room - out));
}

static struct str lex_comment(struct lexer *l)
{
    size_t start = l->at, depth = 0;

    while (l->at < l->s.len) {
        char c = l->s.ptr[l->at++];
        if (c == '\\' && l->at < l->s.len)
            l->at++;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            break;
    }
    return str_make(l->s.ptr + start, l->at - start);
}

static struct str lex_atom(struct lexer *l)
{
    struct str s = l->s;

    if (s.ptr[l->at] == '\\' && l->at + 1 < s.len)
        l->at++;
    size_t start = l->at++;
    bool copied = false;
    char *out = l->room;
    /* A backslash inside an atom quotes the next byte and the atom goes on: b\c is "bc". */
    while (l->at < s.len) {
        char c = s.ptr[l->at];
        if (c == '\\' && l->at + 1 < s.len) {
            if (!copied) {
                memcpy(out, s.ptr + start, l->at - start);
                l->room += l->at - start;
                copied = true;
            }
            c = s.ptr[++l->at];
        } else if (is_blank(c) || is_special(c)) {
            break;
        }
        if (copied)
            *l->room++ = c;
        l->at++;
    }
    return copied ? str_make(out, (size_t)(l->room - out)) : str_make(s.ptr + start, l->at - start);
}

static struct token lex_one(struct lexer *l)
{
    struct token t = {.kind = TOKEN_WORD};
    struct str s = l->s;
    size_t start = l->at;
    char c = s.ptr[start];

    if (c == '(') {
        t.kind = TOKEN_COMMENT;
        t.raw = lex_comment(l);
        return t;
    }
    if (c == '"') {
        l->at++;
        t.plain = lex_quoted(l, '"', false);
    } else if (c == '[') {
        l->at++;
        struct str inner = lex_quoted(l, ']', true);
        t.plain = arena_printf(l->a, "[%.*s]", STR_ARG(inner));
        t.raw = t.plain;
        return t;
    } else if (!is_special(c) || (c == '\\' && start + 1 < s.len)) {
        t.plain = lex_atom(l);
    } else {
        l->at++;
        t.kind = TOKEN_MARK;
        t.mark = c;
        t.raw = t.plain = str_make(s.ptr + start, 1);
        return t;
    }
    t.raw = str_make(s.ptr + start, l->at - start);
    return t;
}

static struct tokens lex(struct arena *a, struct str s, size_t limit)
{
    struct tokens ts = {0};
    struct lexer l = {.a = a, .s = s, .room = arena_alloc(a, s.len + 1)};
    size_t cap = 0;

    while (l.at < s.len && ts.count < limit) {
        if (is_blank(s.ptr[l.at]) || (s.ptr[l.at] == '\\' && l.at + 1 == s.len)) {
            l.at++;
            continue;
        }
        if (ts.count == cap) {
            size_t grown = cap ? cap * 2 : 16;
            struct token *list = arena_alloc(a, grown * sizeof *list);
            if (cap)
                memcpy(list, ts.list, cap * sizeof *list);
            ts.list = list;
            cap = grown;
        }
        ts.list[ts.count++] = lex_one(&l);
    }
    return ts;
}

/* --- from tokens to parts */
struct found {
    bool known;
    size_t from, at; /* no such mark from `from` on until `at` */
};

struct parser {
    struct arena *a;
    struct tokens ts;
    struct address_part *parts;
    size_t count, cap;
    struct address_part *late; /* comments met inside an address */
    size_t late_count;
    struct found found[3]; /* of > ; : */
    bool path;
};

static void emit(struct parser *p, enum address_part_kind kind, struct str text)
{
    CHECK(p->count < p->cap);
    p->parts[p->count++] = (struct address_part){.kind = kind, .text = text};
}

static void emit_late(struct parser *p)
{
    for (size_t i = 0; i < p->late_count; i++)
        emit(p, PART_COMMENT, p->late[i].text);
    p->late_count = 0;
}

static bool mark_at(const struct parser *p, size_t i, char c)
{
    return i < p->ts.count && p->ts.list[i].kind == TOKEN_MARK && p->ts.list[i].mark == c;
}

/* The text of tokens [from, to) without comments. A source route in front is cut:
 * "@" domain *("," "@" domain) ":". */
static struct str join(struct parser *p, size_t from, size_t to)
{
    if (from < to && p->ts.list[from].kind == TOKEN_MARK && p->ts.list[from].mark == '@')
        for (size_t i = from; i < to; i++)
            if (p->ts.list[i].kind == TOKEN_MARK && p->ts.list[i].mark == ':') {
                from = i + 1;
                break;
            }
    size_t len = 0;
    for (size_t i = from; i < to; i++)
        if (p->ts.list[i].kind != TOKEN_COMMENT)
            len += p->ts.list[i].plain.len + 1;
    char *out = arena_alloc(p->a, len + 1);
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        if (p->ts.list[i].kind != TOKEN_COMMENT && p->ts.list[i].plain.len) {
            if (n && mark_at(p, i, '<')) /* an open one: shown as it would be in front of a route */
                out[n++] = ' ';
            memcpy(out + n, p->ts.list[i].plain.ptr, p->ts.list[i].plain.len);
            n += p->ts.list[i].plain.len;
        }
    out[n] = '\0';
    return str_make(out, n);
}

static void emit_address(struct parser *p, size_t from, size_t to)
{
    emit(p, PART_ADDRESS, join(p, from, to));
    struct address_part *part = &p->parts[p->count - 1];
    part->no_domain = true;
    part->routed = from > 0 && mark_at(p, from - 1, ':');
    for (size_t i = from; i < to; i++)
        if (mark_at(p, i, '@'))
            part->no_domain = false;
}

/* Tokens [from, to) as one address or, where two words stand together, several. Inside a route no comma
 * divides: "<@a,@b:c>". */
static void emit_addresses(struct parser *p, size_t from, size_t to, bool comma_first)
{
    bool last_word = false, any = false;
    size_t start = from;

    for (size_t i = from; i < to; i++) {
        struct token *t = &p->ts.list[i];
        if (t->kind == TOKEN_COMMENT) {
            p->late[p->late_count++].text = t->raw;
            continue;
        }
        if (t->kind == TOKEN_WORD && last_word) {
            if (comma_first)
                emit(p, PART_MARK, STR(","));
            emit_address(p, start, i);
            emit_late(p);
            comma_first = true;
            start = i;
        }
        last_word = t->kind == TOKEN_WORD;
        any = true;
    }
    if (any) {
        if (comma_first)
            emit(p, PART_MARK, STR(","));
        emit_address(p, start, to);
    }
    emit_late(p);
}

/* The first mark c at or after `from`, or the end. The last answer for each c is kept: asked again and
 * again along a hostile header, the search stays linear. */
static size_t find_mark(struct parser *p, size_t from, char c)
{
    struct found *f = &p->found[c == '>' ? 0 : c == ';' ? 1 : 2];
    size_t at = from;

    if (f->known && f->from <= from && from <= f->at)
        return f->at;
    while (at < p->ts.count && !mark_at(p, at, c))
        at++;
    *f = (struct found){true, from, at};
    return at;
}

static void emit_phrase(struct parser *p, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        struct token *t = &p->ts.list[i];
        emit(p, t->kind == TOKEN_COMMENT ? PART_COMMENT
                                         : t->kind == TOKEN_WORD ? PART_WORD : PART_MARK, t->raw);
    }
}

/* The inside of <>, comments aside, is one address whatever stands in it: <a,b> is "a, b", <a b> is "ab". A
 * path may not hold that; it gets the pieces, and more than one is bad syntax. */
static void emit_angle(struct parser *p, size_t from, size_t to)
{
    size_t at = from;

    if (mark_at(p, from, '@')) { /* commas of a route divide nothing */
        size_t colon = find_mark(p, from, ':');
        if (colon < to)
            from = at = colon + 1;
    }
    if (p->path) {
        for (size_t i = from; i < to; i++)
            if (mark_at(p, i, ',') || mark_at(p, i, ';')) {
                emit_addresses(p, at, i, false);
                emit(p, PART_MARK, p->ts.list[i].raw);
                at = i + 1;
            }
        emit_addresses(p, at, to, false);
        return;
    }
    bool any = false;
    for (size_t i = from; i < to; i++) {
        if (mark_at(p, i, ','))
            p->ts.list[i].plain = STR(", ");
        if (p->ts.list[i].kind == TOKEN_COMMENT)
            p->late[p->late_count++].text = p->ts.list[i].raw;
        else
            any = true;
    }
    if (any)
        emit_address(p, from, to);
    emit_late(p);
}

/* "<" at i, its ">" at end. Returns the token behind. */
static size_t parse_angle(struct parser *p, size_t i, size_t end)
{
    while (mark_at(p, i + 1, '<'))
        i++;
    emit(p, PART_MARK, STR("<"));
    emit_angle(p, i + 1, end);
    emit(p, PART_MARK, STR(">"));
    while (mark_at(p, end + 1, '>'))
        end++;
    return end + 1;
}

/* A ":" begins a group when the ";" that ends it comes before another ":". */
static bool begins_group(struct parser *p, size_t run, size_t i)
{
    size_t semi = find_mark(p, i + 1, ';');

    return semi < p->ts.count && find_mark(p, i + 1, ':') > semi && !mark_at(p, run, '@');
}

static void parse(struct parser *p)
{
    size_t run = 0;    /* first token not yet emitted */
    bool ended = false; /* after ">" or ";": a new address needs a comma before it */

    for (size_t i = 0; i < p->ts.count;) {
        struct token *t = &p->ts.list[i];
        size_t close;
        if (t->kind != TOKEN_MARK) {
            i++;
        } else if (t->mark == ',' || t->mark == ';') {
            emit_addresses(p, run, i, ended);
            emit(p, PART_MARK, t->raw);
            ended = t->mark == ';';
            run = ++i;
        } else if (t->mark == '<' && (close = find_mark(p, i, '>')) < p->ts.count) {
            emit_phrase(p, run, i);
            run = i = parse_angle(p, i, close);
            ended = true;
        } else if (t->mark == ':' && begins_group(p, run, i)) {
            if (ended)
                emit(p, PART_MARK, STR(","));
            emit_phrase(p, run, i);
            emit(p, PART_GROUP, STR(":"));
            ended = false;
            run = ++i;
        } else if (t->mark == '>') { /* closes nothing */
            emit_addresses(p, run, i, ended);
            emit(p, PART_MARK, t->raw);
            ended = true;
            run = ++i;
        } else {
            i++;
        }
    }
    emit_addresses(p, run, p->ts.count, ended);
}

static size_t parse_parts(struct arena *a, struct str text, size_t limit, bool path,
                          struct address_part **out)
{
    struct parser p = {.a = a, .ts = lex(a, text, limit), .path = path};

    p.cap = p.ts.count * 3 + 4; /* a token gives itself, a comma and a closing bracket at most */
    p.parts = arena_alloc(a, p.cap * sizeof *p.parts);
    p.late = arena_alloc(a, (p.ts.count + 1) * sizeof *p.late);
    parse(&p);
    *out = p.parts;
    return p.count;
}

size_t address_header_parts(struct arena *a, struct str field_body, size_t limit,
                            struct address_part **out)
{
    return parse_parts(a, field_body, limit, false, out);
}

size_t address_header_list(struct arena *a, struct str field_body, struct str **out)
{
    struct address_part *parts;
    size_t count = address_header_parts(a, field_body, SIZE_MAX, &parts), n = 0;
    struct str *list = arena_alloc(a, (count + 1) * sizeof *list);

    for (size_t i = 0; i < count; i++)
        if (parts[i].kind == PART_ADDRESS && parts[i].text.len)
            list[n++] = parts[i].text;
    *out = list;
    return n;
}

static bool prints_like_word(const struct address_part *part)
{
    return part->kind == PART_ADDRESS || part->kind == PART_WORD || part->kind == PART_COMMENT;
}

static bool is_mark(const struct address_part *part, char c)
{
    return part->kind == PART_MARK && part->text.ptr[0] == c;
}

/* A blank stands between two words, behind a group's name and in front of "<". */
static bool blank_between(const struct address_part *part, const struct address_part *next)
{
    return part->kind == PART_GROUP || (is_mark(next, '<') && !is_mark(part, '<')) ||
           (prints_like_word(part) && prints_like_word(next));
}

void address_header_print(const struct address_part *parts, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        const struct address_part *part = &parts[i];
        if (part->kind == PART_ADDRESS)
            address_quote_to(out, part->text);
        else
            buf_add_str(out, part->text);
        if (is_mark(part, ','))
            buf_add_char(out, '\n');
        else if (i + 1 < count && blank_between(part, part + 1))
            buf_add_char(out, ' ');
    }
}

/* --- the path of MAIL FROM and RCPT TO */

/* Length of the first token: blanks inside "..." and <...> belong to it. -1: a "<" or quote is open. */
static ssize_t path_token(struct str s)
{
    bool angle = false, quote = false;
    size_t i = 0;

    for (; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '\\') {
            if (++i == s.len)
                return -1;
        } else if (c == '"') {
            quote = !quote;
        } else if (quote) {
            continue;
        } else if (c == '<') {
            angle = true;
        } else if (c == '>') {
            angle = false;
        } else if (is_blank(c) && !angle) {
            break;
        }
    }
    return angle || quote ? -1 : (ssize_t)i;
}

static enum address_parse path_domain(struct str address)
{
    ssize_t at = str_rindex(address, '@');

    if (address.len && address.ptr[0] == '-')
        return ADDRESS_ODD;
    if (at < 0)
        return ADDRESS_OK;
    struct str domain = str_from(address, (size_t)at + 1);
    if (domain.len == 0) /* "a@" is nobody's; "a@b@" is odd but passes */
        return str_index(address, '@') < at ? ADDRESS_OK : ADDRESS_BAD_SYNTAX;
    if (address_domain_numeric(domain))
        return ADDRESS_ODD;
    return address_domain_valid(domain) ? ADDRESS_OK : ADDRESS_BAD_SYNTAX;
}

enum address_parse address_parse_path(struct arena *a, struct str text, bool strict, bool empty_ok,
                                      struct str *out, struct str *rest_out)
{
    while (text.len && is_blank(text.ptr[0]))
        text = str_from(text, 1);
    ssize_t end = path_token(text);
    *rest_out = end < 0 ? str_from(text, text.len) : str_trim(str_from(text, (size_t)end));
    if (end <= 0)
        return ADDRESS_BAD_SYNTAX;
    text = str_head(text, (size_t)end);
    if (strict && (text.ptr[0] != '<' || text.ptr[text.len - 1] != '>'))
        return ADDRESS_BAD_SYNTAX;

    struct address_part *parts;
    size_t count = parse_parts(a, text, PATH_TOKENS_MAX, true, &parts), addresses = 0, others = 0;
    struct str address = STR("");
    for (size_t i = 0; i < count; i++) {
        if (parts[i].kind == PART_ADDRESS) {
            address = parts[i].text;
            addresses++;
        } else if (parts[i].kind != PART_MARK || !strchr("<>", parts[i].text.ptr[0])) {
            others++;
        }
    }
    if (addresses > 1 || (strict && others) || (address.len == 0 && !empty_ok) ||
        (strict && address.len && address.ptr[0] == '@') || memchr(address.ptr, '\0', address.len))
        return ADDRESS_BAD_SYNTAX;
    enum address_parse result = path_domain(address);
    if (result != ADDRESS_BAD_SYNTAX)
        *out = address;
    return result;
}
