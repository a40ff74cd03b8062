/* import: postsuper --import DIR: the mail of a Postfix queue directory comes into ours. */
#ifndef CORE_CMD_IMPORT_H
#define CORE_CMD_IMPORT_H

#include "core/config/snapshot.h"

/* Exit status: 0 = everything that is there is here now. */
int import_run(const struct snapshot *s, const char *directory);

#endif
