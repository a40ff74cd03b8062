/* driver: runs a fuzz target without libFuzzer.
 *
 *   fuzz.NAME [-runs=N] [-seed=S] [-dict=FILE] [-artifact_prefix=DIR/] FOLDER    each file of FOLDER, then N mutations of them
 *   fuzz.NAME FILE                                                               this input, in this process (for gdb)
 *
 * The work is done by a child; the input it is at lies in memory shared with the parent, which saves it when the child ends
 * badly or takes too long. The same seed gives the same inputs: equal options mean equal runs. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "io/base/buf.h"

enum { INPUT_MAX = 8192, LIST_MAX = 512, SLOW_S = 60, RUNS_A_WATCH = 64 };

struct shared {
    size_t number; /* of the input, files first; counts on to `total` */
    size_t len;
    char bytes[INPUT_MAX];
};

struct list {
    struct str at[LIST_MAX];
    size_t count;
};

static struct shared *now;
static struct list corpus, words;

static void list_add(struct list *l, const struct buf *b)
{
    CHECK(l->count < LIST_MAX);
    char *copy = malloc(b->len + 1);
    CHECK(copy);
    if (b->len)
        memcpy(copy, b->ptr, b->len);
    l->at[l->count++] = str_make(copy, b->len);
}

static void list_fini(struct list *l)
{
    while (l->count > 0)
        free((char *)l->at[--l->count].ptr);
}

static bool read_all(const char *path, struct buf *out)
{
    FILE *fp = fopen(path, "re");
    if (!fp)
        return false;
    int c;
    while ((c = getc(fp)) != EOF && out->len < INPUT_MAX)
        buf_add_char(out, (char)c);
    fclose(fp);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In order of names, so that a run does not depend on the folder. */
static bool read_folder(const char *path)
{
    static char *names[LIST_MAX];
    size_t count = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    for (struct dirent *d; (d = readdir(dir)) != NULL && count < LIST_MAX;)
        if (d->d_name[0] != '.')
            names[count++] = strdup(d->d_name);
    closedir(dir);
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        struct buf name = {0}, bytes = {0};
        buf_printf(&name, "%s/%s", path, names[i]);
        if (read_all(name.ptr, &bytes))
            list_add(&corpus, &bytes);
        buf_fini(&name);
        buf_fini(&bytes);
        free(names[i]);
    }
    return true;
}

/* libFuzzer's dictionaries: "word" a line, \xNN \\ \" in it. */
static bool read_words(const char *path)
{
    struct buf b = {0}, word = {0};
    if (!read_all(path, &b))
        return false;
    struct str rest = buf_str(&b), line;
    while (fuzz_line(&rest, &line)) {
        ssize_t from = str_index(line, '"'), to = str_rindex(line, '"');
        if (from < 0 || to <= from || line.ptr[0] == '#')
            continue;
        buf_reset(&word);
        for (size_t i = (size_t)from + 1; i < (size_t)to; i++) {
            if (line.ptr[i] == '\\' && i + 3 < (size_t)to + 1 && line.ptr[i + 1] == 'x') {
                char hex[3] = {line.ptr[i + 2], line.ptr[i + 3], 0};
                buf_add_char(&word, (char)strtol(hex, NULL, 16));
                i += 3;
            } else {
                i += line.ptr[i] == '\\' && i + 1 < (size_t)to;
                buf_add_char(&word, line.ptr[i]);
            }
        }
        list_add(&words, &word);
    }
    buf_fini(&b);
    buf_fini(&word);
    return true;
}

/* Bytes [at, at + gone) of b become s. */
static void replace(struct buf *b, size_t at, size_t gone, struct str s)
{
    if (b->len - gone + s.len > INPUT_MAX)
        return;
    struct buf out = {0};
    buf_add(&out, b->ptr, at);
    buf_add_str(&out, s);
    buf_add(&out, b->ptr + at + gone, b->len - at - gone);
    buf_fini(b);
    *b = out;
}

static struct str some_of(struct fuzz_rand *r, struct str s)
{
    size_t at = fuzz_below(r, s.len + 1);
    return str_head(str_from(s, at), fuzz_below(r, 1 + (fuzz_below(r, 4) ? 16 : s.len)));
}

