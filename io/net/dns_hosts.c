/* hosts(5): address, name, aliases. Small and rarely asked, so it is read each time. */
#include "io/file/file.h"
#include "io/net/dns.h"

enum { HOSTS_BYTES_MAX = 4 << 20, PATH_BYTES_MAX = 512 };

static char path[PATH_BYTES_MAX] = "/etc/hosts"; /* set before any worker runs */

struct err *dns_hosts_path(const char *new_path)
{
    struct str p = new_path ? str_of(new_path) : STR("/etc/hosts");
    if (p.len >= sizeof(path))
        return err_errno(ENAMETOOLONG, "hosts file %s", new_path);
    str_copy(path, sizeof(path), p);
    return NULL;
}

/* The next line that has an address; *names_out is the rest of it. */
static bool next_entry(struct str *rest, struct addr *addr_out, struct str *names_out)
{
    struct str line, address;
    while (str_token(rest, "\n", &line)) {
        ssize_t comment = str_index(line, '#');
        struct str names = comment < 0 ? line : str_head(line, (size_t)comment);
        if (!str_token(&names, " \t\r", &address) || !addr_parse(address, 0, addr_out))
            continue;
        *names_out = names;
        return true;
    }
    return false;
}

static struct err *read_hosts(struct arena *a, struct str *out)
{
    *out = STR("");
    struct err *e = file_read(a, path, HOSTS_BYTES_MAX, out);
    return e && e->kind == ERR_NOTFOUND ? NULL : e; /* no file is an empty one */
}

static bool has_name(struct str names, struct str wanted)
{
    struct str name;
    while (str_token(&names, " \t\r", &name)) {
        if (str_eq_nocase(name, wanted))
            return true;
    }
    return false;
}

struct err *dns_hosts_file(struct arena *a, const char *name, struct addr **out, size_t *n_out)
{
    struct str text;
    struct err *e = read_hosts(a, &text);
    if (e)
        return e;
    struct str wanted = str_of(name);
    if (wanted.len > 0 && wanted.ptr[wanted.len - 1] == '.')
        wanted.len--;
    struct addr *list = NULL, addr;
    size_t n = 0;
    struct str names;
    for (int pass = 0; pass < 2; pass++) {
        struct str rest = text;
        size_t found = 0;
        while (next_entry(&rest, &addr, &names)) {
            if (!has_name(names, wanted))
                continue;
            if (list)
                list[found] = addr;
            found++;
        }
        n = found;
        if (!list)
            list = arena_zalloc(a, (n ? n : 1) * sizeof(*list));
    }
    *out = list;
    *n_out = n;
    return NULL;
}

struct err *dns_hosts_name(struct arena *a, const struct addr *addr, const char **out)
{
    struct str text, names, first;
    struct addr entry;
    struct err *e = read_hosts(a, &text);
    if (e)
        return e;
    *out = NULL;
    while (next_entry(&text, &entry, &names)) {
        if (addr_eq_host(&entry, addr) && str_token(&names, " \t\r", &first)) {
            *out = arena_cstr(a, first);
            break;
        }
    }
    return NULL;
}
