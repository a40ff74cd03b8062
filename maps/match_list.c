/* The grammar (postconf(5) mynetworks, mydestination):
 *
 *     list    = item *( (blank / ",") item )
 *     item    = *"!" ( "/" file / type ":" name / pattern )
 *     pattern = name / "." name / address / network / "[" IPv6 "]" / "[" IPv6 "/" n "]"
 *
 * A file is replaced by the items in it, a '!' before it turns each of them round. */
#include "io/base/cfline.h"
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "io/net/addr.h"
#include "maps/map.h"

enum { FILE_MAX = 64 << 20, DEPTH_MAX = 20 };

enum item_type { ITEM_NAME, ITEM_NETWORK, ITEM_MAP, ITEM_BROKEN };

struct item {
    enum item_type type;
    bool match; /* false after an odd number of '!' */
    struct str text;
    struct cidr cidr;
    struct map *map;
    const char *why; /* ITEM_BROKEN: the file cannot be read, or the network is none */
};

struct match_list {
    enum match_kind kind;
    struct arena *arena;
    const char *param_name;
    struct item *items;
    size_t count, cap;
};

static struct err *parse(struct match_list *l, struct str text, bool match, int depth,
                         const struct map_options *o);

static struct item *add(struct match_list *l, enum item_type type, bool match, struct str text)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 8;
        l->items = mem_realloc(l->items, l->cap * sizeof(*l->items));
    }
    struct item *it = &l->items[l->count++];
    *it = (struct item){.type = type, .match = match, .text = arena_lower(l->arena, text)};
    return it;
}

static struct err *parse_file(struct match_list *l, struct str path, bool match, int depth,
                              const struct map_options *o)
{
    if (depth > DEPTH_MAX)
        return err_new(ERR_LIMIT, 0, "%.*s: files nested too deeply", STR_ARG(path));
    struct arena *scratch = arena_new(0, 0);
    char *name = arena_cstr(scratch, path);
    struct str bytes;
    struct err *e = file_read(scratch, name, FILE_MAX, &bytes);
    if (e) {
        /* As in Postfix the list is good up to here, and says "try later" from here on. */
        add(l, ITEM_BROKEN, match, path)->why = arena_cstr(l->arena, str_of(e->text));
        e = NULL;
    } else {
        struct cfline lines;
        struct str line;
        int number;
        cfline_init_text(&lines, bytes);
        do {
            e = cfline_next(&lines, &line, &number);
            if (!e && line.ptr)
                e = parse(l, line, match, depth + 1, o);
        } while (!e && line.ptr);
        cfline_fini(&lines);
    }
    arena_free(scratch);
    return e;
}

static bool looks_like_network(struct str s)
{
    if (s.len == 0)
        return false;
    if (s.ptr[0] == '[')
        return true;
    for (size_t i = 0; i < s.len; i++)
        if (!str_is_digit(s.ptr[i]) && s.ptr[i] != '.' && s.ptr[i] != '/')
            return false;
    return true;
}

static struct err *parse_item(struct match_list *l, struct str text, bool match, int depth,
                              const struct map_options *o)
{
    if (text.len == 0)
        return err_new(ERR_CONFIG, 0, "%s: no pattern specified after \"!\"", l->param_name);
    if (text.ptr[0] == '/')
        return parse_file(l, text, match, depth, o);
    if (text.ptr[0] != '[' && str_index(text, ':') >= 0) {
        struct map *m;
        struct err *e = map_open(text, MAP_FOLD | MAP_LAZY, o, &m);
        if (e)
            return err_in(e, "%s", l->param_name);
        add(l, ITEM_MAP, match, text)->map = m;
        return NULL;
    }
    bool networks = l->kind == MATCH_NETWORK || l->kind == MATCH_HOST;
    if (networks && looks_like_network(text)) {
        struct cidr c;
        struct err *e = cidr_parse(text, &c);
        if (e) { /* as with a file that cannot be read */
            add(l, ITEM_BROKEN, match, text)->why = arena_cstr(l->arena, str_of(e->text));
            return NULL;
        }
        add(l, ITEM_NETWORK, match, text)->cidr = c;
        return NULL;
    }
    add(l, ITEM_NAME, match, text);
    return NULL;
}

static struct err *parse(struct match_list *l, struct str text, bool match, int depth,
                         const struct map_options *o)
{
    struct str token;
    while (str_token_braces(&text, ", \t\r\n", &token)) {
        bool sense = match;
        while (token.len > 0 && token.ptr[0] == '!') {
            sense = !sense;
            token = str_from(token, 1);
        }
        struct err *e = parse_item(l, token, sense, depth, o);
        if (e)
            return e;
    }
    return NULL;
}

