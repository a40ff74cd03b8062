/* maps/match: files of rules, regexp: pcre: cidr:. Our grammar is on trial and not the engines: patterns that make a
 * backtracking engine work for ever are left out by their length and their nesting. */
#include "fuzz.h"
#include "maps/map.h"

static const struct map_options options = {.config_dir = "/nonexistent", .default_type = "hash"};

static bool too_hard(struct str in)
{
    size_t repeats = 0;
    for (size_t i = 0; i < in.len; i++)
        repeats += in.ptr[i] == '*' || in.ptr[i] == '+' || in.ptr[i] == '{';
    return in.len > 2048 || repeats > 6;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"cidr", "pcre", "regexp"};
    static const char *const keys[] = {"", "user@example.com", "192.0.2.1", "2001:db8::1", "aaaa\xc3\xbc"};
    fuzz_quiet();
    struct str in = fuzz_str(data, size);
    for (size_t i = 0; i < 3 && (i == 0 || !too_hard(in)); i++) {
        struct arena *a = arena_new(0, 0);
        struct map *m = NULL;
        unsigned flags = i == 1 ? 0 : MAP_REGEXP_SUB;
        struct str name = arena_printf(a, "%s:%s", types[i], fuzz_file(in));
        for (size_t k = 0; !m && !map_open(name, flags, &options, &m) && k < sizeof keys / sizeof *keys; k++) {
            struct str value;
            bool found = false;
            struct err *e = map_find(m, a, str_of(keys[k]), &value, &found);
            CHECK(!e || !found);
        }
        if (m)
            map_close(m);
        arena_free(a);
    }
    return 0;
}
