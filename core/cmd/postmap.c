/* postmap(1), postalias(1): build tables, ask them, change them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/cmd/cmd.h"
#include "core/cmd/postmap_run.h"
#include "core/config/snapshot.h"
#include "io/base/mem.h"

struct call {
    const char *tag, *config_dir;
    const char *query, *delete_key; /* -q -d; "-" = standard input */
    bool sequence;                  /* -s */
    struct map_build_options build;
    struct arena *arena;
    const char *default_type;
};

static const char usage[] = "[-fiNnoprsuUvw] [-c config_dir] [-d key] [-q key] [map_type:]file...";

static const char help_text[] =
    "usage: %s [-c config_dir] [-fiNoprw] [map_type:]file...\n"
    "       %s [-c config_dir] [-f] -q key|- [map_type:]table...\n"
    "       %s [-c config_dir] [-f] -d key|- [map_type:]file...\n"
    "       %s [-c config_dir] -s [map_type:]table...\n"
    "\n"
    "  -i  add entries from standard input    -r  a later duplicate replaces\n"
    "  -w  no warning about duplicates        -f  do not fold keys to lower case\n"
    "  -q  look a key up; status 1 when it is in none; -: one key a line from standard input\n"
    "  -d  delete a key; status 1 when it was in none\n"
    "  -s  print all entries\n"
    "  -N -n -o -p -u -U -v are accepted\n";

static int fatal(const struct call *c, const char *fmt, ...) PRINTF(2, 3);
static int fatal(const struct call *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fflush(stdout);
    fprintf(stderr, "%s: fatal: ", c->tag);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return 1;
}

static unsigned flags_of(const struct call *c)
{
    return (c->build.fold ? MAP_FOLD : 0u) | MAP_REGEXP_SUB;
}

static struct err *open_table(const struct call *c, const char *name, struct map **out)
{
    struct map_options o = {.default_type = c->default_type};
    return map_open(str_of(name), flags_of(c), &o, out);
}

/* postalias -s prints what its source looks like. */
static void print_entry(void *ctx, struct str key, struct str value)
{
    const struct call *c = ctx;
    printf("%.*s%s\t%.*s\n", STR_ARG(key), c->build.alias ? ":" : "", STR_ARG(value));
}

/* --- asking */
static int ask_one(const struct call *c, struct map *m, struct str key, bool with_key, bool *found_out)
{
    struct str value;
    arena_reset(c->arena);
    struct err *e = map_find(m, c->arena, key, &value, found_out);
    if (e)
        return fatal(c, "table %s: query error: %s", map_name(m), e->text);
    if (*found_out && with_key)
        print_entry((void *)(uintptr_t)c, key, value);
    else if (*found_out)
        printf("%.*s\n", STR_ARG(value));
    return 0;
}

/* The next line of standard input without its end; false at the end. */
static bool next_key(char **line, size_t *cap, struct str *key_out)
{
    ssize_t n = getline(line, cap, stdin);
    if (n < 0)
        return false;
    struct str key = str_make(*line, (size_t)n);
    if (key.len && key.ptr[key.len - 1] == '\n')
        key.len--;
    *key_out = key;
    return true;
}

/* Each key is asked of the tables in their order, until one has it. */
static int ask_key(const struct call *c, struct map **maps, size_t n, struct str key, bool with_key,
                   bool *found_out)
{
    int status = 0;
    *found_out = false;
    for (size_t i = 0; i < n && status == 0 && !*found_out; i++)
        status = ask_one(c, maps[i], key, with_key, found_out);
    return status;
}

static int ask(const struct call *c, char **names, size_t n)
{
    struct map **maps = mem_zalloc((n + 1) * sizeof(struct map *));
    bool any = false, found = false;
    int status = 0;
    for (size_t i = 0; i < n && status == 0; i++) {
        struct err *e = open_table(c, names[i], &maps[i]);
        if (e)
            status = fatal(c, "%s", e->text);
    }
    if (status == 0 && strcmp(c->query, "-") != 0) {
        status = ask_key(c, maps, n, str_of(c->query), false, &any);
    } else if (status == 0) {
        char *line = NULL;
        size_t cap = 0;
        struct str key;
        while (status == 0 && next_key(&line, &cap, &key)) {
            status = ask_key(c, maps, n, key, true, &found);
            any = any || found;
        }
        free(line); /* getline's own */
    }
    for (size_t i = 0; i < n; i++)
        map_close(maps[i]);
    mem_free(maps);
    return status != 0 ? status : any ? 0 : 1;
}

/* --- changing */
struct target {
    const struct map_type *type;
    const char *path;
};

