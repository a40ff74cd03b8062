/* The multi-call binary: the name it was called by picks a row of core/cmd/cmd.def. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/cmd/cmd.h"
#include "io/base/check.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *doc;
};

#define CMD(name, function, doc) {name, function, doc},
static const struct command commands[] = {
#include "core/cmd/cmd.def"
};
#undef CMD
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const struct command *find(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void usage(FILE *to)
{
    fprintf(to, "usage: ringpost COMMAND [option...]   (or a link named COMMAND to this binary)\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-16s %s\n", commands[i].name, commands[i].doc);
    fprintf(to, "\nEach command has --help.\n");
}

int main(int argc, char **argv)
{
    check_install_handlers();
    const struct command *c = argc > 0 ? find(argv[0]) : NULL;
    if (!c && argc > 1 && (c = find(argv[1])) != NULL) {
        argv++;
        argc--;
    }
    if (c)
        return c->run(argc, argv);
    bool help = argc > 1 && strcmp(argv[1], "--help") == 0;
    usage(help ? stdout : stderr);
    return help ? 0 : 1;
}