struct err *match_list_open(const char *param_name, const char *text, enum match_kind kind,
                            const struct map_options *options, struct match_list **out)
{
    struct match_list *l = MEM_NEW(struct match_list);
    l->kind = kind;
    l->arena = arena_new(0, 0);
    l->param_name = arena_cstr(l->arena, str_of(param_name));
    struct err *e = parse(l, str_of(text), true, 0, options);
    if (e) {
        match_list_close(l);
        return e;
    }
    *out = l;
    return NULL;
}

void match_list_close(struct match_list *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->count; i++)
        map_close(l->items[i].map);
    mem_free(l->items);
    arena_free(l->arena);
    mem_free(l);
}

static struct err *broken(const struct match_list *l, const struct item *it)
{
    return err_new(ERR_CONFIG, 0, "%s: %s", l->param_name, it->why);
}

static struct err *in_map(struct map *m, struct arena *a, struct str key, bool *match_out)
{
    struct str value;
    return map_find(m, a, key, &value, match_out);
}

/* A domain, then what lies above it: "a.b.c", ".b.c" or "b.c" as the kind has it. Pattern tables see
 * the whole name alone. */
static struct err *domain_in_map(const struct match_list *l, struct map *m, struct arena *a,
                                 struct str name, bool *match_out)
{
    struct err *e = in_map(m, a, name, match_out);
    while (!e && !*match_out && !map_is_pattern(m)) {
        ssize_t dot = str_index(str_from(name, 1), '.');
        if (dot < 0)
            break;
        name = str_from(name, (size_t)dot + 1);
        struct str key = l->kind == MATCH_DOMAIN_PARENTS ? str_from(name, 1) : name;
        e = in_map(m, a, key, match_out);
    }
    return e;
}

static bool domain_matches(const struct match_list *l, struct str pattern, struct str name)
{
    if (str_eq_nocase(pattern, name))
        return true;
    if (l->kind == MATCH_STRING || name.len <= pattern.len)
        return false;
    if (l->kind == MATCH_DOMAIN_PARENTS)
        return name.ptr[name.len - pattern.len - 1] == '.' && str_ends_nocase(name, pattern);
    return pattern.len > 0 && pattern.ptr[0] == '.' && str_ends_nocase(name, pattern);
}

struct err *match_list_name(struct match_list *l, struct arena *a, struct str name, bool *match_out)
{
    *match_out = false;
    if (name.len == 0)
        return NULL;
    for (size_t i = 0; i < l->count; i++) {
        const struct item *it = &l->items[i];
        struct err *e = NULL;
        bool hit = false;
        if (it->type == ITEM_BROKEN)
            e = broken(l, it);
        else if (it->type == ITEM_MAP)
            e = l->kind == MATCH_STRING ? in_map(it->map, a, name, &hit)
                                        : domain_in_map(l, it->map, a, name, &hit);
        else if (it->type == ITEM_NAME)
            hit = domain_matches(l, it->text, name);
        if (e)
            return e;
        if (hit) {
            *match_out = it->match;
            return NULL;
        }
    }
    return NULL;
}

static struct err *client_in_item(const struct match_list *l, const struct item *it, struct arena *a,
                                  struct str name, const struct addr *addr, bool *hit_out)
{
    char text[ADDR_TEXT_MAX];
    bool named = l->kind != MATCH_NETWORK && name.len > 0 && !str_eq(name, STR("unknown"));
    struct err *e = NULL;
    switch (it->type) {
    case ITEM_BROKEN:
        return broken(l, it);
    case ITEM_NETWORK:
        *hit_out = cidr_match(&it->cidr, addr);
        break;
    case ITEM_NAME:
        *hit_out = named && domain_matches(l, it->text, name);
        break;
    case ITEM_MAP:
        if (named)
            e = domain_in_map(l, it->map, a, name, hit_out);
        if (!e && !*hit_out)
            e = in_map(it->map, a, str_of(addr_text(addr, text)), hit_out);
        break;
    }
    return e;
}

struct err *match_list_client(struct match_list *l, struct arena *a, struct str name,
                              const struct addr *addr, bool *match_out)
{
    CHECK(l->kind == MATCH_NETWORK || l->kind == MATCH_HOST);
    *match_out = false;
    for (size_t i = 0; i < l->count; i++) {
        bool hit = false;
        struct err *e = client_in_item(l, &l->items[i], a, name, addr, &hit);
        if (e)
            return e;
        if (hit) {
            *match_out = l->items[i].match;
            return NULL;
        }
    }
    return NULL;
}