static void mutate_once(struct fuzz_rand *r, struct buf *b)
{
    static const char odd[] = "\0\r\n\t \"\\<>()[]{}@:;,.$%=+-!?#/09aZ\x7f\x80\xc3\xff";
    size_t at = fuzz_below(r, b->len + 1);
    size_t left = b->len - at, span = left ? 1 + fuzz_below(r, left < 16 ? left : 16) : 0;
    char c = odd[fuzz_below(r, sizeof odd - 1)];
    char again[300];
    switch (fuzz_below(r, words.count ? 9 : 8)) {
    case 0:
        if (left)
            b->ptr[at] = (char)(b->ptr[at] ^ 1 << fuzz_below(r, 8));
        break;
    case 1:
        replace(b, at, span ? 1 : 0, str_make(&c, 1));
        break;
    case 2:
        replace(b, at, 0, str_make(&c, 1));
        break;
    case 3:
        replace(b, at, span, STR(""));
        break;
    case 4: /* again, elsewhere */
        replace(b, at, 0, some_of(r, corpus.at[fuzz_below(r, corpus.count)]));
        break;
    case 5: /* the rest is another's */
        replace(b, at, left, some_of(r, corpus.at[fuzz_below(r, corpus.count)]));
        break;
    case 6: /* many times */
        memset(again, left && fuzz_below(r, 2) ? b->ptr[at] : c, sizeof again);
        replace(b, at, 0, str_make(again, fuzz_below(r, sizeof again)));
        break;
    case 7:
        if (left)
            b->ptr[at] = (char)fuzz_next(r);
        break;
    default:
        replace(b, at, fuzz_below(r, 2) ? span : 0, words.at[fuzz_below(r, words.count)]);
    }
}

static void run(struct str input, size_t number)
{
    now->number = number;
    now->len = input.len;
    if (input.len)
        memcpy(now->bytes, input.ptr, input.len);
    /* A copy of just this size: the sanitizer sees a read past its end. */
    uint8_t *bytes = malloc(input.len ? input.len : 1);
    CHECK(bytes);
    if (input.len)
        memcpy(bytes, input.ptr, input.len);
    LLVMFuzzerTestOneInput(bytes, input.len);
    free(bytes);
}

static void run_all(size_t runs, uint64_t seed)
{
    size_t files = corpus.count;
    for (size_t i = 0; i < files; i++)
        run(corpus.at[i], i);
    for (size_t i = 0; i < runs; i++) {
        if (i % RUNS_A_WATCH == 0)
            alarm(SLOW_S);
        struct fuzz_rand r = {seed * UINT64_C(1000000007) + i};
        struct str from = corpus.at[fuzz_below(&r, files)];
        struct buf b = {0};
        buf_add_str(&b, from);
        for (size_t n = 1 + fuzz_below(&r, 8); n > 0; n--)
            mutate_once(&r, &b);
        run(buf_str(&b), files + i);
        buf_fini(&b);
    }
    alarm(0);
    now->number = files + runs;
}

static void save(const char *program, const char *prefix, uint64_t seed)
{
    char path[512];
    const char *name = strrchr(program, '/');
    snprintf(path, sizeof path, "%s%s-%llu-%zu", prefix, name ? name + 1 : program,
             (unsigned long long)seed, now->number);
    FILE *fp = fopen(path, "we");
    if (!fp || fwrite(now->bytes, 1, now->len, fp) != now->len || fclose(fp) != 0)
        perror(path);
    fprintf(stderr, "seed %llu, input %zu, saved; again: %s %s\n", (unsigned long long)seed, now->number,
            program, path);
}

static int watch(const char *program, const char *prefix, size_t runs, uint64_t seed)
{
    now = mmap(NULL, sizeof *now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(now != MAP_FAILED);
    size_t total = corpus.count + runs;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        run_all(runs, seed);
        list_fini(&corpus);
        list_fini(&words);
        exit(0); /* the leak check sees all of it */
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (status == 0) {
        printf("%zu files and %zu mutations, seed %llu\n", corpus.count, runs, (unsigned long long)seed);
        return 0;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        fprintf(stderr, "%d inputs took more than %d s\n", RUNS_A_WATCH, SLOW_S);
    if (now->number < total)
        save(program, prefix, seed);
    else
        fprintf(stderr, "seed %llu: all inputs went through, then the program ended badly\n",
                (unsigned long long)seed);
    return 1;
}

int main(int argc, char **argv)
{
    size_t runs = 0;
    uint64_t seed = 1;
    const char *prefix = "", *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-runs=", 6) == 0)
            runs = strtoull(argv[i] + 6, NULL, 10);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            seed = strtoull(argv[i] + 6, NULL, 10);
        else if (strncmp(argv[i], "-artifact_prefix=", 17) == 0)
            prefix = argv[i] + 17;
        else if (strncmp(argv[i], "-dict=", 6) == 0 && read_words(argv[i] + 6))
            continue;
        else if (argv[i][0] != '-' && !path)
            path = argv[i];
        else
            return fprintf(stderr, "%s: bad argument %s\n", argv[0], argv[i]), 2;
    }
    struct buf bytes = {0};
    int result = 2;
    if (path && read_folder(path) && corpus.count > 0) {
        result = watch(argv[0], prefix, runs, seed);
    } else if (path && read_all(path, &bytes)) {
        static struct shared alone;
        now = &alone;
        run(buf_str(&bytes), 0);
        result = 0;
    } else {
        fprintf(stderr, "%s: needs a folder with files in it, or a file\n", argv[0]);
    }
    buf_fini(&bytes);
    list_fini(&corpus);
    list_fini(&words);
    return result;
}
