/* postconf(1): look at the configuration, and edit it. */
#include "core/cmd/postconf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/cmd/cmd.h"
#include "io/base/mem.h"

static const char usage[] =
    "usage: postconf [-c config_dir] [-d] [-n] [-x] [-f] [-h] [-H] [-o name=value] [name...]\n"
    "       postconf [-c config_dir] [-e] name=value...\n"
    "       postconf [-c config_dir] -# name... | -X name...\n"
    "       postconf [-c config_dir] -M|-F|-P [-f] [-o name=value] [-x] [service/type[/name]...]\n"
    "       postconf [-c config_dir] -Me|-MX|-M# service/type[=entry]...\n"
    "       postconf [-c config_dir] -F|-P service/type/name=value... | -PX service/type/name...\n"
    "       postconf -m | -l | -a | -A\n"
    "       postconf -C inert [-n]    parameters of Postfix that this version does not act on\n"
    "\n"
    "  -d  defaults           -n  only what main.cf sets     -p  main.cf (default)\n"
    "  -e  edit               -#  comment out                -X  remove\n"
    "  -x  expand $name       -f  fold long lines            -h  no names    -H  no values\n"
    "  -M  master.cf entries  -F  their fields               -P  their -o settings\n"
    "  -m  table types        -l  lock types                 -a -A  SASL types\n";

PRINTF(2, 0)
static void say(const char *level, const char *fmt, va_list ap)
{
    fflush(stdout);
    fprintf(stderr, "postconf: %s: ", level);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

void postconf_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("warning", fmt, ap);
    va_end(ap);
}

int postconf_fatal(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("fatal", fmt, ap);
    va_end(ap);
    return 1;
}

static int print_list(const char *const *list)
{
    for (; *list; list++)
        puts(*list);
    return 0;
}

/* Options that print something and end. */
static int print_kinds(int option)
{
    static const char *const locks[] = {"flock", "fcntl", "dotlock", NULL};
    static const char *const none[] = {NULL};
    if (option == 'm')
        return print_list(map_type_names());
    return print_list(option == 'l' ? locks : none);
}

static int bad_pair(char a, char b)
{
    return postconf_fatal("specify one of -%c -%c", a, b);
}

static int set_act(struct postconf *p, enum postconf_act act, char letter)
{
    static const char letters[] = {'\0', 'e', 'X', '#'};
    if (p->act != ACT_PRINT && p->act != act)
        return bad_pair(letters[p->act], letter);
    p->act = act;
    return 0;
}

static int set_of(struct postconf *p, enum postconf_of of, char letter)
{
    static const char letters[] = {'p', 'M', 'F', 'P'};
    if (p->of != OF_MAIN && p->of != of)
        return bad_pair(letters[p->of], letter);
    p->of = of;
    return 0;
}

/* 0 = go on, 1 = wrong, -1 = done. */
static int option(struct postconf *p, int letter)
{
    switch (letter) {
    case 'c':
        p->config_dir = optarg;
        p->dir_given = true;
        return 0;
    case 'd': p->defaults = true; return 0;
    case 'n': p->set_only = true; return 0;
    case 'x': p->expand = true; return 0;
    case 'f': p->fold = true; return 0;
    case 'h': p->no_name = true; return 0;
    case 'H': p->no_value = true; return 0;
    case 'p': case 'v': return 0;
    case 'C': p->class = optarg; return 0;
    case 'o': p->overrides[p->override_count++] = optarg; return 0;
    case 'e': return set_act(p, ACT_EDIT, 'e');
    case 'X': return set_act(p, ACT_EXCLUDE, 'X');
    case '#': return set_act(p, ACT_COMMENT, '#');
    case 'M': return set_of(p, OF_SERVICES, 'M');
    case 'F': return set_of(p, OF_FIELDS, 'F');
    case 'P': return set_of(p, OF_SERVICE_PARAMS, 'P');
    case 'm': case 'l': case 'a': case 'A': print_kinds(letter); return -1;
    default: return postconf_fatal("usage: postconf [-aAdefFhHlmMnpPvxX#] [-c config_dir] "
                                   "[-C param_class] [-o name=value] [name...]");
    }
}

