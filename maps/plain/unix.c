/* unix:passwd.byname and unix:group.byname: the system's user and group tables, as colon-separated
 * entries. NSS may ask a network, so it runs on the offload pool. */
#include <grp.h>
#include <pwd.h>
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "maps/map.h"

enum { ENTRY_MAX = 1 << 20 };

struct lookup {
    const char *key;
    struct buf out;
    bool found;
    int error; /* errno, 0 = none */
};

static int passwd_once(struct lookup *l, char *scratch, size_t size)
{
    struct passwd pw, *found = NULL;
    int rc = getpwnam_r(l->key, &pw, scratch, size, &found);
    if (rc == 0 && found) {
        l->found = true;
        buf_printf(&l->out, "%s:%s:%lu:%lu:%s:%s:%s", pw.pw_name, pw.pw_passwd,
                   (unsigned long)pw.pw_uid, (unsigned long)pw.pw_gid, pw.pw_gecos, pw.pw_dir,
                   pw.pw_shell);
    }
    return rc;
}

static int group_once(struct lookup *l, char *scratch, size_t size)
{
    struct group gr, *found = NULL;
    int rc = getgrnam_r(l->key, &gr, scratch, size, &found);
    if (rc == 0 && found) {
        l->found = true;
        buf_printf(&l->out, "%s:%s:%lu:", gr.gr_name, gr.gr_passwd, (unsigned long)gr.gr_gid);
        for (char **member = gr.gr_mem; *member; member++)
            buf_printf(&l->out, "%s%s", member == gr.gr_mem ? "" : ",", *member);
    }
    return rc;
}

static void run(struct lookup *l, int (*once)(struct lookup *, char *, size_t))
{
    size_t size = 4096;
    int rc;
    do {
        char *scratch = mem_alloc(size);
        rc = once(l, scratch, size);
        mem_free(scratch);
        size *= 4;
    } while (rc == ERANGE && size <= ENTRY_MAX);
    /* "No such name" comes back as one of these from some modules of NSS (getpwnam(3)). */
    if (rc == ENOENT || rc == ESRCH || rc == EBADF || rc == EPERM)
        rc = 0;
    l->error = rc;
}

static void passwd_byname(void *arg)
{
    run(arg, passwd_once);
}

static void group_byname(void *arg)
{
    run(arg, group_once);
}

struct unix_map {
    void (*lookup)(void *arg);
};

static struct err *open_unix(struct map *m, struct str name, const struct map_options *options)
{
    (void)options;
    struct unix_map *u = MEM_NEW(struct unix_map);
    m->impl = u;
    if (str_eq(name, STR("passwd.byname")))
        u->lookup = passwd_byname;
    else if (str_eq(name, STR("group.byname")))
        u->lookup = group_byname;
    else
        return err_new(ERR_CONFIG, 0, "unknown table: %s", m->name);
    return NULL;
}

static void close_unix(struct map *m)
{
    mem_free(m->impl);
}

static struct err *find(struct map *m, struct arena *a, struct str key, struct str *value_out,
                        bool *found_out)
{
    const struct unix_map *u = m->impl;
    if (memchr(key.ptr, '\0', key.len))
        return NULL;
    struct lookup l = {.key = arena_cstr(a, key)};
    offload(u->lookup, &l);
    struct err *e = NULL;
    if (l.error) {
        e = err_errno(l.error, "table %s: lookup of %s", m->name, l.key);
    } else if (l.found) {
        *value_out = arena_str(a, buf_str(&l.out));
        *found_out = true;
    }
    buf_fini(&l.out);
    return e;
}

extern const struct map_type map_unix_type;
const struct map_type map_unix_type = {
    .name = "unix",
    .open = open_unix,
    .close = close_unix,
    .find = find,
};
