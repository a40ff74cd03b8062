#include "core/mail/command.h"

#include <limits.h>
#include "io/base/codec.h"
#include "queue/envelope.h"

struct row {
    struct str name;
    const char *stat;
    unsigned flags;
};

#define COMMAND(NAME, name, flags) {STR(#NAME), #name, flags},
static const struct row rows[VERB_COUNT] = {
#include "core/mail/commands.def"
    {STR("UNKNOWN"), "unknown", 0},
};
#undef COMMAND

const char *command_verb_name(enum command_verb v)
{
    return rows[v].name.ptr;
}

const char *command_stat(enum command_verb v)
{
    return rows[v].stat;
}

unsigned command_flags(enum command_verb v)
{
    return rows[v].flags;
}

static enum command_verb verb_of(struct str word)
{
    for (int v = 0; v < VERB_UNKNOWN; v++)
        if (str_eq_nocase(word, rows[v].name))
            return (enum command_verb)v;
    return VERB_UNKNOWN;
}

bool command_read(struct str line, struct command *out)
{
    ssize_t nul = str_index(line, '\0');
    struct str rest = str_trim(nul < 0 ? line : str_head(line, (size_t)nul));
    bool broken;

    if (!command_word(&rest, &out->word, &broken))
        return false;
    out->args = str_trim(rest);
    out->verb = verb_of(out->word);
    return true;
}

/* s begins behind an opening byte; gives the place behind the matching end, or -1. Brackets nest in
 * themselves, and quotes are honoured inside < >. Depth is bounded by the loop, not by the stack. */
static ssize_t skip_quoted(struct str s, size_t at, char open, char close)
{
    size_t depth = 1;
    bool quoted = false;

    while (at < s.len) {
        char c = s.ptr[at++];
        if (c == '\\') {
            if (at == s.len)
                return -1;
            at++;
        } else if (quoted) {
            quoted = c != '"';
        } else if (c == close) {
            if (--depth == 0)
                return (ssize_t)at;
        } else if (c == open) {
            depth++;
        } else if (c == '"' && open == '<') {
            quoted = true;
        }
    }
    return -1;
}

bool command_word(struct str *rest, struct str *word_out, bool *broken_out)
{
    struct str s = *rest;
    size_t at = 0;

    *broken_out = false;
    while (s.len && str_is_space(s.ptr[0]))
        s = str_from(s, 1);
    if (s.len == 0) {
        *rest = s;
        return false;
    }
    while (at < s.len && !str_is_space(s.ptr[at])) {
        char c = s.ptr[at++];
        char close = c == '<' ? '>' : c == '[' ? ']' : c == '"' ? '"' : '\0';
        if (!close)
            continue;
        ssize_t end = skip_quoted(s, at, c, close);
        *broken_out = *broken_out || end < 0;
        at = end < 0 ? s.len : (size_t)end;
    }
    *word_out = str_head(s, at);
    *rest = str_from(s, at);
    return true;
}

/* field-name = 1*ftext, RFC 5322 §2.2 */
bool command_is_header(struct str word)
{
    for (size_t i = 0; i < word.len; i++) {
        char c = word.ptr[i];
        if (c == ':')
            return i > 0;
        if (c <= ' ' || c == 127)
            return false;
    }
    return false;
}

bool command_path(struct str args, struct str keyword, struct str *path_out, struct str *options_out,
                  bool *broken_out)
{
    if (!str_starts_nocase(args, keyword))
        return false;
    struct str rest = str_from(args, keyword.len);
    if (!command_word(&rest, path_out, broken_out))
        return false;
    *options_out = rest;
    return true;
}

/* --- options. esmtp-param = esmtp-keyword ["=" esmtp-value], RFC 5321 §4.1.2 */

static bool value_of(struct str option, struct str name, struct str *value_out)
{
    if (!str_starts_nocase(option, name))
        return false;
    *value_out = str_from(option, name.len);
    return true;
}

static bool printable(struct str s)
{
    return s.len > 0 && str_is_printable(s);
}

static bool unsupported(struct arena *a, struct str option, struct verdict *why)
{
    *why = verdict_of(555, "5.5.4", "");
    why->text = arena_printf(a, "Unsupported option: %.*s", STR_ARG(option)); /* told as it came */
    return false;
}

