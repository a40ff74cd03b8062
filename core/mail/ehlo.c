#include "core/mail/ehlo.h"

#define KEYWORD(NAME, text, logged) {text, logged},
static const struct {
    const char *text, *logged;
} keywords[EHLO_BITS] = {
#include "core/mail/ehlo.def"
};
#undef KEYWORD

unsigned ehlo_parse(struct str list)
{
    struct str word;
    unsigned set = 0;

    while (str_token(&list, ", \t\r\n", &word)) {
        unsigned bit = 0;
        while (bit < EHLO_BITS && !str_eq_nocase(word, str_of(keywords[bit].text)))
            bit++;
        if (bit < EHLO_BITS)
            set |= 1U << bit;
    }
    return set;
}

void ehlo_print(unsigned set, struct buf *out)
{
    for (unsigned bit = 0; bit < EHLO_BITS; bit++) {
        if (!(set >> bit & 1U) || !keywords[bit].logged[0])
            continue;
        if (out->len)
            buf_add_char(out, ' ');
        buf_add_c(out, keywords[bit].logged);
    }
}
