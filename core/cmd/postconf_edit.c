/* postconf -e, -X, -#: main.cf and master.cf edited in place. Comments, blank lines and the order of the
 * rest stay; the file is replaced as a whole or not at all. */
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "core/cmd/postconf.h"
#include "io/base/cfline.h"
#include "io/file/file.h"

enum { FILE_MAX = 64 << 20 };

/* One thing to change: a setting of main.cf, or an entry of master.cf. */
struct change {
    struct str name, type; /* type: master.cf */
    struct str field;      /* -F -P: "smtp/inet/FIELD" */
    struct str value;
    size_t hits;
};

struct edit {
    struct postconf *p;
    char *path; /* symbolic links followed: rename must not replace one */
    struct stat st;
    struct str text;
    struct buf out;
    struct buf entry, comments; /* of the logical line that is being read */
    struct change *changes;
    size_t count;
    /* master.cf: its entries, and which comes next */
    struct master_entry *entries;
    size_t entry_count, entry_at;
    struct err *err;
};

static struct err *edit_open(struct edit *e, const char *file)
{
    struct str named = arena_printf(e->p->arena, "%s/%s", e->p->config_dir, file);
    e->path = realpath(named.ptr, NULL);
    if (!e->path || stat(e->path, &e->st) != 0)
        return err_errno(errno, "open %s", named.ptr);
    return file_read(e->p->arena, e->path, FILE_MAX, &e->text);
}

static struct err *edit_write(struct edit *e)
{
    if (str_eq(buf_str(&e->out), e->text))
        return NULL;
    return file_replace(e->path, buf_str(&e->out), e->st.st_mode & 0777);
}

static void edit_close(struct edit *e)
{
    free(e->path); /* realpath's own */
    buf_fini(&e->out);
    buf_fini(&e->entry);
    buf_fini(&e->comments);
}

static bool is_comment(struct str line)
{
    line = str_trim(line);
    return line.len == 0 || line.ptr[0] == '#';
}

static void keep(struct buf *out, const char *before, struct str line)
{
    buf_add_c(out, before);
    buf_add_str(out, line);
    if (line.len == 0 || line.ptr[line.len - 1] != '\n')
        buf_add_char(out, '\n');
}

/* An entry that -F or -P wrote anew stands behind the comments that stood inside the old text. */
static void flush_entry(struct edit *e)
{
    buf_add_str(&e->out, buf_str(&e->entry));
    buf_add_str(&e->out, buf_str(&e->comments));
    buf_reset(&e->entry);
    buf_reset(&e->comments);
}

/* first(e, line): the first physical line of a logical one; true when it and its continuations
 * were taken over by a change. Continuations go with it: dropped, or with -# commented out. */
static void each_line(struct edit *e, bool (*first)(struct edit *e, struct str line))
{
    struct str rest = e->text;
    bool taken = false;
    while (rest.len > 0) {
        ssize_t nl = str_index(rest, '\n');
        size_t n = nl < 0 ? rest.len : (size_t)nl + 1;
        struct str line = str_head(rest, n);
        rest = str_from(rest, n);
        if (is_comment(line)) {
            keep(&e->comments, "", line);
            continue;
        }
        if (!str_is_space(line.ptr[0])) {
            flush_entry(e);
            taken = first(e, line);
            if (!taken)
                keep(&e->entry, "", line);
            continue;
        }
        bool rebuilt = taken && (e->p->of == OF_FIELDS || e->p->of == OF_SERVICE_PARAMS);
        if (!rebuilt)
            flush_entry(e);
        buf_add_str(&e->out, buf_str(&e->comments));
        buf_reset(&e->comments);
        if (!taken)
            keep(&e->entry, "", line);
        else if (e->p->act == ACT_COMMENT)
            keep(&e->entry, "#", line);
    }
    flush_entry(e);
}

/* --- main.cf */
static void add_setting(struct edit *e, const struct change *c)
{
    buf_printf(&e->entry, "%.*s = %.*s\n", STR_ARG(c->name), STR_ARG(c->value));
}

