/* source: one entry of a postmap(1) source line, key and value between blanks, or of an aliases(5)
 * line, "name: value, value". A key may stand in quotes. Shared by postmap and texthash:. No yields. */
#ifndef MAPS_SOURCE_H
#define MAPS_SOURCE_H

#include "io/base/arena.h"

/* NULL = fine; else why the line is ignored, in Postfix's words. All of it views of line, or memory of a. */
const char *source_split(struct arena *a, struct str line, struct str *key_out, struct str *value_out);
const char *source_split_alias(struct arena *a, struct str line, struct str *key_out,
                               struct str *value_out);

#endif
