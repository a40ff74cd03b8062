/* tell: what a command says: on stderr as "name: text", and in the mail log, which is opened at the first word. One command
 * a process, so the name is kept here. The main thread or its fibers. */
#ifndef CORE_CMD_TELL_H
#define CORE_CMD_TELL_H

#include "core/config/snapshot.h"

/* name: argv[0] without its folder, for stderr; service: for the log ("mailq" logs as "sendmail"). */
void tell_begin(const char *name, const char *service);
/* From here on there is a log to write to. s must stay until tell_end. */
void tell_log(const struct snapshot *s);
void tell_end(void); /* the log is written out */

void tell_info(const char *fmt, ...) PRINTF(1, 2);
void tell_warning(const char *fmt, ...) PRINTF(1, 2);
/* Returns status, so that `return tell_fatal(69, ...)` reads well. */
int tell_fatal(int status, const char *fmt, ...) PRINTF(2, 3);

/* All mail is not known yet: on a terminal how far that has come, else one line on stderr. 100: it is. */
void tell_progress(int percent);

/* argv[0] without its folder; it is put there too, for getopt's messages. */
const char *command_name(char **argv);
/* main.cf, and its queue_directory is there; NULL after telling what is wrong. dash_c NULL = MAIL_CONFIG or the
 * default. */
struct snapshot *command_config(const char *dash_c);
/* May this process do what is reserved for the superuser? Also true for the owner of a private instance. */
bool command_privileged(const struct snapshot *s);

#endif
