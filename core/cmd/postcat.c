/* postcat(1): one message of the queue, as the records of Postfix's queue file would read. There are no such files here: order,
 * names and offsets are made from the envelope. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/cmd.h"
#include "core/cmd/format.h"
#include "core/cmd/head.h"
#include "core/cmd/tell.h"
#include "core/deliver/lines.h"
#include "core/mail/address.h"
#include "core/mail/date.h"
#include "io/base/clock.h"

static const char usage[] =
    "postcat [-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] "
    "[-h (header text)] [-q (access queue)] [-v] [file(s)...]";

static const char help[] =
    "usage: postcat [-behdov] [-c config_dir] -q queue_id...\n"
    "\n"
    "  -q      the names are queue ids (needed: this queue has no message files)\n"
    "  -e      show the envelope      -h   show the headers      -b   show the body\n"
    "          without any of the three: all\n"
    "  -d      show the decimal type of each record, as in Postfix's queue files\n"
    "  -o      show the offset each record would have there\n";

struct cat {
    const struct snapshot *snapshot;
    char *const *ids;
    bool envelope, header, body;
    bool types, offsets;
    /* --- the message at hand */
    char path[64];
    uint64_t at; /* offset of the next record */
    bool in_body;
    bool after_header;
    struct lines lines;
};

/* Type, length in 7-bit groups, data. */
static uint64_t record_size(size_t len)
{
    uint64_t size = 1 + 1 + len;
    for (; len >= 128; len >>= 7)
        size++;
    return size;
}

static void record_head(struct cat *c, char type, size_t len)
{
    if (c->offsets)
        printf("%9llu ", (unsigned long long)c->at);
    if (c->types)
        printf("%3d ", type);
    c->at += record_size(len);
}

static void mark(struct cat *c, char type, const char *what)
{
    if (!c->envelope) {
        c->at += record_size(0);
        return;
    }
    record_head(c, type, 0);
    printf("*** %s %s ***\n", what, c->path);
}

/* --- envelope */

/* One record, told to whoever counts or prints. */
typedef void record_each(struct cat *c, char type, const char *label, struct str name, struct str value);

static void count_record(struct cat *c, char type, const char *label, struct str name, struct str value)
{
    (void)type, (void)label;
    c->at += record_size(name.len + (name.len > 0) + value.len);
}

static void print_record(struct cat *c, char type, const char *label, struct str name, struct str value)
{
    record_head(c, type, name.len + (name.len > 0) + value.len);
    if (name.len > 0)
        printf("%s: %.*s=%.*s\n", label, STR_ARG(name), STR_ARG(value));
    else
        printf("%s: %.*s\n", label, STR_ARG(value));
}

static void attr(struct cat *c, record_each *each, const char *name, struct str value)
{
    each(c, 'A', "named_attribute", str_of(name), value);
}

static void attr_number(struct cat *c, record_each *each, const char *name, long long value)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", value);
    attr(c, each, name, str_of(text));
}

static void rcpt_records(struct cat *c, record_each *each, const struct rcpt *r, struct arena *a)
{
    bool left = format_rcpt_left(r);
    if (r->notify)
        attr_number(c, each, "notify_flags", r->notify);
    if (r->orcpt.len > 0)
        attr(c, each, "dsn_orig_rcpt", r->orcpt);
    each(c, 'O', "original_recipient", STR(""), address_quote(a, r->original));
    each(c, left ? 'R' : 'D', left ? "recipient" : "done_recipient", STR(""),
         address_quote(a, r->address));
}

/* What follows the time. */
static void records(struct cat *c, record_each *each, const struct queue_entry *e, struct arena *a)
{
    static const struct str context = STR("rewrite_context");
    const struct envelope *env = e->env;
    if (envelope_attr(env, "log_client_address").len > 0)
        attr(c, each, "log_ident", str_of(e->id));
    if (env->envid.len > 0)
        attr(c, each, "envelope_id", env->envid);
    if (env->ret)
        attr_number(c, each, "ret_flags", env->ret);
    if (env->flags & ENV_8BIT)
        attr(c, each, "encoding", STR("8bit"));
    if (env->flags & ENV_7BIT)
        attr(c, each, "encoding", STR("7bit"));
    if (envelope_attr(env, "rewrite_context").len > 0)
        attr(c, each, "rewrite_context", envelope_attr(env, "rewrite_context"));
    each(c, 'S', "sender", STR(""), address_quote(a, env->sender));
    for (size_t i = 0; i < env->attr_count; i++)
        if (!str_eq(env->attrs[i].name, context))
            each(c, 'A', "named_attribute", env->attrs[i].name, env->attrs[i].value);
    for (size_t i = 0; i < env->rcpt_count; i++)
        rcpt_records(c, each, &env->rcpts[i], a);
}