static bool refuse(struct verdict *why, int code, const char *dsn, const char *text)
{
    *why = verdict_of(code, dsn, text);
    return false;
}

/* size-value = 1*20DIGIT, RFC 1870 §4 */
static bool read_size(struct str value, struct mail_options *io, struct verdict *why)
{
    for (size_t i = 0; i < value.len; i++)
        if (!str_is_digit(value.ptr[i]))
            return refuse(why, 501, "5.5.4", "Bad message size syntax");
    if (value.len == 0)
        return refuse(why, 501, "5.5.4", "Bad message size syntax");
    if (!str_i64(value, &io->size)) {
        io->size = -1;
        return refuse(why, 552, "5.3.4", "Message size exceeds file system imposed limit");
    }
    return true;
}

/* ret-value = "FULL" / "HDRS", RFC 3461 §4.3 */
static bool read_ret(struct str value, struct mail_options *io, struct verdict *why)
{
    uint8_t ret = str_eq_nocase(value, STR("FULL"))   ? RET_FULL
                  : str_eq_nocase(value, STR("HDRS")) ? RET_HDRS
                                                      : RET_NONE;

    if (io->ret != RET_NONE || ret == RET_NONE)
        return refuse(why, 501, "5.5.4", "Bad RET parameter syntax");
    io->ret = ret;
    return true;
}

/* envid-value = xtext of printable characters, RFC 3461 §4.4 */
static bool read_envid(struct arena *a, struct str value, struct mail_options *io,
                       struct verdict *why)
{
    struct str envid;

    if (io->envid_given || !xtext_decode(a, value, &envid) || !printable(envid))
        return refuse(why, 501, "5.5.4", "Bad ENVID parameter syntax");
    io->envid = envid;
    io->envid_given = true;
    return true;
}

static bool mail_option(struct arena *a, struct str option, const struct command_rules *rules,
                        struct mail_options *io, struct verdict *why)
{
    struct str value;

    if (str_eq_nocase(option, STR("BODY=8BITMIME"))) {
        io->body_8bit = true;
        io->body_7bit = false;
        return true;
    }
    if (str_eq_nocase(option, STR("BODY=7BIT"))) {
        io->body_8bit = false;
        io->body_7bit = true;
        return true;
    }
    if (rules->smtputf8 && str_eq_nocase(option, STR("SMTPUTF8")))
        return true; /* taken before: it decides how the address is read */
    if (value_of(option, STR("SIZE="), &value))
        return read_size(value, io, why);
    if (value_of(option, STR("AUTH="), &value))
        return true; /* RFC 4954 §5: without authentication it is as if AUTH=<> stood there */
    bool ret = value_of(option, STR("RET="), &value);
    if (ret || value_of(option, STR("ENVID="), &value)) {
        if (!rules->dsn)
            return refuse(why, 501, "5.7.1", "DSN support is disabled");
        return ret ? read_ret(value, io, why) : read_envid(a, value, io, why);
    }
    return unsupported(a, option, why);
}

bool command_mail_options(struct arena *a, struct str options, const struct command_rules *rules,
                          struct mail_options *io, struct verdict *why)
{
    struct str option;
    bool broken;

    while (command_word(&options, &option, &broken))
        if (!mail_option(a, option, rules, io, why))
            return false;
    return true;
}

/* notify-list = "NEVER" / "SUCCESS" / "FAILURE" / "DELAY" *("," ...), RFC 3461 §4.1 */
static bool read_notify(struct str list, struct rcpt_options *io, struct verdict *why)
{
    static const struct {
        const char *name;
        uint8_t bit;
    } words[] = {{"NEVER", NOTIFY_NEVER}, {"SUCCESS", NOTIFY_SUCCESS},
                 {"FAILURE", NOTIFY_FAILURE}, {"DELAY", NOTIFY_DELAY}};
    struct str rest = list, word;
    unsigned notify = 0;

    while (io->notify == 0 && str_token(&rest, ", \t", &word)) {
        unsigned bit = 0;
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (str_eq_nocase(word, str_of(words[i].name)))
                bit = words[i].bit;
        if (bit == 0) {
            io->bad_notify = word;
            io->bad_notify_list = list;
            notify = 0;
            break;
        }
        notify |= bit;
    }
    if (notify == 0 || ((notify & NOTIFY_NEVER) && notify != NOTIFY_NEVER))
        return refuse(why, 501, "5.5.4", "Error: Bad NOTIFY parameter syntax");
    io->notify = (uint8_t)notify;
    return true;
}

