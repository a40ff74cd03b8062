/* fold: case folding for comparisons, pure. ASCII letters to lower case; with UTF-8 in it the simple
 * one-to-one foldings of the scripts mail names use (Latin-1, Latin Extended-A, Greek, Cyrillic), so
 * that a lookup key does not depend on how its writer held the shift key. */
#ifndef CORE_MAIL_FOLD_H
#define CORE_MAIL_FOLD_H

#include "io/base/arena.h"

/* Same length or shorter. Bytes that are not UTF-8 stay as they are. */
struct str fold_text(struct arena *a, struct str s);
bool fold_eq(struct arena *a, struct str x, struct str y);

#endif
