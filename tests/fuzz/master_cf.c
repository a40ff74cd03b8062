/* core/config: a master.cf, its entries and their -o options. */
#include "fuzz.h"
#include "core/config/master_cf.h"

static void entry(struct arena *a, const struct master_entry *m)
{
    struct dict over = {0};
    const char *const *args = NULL;
    struct err *e = master_options(m, a, &over, &args);
    CHECK(!e || e->kind == ERR_CONFIG);
    size_t count = 0;
    while (!e && args[count])
        count++;
    CHECK(e || count + over.count <= m->arg_count);
    struct service svc;
    master_service(m, a, 100, &svc);
    CHECK(svc.name && svc.command && svc.wakeup_s >= 0 && svc.maxproc >= 0);
    dict_fini(&over);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(0, 0);
    struct notes notes = {.arena = a};
    struct master_entry *list = NULL;
    size_t count = 0;
    struct err *e = master_read(a, fuzz_file(fuzz_str(data, size)), &notes, &list, &count);
    CHECK(!e || e->kind == ERR_CONFIG || e->kind == ERR_LIMIT);
    for (size_t i = 0; !e && i < count; i++) {
        CHECK(master_same(&list[i], &list[i]));
        for (int f = 0; f < MASTER_FIELDS; f++)
            CHECK(list[i].field[f].len > 0);
        entry(a, &list[i]);
    }
    notes_fini(&notes);
    arena_free(a);
    return 0;
}
