/* headers: the rules of cleanup(8) for one header and for the end of the headers. Only headers in the
 * table are looked at; others pass as they are. */
#include "core/cleanup/private.h"

#include <time.h>

#include "core/mail/address.h"
#include "core/mail/date.h"
#include "io/base/clock.h"
#include "io/base/log.h"

#define FOLD_WIDTH 70 /* a rewritten address list is filled up to here */

enum header_id {
    HEADER_APPARENTLY_TO, HEADER_BCC, HEADER_CC, HEADER_CONTENT_TRANSFER_ENCODING, HEADER_DATE,
    HEADER_DISPOSITION_NOTIFICATION_TO, HEADER_ERRORS_TO, HEADER_FROM, HEADER_MAIL_FOLLOWUP_TO,
    HEADER_MESSAGE_ID, HEADER_RECEIVED, HEADER_REPLY_TO, HEADER_RESENT_BCC, HEADER_RESENT_CC,
    HEADER_RESENT_DATE, HEADER_RESENT_FROM, HEADER_RESENT_MESSAGE_ID, HEADER_RESENT_REPLY_TO,
    HEADER_RESENT_SENDER, HEADER_RESENT_TO, HEADER_RETURN_PATH, HEADER_RETURN_RECEIPT_TO,
    HEADER_SENDER, HEADER_TO,
};
#define SEEN(id) (1u << (id))

enum header_opt { OPT_ADDRESS = 1, OPT_RESENT = 2 };

static const struct header_rule {
    struct str name;
    enum header_id id;
    unsigned opts;
} rules[] = {
    {STR("Apparently-To"), HEADER_APPARENTLY_TO, OPT_ADDRESS},
    {STR("Bcc"), HEADER_BCC, OPT_ADDRESS},
    {STR("Cc"), HEADER_CC, OPT_ADDRESS},
    {STR("Content-Transfer-Encoding"), HEADER_CONTENT_TRANSFER_ENCODING, 0},
    {STR("Date"), HEADER_DATE, 0},
    {STR("Disposition-Notification-To"), HEADER_DISPOSITION_NOTIFICATION_TO, OPT_ADDRESS},
    {STR("Errors-To"), HEADER_ERRORS_TO, OPT_ADDRESS},
    {STR("From"), HEADER_FROM, OPT_ADDRESS},
    {STR("Mail-Followup-To"), HEADER_MAIL_FOLLOWUP_TO, OPT_ADDRESS},
    {STR("Message-Id"), HEADER_MESSAGE_ID, 0},
    {STR("Received"), HEADER_RECEIVED, 0},
    {STR("Reply-To"), HEADER_REPLY_TO, OPT_ADDRESS},
    {STR("Resent-Bcc"), HEADER_RESENT_BCC, OPT_ADDRESS | OPT_RESENT},
    {STR("Resent-Cc"), HEADER_RESENT_CC, OPT_ADDRESS | OPT_RESENT},
    {STR("Resent-Date"), HEADER_RESENT_DATE, OPT_RESENT},
    {STR("Resent-From"), HEADER_RESENT_FROM, OPT_ADDRESS | OPT_RESENT},
    {STR("Resent-Message-Id"), HEADER_RESENT_MESSAGE_ID, OPT_RESENT},
    {STR("Resent-Reply-To"), HEADER_RESENT_REPLY_TO, OPT_ADDRESS | OPT_RESENT},
    {STR("Resent-Sender"), HEADER_RESENT_SENDER, OPT_ADDRESS | OPT_RESENT},
    {STR("Resent-To"), HEADER_RESENT_TO, OPT_ADDRESS | OPT_RESENT},
    {STR("Return-Path"), HEADER_RETURN_PATH, OPT_ADDRESS},
    {STR("Return-Receipt-To"), HEADER_RETURN_RECEIPT_TO, OPT_ADDRESS},
    {STR("Sender"), HEADER_SENDER, OPT_ADDRESS},
    {STR("To"), HEADER_TO, OPT_ADDRESS},
};

static const struct header_rule *rule_find(struct str name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (str_eq_nocase(rules[i].name, name))
            return &rules[i];
    return NULL;
}

/* RFC 5322 §2.2; blanks before the colon are obsolete (§4.5.8) but taken. */
bool cleanup_is_header(struct str line, size_t *name_len_out)
{
    size_t n = 0;

    while (n < line.len && line.ptr[n] > ' ' && line.ptr[n] < 127 && line.ptr[n] != ':')
        n++;
    size_t colon = n;
    while (colon < line.len && (line.ptr[colon] == ' ' || line.ptr[colon] == '\t'))
        colon++;
    if (n == 0 || colon == line.len || line.ptr[colon] != ':')
        return false;
    *name_len_out = n;
    return true;
}

