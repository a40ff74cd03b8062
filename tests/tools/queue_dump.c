/* queue-dump: what stands in a queue directory, byte order and all, one thing a line: segments, batches, records, the
 * rows of the index, what was set aside; and what the check of postsuper -s finds. For people who look for a
 * bug: it believes nothing, changes nothing, and works beside a running server.
 *
 * A program of its own and not a command: an administrator has postcat, postqueue -j and postsuper -s. */
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/base/clock.h"
#include "io/base/mem.h"
#include "queue/store/private.h"
#include "queue/store/verify.h"

enum { PART_LOG = 1, PART_INDEX = 2, PART_CORRUPT = 4, PART_CHECK = 8, ROWS_AT_ONCE = 256 };

static const char help[] =
    "usage: queue-dump [options] queue_directory\n"
    "\n"
    "  --log --index --corrupt --check   only these parts; default: all\n"
    "  --seq N|ID     only records and rows of this message: its number (hex), or its queue id\n"
    "  --bodies       with each record's content\n"
    "  --json         one object a line\n"
    "\n"
    "Exit status 1: something is damaged.\n";

static struct {
    const char *directory;
    unsigned parts;
    uint64_t seq;
    bool bodies, json;
    /* --- as it goes on */
    uint64_t secret, epoch, batches;
    bool fields; /* of the line at hand */
    uint64_t damaged;
} self;

/* --- lines: a kind, then name=value */

