/* sendmail(1): Sendmail's command line. Which mode, and with which options; the modes themselves are in post.c,
 * dialogue.c, postqueue.c, postfix.c and newaliases.c. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/cmd/cmd.h"
#include "core/cmd/post.h"
#include "core/cmd/postqueue.h"
#include "core/cmd/tell.h"
#include "queue/envelope.h"

static const char help[] =
    "usage: sendmail [option...] [recipient...]      reads a message up to its end or a line with only a dot\n"
    "       mailq | newaliases\n"
    "\n"
    "  -t             recipients also from To:, Cc: and Bcc:\n"
    "  -f, -r sender  envelope sender           -F name     full name for a missing From:\n"
    "  -i, -oi        a line with only a dot is content\n"
    "  -N dsn         never, or some of success,failure,delay      -R full|hdrs    -V envelope_id\n"
    "  -B 8BITMIME|7BIT                         -G          relayed: leave addresses as they are\n"
    "  -bp            list the queue (mailq)    -bs         SMTP dialogue on standard input and output\n"
    "  -q, -qIid, -qRsite   try deferred mail   -bi, -I     build the alias tables (newaliases)\n"
    "  -bd, -bl       start the mail system     -C config   main.cf or its directory\n"
    "\n"
    "Not in this version: -bv, -XV, and the report by mail that -v asks for. Accepted and ignored: -A -bh -bH -c -e\n"
    "-h -L -m -O -o... -p -qinterval -U -x. Exit status 0 or 75 (try again later).\n";

#define OPTIONS "+A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:q:r:tvx"

enum mode { MODE_POST, MODE_LIST, MODE_FLUSH, MODE_DIALOGUE, MODE_DAEMON, MODE_ALIASES, MODE_NOTHING };

struct call {
    enum mode mode;
    struct post post;
    const char *config;
    const char *flush_id, *flush_site;
    const char *aliases; /* -oA */
    bool report;         /* -v */
    int status;          /* of a fatal option; 0 = go on */
};

/* --- options */

static uint8_t notify_of(const char *text)
{
    static const struct {
        struct str word;
        uint8_t bit;
    } words[] = {{STR("never"), NOTIFY_NEVER}, {STR("success"), NOTIFY_SUCCESS},
                 {STR("failure"), NOTIFY_FAILURE}, {STR("delay"), NOTIFY_DELAY}};
    struct str rest = str_of(text), word;
    uint8_t mask = 0;
    while (str_token(&rest, ", \t", &word)) {
        uint8_t bit = 0;
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            if (str_eq_nocase(word, words[i].word))
                bit = words[i].bit;
        if (bit == 0) {
            tell_warning("unknown DSN NOTIFY command value \"%.*s\" in \"%s\"", STR_ARG(word), text);
            mask = 0;
            break;
        }
        mask |= bit;
    }
    if (mask == 0 || ((mask & NOTIFY_NEVER) && mask != NOTIFY_NEVER)) {
        tell_warning("bad -N option value -- ignored");
        return 0;
    }
    return mask;
}

static uint8_t ret_of(const char *text)
{
    if (str_eq_nocase(str_of(text), STR("full")))
        return RET_FULL;
    if (str_eq_nocase(str_of(text), STR("hdrs")))
        return RET_HDRS;
    tell_warning("bad -R option value -- ignored");
    return RET_NONE;
}

/* RFC 3461 §4.4: printable ASCII, at most 100 characters. */
static const char *envid_of(const char *text)
{
    size_t n = 0;
    while (text[n] >= ' ' && text[n] < 127)
        n++;
    if (n > 0 && n <= 100 && text[n] == '\0')
        return text;
    tell_warning("bad syntax in -V option value -- ignored");
    return NULL;
}

static void option_b(struct call *c, const char *arg)
{
    switch (*arg) {
    case 'm':
        c->mode = MODE_POST;
        break;
    case 'p':
        c->mode = MODE_LIST;
        break;
    case 's':
        c->mode = MODE_DIALOGUE;
        break;
    case 'd':
    case 'l':
        c->mode = MODE_DAEMON;
        break;
    case 'i':
        c->mode = MODE_ALIASES;
        break;
    case 'h':
    case 'H':
        c->mode = MODE_NOTHING;
        break;
    case 'v':
        c->status = tell_fatal(POST_FAILED, "-bv is not supported in this version: no address verification report");
        break;
    default:
        c->status = tell_fatal(POST_FAILED, "unsupported: -b%c", *arg);
    }
}

static void option_q(struct call *c, const char *arg)
{
    if (str_is_digit(*arg)) {
        if (c->mode == MODE_POST)
            c->mode = MODE_NOTHING;
    } else if (*arg == 'R') {
        c->mode = MODE_FLUSH;
        c->flush_site = arg + 1;
    } else if (*arg == 'I') {
        c->mode = MODE_FLUSH;
        c->flush_id = arg + 1;
    } else {
        c->status = tell_fatal(POST_FAILED, "-q%c is not implemented", *arg);
    }
}

static void option_x(struct call *c, const char *arg)
{
    if (*arg == 'V')
        c->status = tell_fatal(POST_FAILED, "-XV is not supported in this version: no VERP");
    else
        c->status = tell_fatal(POST_FAILED, "unsupported: -X%c", *arg);
}

