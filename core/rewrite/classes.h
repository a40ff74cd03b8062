/* classes: which address class a domain is in (ADDRESS_CLASS_README), and who has moved. For core/rewrite only; others ask
 * resolve.h. May yield. */
#ifndef CORE_REWRITE_CLASSES_H
#define CORE_REWRITE_CLASSES_H

#include "core/rewrite/resolve.h"

/* Of a domain that is known not to be local. Warns of a domain in two classes (helpful_warnings). */
struct err *classes_remote(const struct service *svc, struct arena *a, struct str domain,
                           enum address_class *out) MUST_USE;
/* Of a local one: only the warnings. */
struct err *classes_local_warn(const struct service *svc, struct arena *a, struct str domain) MUST_USE;
/* relocated_maps; in the order of map_addr_find. */
struct err *relocated_find(const struct service *svc, struct arena *a, struct str address,
                           struct str *value_out, struct str *ext_out, bool *found_out) MUST_USE;

#endif
