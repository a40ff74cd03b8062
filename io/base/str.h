/* str: a view of bytes. Never owns, never ends in NUL unless its maker says so; a NUL inside is data.
 * Threads: values, any thread. Nothing here yields or allocates. */
#ifndef IO_BASE_STR_H
#define IO_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

struct str {
    const char *ptr;
    size_t len;
};

#define STR(lit)    ((struct str){"" lit, sizeof(lit) - 1})
#define STR_NULL    ((struct str){NULL, 0})
/* For printf's "%.*s". */
#define STR_ARG(s)  (int)(s).len, (s).ptr
#define MUST_USE    __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* View of a C string; NULL gives the empty view. */
static inline struct str str_of(const char *c)
{
    return (struct str){c, c ? strlen(c) : 0};
}
static inline struct str str_make(const char *ptr, size_t len)
{
    return (struct str){ptr, len};
}
static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
/* The rest of s from byte `from` on; empty when s is shorter. */
static inline struct str str_from(struct str s, size_t from)
{
    return from >= s.len ? str_make(s.ptr + s.len, 0) : str_make(s.ptr + from, s.len - from);
}
/* The first `len` bytes of s, or all of it. */
static inline struct str str_head(struct str s, size_t len)
{
    return str_make(s.ptr, len < s.len ? len : s.len);
}
/* ASCII case only: mailbox comparisons go through core/mail/fold. */
bool str_eq_nocase_bytes(const char *a, const char *b, size_t len);
static inline bool str_eq_nocase(struct str a, struct str b)
{
    return a.len == b.len && str_eq_nocase_bytes(a.ptr, b.ptr, a.len);
}
int str_cmp(struct str a, struct str b); /* memcmp order, shorter first */
bool str_starts(struct str s, struct str prefix);
bool str_starts_nocase(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_ends_nocase(struct str s, struct str suffix);
/* Index of the first (last) c, or -1. */
ssize_t str_index(struct str s, char c);
ssize_t str_rindex(struct str s, char c);
/* Index of the first occurrence of needle, or -1. */
ssize_t str_find(struct str s, struct str needle);
/* Without blanks, tabs, CR, LF, VT, FF at both ends. */
struct str str_trim(struct str s);
/* Take the next token off *rest: skips any of `seps` before it, ends at one of them or the end.
 * False when none is left. */
bool str_token(struct str *rest, const char *seps, struct str *token_out);
/* As str_token, but text inside { } is one token (braces kept), as in postconf(5) lists. */
bool str_token_braces(struct str *rest, const char *seps, struct str *token_out);
/* The whole of s as a decimal number; false (output untouched) when it is not one or does not fit. */
bool str_u64(struct str s, uint64_t *out);
bool str_i64(struct str s, int64_t *out);
/* Copy into a fixed array, cut to fit, always NUL-terminated. Returns bytes copied. */
size_t str_copy(char *dst, size_t dst_size, struct str s);
/* Only ' ' to '~'? */
bool str_is_printable(struct str s);
/* ASCII. */
char str_lower_char(char c);
bool str_is_space(char c);
bool str_is_digit(char c);
bool str_is_alnum(char c);

#endif
