/* snapshot: one configuration, whole and checked, immutable and refcounted. A reload builds a new one
 * and publishes it; sessions finish on the one they began with (design §6). Any thread. */
#ifndef CORE_CONFIG_SNAPSHOT_H
#define CORE_CONFIG_SNAPSHOT_H

#include "core/config/params.h"
#include "io/net/addr.h"
#include "maps/map.h"
#include "queue/sched/sched.h"

/* Opened tables of one set of parameters (lists.def). */
#define MAPS(name, flags) struct map_list name;
#define MATCH(name, kind) struct match_list *name;
struct lists {
#include "core/config/lists.def"
    int lists_end;
};
#undef MAPS
#undef MATCH

/* A line of master.cf (master(5)). */
struct service {
    const struct snapshot *snapshot;
    const char *name;     /* "smtp", "127.0.0.1:2525", "submission" */
    const char *type;     /* inet unix fifo pass unix-dgram */
    bool is_private, unprivileged, chroot;
    int64_t wakeup_s;
    bool wakeup_if_used;
    int64_t maxproc;      /* 0 = no limit; default_process_limit is filled in */
    bool maxproc_default; /* it was: "-" */
    const char *command;  /* "smtpd" */
    const char *const *args; /* after the command, -o taken out; NULL-terminated */
    const char *log_tag;  /* "smtpd", or "postfix/submission/smtpd" when syslog_name is overridden */
    const struct params *params; /* main.cf with this line's -o */
    const struct lists *lists;
    const char *file;     /* where it stands */
    int line;
    struct service_private *priv;
};

struct snapshot {
    const char *config_dir; /* absolute */
    const struct params *params; /* main.cf alone */
    const struct lists *lists;
    const struct service *services; /* in the order of master.cf */
    size_t service_count;
    struct own_addr *own_addrs; /* interface addresses as inet_interfaces and proxy_interfaces say:
                                   whose mail [a.b.c.d] is ours, and which MX is ourselves */
    size_t own_addr_count;
    struct config_private *priv;
};

/* Read and check main.cf and master.cf. ERR_CONFIG: text has file and line, in Postfix's words.
 * Warnings (unused names, parameters known but not acted on) go to the log with service "postfix".
 * extra: "name=value" strings that override main.cf (postconf -o), NULL-terminated, or NULL. */
struct err *config_load(const char *config_dir, const char *const *extra, struct snapshot **out) MUST_USE;
/* main.cf only, no tables opened: for commands. */
struct err *config_load_main(const char *config_dir, struct snapshot **out) MUST_USE;
/* -c DIR, else $MAIL_CONFIG, else /etc/postfix. */
const char *config_dir_choose(const char *dash_c);

void config_publish(struct snapshot *s); /* takes over the caller's reference */
struct snapshot *config_current(void);   /* a new reference */
struct snapshot *snapshot_ref(const struct snapshot *s);
void snapshot_unref(const struct snapshot *s);

/* By name: dynamic ones too (TRANSPORT_destination_recipient_limit). Value of main.cf, expanded;
 * NULL = not set there and no default. */
const char *config_value(const struct snapshot *s, const char *name);
/* The same as svc sees it: with the -o of its line, $service_name and $process_name. Restriction
 * classes are asked for with this. */
const char *service_value(const struct service *svc, const char *name);
/* NULL = none. type NULL = any of unix, inet, fifo, pass. */
const struct service *config_service(const struct snapshot *s, const char *name, const char *type);
/* Scheduler options of this snapshot: every unix service of master.cf that is a delivery agent, with its
 * TRANSPORT_destination_* values. Memory of the snapshot. `exists(command)` tells which commands this
 * program has; the others are marked unavailable with the reason. */
void config_sched_options(const struct snapshot *s, bool (*exists)(const char *command),
                          struct sched_options *out);

#endif
