/* core/config: a main.cf. Each setting and each parameter that refers to one is evaluated. */
#include "fuzz.h"
#include "core/config/eval.h"

static const char *const asked[] = {"myorigin", "relayhost", "smtpd_timeout", "mynetworks", "mydestination"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(0, 0), *scratch = arena_new(0, 0);
    struct dict main_cf = {0};
    struct notes notes = {.arena = a};
    struct err *e = dict_read_main(&main_cf, a, fuzz_file(fuzz_str(data, size)), &notes);
    CHECK(!e || e->kind == ERR_CONFIG);
    const struct scope scope = {.main = &main_cf, .service_name = "smtp", .process_name = "smtpd", .mark = true};
    for (size_t i = 0; !e && i < main_cf.count && i < 64; i++) {
        struct str out, name = str_of(main_cf.list[i]->name);
        CHECK(dict_find(&main_cf, name) == main_cf.list[i]);
        struct err *bad = eval_text(&scope, scratch, main_cf.list[i]->raw, &out);
        if (!bad)
            bad = eval_name(&scope, scratch, name, &out);
        CHECK(!bad || bad->kind == ERR_CONFIG);
        arena_reset(scratch);
    }
    for (size_t i = 0; !e && i < sizeof asked / sizeof *asked; i++) {
        struct str out;
        struct err *bad = eval_name(&scope, scratch, str_of(asked[i]), &out);
        CHECK(!bad || bad->kind == ERR_CONFIG);
    }
    dict_fini(&main_cf);
    notes_fini(&notes);
    arena_free(scratch);
    arena_free(a);
    return 0;
}
