/* postmap_run: the command that postmap(1) and postalias(1) are. */
#ifndef CORE_CMD_POSTMAP_RUN_H
#define CORE_CMD_POSTMAP_RUN_H

#include <stdbool.h>

/* tag: "postmap" or "postalias"; alias: aliases(5) source syntax. Exit status. */
int postmap_run(const char *tag, bool alias, int argc, char **argv);

#endif
