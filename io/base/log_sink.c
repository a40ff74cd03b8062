#include "io/base/log_sink.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "io/base/clock.h"
#include "io/base/codec.h"

#define SYSLOG_SOCKET "/dev/log"
#define FLUSH_BYTES   (256U * 1024U)
#define RETRY_S       60
#define SEND_WAIT_S   1
#define SYSLOG_LINE   (LOG_LINE_MAX + 256)

static const struct {
    const char *label;
    int severity;
} levels[] = {
    [LOG_LEVEL_INFO] = {"", LOG_INFO},         [LOG_LEVEL_WARNING] = {"warning: ", LOG_WARNING},
    [LOG_LEVEL_ERROR] = {"error: ", LOG_ERR},  [LOG_LEVEL_FATAL] = {"fatal: ", LOG_CRIT},
    [LOG_LEVEL_PANIC] = {"panic: ", LOG_CRIT},
};

const char *log_level_label(enum log_level level)
{
    return levels[level].label;
}

void log_printable(char *text, size_t len)
{
    bool ascii = true;
    if (str_is_printable(str_make(text, len)))
        return;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80)
            ascii = false;
        else if (c < ' ' || c == 0x7f)
            text[i] = '?';
    }
    for (size_t i = 0; !ascii && i < len;) {
        size_t n = utf8_char(str_make(text + i, len - i));
        if (n == 0)
            text[i] = '?';
        i += n ? n : 1;
    }
}

/* Days to month and day: Howard Hinnant's civil_from_days. localtime_r would take a lock, which a
 * crash handler must not. */
void log_date(int64_t local_s, bool space_pad, char *out)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t day = local_s / 86400, second = local_s % 86400;
    if (second < 0) {
        second += 86400;
        day--;
    }
    day += 719468;
    int64_t day_of_era = day % 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    int64_t mday = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    int64_t month = (month_from_march + 2) % 12;
    const int64_t parts[] = {second / 3600, second / 60 % 60, second % 60};
    memcpy(out, months + 3 * month, 3);
    out[3] = ' ';
    out[4] = (char)('0' + mday / 10);
    if (space_pad && mday < 10)
        out[4] = ' ';
    out[5] = (char)('0' + mday % 10);
    for (size_t i = 0; i < 3; i++) {
        out[6 + 3 * i] = i ? ':' : ' ';
        out[7 + 3 * i] = (char)('0' + parts[i] / 10);
        out[8 + 3 * i] = (char)('0' + parts[i] % 10);
    }
    out[15] = '\0';
}

static int open_syslog(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = SYSLOG_SOCKET};
    struct timeval wait = {.tv_sec = SEND_WAIT_S};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    int number = errno;
    (void)close(fd);
    errno = number;
    return -1;
}

