/* verdict: an outcome to tell the peer (style §4.4): reply code, enhanced status, text. Data, not an
 * error. Pure. */
#ifndef CORE_MAIL_VERDICT_H
#define CORE_MAIL_VERDICT_H

#include "io/base/arena.h"

struct verdict {
    int code;         /* 550; 0 = no objection */
    char dsn[12];     /* "5.1.1"; "" = none */
    struct str text;  /* "Error: ..."; literal or arena memory */
};

/* The class of dsn follows the code: (450, "5.1.1") is "4.1.1" (RFC 3463 §3.1). Text is formatted into
 * the arena, control characters become blanks: it may quote what an outsider sent. */
struct verdict verdict_make(struct arena *a, int64_t code, const char *dsn, const char *fmt, ...)
    PRINTF(4, 5);
/* A fixed text, no memory. dsn NULL = none. */
struct verdict verdict_of(int code, const char *dsn, const char *text);
/* Permanent becomes temporary: 550 5.1.1 -> 450 4.1.1 (soft_bounce). */
void verdict_soften(struct verdict *v);
/* Another class of address: 5.1.1 said of a sender is 5.1.0 (RFC 3463 §3.2). */
void verdict_for_sender(struct verdict *v);
/* "550 5.1.1 Error: ..." in arena memory. */
struct str verdict_print(struct arena *a, const struct verdict *v);

#endif
