/* rewrite: the rewriting half of trivial-rewrite(8): an address to its complete form (append_at_myorigin,
 * append_dot_mydomain, swap_bangpath, allow_percent_hack, resolve_dequoted_address). No waits. */
#ifndef CORE_REWRITE_REWRITE_H
#define CORE_REWRITE_REWRITE_H

#include "core/config/snapshot.h"

enum rewrite_context {
    REWRITE_LOCAL,  /* complete with $myorigin and $mydomain */
    REWRITE_REMOTE, /* headers of remote clients: complete with $remote_header_rewrite_domain, or not at
                       all; envelope addresses are always rewritten as local */
};
struct str rewrite_address(const struct params *p, struct arena *a, enum rewrite_context context,
                           struct str internal);
/* As local, for resolve: operators count inside a quoted local part too (resolve_dequoted_address). */
struct str rewrite_dequoted(const struct params *p, struct arena *a, struct str internal);

#endif
