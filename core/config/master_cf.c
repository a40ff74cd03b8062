/* The grammar (master(5)):
 *
 *     line    = name type private unpriv chroot wakeup maxproc command *arg
 *     type    = "inet" / "unix" / "fifo" / "pass" / "unix-dgram"
 *     private, unpriv, chroot = "y" / "n" / "-"
 *     wakeup  = number [ "?" ] / "-"
 *     maxproc = number / "-"
 *     arg     = word / "{" text "}" */
#include "core/config/master_cf.h"

#include <stdio.h>
#include "io/base/cfline.h"
#include "io/base/mem.h"

#define BLANKS " \t\r\n"

static const char *const field_names[MASTER_FIELDS] = {
    "service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command",
};

struct str master_unbrace(struct str s)
{
    if (s.len >= 2 && s.ptr[0] == '{' && s.ptr[s.len - 1] == '}')
        return str_trim(str_make(s.ptr + 1, s.len - 2));
    return s;
}

static bool is_one_of(struct str s, const char *const *list)
{
    for (; *list; list++)
        if (str_eq(s, str_of(*list)))
            return true;
    return false;
}

static bool is_number(struct str s, bool question_mark)
{
    uint64_t n;
    if (question_mark && s.len > 1 && s.ptr[s.len - 1] == '?')
        s.len--;
    return str_eq(s, STR("-")) || (str_u64(s, &n) && n <= INT32_MAX);
}

static bool field_ok(enum master_field f, struct str s)
{
    static const char *const types[] = {"inet", "unix", "fifo", "pass", "unix-dgram", NULL};
    static const char *const flags[] = {"y", "n", "-", NULL};
    switch (f) {
    case MASTER_TYPE:
        return is_one_of(s, types);
    case MASTER_PRIVATE:
    case MASTER_UNPRIV:
    case MASTER_CHROOT:
        return is_one_of(s, flags);
    case MASTER_WAKEUP:
    case MASTER_MAXPROC:
        return is_number(s, f == MASTER_WAKEUP);
    default:
        return true;
    }
}

static struct err *check(const struct master_entry *m, struct str line)
{
    for (int f = 0; f < MASTER_FIELDS; f++)
        if (!field_ok(f, m->field[f]))
            return err_new(ERR_CONFIG, 0, "file %s: line %d: invalid %s field \"%.*s\" in \"%.*s\"",
                           m->file, m->line, field_names[f], STR_ARG(m->field[f]),
                           STR_ARG(str_head(line, 100)));
    if (str_eq(m->field[MASTER_TYPE], STR("inet")) && str_eq(m->field[MASTER_PRIVATE], STR("y")))
        return err_new(ERR_CONFIG, 0, "file %s: line %d: inet service cannot be private: \"%.*s\"",
                       m->file, m->line, STR_ARG(str_head(line, 100)));
    return NULL;
}

struct err *master_parse(struct arena *a, const char *path, struct str line, int number,
                         struct master_entry *m)
{
    struct str rest = arena_str(a, line), token, whole = rest;
    *m = (struct master_entry){.file = path, .line = number};
    size_t cap = 0;
    for (size_t i = 0; str_token_braces(&rest, BLANKS, &token); i++) {
        if (i < MASTER_FIELDS) {
            m->field[i] = token;
            continue;
        }
        if (m->arg_count == cap) {
            size_t grown = cap ? cap * 2 : 8;
            struct str *args = arena_alloc(a, grown * sizeof(*args));
            if (m->args)
                memcpy(args, m->args, m->arg_count * sizeof(*args));
            m->args = args;
            cap = grown;
        }
        m->args[m->arg_count++] = token;
    }
    if (!m->field[MASTER_COMMAND].ptr)
        return err_new(ERR_CONFIG, 0, "file %s: line %d: bad field count", path, number);
    return check(m, whole);
}

bool master_same(const struct master_entry *a, const struct master_entry *b)
{
    return str_eq(a->field[MASTER_NAME], b->field[MASTER_NAME]) &&
           str_eq(a->field[MASTER_TYPE], b->field[MASTER_TYPE]);
}

struct read {
    struct arena *arena;
    const char *path;
    struct notes *notes;
    struct master_entry *list; /* heap */
    size_t count, cap;
};