static bool main_line(struct edit *e, struct str line)
{
    size_t n = 0;
    while (n < line.len && line.ptr[n] != '=' && !str_is_space(line.ptr[n]))
        n++;
    for (size_t i = 0; i < e->count; i++) {
        struct change *c = &e->changes[i];
        if (!str_eq(c->name, str_head(line, n)))
            continue;
        if (c->hits++ == 1)
            postconf_warn("%s/main.cf: multiple entries for \"%.*s\"", e->p->config_dir,
                          STR_ARG(c->name));
        if (e->p->act == ACT_EDIT)
            add_setting(e, c);
        else if (e->p->act == ACT_COMMENT)
            keep(&e->entry, "#", line);
        return true;
    }
    return false;
}

/* A later one of the same name replaces. */
static struct err *main_changes(struct edit *e)
{
    struct postconf *p = e->p;
    e->changes = arena_zalloc(p->arena, (p->arg_count + 1) * sizeof(*e->changes));
    for (size_t i = 0; i < p->arg_count; i++) {
        struct change c = {.name = str_trim(str_of(p->args[i]))};
        if (p->act == ACT_EDIT) {
            struct err *err = cfline_split(str_of(p->args[i]), &c.name, &c.value);
            if (err)
                return err;
        }
        size_t at = 0;
        while (at < e->count && !str_eq(e->changes[at].name, c.name))
            at++;
        e->changes[at] = c;
        e->count += at == e->count;
    }
    return NULL;
}

int postconf_edit_main(struct postconf *p)
{
    struct edit e = {.p = p};
    struct err *err = main_changes(&e);
    if (!err)
        err = edit_open(&e, "main.cf");
    if (!err) {
        each_line(&e, main_line);
        for (size_t i = 0; i < e.count; i++)
            if (p->act == ACT_EDIT && e.changes[i].hits == 0)
                add_setting(&e, &e.changes[i]);
        flush_entry(&e);
        err = edit_write(&e);
    }
    int status = err ? postconf_fatal("%s", err->text) : 0;
    edit_close(&e);
    return status;
}

/* --- master.cf */
static void print_entry(struct edit *e, const struct master_entry *m)
{
    struct postconf folded = *e->p;
    folded.fold = true;
    postconf_entry(&folded, m, &e->entry);
}

/* The text of an entry as master_read sees it. */
static struct err *parse_entry(struct edit *e, struct str text, struct master_entry *out)
{
    return master_parse(e->p->arena, "command line", text, 1, out);
}

static struct err *set_field(struct edit *e, struct master_entry *m, const struct change *c)
{
    int f = 0;
    while (f < MASTER_FIELDS && !str_eq(c->field, str_of(postconf_field_names[f])))
        f++;
    if (f == MASTER_FIELDS)
        return err_new(ERR_CONFIG, 0, "invalid service attribute name: \"%.*s\"", STR_ARG(c->field));
    m->field[f] = c->value;
    if (f == MASTER_COMMAND)
        m->arg_count = 0; /* the new text brings its own */
    struct buf b = {0};
    postconf_entry(e->p, m, &b);
    struct err *err = parse_entry(e, buf_str(&b), m);
    buf_fini(&b);
    return err;
}

/* -o name=value: replaced where it stands, appended to the options, or (X) taken out. */
static void set_option(struct edit *e, struct master_entry *m, const struct change *c)
{
    struct str *args = arena_zalloc(e->p->arena, (m->arg_count + 2) * sizeof(*args));
    struct str text = arena_printf(e->p->arena, "{%.*s=%.*s}", STR_ARG(c->field), STR_ARG(c->value));
    size_t n = 0, i = 0;
    bool done = e->p->act == ACT_EXCLUDE;
    for (; i < m->arg_count && m->args[i].ptr[0] == '-'; i++) {
        struct str name, value;
        bool pair = str_eq(m->args[i], STR("-o")) && i + 1 < m->arg_count;
        bool same = pair && !cfline_split(master_unbrace(m->args[i + 1]), &name, &value) &&
                    str_eq(name, c->field);
        if (!same || !done)
            args[n++] = m->args[i];
        if (same && !done)
            args[n++] = text;
        else if (pair && !same)
            args[n++] = m->args[i + 1];
        done = done || same;
        i += pair;
    }
    if (!done) {
        args[n++] = STR("-o");
        args[n++] = text;
    }
    for (; i < m->arg_count; i++)
        args[n++] = m->args[i];
    m->args = args;
    m->arg_count = n;
}