/* Lines after the first begin with a blank, or get a tab. */
static void emit_header(struct cleanup *c, struct str header)
{
    bool first = true;

    for (;;) {
        ssize_t lf = str_index(header, '\n');
        struct str line = lf < 0 ? header : str_head(header, (size_t)lf);
        if (!first && (line.len == 0 || (line.ptr[0] != ' ' && line.ptr[0] != '\t')))
            line = arena_printf(c->scratch, "\t%.*s", STR_ARG(line));
        cleanup_emit(c, line);
        if (lf < 0)
            return;
        header = str_from(header, (size_t)lf + 1);
        first = false;
    }
}

/* Each address stands on a line of its own; join lines while they stay short. */
static void fold(struct buf *b, size_t from)
{
    size_t start = from;

    for (size_t i = from; i < b->len; i++) {
        if (b->ptr[i] != '\n')
            continue;
        const char *next = memchr(b->ptr + i + 1, '\n', b->len - i - 1);
        size_t end = next ? (size_t)(next - b->ptr) : b->len;
        if (end - start < FOLD_WIDTH)
            b->ptr[i] = ' ';
        else
            start = i + 1;
    }
}

/* "a@b" in quotes has no domain yet, and its text alone would not show that. */
static struct str complete(struct cleanup *c, const struct address_part *part)
{
    const struct params *p = c->svc->params;
    const char *origin = c->context == REWRITE_LOCAL ? p->myorigin : p->remote_header_rewrite_domain;

    if (part->no_domain && p->append_at_myorigin && *origin && str_index(part->text, '@') >= 0)
        return arena_printf(c->scratch, "%.*s@%s", STR_ARG(part->text), origin);
    return rewrite_address(p, c->scratch, c->context, part->text);
}

/* Completes the addresses of the header. Unless one changes, the header stays byte for byte. */
static struct str rewrite_header(struct cleanup *c, struct str header, size_t name_len,
                                 struct buf *room)
{
    struct address_part *parts;
    const struct params *p = c->svc->params;
    size_t count = address_header_parts(c->scratch, str_from(header, name_len + 1),
                                        (size_t)p->header_address_token_limit, &parts);
    bool changed = false;

    for (size_t i = 0; i < count; i++) {
        if (parts[i].kind != PART_ADDRESS || parts[i].text.len == 0)
            continue;
        if (str_eq(parts[i].text, STR("@"))) { /* nobody, nowhere */
            parts[i] = (struct address_part){.kind = PART_WORD, .text = STR("\"\"")};
            changed = true;
            continue;
        }
        struct str full = complete(c, &parts[i]);
        if (parts[i].routed || !str_eq(full, parts[i].text))
            changed = true;
        parts[i].text = full;
    }
    if (!changed)
        return header;
    buf_add_str(room, str_head(header, name_len));
    buf_add_c(room, ": ");
    address_header_print(parts, count, room);
    fold(room, 0);
    return buf_str(room);
}

void cleanup_headers_begin(struct cleanup *c)
{
    struct str rest = str_of(c->svc->params->message_drop_headers), one;

    while (str_token(&rest, ", \t\r\n", &one))
        buf_add(&c->drops, &one, sizeof one);
}

static bool dropped(const struct cleanup *c, struct str name)
{
    const struct str *names = (const struct str *)(const void *)c->drops.ptr;

    for (size_t i = 0; i < c->drops.len / sizeof *names; i++)
        if (str_eq_nocase(names[i], name))
            return true;
    return false;
}

static struct str value_of(struct str header, size_t name_len)
{
    return str_trim(str_from(header, name_len + 1));
}

static void note_header(struct cleanup *c, const struct header_rule *rule, struct str header)
{
    struct str value = value_of(header, rule->name.len);

    c->headers_seen |= SEEN(rule->id);
    if (rule->opts & OPT_RESENT)
        c->resent = true;
    switch (rule->id) {
    case HEADER_MESSAGE_ID:
        log_info(c->svc->log_tag, "%s: message-id=%.*s", c->id, STR_ARG(value));
        break;
    case HEADER_RESENT_MESSAGE_ID:
        log_info(c->svc->log_tag, "%s: resent-message-id=%.*s", c->id, STR_ARG(value));
        break;
    case HEADER_RECEIVED:
        if (++c->hops >= (unsigned)c->svc->params->hopcount_limit && c->status == CLEANUP_OK) {
            log_warning(c->svc->log_tag, "%s: message rejected: hopcount exceeded", c->id);
            cleanup_fail(c, CLEANUP_TOO_MANY_HOPS, NULL);
        }
        break;
    case HEADER_CONTENT_TRANSFER_ENCODING:
        if (!c->svc->params->detect_8bit_encoding_header)
            break;
        if (str_eq_nocase(value, STR("8bit")) || str_eq_nocase(value, STR("binary")))
            c->env.flags = (c->env.flags | ENV_8BIT) & ~(unsigned)ENV_7BIT;
        break;
    default:
        break;
    }
}