static void option(struct call *c, int opt, const char *arg)
{
    switch (opt) {
    case 'B':
        c->post.eight_bit = str_eq_nocase(str_of(arg), STR("8BITMIME"));
        if (!c->post.eight_bit && !str_eq_nocase(str_of(arg), STR("7BIT")))
            c->status = tell_fatal(POST_FAILED, "-B option needs 8BITMIME or 7BIT");
        break;
    case 'F':
        c->post.full_name = arg;
        break;
    case 'G':
        c->post.gateway = true;
        break;
    case 'I':
        c->mode = MODE_ALIASES;
        break;
    case 'N':
        c->post.notify = notify_of(arg);
        break;
    case 'R':
        c->post.ret = ret_of(arg);
        break;
    case 'V':
        c->post.envid = envid_of(arg);
        break;
    case 'X':
        option_x(c, arg);
        break;
    case 'b':
        option_b(c, arg);
        break;
    case 'f':
    case 'r':
        c->post.sender = arg;
        break;
    case 'i':
        c->post.keep_dots = true;
        break;
    case 'n':
        c->status = tell_fatal(POST_FAILED, "-n option not supported");
        break;
    case 'o':
        if (*arg == 'A' && arg[1])
            c->aliases = arg + 1;
        c->post.keep_dots |= *arg == 'i';
        break;
    case 'q':
        option_q(c, arg);
        break;
    case 't':
        c->post.from_headers = true;
        break;
    case 'v':
        c->report = true;
        break;
    case '?':
        c->status = tell_fatal(POST_FAILED, "usage: sendmail [options]");
        break;
    default: /* recognized for compatibility, and ignored */
        break;
    }
}

/* Once for -C, since messages are logged as main.cf says, and once for the rest: so mistakes are shown twice. A lone -q
 * is an option without an argument. */
static void scan(struct call *c, int argc, char **argv, bool for_config)
{
    optind = 1;
    while (c->status == 0) {
        if (optind < argc && strcmp(argv[optind], "-q") == 0) {
            optind++;
            if (!for_config)
                c->mode = MODE_FLUSH;
            continue;
        }
        int opt = getopt(argc, argv, OPTIONS);
        if (opt < 0)
            break;
        if (for_config && opt == 'C')
            c->config = optarg;
        else if (!for_config)
            option(c, opt, optarg);
    }
}

/* -C names main.cf or the directory it is in. */
static void use_config(const char *name)
{
    struct str s = str_of(name);
    char dir[1024];
    if (str_ends(s, STR("/main.cf")))
        s.len -= sizeof("/main.cf") - 1;
    str_copy(dir, sizeof(dir), s);
    setenv("MAIL_CONFIG", dir, 1);
}

/* --- modes */

static const char *mode_words(enum mode mode)
{
    switch (mode) {
    case MODE_LIST:
        return "display queue mode";
    case MODE_FLUSH:
        return "flush queue mode";
    case MODE_DIALOGUE:
        return "stand-alone mode";
    case MODE_DAEMON:
        return "daemon mode";
    case MODE_ALIASES:
        return "alias initialization mode";
    case MODE_POST:
    case MODE_NOTHING:
        break;
    }
    return NULL;
}

static int flush(const struct call *c, const struct snapshot *s)
{
    tell_begin("postqueue", "postqueue");
    if (c->flush_site)
        return postqueue_flush_site(s, c->flush_site);
    return c->flush_id ? postqueue_flush_id(s, c->flush_id) : postqueue_flush_all(s);
}

static int aliases(const struct call *c)
{
    char name[] = "newaliases", postalias[] = "postalias";
    char *all[] = {name, NULL};
    char *one[] = {postalias, (char *)c->aliases, NULL};
    optind = 0;
    return c->aliases ? cmd_postalias(2, one) : cmd_newaliases(1, all);
}

static int start(void)
{
    char name[] = "postfix", verb[] = "start";
    char *argv[] = {name, verb, NULL};
    optind = 0;
    return cmd_postfix(2, argv);
}

static int run_mode(struct call *c, const struct snapshot *s)
{
    switch (c->mode) {
    case MODE_POST:
        if (c->report)
            tell_warning("-v: this version mails no delivery report; the mail log tells");
        return post_message(s, &c->post);
    case MODE_LIST:
        tell_begin("postqueue", "postqueue");
        return postqueue_list(s, false);
    case MODE_FLUSH:
        return flush(c, s);
    case MODE_DIALOGUE:
        return post_dialogue(s);
    case MODE_DAEMON:
    case MODE_ALIASES:
    case MODE_NOTHING:
        break;
    }
    return 0;
}

static int with_config(struct call *c, int argc, char **argv)
{
    struct snapshot *s = command_config(NULL);
    if (!s)
        return POST_FAILED;
    scan(c, argc, argv, false);
    c->post.recipients = argv + optind;
    c->post.recipient_count = optind < argc ? (size_t)(argc - optind) : 0;
    const char *words = mode_words(c->mode);
    int rc = c->status;
    if (rc == 0 && c->mode != MODE_POST && c->post.from_headers)
        rc = tell_fatal(POST_FAILED, "-t can be used only in delivery mode");
    else if (rc == 0 && words && c->post.recipient_count > 0)
        rc = tell_fatal(POST_FAILED, "%s requires no recipient", words);
    else if (rc == 0)
        rc = run_mode(c, s);
    tell_end();
    snapshot_unref(s);
    if (rc == 0 && c->mode == MODE_DAEMON)
        return start();
    return rc == 0 && c->mode == MODE_ALIASES ? aliases(c) : rc;
}

int cmd_sendmail(int argc, char **argv)
{
    const char *name = command_name(argv);
    struct call c = {.mode = strcmp(name, "mailq") == 0 ? MODE_LIST : MODE_POST};
    tell_begin(name, "sendmail");
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout), 0;
    scan(&c, argc, argv, true);
    if (c.config)
        use_config(c.config);
    return with_config(&c, argc, argv);
}
