/* log: maillog lines in Postfix's shape, "<date> <host> <syslog_name>/<service>[pid]: text"
 * (maillog_file(5), syslogd). A line is handed to the logger thread, which writes in batches; a
 * caller never waits: beyond log_options.queue_max lines are dropped and counted, and the count is
 * logged. Before log_start and after log_stop lines go to stderr at once.
 *
 * Any thread. Nothing yields. Texts are cut at LOG_LINE_MAX; bytes outside 32..126 become '?'
 * except valid UTF-8, as in Postfix. */
#ifndef IO_BASE_LOG_H
#define IO_BASE_LOG_H

#include <stdarg.h>
#include "io/base/err.h"

#define LOG_LINE_MAX 2000

enum log_level { LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR, LOG_LEVEL_FATAL, LOG_LEVEL_PANIC };

struct log_options {
    const char *file;        /* maillog_file; "" = syslog; /dev/stdout is fine */
    const char *syslog_name; /* "postfix" */
    const char *host;        /* myhostname, whose first label is shown; NULL = the machine's name */
    int facility;            /* LOG_MAIL of syslog.h */
    bool also_stderr;        /* commands: copy warnings and worse to stderr as "name: text" */
    size_t queue_max;        /* lines waiting; 0 = 65536 */
};

/* Names what follows; NULL = as before. Copies its strings. log_start starts the logger thread. */
struct err *log_start(const struct log_options *options) MUST_USE;
void log_stop(void);   /* writes out what waits */
void log_reopen(void); /* after logrotate */

/* service: "smtpd", "qmgr", ...: the tag is <syslog_name>/<service>. With a '/' in it
 * ("postfix/submission/smtpd") it is the whole tag. */
void log_at(enum log_level level, const char *service, const char *fmt, ...) PRINTF(3, 4);
void log_vat(enum log_level level, const char *service, const char *fmt, va_list ap) PRINTF(3, 0);
#define log_info(service, ...)    log_at(LOG_LEVEL_INFO, (service), __VA_ARGS__)
#define log_warning(service, ...) log_at(LOG_LEVEL_WARNING, (service), __VA_ARGS__) /* "warning: " */
#define log_error(service, ...)   log_at(LOG_LEVEL_ERROR, (service), __VA_ARGS__)   /* "error: " */
#define log_fatal(service, ...)   log_at(LOG_LEVEL_FATAL, (service), __VA_ARGS__) /* only logs */

/* For io/base/check only, on the way down: waits up to a second until the logger has written what it
 * has, then writes "panic: text" to stderr and the log from this thread. Signal-safe. */
void log_panic(const char *text);

#endif
