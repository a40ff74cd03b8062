/* hosts(5): address, name, aliases. Every connection asks it first, so it is kept as two hash tables, read again
 * when the file changed; that is looked at once a second at most. */
#include <pthread.h>
#include <sys/stat.h>

#include "io/base/clock.h"
#include "io/base/hash.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "io/net/dns.h"

enum { HOSTS_BYTES_MAX = 4 << 20, PATH_BYTES_MAX = 512 };

static char path[PATH_BYTES_MAX] = "/etc/hosts"; /* set before any worker runs */

/* One reading of the file: immutable, shared, counted. */
struct hosts {
    unsigned refs; /* atomic */
    struct arena *arena;
    struct hmap by_name; /* lower case -> struct host_addr, in the file's order */
    struct hmap by_addr; /* printed address -> the first name */
    struct timespec mtime;
    ino_t ino;
};
struct host_addr {
    struct addr addr;
    struct host_addr *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the two below; never held over a wait */
static struct hosts *current;
static int64_t checked_ns;

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

static void add_name(struct hosts *h, struct str name, const struct addr *addr)
{
    struct str key = arena_lower(h->arena, name);
    struct host_addr *new = ARENA_NEW(h->arena, struct host_addr);
    new->addr = *addr;
    struct host_addr *last = hmap_get(&h->by_name, key);
    if (!last) {
        hmap_put(&h->by_name, key, new);
        return;
    }
    while (last->next)
        last = last->next;
    last->next = new;
}

static void fill(struct hosts *h, struct str text)
{
    struct addr addr;
    struct str names, name;
    while (next_entry(&text, &addr, &names)) {
        char printed[ADDR_TEXT_MAX];
        struct str key = str_of(addr_text(&addr, printed));
        bool first = hmap_get(&h->by_addr, key) == NULL;
        while (str_token(&names, " \t\r", &name)) {
            if (first)
                hmap_put(&h->by_addr, key, arena_cstr(h->arena, name));
            first = false;
            add_name(h, name, &addr);
        }
    }
}

static void hosts_unref(struct hosts *h)
{
    if (!h || __atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    hmap_fini(&h->by_name);
    hmap_fini(&h->by_addr);
    arena_free(h->arena);
    mem_free(h);
}

/* No file is an empty one. Yields. */
static struct err *hosts_read(const struct stat *st, struct hosts **out)
{
    struct hosts *h = MEM_NEW(struct hosts);
    struct str text = STR("");
    struct arena *a = arena_new(0, 0);
    h->refs = 2; /* the caller's, and `current` */
    h->arena = arena_new(0, 0);
    h->mtime = st->st_mtim;
    h->ino = st->st_ino;
    struct err *e = file_read(a, path, HOSTS_BYTES_MAX, &text);
    if (e && e->kind == ERR_NOTFOUND)
        e = NULL;
    if (!e)
        fill(h, text);
    arena_free(a);
    if (e) {
        h->refs = 1;
        hosts_unref(h);
        return e;
    }
    *out = h;
    return NULL;
}

static struct hosts *take_current(bool *stale_out)
{
    pthread_mutex_lock(&lock);
    int64_t now = clock_mono_ns();
    struct hosts *h = current;
    *stale_out = !h || now - checked_ns > NS_PER_S;
    if (*stale_out)
        checked_ns = now; /* one fiber looks, the others go on with what there is */
    if (h)
        __atomic_add_fetch(&h->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&lock);
    return h;
}

static struct err *hosts_take(struct hosts **out)
{
    bool stale;
    struct hosts *h = take_current(&stale);
    struct stat st = {0};
    if (!stale) {
        *out = h;
        return NULL;
    }
    (void)stat(path, &st);
    if (h && h->ino == st.st_ino && h->mtime.tv_sec == st.st_mtim.tv_sec &&
        h->mtime.tv_nsec == st.st_mtim.tv_nsec) {
        *out = h;
        return NULL;
    }
    hosts_unref(h);
    struct err *e = hosts_read(&st, out);
    if (e)
        return e;
    pthread_mutex_lock(&lock);
    h = current;
    current = *out;
    pthread_mutex_unlock(&lock);
    hosts_unref(h);
    return NULL;
}

void dns_hosts_forget(void)
{
    pthread_mutex_lock(&lock);
    struct hosts *h = current;
    current = NULL;
    pthread_mutex_unlock(&lock);
    hosts_unref(h);
}

struct err *dns_hosts_path(const char *new_path)
{
    struct str p = new_path ? str_of(new_path) : STR("/etc/hosts");
    if (p.len >= sizeof(path))
        return err_errno(ENAMETOOLONG, "hosts file %s", new_path);
    str_copy(path, sizeof(path), p);
    dns_hosts_forget();
    return NULL;
}

struct err *dns_hosts_file(struct arena *a, const char *name, struct addr **out, size_t *n_out)
{
    struct hosts *h;
    struct err *e = hosts_take(&h);
    if (e)
        return e;
    struct str wanted = str_of(name);
    if (wanted.len > 0 && wanted.ptr[wanted.len - 1] == '.')
        wanted.len--;
    struct host_addr *first = hmap_get(&h->by_name, arena_lower(a, wanted));
    size_t n = 0;
    for (struct host_addr *it = first; it; it = it->next)
        n++;
    struct addr *list = arena_zalloc(a, (n ? n : 1) * sizeof(*list));
    n = 0;
    for (struct host_addr *it = first; it; it = it->next)
        list[n++] = it->addr;
    hosts_unref(h);
    *out = list;
    *n_out = n;
    return NULL;
}

struct err *dns_hosts_name(struct arena *a, const struct addr *addr, const char **out)
{
    struct hosts *h;
    struct err *e = hosts_take(&h);
    if (e)
        return e;
    char printed[ADDR_TEXT_MAX];
    const char *name = hmap_get(&h->by_addr, str_of(addr_text(addr, printed)));
    *out = name ? arena_cstr(a, str_of(name)) : NULL;
    hosts_unref(h);
    return NULL;
}
