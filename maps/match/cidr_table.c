/* cidr(5): the pattern is an address or a network, the key an address. */
#include "io/base/mem.h"
#include "io/net/addr.h"
#include "maps/match/rules.h"

static struct err *compile(struct str *rest, void **pattern_out, size_t *captures_out)
{
    size_t n = 0;
    while (n < rest->len && !str_is_space(rest->ptr[n]))
        n++;
    if (n == 0)
        return err_new(ERR_SYNTAX, 0, "no address pattern");
    struct cidr c;
    struct err *e = cidr_parse(str_head(*rest, n), &c);
    if (e)
        return e;
    struct cidr *pattern = mem_alloc(sizeof(*pattern));
    *pattern = c;
    *rest = str_from(*rest, n);
    *pattern_out = pattern;
    *captures_out = 0;
    return NULL;
}

static struct err *match(const void *pattern, struct str key, struct captures *c, bool *match_out)
{
    struct addr addr;
    (void)c;
    *match_out = addr_parse(key, 0, &addr) && cidr_match(pattern, &addr);
    return NULL;
}

static bool key_ok(struct str key)
{
    struct addr addr;
    return addr_parse(key, 0, &addr);
}

const struct rules_engine rules_cidr = {"cidr", false, compile, mem_free, match, key_ok};