static void time_records(struct cat *c, const struct queue_entry *e, bool print)
{
    char date[DATE_TEXT_MAX], seconds[48];
    time_t when = (time_t)(e->env->arrival_us / US_PER_S);
    struct tm tm;
    localtime_r(&when, &tm);
    date_ctime(e->env->arrival_us, date);
    int n = snprintf(seconds, sizeof(seconds), "%lld %lld", (long long)when,
                     (long long)(e->env->arrival_us % US_PER_S));
    if (print) {
        record_head(c, 'T', (size_t)n);
        printf("message_arrival_time: %.19s %d\n", date, tm.tm_year + 1900);
        record_head(c, 'A', sizeof("create_time=") - 1 + 10);
        printf("create_time: %.19s %d\n", date, tm.tm_year + 1900);
        return;
    }
    c->at += record_size((size_t)n) + record_size(sizeof("create_time=") - 1 + 10);
}

static void show_envelope(struct cat *c, const struct queue_entry *e, struct arena *a)
{
    enum { SIZE_RECORD = 95 }; /* six numbers of fifteen digits and the blanks between them */
    size_t left = 0;
    for (size_t i = 0; i < e->env->rcpt_count; i++)
        left += format_rcpt_left(&e->env->rcpts[i]);
    c->at = record_size(SIZE_RECORD);
    time_records(c, e, false);
    records(c, count_record, e, a);
    unsigned long long data_at = c->at + record_size(0);
    if (!c->envelope)
        return;
    printf("*** ENVELOPE RECORDS %s ***\n", c->path);
    c->at = 0;
    record_head(c, 'C', SIZE_RECORD);
    printf("message_size: %15llu %15llu %15zu %15d %15llu %15d\n",
           (unsigned long long)e->env->data_size, data_at, left, 0,
           (unsigned long long)e->env->data_size, e->env->flags & ENV_SMTPUTF8 ? 1 : 0);
    time_records(c, e, true);
    records(c, print_record, e, a);
}

/* --- content */

static void show_line(void *ctx, struct str text, bool starts, bool ends)
{
    struct cat *c = ctx;
    if (starts) {
        c->in_body = c->in_body || !head_line(text, c->after_header);
        c->after_header = true;
    }
    if (c->in_body ? !c->body : !c->header) {
        c->at += record_size(text.len);
        return;
    }
    if (starts)
        record_head(c, ends ? 'N' : 'L', text.len);
    fwrite(text.ptr, 1, text.len, stdout);
    if (ends)
        putchar('\n');
}

static void show_entry(void *ctx, const struct queue_entry *e)
{
    struct cat *c = ctx;
    struct buf path = {0};
    struct arena *a = arena_new(0, 0);
    format_path(&path, e);
    str_copy(c->path, sizeof(c->path), buf_str(&path));
    buf_fini(&path);
    show_envelope(c, e, a);
    mark(c, 'M', "MESSAGE CONTENTS");
    c->in_body = c->after_header = false;
    lines_begin(&c->lines, show_line, c);
    arena_free(a);
}

static void show_content(void *ctx, struct str piece)
{
    struct cat *c = ctx;
    lines_push(&c->lines, piece);
}

static int run(struct access *a, void *ctx)
{
    struct cat *c = ctx;
    for (; *c->ids; c->ids++) {
        bool found;
        struct str id = str_of(*c->ids);
        if (!format_id_valid(id))
            return tell_fatal(1, "bad mail queue ID: %s", *c->ids);
        c->path[0] = '\0';
        struct err *e = access_find(a, id, show_entry, show_content, c, &found);
        if (c->path[0])
            lines_end(&c->lines);
        if (e)
            return tell_fatal(1, "%s", e->text);
        if (!found)
            return tell_fatal(1, "open queue file %s: No such file or directory", *c->ids);
        mark(c, 'X', "HEADER EXTRACTED");
        mark(c, 'E', "MESSAGE FILE END");
    }
    return 0;
}

/* --- command line */

static int bad_usage(void)
{
    return tell_fatal(1, "usage: %s", usage);
}

static int cat_all(struct cat *c, const char *dash_c)
{
    struct snapshot *s = command_config(dash_c);
    if (!s)
        return 1;
    c->snapshot = s;
    int rc = *c->ids ? access_run(s, "postcat", true, run, c) : 0;
    if (fflush(stdout) != 0 && rc == 0)
        rc = tell_fatal(1, "write error: %s", strerror(errno));
    tell_end();
    snapshot_unref(s);
    return rc ? 1 : 0;
}

int cmd_postcat(int argc, char **argv)
{
    const char *dash_c = NULL;
    bool queue = false;
    struct cat c = {0};
    int opt;
    tell_begin(command_name(argv), "postcat");
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout), 0;
    while ((opt = getopt(argc, argv, "+bc:dehoqrs:v")) > 0) {
        c.body |= opt == 'b';
        c.envelope |= opt == 'e';
        c.header |= opt == 'h';
        c.types |= opt == 'd';
        c.offsets |= opt == 'o';
        queue |= opt == 'q';
        if (opt == 'c')
            dash_c = optarg;
        else if (opt == '?')
            return bad_usage();
        else if (opt == 's')
            return tell_fatal(1, "-s: this queue has no message files to skip in");
    }
    if (!queue)
        return tell_fatal(1, "%s: this queue has no message files: use postcat -q queue_id",
                          optind < argc ? argv[optind] : "standard input");
    if (!c.body && !c.envelope && !c.header)
        c.body = c.envelope = c.header = true;
    c.ids = argv + optind;
    return cat_all(&c, dash_c);
}