static int target_of(const struct call *c, const char *name, struct target *out)
{
    const char *colon = strchr(name, ':');
    struct str type = colon ? str_make(name, (size_t)(colon - name)) : str_of(c->default_type);
    out->path = colon ? colon + 1 : name;
    out->type = map_type_find(type);
    if (!out->type)
        return fatal(c, "unsupported dictionary type: %.*s", STR_ARG(type));
    return 0;
}

static size_t read_keys(const struct call *c, struct str **keys_out)
{
    struct str *keys = NULL, key;
    size_t n = 0, cap = 0;
    if (strcmp(c->delete_key, "-") != 0) {
        keys = mem_alloc(sizeof(*keys));
        keys[n++] = str_of(c->delete_key);
    } else {
        char *line = NULL;
        while (next_key(&line, &cap, &key)) {
            keys = mem_realloc(keys, (n + 1) * sizeof(*keys));
            keys[n++] = arena_str(c->arena, key);
        }
        free(line); /* getline's own */
    }
    for (size_t i = 0; i < n; i++)
        if (c->build.fold)
            keys[i] = arena_lower(c->arena, keys[i]);
    *keys_out = keys;
    return n;
}

static int delete(const struct call *c, char **names, size_t n)
{
    struct str *keys;
    size_t key_count = read_keys(c, &keys), all = 0;
    int status = 0;
    for (size_t i = 0; i < n && status == 0; i++) {
        struct target t;
        size_t deleted = 0;
        status = target_of(c, names[i], &t);
        if (status != 0)
            break;
        struct err *e = map_build_delete(t.type, t.path, keys, key_count, &deleted);
        if (e)
            status = fatal(c, "%s", e->text);
        all += deleted;
    }
    mem_free(keys);
    return status != 0 ? status : all > 0 ? 0 : 1;
}

static int sequence(const struct call *c, char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct map *m;
        struct err *e = open_table(c, names[i], &m);
        if (e)
            return fatal(c, "%s", e->text);
        if (!m->type->walk)
            e = err_new(ERR_UNSUPPORTED, 0, "table %s: sequence operation is not supported", m->name);
        else
            e = m->type->walk(m, print_entry, (void *)(uintptr_t)c);
        int status = e ? fatal(c, "%s", e->text) : 0;
        map_close(m);
        if (status != 0)
            return status;
    }
    return 0;
}

static int build(const struct call *c, char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct target t;
        int status = target_of(c, names[i], &t);
        if (status != 0)
            return status;
        int fd = c->build.incremental ? STDIN_FILENO : -1;
        struct err *e = map_build(t.type, t.path, fd, &c->build);
        if (e)
            return fatal(c, "%s", e->text);
    }
    return 0;
}

static bool option(struct call *c, int letter)
{
    switch (letter) {
    case 'c': c->config_dir = optarg; return true;
    case 'q': c->query = optarg; return true;
    case 'd': c->delete_key = optarg; return true;
    case 's': c->sequence = true; return true;
    case 'i': c->build.incremental = true; return true;
    case 'r': c->build.replace = true; return true;
    case 'w': c->build.warn_dup = false; return true;
    case 'f': c->build.fold = false; return true;
    case 'N': c->build.null_key = true; return true;
    case 'n': case 'o': case 'p': case 'u': case 'U': case 'v': return true;
    default: return false;
    }
}

static int run(struct call *c, char **names, size_t n)
{
    if (c->query && c->delete_key)
        return fatal(c, "specify only one of -q or -d");
    struct snapshot *s;
    struct err *e = config_load_main(config_dir_choose(c->config_dir), &s);
    if (e)
        return fatal(c, "%s", e->text);
    c->default_type = s->params->default_database_type;
    int status;
    if (c->query)
        status = ask(c, names, n);
    else if (c->delete_key)
        status = delete(c, names, n);
    else if (c->sequence)
        status = sequence(c, names, n);
    else
        status = build(c, names, n);
    snapshot_unref(s);
    return status;
}

int postmap_run(const char *tag, bool alias, int argc, char **argv)
{
    struct call c = {.tag = tag, .build = {.alias = alias, .fold = true, .warn_dup = true, .tag = tag}};
    bool help = argc > 1 && strcmp(argv[1], "--help") == 0, good = true;
    int letter;
    while (!help && good && (letter = getopt(argc, argv, "+c:d:fiNnopq:rsuUvw")) != -1)
        good = option(&c, letter);
    if (help || !good || optind >= argc) {
        if (help)
            return printf(help_text, tag, tag, tag, tag) < 0;
        return fatal(&c, "usage: %s %s", tag, usage);
    }
    c.arena = arena_new(0, 0);
    map_log_as(tag);
    int status = run(&c, argv + optind, (size_t)(argc - optind));
    arena_free(c.arena);
    if (fflush(stdout) != 0)
        status = fatal(&c, "write error: %s", strerror(errno));
    return status;
}

int cmd_postmap(int argc, char **argv)
{
    return postmap_run("postmap", false, argc, argv);
}