static int check_options(struct postconf *p)
{
    static const char of_letter[] = {'p', 'M', 'F', 'P'};
    static const char act_letter[] = {'\0', 'e', 'X', '#'};
    if (p->defaults && p->set_only)
        return bad_pair('d', 'n');
    if (p->of != OF_MAIN && (p->defaults || p->set_only))
        return postconf_fatal("with option -%c, do not specify -%c", of_letter[p->of],
                              p->defaults ? 'd' : 'n');
    if (p->act == ACT_PRINT) /* "name=value" edits, as -e does */
        for (size_t i = 0; i < p->arg_count; i++)
            if (strchr(p->args[i], '='))
                p->act = ACT_EDIT;
    if (p->act == ACT_PRINT)
        return 0;
    if (p->of == OF_FIELDS && p->act != ACT_EDIT)
        return postconf_fatal("with option -F, do not specify -%c", act_letter[p->act]);
    if (p->of == OF_SERVICE_PARAMS && p->act == ACT_COMMENT)
        return postconf_fatal("with option -P, do not specify -#");
    if (p->arg_count == 0)
        return p->act == ACT_EDIT ? postconf_fatal("-e requires name=value argument")
                                  : postconf_fatal("missing service argument");
    for (size_t i = 0; i < p->arg_count; i++) {
        if (strchr(p->args[i], '\n'))
            return postconf_fatal("-e, -X, or -# accepts no multi-line input");
        if (str_trim(str_of(p->args[i])).len > 0 && str_trim(str_of(p->args[i])).ptr[0] == '#')
            return postconf_fatal("-e, -X, or -# accepts no comment input");
        if (p->act != ACT_EDIT && strchr(p->args[i], '='))
            return bad_pair('e', act_letter[p->act]);
    }
    return 0;
}

static int run_print(struct postconf *p)
{
    struct err *e = config_load_text(p->config_dir, p->overrides, p->defaults, &p->s);
    int status = 1;
    if (e) {
        postconf_warn_notes(&p->s->priv->notes, 0, "");
        status = postconf_fatal("%s", e->text);
        snapshot_unref(p->s);
        return status;
    }
    switch (p->of) {
    case OF_MAIN: status = postconf_show_main(p); break;
    case OF_SERVICES: status = postconf_show_services(p); break;
    case OF_FIELDS: status = postconf_show_fields(p); break;
    case OF_SERVICE_PARAMS: status = postconf_show_service_params(p); break;
    }
    snapshot_unref(p->s);
    return status;
}

static int run(struct postconf *p)
{
    int status = check_options(p);
    if (status != 0)
        return status;
    if (p->act == ACT_PRINT)
        return run_print(p);
    return p->of == OF_MAIN ? postconf_edit_main(p) : postconf_edit_services(p);
}

int cmd_postconf(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    struct postconf p = {.config_dir = config_dir_choose(NULL), .arena = arena_new(0, 0)};
    p.dir_given = getenv("MAIL_CONFIG") != NULL;
    p.overrides = arena_zalloc(p.arena, ((size_t)argc + 1) * sizeof(*p.overrides));
    int letter, status = 0;
    while (status == 0 && (letter = getopt(argc, argv, "+aAc:C:deEfFhHlmMno:pPvxX#")) != -1)
        status = option(&p, letter);
    if (status == 0) {
        p.args = argv + optind;
        p.arg_count = (size_t)(argc - optind);
        status = run(&p);
    }
    arena_free(p.arena);
    if (fflush(stdout) != 0 && status <= 0)
        status = postconf_fatal("write error: %s", strerror(errno));
    return status < 0 ? 0 : status;
}
