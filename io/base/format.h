/* format: vsnprintf(3) for what replies, log lines and headers are made of, at a quarter of its price:
 *
 *     % [0] [width] [.precision | .*] [l | ll | z | j] (s c d i u x %)      precision for s only
 *
 * Anything else in the text goes to vsnprintf itself. Same result and same length, always. */
#ifndef IO_BASE_FORMAT_H
#define IO_BASE_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

#include "io/base/str.h"

/* Writes room bytes at most, with a NUL when room > 0; returns the length without it that all of it has. */
size_t text_format(char *out, size_t room, const char *fmt, va_list ap) PRINTF(3, 0);

#endif
