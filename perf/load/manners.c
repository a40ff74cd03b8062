#include "perf/load/manners.h"

#include "io/base/check.h"
#include "io/base/rand.h"
#include "io/file/file.h"

#define RULES_FILE_MAX (64UL << 20)

const char *const sink_stage_names[SINK_STAGES] = {"banner", "helo",    "mail", "rcpt",
                                                   "data",   "content", "dot",  "quit"};

static struct err *bad(struct str word, const char *why)
{
    return err_new(ERR_SYNTAX, 0, "\"%.*s\": %s", STR_ARG(word), why);
}

/* --- words */

static bool stage_of(struct str name, enum sink_stage *out)
{
    for (int i = 0; i < SINK_STAGES; i++)
        if (str_eq(name, str_of(sink_stage_names[i]))) {
            *out = (enum sink_stage)i;
            return true;
        }
    return false;
}

static struct err *parse_rate(struct str text, struct answer *out)
{
    double percent;
    if (!dist_number(str_head(text, text.len - 1), &percent) || percent > 100)
        return bad(text, "expected a rate up to 100%");
    out->when = WHEN_RATE;
    out->rate = percent / 100;
    return NULL;
}

static struct err *parse_when(struct str text, struct answer *out)
{
    static const struct {
        struct str name;
        enum answer_when when;
        bool time;
    } rows[] = {
        {STR("after="), WHEN_AFTER, false}, {STR("first="), WHEN_FIRST, false},
        {STR("every="), WHEN_EVERY, false}, {STR("until="), WHEN_UNTIL, true},
        {STR("from="), WHEN_FROM, true},
    };
    int64_t ns;
    if (text.len > 0 && text.ptr[text.len - 1] == '%')
        return parse_rate(text, out);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!str_starts(text, rows[i].name))
            continue;
        struct str value = str_from(text, rows[i].name.len);
        out->when = rows[i].when;
        if (rows[i].time) {
            struct err *e = dist_value(value, DIST_TIME_NS, &ns);
            out->number = e ? 0 : (uint64_t)ns;
            return e;
        }
        bool number = str_u64(value, &out->number);
        if (!number || (rows[i].when == WHEN_EVERY && out->number == 0))
            return bad(text, "expected a number");
        return NULL;
    }
    return bad(text, "expected RATE%, after=N, first=N, every=N, until=TIME or from=TIME");
}

/* "450" and "450_4.2.0_text" with its line end. Without a text there is one of our own. */
static struct err *parse_reply(struct arena *a, struct str what, struct answer *out)
{
    uint64_t code;
    if (what.len < 3 || !str_u64(str_head(what, 3), &code) || code < 200 || code > 599 ||
        (what.len > 3 && what.ptr[3] != '_') || what.len > 400)
        return bad(what, "expected a reply code, drop or hang");
    struct str reply = what.len == 3
                           ? arena_printf(a, "%u %u.0.0 as told\r\n", (unsigned)code,
                                          (unsigned)code / 100)
                           : arena_printf(a, "%.*s\r\n", STR_ARG(what));
    char *text = (char *)(uintptr_t)reply.ptr;
    for (size_t i = 0; i < reply.len; i++)
        if (text[i] == '_')
            text[i] = ' ';
    out->kind = ANSWER_REPLY;
    out->reply = reply;
    return NULL;
}

static struct err *parse_answer(struct arena *a, enum sink_stage stage, struct str value,
                                struct manner *m)
{
    struct answer *out = &m->answers[m->answer_count];
    ssize_t colon = str_index(value, ':');
    struct str what = colon < 0 ? value : str_head(value, (size_t)colon);
    struct err *e = NULL;
    if (m->answer_count == ANSWERS_MAX)
        return bad(value, "too many answers");
    *out = (struct answer){.stage = stage};
    if (str_eq(what, STR("drop")))
        out->kind = ANSWER_DROP;
    else if (str_eq(what, STR("hang")))
        out->kind = ANSWER_HANG;
    else
        e = parse_reply(a, what, out);
    if (!e && out->kind == ANSWER_REPLY && stage == SINK_CONTENT)
        e = bad(value, "in the middle of content there is only drop and hang");
    if (!e && colon >= 0)
        e = parse_when(str_from(value, (size_t)colon + 1), out);
    if (e)
        return e;
    m->acts[stage] = true;
    m->answer_count++;
    return NULL;
}

static struct err *parse_delay(struct str name, struct str value, struct manner *m)
{
    struct dist d;
    enum sink_stage only = SINK_BANNER;
    bool all = name.len == 0;
    if (!all && (name.ptr[0] != '.' || !stage_of(str_from(name, 1), &only) || only == SINK_CONTENT))
        return bad(name, "unknown stage");
    struct err *e = dist_parse(value, DIST_TIME_NS, &d);
    if (e)
        return e;
    for (int i = 0; i < SINK_STAGES; i++) {
        if ((!all && i != (int)only) || i == SINK_CONTENT)
            continue;
        m->delay[i] = d;
        m->has_delay[i] = m->acts[i] = true;
    }
    return NULL;
}

static struct err *parse_limit(struct str name, struct str value, struct manner *m)
{
    int64_t v;
    struct err *e = NULL;
    if (str_eq(name, STR("connections"))) {
        if (!str_u64(value, &m->connections))
            e = bad(value, "expected a number");
    } else if (str_eq(name, STR("tarpit"))) {
        e = dist_parse(value, DIST_TIME_NS, &m->tarpit);
        m->drips = !e && dist_highest(&m->tarpit) > 0;
    } else if (str_eq(name, STR("greylist"))) {
        e = dist_value(value, DIST_TIME_NS, &m->greylist_ns);
        if (!e && m->greylist_ns == 0)
            m->greylist_ns = 1; /* the second attempt is taken, however soon */
    } else if (str_eq(name, STR("size"))) {
        e = dist_value(value, DIST_SIZE, &v);
        m->size = e ? 0 : (uint64_t)v;
    } else {
        e = bad(name, "unknown word");
    }
    return e;
}

