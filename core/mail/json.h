/* json: strings as RFC 8259 §7 wants them, and as postqueue -j of Postfix writes them. Pure. */
#ifndef CORE_MAIL_JSON_H
#define CORE_MAIL_JSON_H

#include "io/base/buf.h"

/* Appends s with its quotes; what is no UTF-8 becomes "?". */
void json_string(struct buf *out, struct str s);

#endif
