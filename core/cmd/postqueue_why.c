/* postqueue --why, --suspend, --resume, --suspended: what Postfix has no words for. */
#include <stdio.h>

#include "core/cmd/access.h"
#include "core/cmd/postqueue.h"
#include "core/cmd/tell.h"

struct asking {
    const struct snapshot *snapshot;
    struct str what;
    bool json, on;
};

static void print(void *ctx, struct str piece)
{
    (void)ctx;
    fwrite(piece.ptr, 1, piece.len, stdout);
}

static int trouble(const struct err *e)
{
    return tell_fatal(POSTQUEUE_FAILED, "%s", e->text);
}

static int flushed(int rc)
{
    if (fflush(stdout) != 0 && rc == 0)
        rc = tell_fatal(POSTQUEUE_FAILED, "write error: %s", strerror(errno));
    return rc ? POSTQUEUE_FAILED : 0;
}

static int why(struct access *a, void *ctx)
{
    const struct asking *k = ctx;
    uint64_t count = 0;
    struct err *e = access_channel(a);
    if (a->queue)
        tell_warning("the mail system is down: nothing is being delivered, this is what the queue says");
    wire_begin(&a->out, WIRE_WHY);
    buf_add_lstr(&a->out, k->what);
    buf_add_u8(&a->out, k->json);
    if (!e)
        e = access_ask(a, print, NULL, &count, NULL);
    return e ? trouble(e) : 0;
}

int postqueue_why(const struct snapshot *s, const char *what, bool json)
{
    struct asking k = {.snapshot = s, .what = str_of(what), .json = json};
    if (!what[0])
        return tell_fatal(POSTQUEUE_FAILED, "--why needs a queue id, a domain or a destination");
    return flushed(access_run(s, "postqueue", true, why, &k));
}

static int suspended(struct access *a, void *ctx)
{
    const struct asking *k = ctx;
    struct err *e = access_channel(a);
    wire_begin(&a->out, WIRE_SUSPENDED);
    buf_add_u8(&a->out, k->json);
    if (!e)
        e = access_ask(a, print, NULL, NULL, NULL);
    return e ? trouble(e) : 0;
}

int postqueue_suspended(const struct snapshot *s, bool json)
{
    struct asking k = {.snapshot = s, .json = json};
    return flushed(access_run(s, "postqueue", true, suspended, &k));
}

static int suspend(struct access *a, void *ctx)
{
    const struct asking *k = ctx;
    struct str name = STR("");
    uint64_t count = 0;
    struct err *e = access_channel(a);
    bool all = !k->on && str_eq(k->what, STR("ALL"));
    wire_begin(&a->out, k->on ? WIRE_SUSPEND : WIRE_RESUME);
    buf_add_lstr(&a->out, all ? STR("") : k->what);
    if (!e)
        e = access_ask(a, print, NULL, &count, &name);
    if (e)
        return trouble(e);
    if (k->on)
        tell_info("%.*s: %s", STR_ARG(name), count ? "suspended" : "was suspended already");
    else if (all)
        tell_info("Resumed: %llu", (unsigned long long)count);
    else if (count)
        tell_info("%.*s: resumed", STR_ARG(k->what));
    else
        return tell_fatal(POSTQUEUE_FAILED, "%.*s: is not suspended", STR_ARG(k->what));
    return 0;
}

int postqueue_suspend(const struct snapshot *s, const char *what, bool on)
{
    struct asking k = {.snapshot = s, .what = str_of(what), .on = on};
    if (!what[0])
        return tell_fatal(POSTQUEUE_FAILED, "%s needs a domain, a destination or a transport",
                          on ? "--suspend" : "--resume");
    if (!command_privileged(s))
        return tell_fatal(POSTQUEUE_FAILED, "use of this command is reserved for the superuser");
    return flushed(access_run(s, "postqueue", true, suspend, &k));
}