static struct err *parse_word(struct arena *a, struct str word, struct manner *m)
{
    static const struct str delay = STR("delay");
    enum sink_stage stage;
    ssize_t is = str_index(word, '=');
    if (str_eq(word, STR("no-pipelining"))) {
        m->no_pipelining = true;
        return NULL;
    }
    if (str_eq(word, STR("no-ehlo"))) {
        m->no_ehlo = true;
        return NULL;
    }
    if (is < 0)
        return bad(word, "unknown word");
    struct str name = str_head(word, (size_t)is), value = str_from(word, (size_t)is + 1);
    if (stage_of(name, &stage))
        return parse_answer(a, stage, value, m);
    if (str_starts(name, delay))
        return parse_delay(str_from(name, delay.len), value, m);
    return parse_limit(name, value, m);
}

struct err *manner_parse(struct arena *a, struct str words, struct manner *m)
{
    struct str rest = words, word;
    while (str_token(&rest, " \t\r\n", &word)) {
        struct err *e = parse_word(a, word, m);
        if (e)
            return e;
    }
    return NULL;
}

static bool is_time(const struct answer *w, uint64_t times, int64_t since_ns)
{
    switch (w->when) {
    case WHEN_ALWAYS:
        return true;
    case WHEN_RATE:
        return (double)(rand_u64() >> 11) * 0x1p-53 < w->rate;
    case WHEN_AFTER:
        return times >= w->number;
    case WHEN_FIRST:
        return times < w->number;
    case WHEN_EVERY:
        return (times + 1) % w->number == 0;
    case WHEN_UNTIL:
        return (uint64_t)since_ns < w->number;
    case WHEN_FROM:
        return (uint64_t)since_ns >= w->number;
    }
    UNREACHABLE();
}

const struct answer *manner_answer(const struct manner *m, enum sink_stage stage, uint64_t times,
                                   int64_t since_ns)
{
    for (size_t i = 0; i < m->answer_count; i++)
        if (m->answers[i].stage == stage && is_time(&m->answers[i], times, since_ns))
            return &m->answers[i];
    return NULL;
}

/* --- the rules file */

struct rule {
    uint32_t low, high; /* IPv4, when net.family is 0 */
    bool all;
    struct cidr net;
    struct manner manner;
    struct rule *next;
};
struct rules {
    const struct manner *fallback;
    struct rule *first;
};

static uint32_t ipv4_number(const struct addr *a)
{
    return ntohl(a->in.sin_addr.s_addr);
}

static struct err *parse_range(struct str text, size_t dash, struct rule *r)
{
    struct addr low, high;
    if (!addr_parse(str_head(text, dash), 0, &low) ||
        !addr_parse(str_from(text, dash + 1), 0, &high) || low.sa.sa_family != AF_INET ||
        high.sa.sa_family != AF_INET || ipv4_number(&high) < ipv4_number(&low))
        return bad(text, "expected two IPv4 addresses, the lower one first");
    r->low = ipv4_number(&low);
    r->high = ipv4_number(&high);
    return NULL;
}

static struct err *parse_line(struct arena *a, struct str line, struct rule *r)
{
    struct str rest = line, where;
    struct err *e = NULL;
    if (!str_token(&rest, " \t\r", &where))
        return bad(line, "no address");
    ssize_t dash = str_index(where, '-');
    if (str_eq(where, STR("*")))
        r->all = true;
    else if (dash >= 0)
        e = parse_range(where, (size_t)dash, r);
    else
        e = cidr_parse(where, &r->net);
    return e ? e : manner_parse(a, rest, &r->manner);
}

struct err *rules_read(struct arena *a, const char *path, const struct manner *fallback,
                       const struct rules **out)
{
    struct rules *rules = ARENA_NEW(a, struct rules);
    struct rule **end = &rules->first;
    struct str text = STR("");
    int number = 0;
    rules->fallback = fallback;
    struct err *e = path != NULL ? file_read(a, path, RULES_FILE_MAX, &text) : NULL;
    while (!e && text.len > 0) {
        ssize_t lf = str_index(text, '\n');
        struct str line = str_trim(lf < 0 ? text : str_head(text, (size_t)lf));
        text = str_from(text, lf < 0 ? text.len : (size_t)lf + 1);
        number++;
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        struct rule *r = ARENA_NEW(a, struct rule);
        e = parse_line(a, line, r);
        if (e)
            return err_new(ERR_CONFIG, 0, "%s, line %d: %s", path, number, e->text);
        *end = r;
        end = &r->next;
    }
    if (!e)
        *out = rules;
    return e;
}

static bool fits(const struct rule *r, const struct addr *at)
{
    if (r->all)
        return true;
    if (r->net.family != 0)
        return cidr_match(&r->net, at);
    return at->sa.sa_family == AF_INET && ipv4_number(at) >= r->low && ipv4_number(at) <= r->high;
}

const struct manner *rules_find(const struct rules *rules, const struct addr *at)
{
    for (const struct rule *r = rules->first; r != NULL; r = r->next)
        if (fits(r, at))
            return &r->manner;
    return rules->fallback;
}
