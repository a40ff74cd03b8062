/* maps: source lines of postmap and postalias, texthash: and inline: tables. What a line says is found in the table. */
#include "fuzz.h"
#include "io/base/cfline.h"
#include "maps/map.h"
#include "maps/source.h"

static const struct map_options options = {.config_dir = "/nonexistent", .default_type = "hash"};

/* "<file" as a value reads it: no file of this machine is to be read. */
static bool names_a_file(struct str s)
{
    return str_index(s, '/') >= 0;
}

static void texthash(struct str in)
{
    struct arena *a = arena_new(0, 0);
    struct map *m = NULL;
    struct cfline lines;
    struct str line, key, value, got;
    int number;
    bool found = false;
    if (map_open(arena_printf(a, "texthash:%s", fuzz_file(in)), MAP_FOLD, &options, &m))
        goto out;
    cfline_init_text(&lines, in);
    while (!cfline_next(&lines, &line, &number) && line.ptr) {
        if (source_split_alias(a, line, &key, &value) == NULL)
            CHECK(key.len > 0 && value.len > 0);
        if (cfline_stray(line) || source_split(a, line, &key, &value))
            continue;
        CHECK(key.len > 0 && value.len > 0 && fuzz_inside(key, line) && fuzz_inside(value, line));
        CHECK(!map_find(m, a, arena_lower(a, key), &got, &found) && found);
    }
    cfline_fini(&lines);
    map_close(m);
out:
    arena_free(a);
}

static void in_the_name(struct str in)
{
    struct arena *a = arena_new(0, 0);
    struct map *m = NULL;
    struct str got;
    bool found = false;
    if (names_a_file(in) || memchr(in.ptr, '\0', in.len) || in.len > 2048)
        goto out;
    if (map_open(arena_printf(a, "inline:%.*s", STR_ARG(in)), 0, &options, &m) == NULL) {
        struct err *e = map_find(m, a, STR("key"), &got, &found);
        CHECK(!e);
        map_close(m);
    }
    struct map_list list = {0};
    if (map_list_open(arena_cstr(a, in), MAP_LAZY, &options, &list) == NULL)
        map_list_close(&list);
out:
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_quiet();
    if (size == 0)
        return 0;
    texthash(fuzz_str(data, size));
    in_the_name(fuzz_str(data, size));
    return 0;
}