static struct err *read_lines(struct read *r, struct cfline *c)
{
    struct str line;
    int number = 0;
    for (;;) {
        struct master_entry m;
        struct err *e = cfline_next(c, &line, &number);
        if (e)
            return err_in(e, "file %s", r->path);
        if (!line.ptr)
            return NULL;
        if (cfline_stray(line)) {
            notes_add(r->notes, "%s: logical line must not start with whitespace: \"%.*s\"", r->path,
                      STR_ARG(str_head(line, 30)));
            continue;
        }
        e = master_parse(r->arena, r->path, line, number, &m);
        if (e)
            return e;
        if (r->count == r->cap) {
            r->cap = r->cap ? r->cap * 2 : 32;
            r->list = mem_realloc(r->list, r->cap * sizeof(*r->list));
        }
        r->list[r->count++] = m;
    }
}

struct err *master_read(struct arena *a, const char *path, struct notes *notes,
                        struct master_entry **out, size_t *count_out)
{
    FILE *fp = fopen(path, "re");
    if (!fp)
        return err_new(ERR_CONFIG, errno, "open %s: %s", path, strerror(errno));
    struct read r = {.arena = a, .path = path, .notes = notes};
    struct cfline c;
    cfline_init_file(&c, fp);
    struct err *e = read_lines(&r, &c);
    cfline_fini(&c);
    fclose(fp);
    if (!e) {
        *out = arena_alloc(a, (r.count + 1) * sizeof(**out));
        if (r.count)
            memcpy(*out, r.list, r.count * sizeof(**out));
        *count_out = r.count;
    }
    mem_free(r.list);
    return e;
}

static struct err *set_option(const struct master_entry *m, struct arena *a, struct str text,
                              struct dict *over)
{
    struct str name, value;
    struct err *e = cfline_split(master_unbrace(text), &name, &value);
    if (e)
        return err_in(e, "file %s: line %d: invalid \"-o %.*s\" option value", m->file, m->line,
                      STR_ARG(text));
    dict_set(over, a, name, value, m->file, m->line);
    return NULL;
}

struct err *master_options(const struct master_entry *m, struct arena *a, struct dict *over,
                           const char *const **args_out)
{
    const char **args = arena_zalloc(a, (m->arg_count + 1) * sizeof(*args));
    size_t kept = 0, i = 0;
    while (i < m->arg_count && m->args[i].len > 1 && m->args[i].ptr[0] == '-') {
        struct str arg = m->args[i++];
        struct err *e = NULL;
        if (arg.ptr[1] == 'o' && arg.len > 2) {
            e = set_option(m, a, str_from(arg, 2), over);
        } else if (arg.ptr[1] == 'o') {
            if (i == m->arg_count)
                return err_new(ERR_CONFIG, 0, "file %s: line %d: option \"-o\" requires an argument",
                               m->file, m->line);
            e = set_option(m, a, m->args[i++], over);
        } else {
            args[kept++] = arena_cstr(a, arg);
            /* Options of the daemons that have an argument of their own. */
            if (arg.len == 2 && strchr("cimnst", arg.ptr[1]) && i < m->arg_count)
                args[kept++] = arena_cstr(a, m->args[i++]);
        }
        if (e)
            return e;
    }
    while (i < m->arg_count)
        args[kept++] = arena_cstr(a, master_unbrace(m->args[i++]));
    *args_out = args;
    return NULL;
}

static int64_t number_of(struct str s, int64_t when_dash)
{
    int64_t n = when_dash;
    if (s.len > 1 && s.ptr[s.len - 1] == '?')
        s.len--;
    if (!str_eq(s, STR("-")))
        (void)str_i64(s, &n); /* checked when it was read */
    return n;
}

static bool flag_of(struct str s, bool when_dash)
{
    return str_eq(s, STR("-")) ? when_dash : str_eq(s, STR("y"));
}

void master_service(const struct master_entry *m, struct arena *a, int64_t default_process_limit,
                    struct service *out)
{
    const struct str *f = m->field;
    bool inet = str_eq(f[MASTER_TYPE], STR("inet"));
    *out = (struct service){
        .name = arena_cstr(a, f[MASTER_NAME]),
        .type = arena_cstr(a, f[MASTER_TYPE]),
        .is_private = flag_of(f[MASTER_PRIVATE], !inet),
        .unprivileged = flag_of(f[MASTER_UNPRIV], true),
        .chroot = flag_of(f[MASTER_CHROOT], false),
        .wakeup_s = number_of(f[MASTER_WAKEUP], 0),
        .wakeup_if_used = f[MASTER_WAKEUP].ptr[f[MASTER_WAKEUP].len - 1] == '?',
        .maxproc = number_of(f[MASTER_MAXPROC], default_process_limit),
        .maxproc_default = str_eq(f[MASTER_MAXPROC], STR("-")),
        .command = arena_cstr(a, f[MASTER_COMMAND]),
        .file = m->file,
        .line = m->line,
    };
}
