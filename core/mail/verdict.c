#include "core/mail/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include "io/base/buf.h"

static void set_dsn(struct verdict *v, const char *dsn)
{
    str_copy(v->dsn, sizeof v->dsn, str_of(dsn));
    if (v->dsn[0] && v->code >= 200)
        v->dsn[0] = (char)('0' + v->code / 100 % 10);
}

struct verdict verdict_make(struct arena *a, int64_t code, const char *dsn, const char *fmt, ...)
{
    struct verdict v = {.code = (int)code};
    va_list ap, again;

    set_dsn(&v, dsn);
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    size_t size = len < 0 ? 1 : (size_t)len + 1;
    char *text = arena_alloc(a, size);
    text[0] = '\0';
    vsnprintf(text, size, fmt, again);
    va_end(again);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = ' ';
    v.text = str_make(text, size - 1);
    return v;
}

struct verdict verdict_of(int code, const char *dsn, const char *text)
{
    struct verdict v = {.code = code, .text = str_of(text)};

    set_dsn(&v, dsn);
    return v;
}

void verdict_soften(struct verdict *v)
{
    if (v->code < 500)
        return;
    v->code -= 100;
    if (v->dsn[0] == '5')
        v->dsn[0] = '4';
}

void verdict_for_sender(struct verdict *v)
{
    size_t len = strlen(v->dsn);

    if (len == 5 && v->dsn[2] == '1' && v->dsn[4] == '1')
        v->dsn[4] = '0';
}

struct str verdict_print(struct arena *a, const struct verdict *v)
{
    return arena_printf(a, "%d %s%s%.*s", v->code, v->dsn, v->dsn[0] ? " " : "", STR_ARG(v->text));
}