static void put_quoted(struct str text)
{
    putchar('"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '\r')
            fputs("\\r", stdout);
        else if (c < ' ' || c >= 0x7f) /* bytes, not characters: what stands there may be no UTF-8 */
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void line(const char *kind)
{
    if (self.json)
        printf("{\"kind\":\"%s\"", kind);
    else
        fputs(kind, stdout);
}

static void name(const char *name)
{
    if (self.json)
        printf(",\"%s\":", name);
    else
        printf(" %s=", name);
}

static void field_str(const char *what, struct str text)
{
    name(what);
    put_quoted(text);
}

static void field(const char *what, const char *fmt, ...) PRINTF(2, 3);
static void field(const char *what, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    name(what);
    if (self.json)
        put_quoted(str_of(text));
    else
        fputs(text, stdout);
}

static void number(const char *what, uint64_t n)
{
    name(what);
    printf("%" PRIu64, n);
}

static void end(void)
{
    puts(self.json ? "}" : "");
}

static void field_time(const char *what, int64_t us)
{
    char text[40] = "at once";
    time_t s = (time_t)(us / US_PER_S);
    struct tm tm;
    if (us > 0 && gmtime_r(&s, &tm) != NULL)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    field_str(what, str_of(text));
}

static void field_flags(uint32_t flags)
{
    field("flags", "%s%s%s%s%s%s", flags & MESSAGE_HOLD ? "H" : "",
          flags & MESSAGE_EXPIRE ? "E" : "", flags & MESSAGE_WARNED ? "W" : "",
          flags & MESSAGE_LONG_ID ? "L" : "", flags & MESSAGE_SUSPENDED ? "S" : "",
          flags == 0 ? "-" : "");
}

static void field_place(uint64_t epoch, uint32_t at)
{
    field("at", "%" PRIx64 ":%" PRIu32, epoch, at);
}

static const char *state_name(enum rcpt_state state)
{
    static const char *const names[] = {"todo", "deferred", "done", "bounced", "notified"};
    return names[state];
}

/* --- envelopes */

/* e: of unpacking it. */
static void envelope(const struct err *e, const struct envelope *env, uint64_t seq, uint32_t flags)
{
    char id[QUEUE_ID_MAX];
    if (e != NULL) {
        field("envelope", "damaged");
        return;
    }
    store_id(flags, env->arrival_us, seq, id);
    field("id", "%s", id);
    field_time("arrival", env->arrival_us);
    field_str("from", env->sender);
    number("rcpts", env->rcpt_count);
    for (size_t i = 0; i < env->rcpt_count && i < 4; i++) {
        field_str("to", env->rcpts[i].address);
        field("state", "%s", state_name(env->rcpts[i].state));
    }
}

/* --- the log */

static void mark(struct str bytes)
{
    struct arena *a = arena_new(0, 0);
    struct mark k;
    if (mark_unpack(bytes, a, &k)) {
        field_flags(k.flags);
        field_time("due", k.due_us);
        for (size_t i = 0; i < k.rcpt_count && i < 4; i++) {
            field("rcpt", "%u:%s", (unsigned)k.rcpts[i].index, state_name(k.rcpts[i].state));
            field_str("why", k.rcpts[i].why.text);
        }
    }
    arena_free(a);
}

static void message(const struct record_head *head, struct str bytes)
{
    struct message_body body;
    uint32_t len = 0;
    bool good = message_unpack(head, bytes, &body);
    if (!good && !message_unpack_fixed(bytes, &body, &len))
        return;
    field("bits", "%s%s%s", body.bits & BODY_SPILLED ? "S" : "", body.bits & BODY_COPY ? "C" : "",
          body.bits == 0 ? "-" : "");
    field_flags(body.flags);
    field_time("due", body.due_us);
    number("content", body.content_size);
    field("sum", "%016" PRIx64, body.content_sum);
    if (good) {
        struct arena *a = arena_new(0, 0);
        struct envelope *env = NULL;
        const struct err *e = envelope_unpack(body.envelope, a, &env);
        envelope(e, env, head->seq, body.flags);
        arena_free(a);
    }
    if (self.bodies && good && body.content.len > 0)
        field_str("body", body.content);
}

static void segment_changed(const struct segment_scan *scan)
{
    struct batch_head h;
    if (scan->epoch != self.epoch) {
        line("segment");
        field("epoch", "%" PRIx64, scan->epoch);
        number("bytes", scan->bytes.len + scan->base);
        end();
        self.batches = 0;
    }
    self.epoch = scan->epoch;
    self.secret = scan->secret;
    if (scan->batches == self.batches || scan->bytes.len < scan->batch_at + BATCH_HEAD ||
        !batch_head_get((const uint8_t *)scan->bytes.ptr + scan->batch_at, scan->epoch, scan->secret, &h))
        return;
    self.batches = scan->batches;
    line("batch");
    field_place(scan->epoch, scan->base + (uint32_t)scan->batch_at);
    number("number", h.number);
    number("records", h.records);
    number("bytes", h.bytes);
    field("next_seq", "%" PRIx64, h.next_seq);
    end();
}

static void item(void *ctx, const struct segment_scan *scan, const struct scan_item *i, const char *bad)
{
    static const char *const types[] = {"", "MESSAGE", "MARK", "REMOVE"};
    (void)ctx;
    self.secret = scan->secret;
    if (!(self.parts & PART_LOG) ||
        (self.seq != 0 && (i->kind == SCAN_GAP || i->head.seq != self.seq)))
        return;
    if (self.seq == 0)
        segment_changed(scan);
    line(i->kind == SCAN_GAP ? "gap" : "record");
    field_place(scan->epoch, i->at);
    number("bytes", i->bytes.len);
    if (i->kind == SCAN_RECORD) {
        field("type", "%s", types[i->head.type]);
        field("seq", "%" PRIx64, i->head.seq);
    }
    field_str("sums", bad ? str_of(bad) : STR("ok"));
    if (i->kind == SCAN_RECORD && i->head.type == RECORD_MESSAGE)
        message(&i->head, i->bytes);
    else if (i->kind == SCAN_RECORD && i->head.type == RECORD_MARK)
        mark(i->bytes);
    end();
}

static void found(void *ctx, const struct finding *f)
{
    static const char *const kinds[] = {"torn",   "stray", "scar",    "header", "gap",
                                        "record", "mark",  "content", "lost",   "index"};
    (void)ctx;
    self.damaged += f->kind >= FINDING_HEADER;
    if (!(self.parts & PART_CHECK) || (self.seq != 0 && f->seq != self.seq))
        return;
    line("finding");
    field("of", "%s", kinds[f->kind]);
    field_str("where", str_of(f->where));
    if (f->seq != 0)
        field("seq", "%" PRIx64, f->seq);
    if (f->id[0] != '\0')
        field("id", "%s", f->id);
    field_str("why", str_of(f->why));
    end();
}

static struct err *log_and_check(bool running)
{
    struct verify v = {.directory = self.directory,
                       .running = running,
                       .found = found,
                       .item = item};
    struct err *e = verify_queue(&v);
    if (self.parts & PART_CHECK) {
        line("checked");
        number("segments", v.segments);
        number("records", v.records);
        number("messages", v.messages);
        number("large", v.large);
        number("rows", v.rows);
        number("damaged", v.damaged);
        end();
    }
    return e;
}

/* --- the index */

static void row(const struct index_row *r)
{
    struct arena *a = arena_new(0, 0);
    struct envelope *env = NULL;
    const struct err *e = index_envelope(r, a, &env);
    line("row");
    field("seq", "%" PRIx64, r->seq);
    field_place(r->place.epoch, r->place.at);
    number("bytes", r->place.length);
    field("bits", "%s%s%s", r->place.spilled ? "S" : "", r->deferred ? "D" : "",
          !r->place.spilled && !r->deferred ? "-" : "");
    field_flags(r->flags);
    field_time("due", r->due_us);
    number("dests", r->dests.len / 16);
    envelope(e, env, r->seq, r->flags);
    end();
    arena_free(a);
}

static struct err *rows(struct index *x)
{
    struct index_row *list = mem_alloc(ROWS_AT_ONCE * sizeof *list);
    struct arena *a = arena_new(0, 0);
    uint64_t after = self.seq != 0 ? self.seq - 1 : 0;
    size_t n = ROWS_AT_ONCE;
    struct err *e = NULL;
    while (e == NULL && n > 0) {
        arena_reset(a);
        e = index_walk(x, after, a, list, self.seq != 0 ? 1 : ROWS_AT_ONCE, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            after = list[i].seq;
            if (self.seq == 0 || after == self.seq)
                row(&list[i]);
        }
        if (self.seq != 0)
            break;
    }
    arena_free(a);
    mem_free(list);
    return e;
}

static void live(void *ctx, uint64_t epoch, uint64_t bytes)
{
    (void)ctx;
    line("live");
    field("epoch", "%" PRIx64, epoch);
    number("bytes", bytes);
    end();
}

static struct err *meta(struct index *x)
{
    uint64_t secret = 0, covered = 0, next_seq = 0, count = 0, held = 0;
    struct err *e = index_meta(x, INDEX_SECRET, &secret);
    if (e == NULL)
        e = index_meta(x, INDEX_COVERED, &covered);
    if (e == NULL)
        e = index_meta(x, INDEX_NEXT_SEQ, &next_seq);
    if (e == NULL)
        e = index_count(x, &count, &held);
    if (e != NULL)
        return e;
    line("index");
    field("covered", "%" PRIx64 ":%" PRIu32, covered >> 32, (uint32_t)covered);
    field("next_seq", "%" PRIx64, next_seq);
    field("secret", "%s", secret == self.secret ? "the log's" : "another");
    number("rows", count);
    number("held", held);
    end();
    return index_live(x, live, NULL);
}

static struct err *index_part(void)
{
    struct store *s = MEM_NEW(struct store);
    struct index *x = NULL;
    char path[1024];
    snprintf(path, sizeof path, "%s/index", self.directory);
    s->secret = self.secret;
    struct err *e = index_open_read(s, path, &x);
    if (e == NULL && self.seq == 0)
        e = meta(x);
    if (e == NULL)
        e = rows(x);
    index_close(x);
    mem_free(s);
    return e != NULL && e->kind == ERR_NOTFOUND ? NULL : e;
}

/* --- corrupt/ */

static void set_aside(const char *file, int fd, uint64_t size)
{
    uint8_t head[RECORD_HEAD];
    struct record_head h;
    bool state = pread(fd, head, sizeof head, 0) == sizeof head &&
                 record_head_get(str_make((const char *)head, sizeof head), get_u64(head + 16), self.secret, &h);
    if (self.seq != 0 && !(state && h.seq == self.seq))
        return;
    line("corrupt");
    field_str("file", str_of(file));
    number("size", size);
    if (state && h.type == RECORD_MESSAGE && h.length <= size) {
        char *bytes = mem_alloc(h.length + 1);
        field("seq", "%" PRIx64, h.seq);
        if (pread(fd, bytes, h.length, RECORD_HEAD) == (ssize_t)h.length)
            message(&h, str_make(bytes, h.length));
        mem_free(bytes);
    }
    end();
}

static struct err *corrupt_part(void)
{
    char path[1400];
    struct stat st;
    const struct dirent *entry;
    snprintf(path, sizeof path, "%s/corrupt", self.directory);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return err_errno(errno, "%s", path);
    while ((entry = readdir(dir)) != NULL) {
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY);
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
            set_aside(entry->d_name, fd, (uint64_t)st.st_size);
        if (fd >= 0)
            close(fd);
    }
    closedir(dir);
    return NULL;
}

/* --- command line */

static bool parse_seq(const char *text)
{
    char *end = NULL;
    if (queue_id_parse(str_of(text), &self.seq, NULL) && strlen(text) > 9)
        return true;
    self.seq = strtoull(text, &end, 16);
    return *end == '\0' && self.seq != 0;
}

/* Somebody has the lock. */
static bool is_running(void)
{
    char path[1024];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    snprintf(path, sizeof path, "%s/log/lock", self.directory);
    int fd = open(path, O_RDONLY);
    bool running = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (fd >= 0)
        close(fd);
    return running;
}

static int fail(struct err *e)
{
    fflush(stdout);
    fprintf(stderr, "queue-dump: fatal: %s\n", e->text);
    return 1;
}

int main(int argc, char **argv)
{
    static const struct option words[] = {
        {"log", no_argument, NULL, 'l'},    {"index", no_argument, NULL, 'i'},
        {"corrupt", no_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"seq", required_argument, NULL, 's'}, {"bodies", no_argument, NULL, 'b'},
        {"json", no_argument, NULL, 'j'},   {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    static const struct {
        int opt;
        unsigned part;
    } parts[] = {{'l', PART_LOG}, {'i', PART_INDEX}, {'c', PART_CORRUPT}, {'k', PART_CHECK}};
    int opt;
    while ((opt = getopt_long(argc, argv, "", words, NULL)) > 0) {
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            self.parts |= parts[i].opt == opt ? parts[i].part : 0;
        self.bodies |= opt == 'b';
        self.json |= opt == 'j';
        if (opt == 'h')
            return fputs(help, stdout), 0;
        if (opt == '?' || (opt == 's' && !parse_seq(optarg)))
            return fputs(help, stderr), 2;
    }
    if (optind != argc - 1)
        return fputs(help, stderr), 2;
    self.directory = argv[optind];
    self.parts = self.parts != 0 ? self.parts : PART_LOG | PART_INDEX | PART_CORRUPT | PART_CHECK;
    struct err *e = log_and_check(is_running());
    if (e == NULL && (self.parts & PART_INDEX))
        e = index_part();
    if (e == NULL && (self.parts & PART_CORRUPT))
        e = corrupt_part();
    return e != NULL ? fail(e) : self.damaged != 0;
}