static struct err *change_entry(struct edit *e, const struct master_entry *old,
                                const struct change *c)
{
    struct master_entry m = *old;
    struct err *err = NULL;
    if (e->p->of == OF_SERVICES)
        err = parse_entry(e, c->value, &m);
    else if (e->p->of == OF_FIELDS)
        err = set_field(e, &m, c);
    else
        set_option(e, &m, c);
    if (!err)
        print_entry(e, &m);
    return err;
}

static struct change *change_for(struct edit *e, const struct master_entry *m)
{
    for (size_t i = 0; i < e->count; i++)
        if (postconf_entry_matches(m, e->changes[i].name, e->changes[i].type))
            return &e->changes[i];
    return NULL;
}

/* "smtp/inet=entry", "smtp/inet/field=value", "smtp/inet" */
static struct err *master_changes(struct edit *e)
{
    struct postconf *p = e->p;
    e->changes = arena_zalloc(p->arena, (p->arg_count + 1) * sizeof(*e->changes));
    for (size_t i = 0; i < p->arg_count; i++) {
        struct change *c = &e->changes[e->count++];
        struct str name = str_trim(str_of(p->args[i]));
        if (p->act == ACT_EDIT) {
            struct err *err = cfline_split(str_of(p->args[i]), &name, &c->value);
            if (err)
                return err;
        }
        ssize_t slash = str_index(name, '/');
        c->name = slash < 0 ? name : str_head(name, (size_t)slash);
        struct str rest = slash < 0 ? STR("") : str_from(name, (size_t)slash + 1);
        slash = str_index(rest, '/');
        c->type = slash < 0 ? rest : str_head(rest, (size_t)slash);
        c->field = slash < 0 ? STR("") : str_from(rest, (size_t)slash + 1);
        bool wants_field = p->of != OF_SERVICES;
        if (c->name.len == 0 || c->type.len == 0 || wants_field != (c->field.len > 0))
            return err_new(ERR_CONFIG, 0, "invalid service name: \"%.*s\": need \"%s\"", STR_ARG(name),
                           wants_field ? "service/type/name" : "service/type");
    }
    return NULL;
}

/* Entries come in the order of the file. */
static bool master_line(struct edit *e, struct str line)
{
    if (e->err || e->entry_at >= e->entry_count)
        return false;
    const struct master_entry *m = &e->entries[e->entry_at++];
    struct change *c = change_for(e, m);
    if (!c)
        return false;
    if (e->p->act == ACT_COMMENT)
        keep(&e->entry, "#", line);
    else if (e->p->act == ACT_EDIT || e->p->of == OF_SERVICE_PARAMS)
        e->err = change_entry(e, m, c);
    c->hits++;
    return true;
}

static struct err *edit_entries(struct edit *e)
{
    struct notes notes = {.arena = e->p->arena};
    struct err *err = master_read(e->p->arena, e->path, &notes, &e->entries, &e->entry_count);
    notes_fini(&notes);
    if (err)
        return err;
    each_line(e, master_line);
    for (size_t i = 0; i < e->count && !e->err; i++) {
        if (e->changes[i].hits > 0)
            continue;
        if (e->p->act == ACT_EDIT && e->p->of == OF_SERVICES)
            e->err = change_entry(e, &(struct master_entry){0}, &e->changes[i]);
        else if (e->p->act == ACT_EDIT)
            postconf_warn("unmatched request: \"%s\"", e->p->args[i]);
    }
    flush_entry(e);
    return e->err;
}

/* Two changes of one entry are two passes over the file's text. */
int postconf_edit_services(struct postconf *p)
{
    struct postconf one = *p;
    int status = 0;
    for (size_t i = 0; i < p->arg_count && status == 0; i++) {
        one.args = p->args + i;
        one.arg_count = 1;
        struct edit e = {.p = &one};
        struct err *err = master_changes(&e);
        if (!err)
            err = edit_open(&e, "master.cf");
        if (!err)
            err = edit_entries(&e);
        if (!err)
            err = edit_write(&e);
        if (err)
            status = postconf_fatal("%s", err->text);
        edit_close(&e);
    }
    return status;
}
