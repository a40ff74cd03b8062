/* cmd: the commands of the multi-call binary. Each takes argc, argv as main does (argv[0] is the name it was
 * called by) and returns the exit status. One file a command; a row in cmd.def. */
#ifndef CORE_CMD_CMD_H
#define CORE_CMD_CMD_H

#define CMD(name, function, doc) int function(int argc, char **argv);
#include "core/cmd/cmd.def"
#undef CMD

#endif
