/* newaliases(1), sendmail -bi: build every table of alias_database. */
#include <stdio.h>
#include <unistd.h>
#include "core/cmd/cmd.h"
#include "core/config/snapshot.h"

static int fatal(const char *text)
{
    fprintf(stderr, "newaliases: fatal: %s\n", text);
    return 1;
}

static struct err *build_all(const struct params *p, struct arena *a)
{
    struct map_build_options o = {.alias = true, .fold = true, .warn_dup = true, .tag = "postalias"};
    struct str rest = str_of(p->alias_database), token;
    while (str_token_braces(&rest, ", \t\r\n", &token)) {
        ssize_t colon = str_index(token, ':');
        struct str name = colon < 0 ? str_of(p->default_database_type)
                                    : str_head(token, (size_t)colon);
        struct str file = colon < 0 ? token : str_from(token, (size_t)colon + 1);
        const struct map_type *type = map_type_find(name);
        if (!type)
            return err_new(ERR_CONFIG, 0, "unsupported dictionary type: %.*s", STR_ARG(name));
        struct err *e = map_build(type, arena_cstr(a, file), -1, &o);
        if (e)
            return e;
    }
    return NULL;
}

int cmd_newaliases(int argc, char **argv)
{
    static const char usage[] = "usage: newaliases [-C config_dir | -c config_dir]\n"
                                "Builds the tables that alias_database names.\n";
    const char *dir = NULL;
    int letter;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    while ((letter = getopt(argc, argv, "C:c:v")) != -1) {
        if (letter == 'C' || letter == 'c') {
            dir = optarg;
        } else if (letter != 'v') {
            fputs(usage, stderr);
            return 1;
        }
    }
    if (optind < argc)
        return fatal("alias initialization mode requires no recipient");
    struct snapshot *s;
    struct err *e = config_load_main(config_dir_choose(dir), &s);
    if (e)
        return fatal(e->text);
    struct arena *a = arena_new(0, 0);
    e = build_all(s->params, a);
    int status = e ? fatal(e->text) : 0;
    arena_free(a);
    snapshot_unref(s);
    return status;
}
