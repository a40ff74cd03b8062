/* io/base cfline, expand, param: a configuration file's text. Reading it as a file and as text gives the same lines; its
 * settings are expanded among each other, loops and all. */
#include "fuzz.h"
#include "io/base/cfline.h"
#include "io/base/expand.h"
#include "io/base/param.h"

enum { SETTINGS_MAX = 64 };
static struct {
    struct str name, value;
} settings[SETTINGS_MAX];
static size_t count;

static bool lookup(void *ctx, struct str name, struct str *value_out)
{
    (void)ctx;
    for (size_t i = 0; i < count; i++)
        if (str_eq(settings[i].name, name)) {
            *value_out = settings[i].value;
            return true;
        }
    return false;
}

static void params(struct str text)
{
    int64_t n = -1;
    bool yes;
    if (!param_int("x", text, &n))
        CHECK(n >= INT32_MIN && n <= INT32_MAX);
    struct err *e = param_size("x", text, &n);
    if (!e)
        e = param_range("x", PARAM_SIZE, n, "1", "100");
    CHECK(e || (n >= 1 && n <= 100));
    if (!param_time("x", text, 'h', &n))
        CHECK(n >= 0 && n <= INT32_MAX);
    e = param_bool("x", text, &yes);
    CHECK(!e || e->kind == ERR_CONFIG);
}

/* Both ways at once; false at the end of both. */
static bool next(struct cfline *text, struct cfline *file, struct str *out)
{
    struct str other;
    int number, other_number;
    struct err *e = cfline_next(text, out, &number);
    CHECK(!e);
    e = cfline_next(file, &other, &other_number);
    CHECK(!e);
    CHECK((out->ptr == NULL) == (other.ptr == NULL));
    if (!out->ptr)
        return false;
    CHECK(str_eq(*out, other) && number == other_number);
    CHECK(out->len == 0 || !str_is_space(out->ptr[out->len - 1]));
    return true;
}

static void read_settings(struct arena *a, struct str in)
{
    struct cfline text, file;
    FILE *fp = fopen(fuzz_file(in), "re");
    CHECK(fp);
    cfline_init_text(&text, in);
    cfline_init_file(&file, fp);
    count = 0;
    struct str line, name, value;
    while (next(&text, &file, &line)) {
        if (cfline_stray(line) || cfline_split(line, &name, &value))
            continue;
        CHECK(name.len > 0 && fuzz_inside(name, line) && fuzz_inside(value, line));
        if (count == SETTINGS_MAX)
            continue;
        settings[count].name = arena_str(a, name);
        settings[count++].value = arena_str(a, value);
    }
    cfline_fini(&text);
    cfline_fini(&file);
    fclose(fp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(0, 0);
    read_settings(a, fuzz_str(data, size));
    for (size_t i = 0; i < count; i++) {
        struct arena *scratch = arena_new(0, 0);
        struct str out = settings[i].value;
        struct err *e = expand_text(scratch, settings[i].value, &(struct expand){.lookup = lookup}, &out);
        CHECK(e || out.len <= EXPAND_BYTES_MAX);
        params(out);
        arena_free(scratch);
    }
    arena_free(a);
    return 0;
}