static int open_target(const struct log_sink *sink)
{
    if (sink->file[0] == '\0')
        return open_syslog();
    /* Opening these by name fails when they are sockets. */
    if (strcmp(sink->file, "/dev/stdout") == 0)
        return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (strcmp(sink->file, "/dev/stderr") == 0)
        return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    return open(sink->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
}

static void set_date(struct log_sink *sink, int64_t wall_s)
{
    time_t now = (time_t)wall_s;
    struct tm local;
    if (localtime_r(&now, &local))
        sink->gmtoff_s = local.tm_gmtoff;
    sink->date_s = wall_s;
    log_date(wall_s + sink->gmtoff_s, sink->file[0] == '\0', sink->date);
}

struct err *log_sink_open(struct log_sink *sink, const char *file, const char *host, int facility)
{
    *sink = (struct log_sink){.file = file, .facility = facility, .fd = -1, .pid = getpid()};
    (void)snprintf(sink->pid_text, sizeof sink->pid_text, "[%d]: ", sink->pid);
    (void)snprintf(sink->panic_pri, sizeof sink->panic_pri, "<%d>",
                   facility | levels[LOG_LEVEL_PANIC].severity);
    tzset();
    if (host && host[0])
        (void)str_copy(sink->host, sizeof sink->host, str_of(host));
    else if (gethostname(sink->host, sizeof sink->host - 1) != 0)
        (void)str_copy(sink->host, sizeof sink->host, STR("localhost"));
    sink->host[strcspn(sink->host, ".")] = '\0';
    set_date(sink, clock_wall_us() / US_PER_S);
    sink->fd = open_target(sink);
    /* Without a syslog daemon the lines go to stderr: a system that boots has none for a while. */
    if (sink->fd < 0 && file[0])
        return err_errno(errno, "open logfile '%s'", file);
    return NULL;
}

void log_sink_close(struct log_sink *sink)
{
    log_sink_flush(sink);
    if (sink->fd >= 0)
        (void)close(sink->fd);
    sink->fd = -1;
    buf_fini(&sink->out);
}

void log_sink_reopen(struct log_sink *sink)
{
    log_sink_flush(sink);
    int fd = open_target(sink);
    sink->retry_s = 0;
    if (fd < 0 && sink->fd >= 0 && sink->file[0])
        return; /* the old file still takes lines */
    if (sink->fd >= 0)
        (void)close(sink->fd);
    sink->fd = fd;
}

/* Bytes written; less than n when the descriptor takes no more. */
static size_t write_all(int fd, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t wrote = write(fd, bytes + done, n - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            break;
        done += (size_t)wrote;
    }
    return done;
}

/* Never lost silently: what the target does not take goes to stderr, with the reason once a minute.
 */
static void to_stderr(struct log_sink *sink, int number, const char *bytes, size_t n)
{
    if (sink->date_s >= sink->retry_s) {
        char reason[128], line[512];
        const char *target = sink->file[0] ? sink->file : SYSLOG_SOCKET;
        int len = snprintf(line, sizeof line, "warning: write logfile '%s': %s\n", target,
                           strerror_r(number, reason, sizeof reason));
        if (len > 0)
            (void)write_all(STDERR_FILENO, line, strnlen(line, sizeof line));
        sink->retry_s = sink->date_s + RETRY_S;
    }
    (void)write_all(STDERR_FILENO, bytes, n);
}

static void send_syslog(struct log_sink *sink, enum log_level level, struct str tag,
                        struct str text)
{
    char line[SYSLOG_LINE];
    int n = snprintf(line, sizeof line, "<%d>%s %.*s[%d]: %s%.*s",
                     sink->facility | levels[level].severity, sink->date, STR_ARG(tag), sink->pid,
                     levels[level].label, STR_ARG(text));
    size_t len = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    log_printable(line, len);
    int number = 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        /* The daemon may have been restarted since: its new socket has to be found. */
        if (sink->fd < 0)
            sink->fd = open_syslog();
        if (sink->fd >= 0 && send(sink->fd, line, len, MSG_NOSIGNAL) == (ssize_t)len)
            return;
        number = errno;
        if (sink->fd >= 0)
            (void)close(sink->fd);
        sink->fd = -1;
    }
    line[len < sizeof line ? len++ : len - 1] = '\n';
    to_stderr(sink, number, line, len);
}

void log_sink_put(struct log_sink *sink, int64_t wall_s, enum log_level level, struct str tag,
                  struct str text)
{
    if (wall_s != sink->date_s)
        set_date(sink, wall_s);
    if (sink->file[0] == '\0') {
        send_syslog(sink, level, tag, text);
        return;
    }
    struct buf *out = &sink->out;
    buf_add_c(out, sink->date);
    buf_add_char(out, ' ');
    buf_add_c(out, sink->host);
    buf_add_char(out, ' ');
    buf_add_str(out, tag);
    buf_add_c(out, sink->pid_text);
    buf_add_c(out, levels[level].label);
    size_t at = out->len;
    buf_add_str(out, text);
    log_printable(out->ptr + at, text.len);
    buf_add_char(out, '\n');
    if (out->len >= FLUSH_BYTES)
        log_sink_flush(sink);
}

void log_sink_flush(struct log_sink *sink)
{
    if (sink->out.len == 0)
        return;
    if (sink->fd < 0 && sink->date_s >= sink->retry_s)
        sink->fd = open_target(sink);
    size_t done = 0;
    int number = errno;
    if (sink->fd >= 0) {
        done = write_all(sink->fd, sink->out.ptr, sink->out.len);
        number = errno;
    }
    if (done < sink->out.len)
        to_stderr(sink, number, sink->out.ptr + done, sink->out.len - done);
    buf_reset(&sink->out);
}

/* No printf here: memory may be in any state. */
void log_sink_panic(const struct log_sink *sink, int64_t wall_s, const char *tag, const char *text)
{
    char line[SYSLOG_LINE], date[16];
    size_t n = 0;
    bool syslog = sink->file[0] == '\0';
    if (sink->fd < 0)
        return;
    log_date(wall_s + sink->gmtoff_s, syslog, date);
    const char *parts[] = {syslog ? sink->panic_pri : "",
                           date,
                           " ",
                           syslog ? "" : sink->host,
                           syslog ? "" : " ",
                           tag,
                           sink->pid_text,
                           levels[LOG_LEVEL_PANIC].label,
                           text,
                           syslog ? "" : "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        n += str_copy(line + n, sizeof line - n, str_of(parts[i]));
    if (syslog)
        (void)send(sink->fd, line, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    else
        (void)write_all(sink->fd, line, n);
}