/* \x{HEX} of utf-8-addr-xtext, RFC 6533 §3; anything else stays. */
static bool utf8_address_decode(struct arena *a, struct str text, struct str *out)
{
    char *bytes = arena_alloc(a, text.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.len;) {
        if (text.ptr[i] != '\\') {
            bytes[n++] = text.ptr[i++];
            continue;
        }
        uint32_t point = 0;
        size_t at = i + 3, digits = 0;
        if (!str_starts(str_from(text, i), STR("\\x{")))
            return false;
        for (; at < text.len && text.ptr[at] != '}' && digits < 6; at++, digits++) {
            char c = str_lower_char(text.ptr[at]);
            if (!str_is_digit(c) && (c < 'a' || c > 'f'))
                return false;
            point = point * 16 + (uint32_t)(str_is_digit(c) ? c - '0' : c - 'a' + 10);
        }
        if (at == text.len || text.ptr[at] != '}' || digits < 2 || point > 0x10ffff)
            return false;
        if (point < 0x80) {
            bytes[n++] = (char)point;
        } else if (point < 0x800) {
            bytes[n++] = (char)(0xc0 | point >> 6);
            bytes[n++] = (char)(0x80 | (point & 63));
        } else if (point < 0x10000) {
            bytes[n++] = (char)(0xe0 | point >> 12);
            bytes[n++] = (char)(0x80 | (point >> 6 & 63));
            bytes[n++] = (char)(0x80 | (point & 63));
        } else {
            bytes[n++] = (char)(0xf0 | point >> 18);
            bytes[n++] = (char)(0x80 | (point >> 12 & 63));
            bytes[n++] = (char)(0x80 | (point >> 6 & 63));
            bytes[n++] = (char)(0x80 | (point & 63));
        }
        i = at + 1;
    }
    *out = str_make(bytes, n);
    return utf8_valid(*out);
}

/* original-recipient-address = atom ";" xtext, RFC 3461 §4.2 */
static bool read_orcpt(struct arena *a, struct str value, struct rcpt_options *io,
                       struct verdict *why)
{
    ssize_t semicolon = str_index(value, ';');
    struct str address;

    if (io->orcpt.len || semicolon <= 0)
        return refuse(why, 501, "5.5.4", "Error: Bad ORCPT parameter syntax");
    struct str type = str_head(value, (size_t)semicolon);
    struct str coded = str_from(value, (size_t)semicolon + 1);
    bool good = str_eq_nocase(type, STR("utf-8")) ? utf8_address_decode(a, coded, &address)
                                                  : xtext_decode(a, coded, &address);
    if (!good)
        return refuse(why, 501, "5.5.4", "Error: Bad ORCPT parameter syntax");
    io->orcpt = arena_printf(a, "%.*s;%.*s", STR_ARG(type), STR_ARG(address));
    return true;
}

bool command_rcpt_options(struct arena *a, struct str options, const struct command_rules *rules,
                          struct rcpt_options *io, struct verdict *why)
{
    struct str option, value;
    bool broken;

    while (command_word(&options, &option, &broken)) {
        bool notify = value_of(option, STR("NOTIFY="), &value);
        if (!notify && !value_of(option, STR("ORCPT="), &value))
            return unsupported(a, option, why);
        if (!rules->dsn)
            return refuse(why, 501, "5.7.1", "DSN support is disabled");
        if (!(notify ? read_notify(value, io, why) : read_orcpt(a, value, io, why)))
            return false;
    }
    return true;
}

/* bdat-cmd = "BDAT" SP chunk-size [SP "LAST"], RFC 3030 §2 */
bool command_bdat(struct str args, uint64_t *size_out, bool *last_out)
{
    struct str size, word;
    bool broken, last = false;
    uint64_t n;

    if (!command_word(&args, &size, &broken) || !str_u64(size, &n) || n > INT64_MAX)
        return false;
    for (size_t i = 0; i < size.len; i++)
        if (!str_is_digit(size.ptr[i]))
            return false;
    if (command_word(&args, &word, &broken)) {
        if (!str_eq_nocase(word, STR("LAST")) || command_word(&args, &word, &broken))
            return false;
        last = true;
    }
    *size_out = n;
    *last_out = last;
    return true;
}
