/* address: taking internal addresses apart, quoting them, and the rules for domain names. The grammar
 * of external forms is in address_parse.c. */
#include "core/mail/address.h"

#include <arpa/inet.h>
#include <limits.h>

#include "core/mail/fold.h"

#define LABEL_MAX  63
#define DOMAIN_MAX 255

struct str address_local(struct str address)
{
    ssize_t at = str_rindex(address, '@');
    return at < 0 ? address : str_head(address, (size_t)at);
}

struct str address_domain(struct str address)
{
    ssize_t at = str_rindex(address, '@');
    return at < 0 ? str_from(address, address.len) : str_from(address, (size_t)at + 1);
}

/* RFC 5321 §4.1.2: Dot-string = Atom *("."  Atom); bytes above 127 pass (RFC 6531). */
static bool dot_string(struct str local)
{
    static const bool special[UCHAR_MAX + 1] = {
        ['('] = true, [')'] = true, ['<'] = true,  ['>'] = true, ['@'] = true, [','] = true,
        [';'] = true, [':'] = true, ['\\'] = true, ['"'] = true, ['['] = true, [']'] = true,
    };
    if (local.len == 0 || local.ptr[0] == '.' || local.ptr[local.len - 1] == '.')
        return false;
    for (size_t i = 0; i < local.len; i++) {
        unsigned char c = (unsigned char)local.ptr[i];
        if (c <= ' ' || c == 127 || special[c])
            return false;
        if (c == '.' && local.ptr[i + 1] == '.')
            return false;
    }
    return true;
}

void address_quote_to(struct buf *out, struct str internal)
{
    struct str local = address_local(internal);

    if (dot_string(local) || internal.len == 0) {
        buf_add_str(out, internal);
        return;
    }
    buf_add_char(out, '"');
    for (size_t i = 0; i < local.len; i++) {
        char c = local.ptr[i];
        if (c == '"' || c == '\\' || c == '\r' || c == '\n')
            buf_add_char(out, '\\');
        buf_add_char(out, c);
    }
    buf_add_char(out, '"');
    buf_add_str(out, str_from(internal, local.len));
}

struct str address_quote(struct arena *a, struct str internal)
{
    if (internal.len == 0 || dot_string(address_local(internal)))
        return arena_str(a, internal);
    struct buf b = {0};
    address_quote_to(&b, internal);
    struct str s = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return s;
}

/* split_addr(3) of Postfix: special names are whole, a delimiter at either end delimits nothing. */
ssize_t address_ext(struct str local, const char *delimiters)
{
    if (!delimiters || !*delimiters || local.len == 0)
        return -1;
    if (str_eq_nocase(local, STR("mailer-daemon")) || str_eq_nocase(local, STR("double-bounce")) ||
        str_eq_nocase(local, STR("postmaster")))
        return -1;
    if (strchr(delimiters, '-') &&
        (str_starts_nocase(local, STR("owner-")) || str_ends_nocase(local, STR("-request"))))
        return -1;
    for (size_t i = 1; i < local.len; i++)
        if (local.ptr[i] != '\0' && strchr(delimiters, local.ptr[i]))
            return (ssize_t)i;
    return -1;
}

struct str address_fold(struct arena *a, struct str address)
{
    return fold_text(a, address);
}

bool address_domain_numeric(struct str domain)
{
    if (domain.len == 0)
        return false;
    for (size_t i = 0; i < domain.len; i++)
        if (!str_is_digit(domain.ptr[i]) && domain.ptr[i] != '.')
            return false;
    return true;
}

static bool literal_valid(struct str d)
{
    char text[64];
    unsigned char bytes[16];

    if (d.len < 3 || d.ptr[d.len - 1] != ']')
        return false;
    struct str inner = str_make(d.ptr + 1, d.len - 2);
    int family = AF_INET;
    if (str_starts_nocase(inner, STR("IPv6:"))) {
        inner = str_from(inner, 5);
        family = AF_INET6;
    }
    if (inner.len == 0 || inner.len >= sizeof text || memchr(inner.ptr, '\0', inner.len))
        return false;
    str_copy(text, sizeof text, inner);
    return inet_pton(family, text, bytes) == 1;
}

/* sub-domain = Let-dig [Ldh-str], with "_" and UTF-8 as letters. */
static bool label_valid(struct str label)
{
    if (label.len == 0 || label.len > LABEL_MAX || label.ptr[0] == '-' ||
        label.ptr[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++) {
        char c = label.ptr[i];
        if (!str_is_alnum(c) && c != '-' && c != '_' && (unsigned char)c < 128)
            return false;
    }
    return true;
}

bool address_domain_valid(struct str domain)
{
    if (domain.len > 0 && domain.ptr[0] == '[')
        return literal_valid(domain);
    if (domain.len > 1 && domain.ptr[domain.len - 1] == '.')
        domain.len--;
    if (domain.len == 0 || domain.len > DOMAIN_MAX || address_domain_numeric(domain))
        return false;
    for (;;) {
        ssize_t dot = str_index(domain, '.');
        if (!label_valid(dot < 0 ? domain : str_head(domain, (size_t)dot)))
            return false;
        if (dot < 0)
            return true;
        domain = str_from(domain, (size_t)dot + 1);
    }
}
