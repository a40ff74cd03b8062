/* classes: which address class a domain is in (ADDRESS_CLASS_README). For core/rewrite only; others ask
 * resolve.h. May yield. */
#ifndef CORE_REWRITE_CLASSES_H
#define CORE_REWRITE_CLASSES_H

#include "core/rewrite/resolve.h"

/* Of a domain that is known not to be local. Warns of a domain in two classes (helpful_warnings). */
struct err *classes_remote(const struct service *svc, struct arena *a, struct str domain,
                           enum address_class *out) MUST_USE;
/* Of a local one: only the warnings. */
struct err *classes_local_warn(const struct service *svc, struct arena *a, struct str domain) MUST_USE;

#endif