void cleanup_header(struct cleanup *c, struct str header)
{
    size_t name_len;

    if (!cleanup_is_header(header, &name_len)) { /* cut by header_size_limit inside its name */
        emit_header(c, header);
        return;
    }
    struct str name = str_head(header, name_len);
    const struct header_rule *rule = rule_find(name);
    if (rule)
        note_header(c, rule, header);
    if (c->status != CLEANUP_OK || dropped(c, name))
        return;
    struct buf room = {0};
    if (rule && (rule->opts & OPT_ADDRESS) && c->rewrite)
        header = rewrite_header(c, header, name_len, &room);
    emit_header(c, header);
    buf_fini(&room);
    arena_reset(c->scratch);
}

/* --- what is missing */

static void add_message_id(struct cleanup *c, const char *resent)
{
    struct str id;
    const char *host = c->svc->params->myhostname;

    if (c->svc->params->enable_long_queue_ids) {
        id = arena_printf(c->scratch, "%s@%s", c->id, host);
    } else {
        time_t second = (time_t)(c->arrival_us / US_PER_S);
        struct tm tm;
        gmtime_r(&second, &tm);
        id = arena_printf(c->scratch, "%04d%02d%02d%02d%02d%02d.%s@%s", tm.tm_year + 1900,
                          tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, c->id, host);
    }
    cleanup_emit(c, arena_printf(c->scratch, "%sMessage-Id: <%.*s>", resent, STR_ARG(id)));
    log_info(c->svc->log_tag, "%s: %smessage-id=<%.*s>", c->id, *resent ? "resent-" : "",
             STR_ARG(id));
}

/* A phrase is atoms, or a quoted string when it holds anything else. */
static struct str phrase(struct arena *a, struct str name)
{
    bool plain = true;

    for (size_t i = 0; i < name.len; i++)
        plain = plain && (str_is_alnum(name.ptr[i]) || (unsigned char)name.ptr[i] > 127 ||
                          memchr(" !#$%&'*+-/=?^_`{|}~", name.ptr[i], 20));
    if (plain)
        return name;
    struct buf b = {0};
    buf_add_char(&b, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"' || name.ptr[i] == '\\')
            buf_add_char(&b, '\\');
        buf_add_char(&b, name.ptr[i]);
    }
    buf_add_char(&b, '"');
    struct str s = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return s;
}

static void add_from(struct cleanup *c, const char *resent)
{
    struct str sender = c->env.sender.len ? c->env.sender : STR("MAILER-DAEMON");
    struct str address = address_quote(c->scratch, sender);
    struct str name = c->full_name;

    if (c->env.sender.len == 0 || name.len == 0)
        cleanup_emit(c, arena_printf(c->scratch, "%sFrom: %.*s", resent, STR_ARG(address)));
    else if (strcmp(c->svc->params->header_from_format, "obsolete") == 0)
        cleanup_emit(c, arena_printf(c->scratch, "%sFrom: %.*s (%.*s)", resent, STR_ARG(address),
                                     STR_ARG(name)));
    else {
        struct str shown = phrase(c->scratch, name);
        cleanup_emit(c, arena_printf(c->scratch, "%sFrom: %.*s <%.*s>", resent, STR_ARG(shown),
                                     STR_ARG(address)));
    }
}

void cleanup_headers_done(struct cleanup *c)
{
    const struct params *p = c->svc->params;
    const char *resent = c->resent ? "Resent-" : "";
    bool add = c->rewrite || p->always_add_missing_headers;

    if (c->status != CLEANUP_OK)
        return;
    if (add && !(c->headers_seen & SEEN(c->resent ? HEADER_RESENT_MESSAGE_ID : HEADER_MESSAGE_ID))) {
        add_message_id(c, resent);
        if (!c->resent)
            c->headers_seen |= SEEN(HEADER_MESSAGE_ID);
    }
    if (!(c->headers_seen & SEEN(HEADER_MESSAGE_ID)))
        log_info(c->svc->log_tag, "%s: message-id=<>", c->id);
    if (add && !(c->headers_seen & SEEN(c->resent ? HEADER_RESENT_DATE : HEADER_DATE))) {
        char date[DATE_TEXT_MAX];
        cleanup_emit(c, arena_printf(c->scratch, "%sDate: %s", resent,
                                     date_rfc5322(c->arrival_us, date)));
    }
    if (add && !(c->headers_seen & SEEN(c->resent ? HEADER_RESENT_FROM : HEADER_FROM)))
        add_from(c, resent);
    if (add && *p->undisclosed_recipients_header &&
        !(c->headers_seen & (SEEN(HEADER_TO) | SEEN(HEADER_RESENT_TO) | SEEN(HEADER_CC) |
                             SEEN(HEADER_RESENT_CC))))
        cleanup_emit(c, str_of(p->undisclosed_recipients_header));
    arena_reset(c->scratch);
}
