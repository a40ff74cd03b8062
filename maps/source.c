#include "maps/source.h"
#include "io/base/buf.h"
#include "io/base/codec.h"

/* quoted = <"> *( "\" any / any but <"> and "\" ) <"> */
static bool quoted_key(struct arena *a, struct str line, struct str *key_out, struct str *rest_out)
{
    struct buf key = {0};
    bool closed = false;
    size_t i = 1;
    for (; i < line.len && !closed; i++) {
        char c = line.ptr[i];
        if (c == '"')
            closed = true;
        else if (c == '\\' && i + 1 < line.len)
            buf_add_char(&key, line.ptr[++i]);
        else
            buf_add_char(&key, c);
    }
    *key_out = arena_str(a, buf_str(&key));
    *rest_out = str_from(line, i);
    buf_fini(&key);
    return closed;
}

/* key = *( any but blank / quoted ): the quotes stay in it, as in the addresses that are looked up */
const char *source_split(struct arena *a, struct str line, struct str *key_out, struct str *value_out)
{
    if (!utf8_valid(line))
        return "non-UTF-8 input -- ignoring this line";
    bool quoted = false;
    size_t end = 0;
    while (end < line.len && (quoted || !str_is_space(line.ptr[end]))) {
        if (line.ptr[end] == '"')
            quoted = !quoted;
        end += line.ptr[end] == '\\' && end + 1 < line.len ? 2 : 1;
    }
    if (quoted)
        return arena_printf(a, "unbalanced '\"' in '%.*s' -- ignoring this line",
                            STR_ARG(str_head(line, 100))).ptr;
    struct str rest = str_trim(str_from(line, end));
    if (end == 0 || rest.len == 0)
        return "expected format: key whitespace value";
    *key_out = str_head(line, end);
    *value_out = rest;
    return NULL;
}

/* Put the right side of an alias in one shape: blanks outside quotes become one, ", " stands between
 * the members, comments go, and an open quote is closed. */
static void alias_value(struct buf *out, struct str s)
{
    bool quoted = false;
    int comment = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool pair = c == '\\' && i + 1 < s.len;
        if (comment > 0) {
            comment += c == '(' ? 1 : c == ')' ? -1 : 0;
            i += pair;
        } else if (quoted || pair) {
            buf_add_char(out, c);
            if (pair)
                buf_add_char(out, s.ptr[++i]);
            else if (c == '"')
                quoted = false;
        } else if (c == '(') {
            comment = 1;
        } else if (str_is_space(c) || c == ',') {
            bool comma = c == ',';
            while (i + 1 < s.len && (str_is_space(s.ptr[i + 1]) || s.ptr[i + 1] == ','))
                comma = s.ptr[++i] == ',' || comma;
            if (out->len > 0 && i + 1 < s.len)
                buf_add_c(out, comma ? ", " : " ");
        } else {
            quoted = c == '"';
            buf_add_char(out, c);
        }
    }
    if (quoted) {
        buf_add_char(out, '"');
        return;
    }
    while (out->len > 0 && (out->ptr[out->len - 1] == ' ' || out->ptr[out->len - 1] == ','))
        out->len--;
}

/* alias = name blanks ":" value; name may stand in quotes */
const char *source_split_alias(struct arena *a, struct str line, struct str *key_out,
                               struct str *value_out)
{
    struct str key, rest;
    if (!utf8_valid(line))
        return "non-UTF-8 input -- ignoring this line";
    if (line.len > 0 && line.ptr[0] == '"') {
        if (!quoted_key(a, line, &key, &rest))
            return "need name:value pair";
        rest = str_trim(rest);
    } else {
        ssize_t colon = str_index(line, ':');
        if (colon < 0)
            return "need name:value pair";
        key = str_trim(str_head(line, (size_t)colon));
        rest = str_from(line, (size_t)colon);
    }
    if (key.len == 0 || rest.len == 0 || rest.ptr[0] != ':')
        return "need name:value pair";
    struct buf value = {0};
    alias_value(&value, str_trim(str_from(rest, 1)));
    *key_out = key;
    *value_out = arena_str(a, buf_str(&value));
    buf_fini(&value);
    return value_out->len > 0 ? NULL : "need name:value pair";
}
