#include "io/base/check.h"

#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/base/log.h"

#define TRACE_FRAMES    48
#define ALT_STACK_BYTES (64U * 1024U)

/* Given by the linker; a frame minus this is what addr2line wants of a position-independent
 * executable. */
extern const char __executable_start[];
extern const char etext[];

static volatile sig_atomic_t handlers_are_in;

/* Hexadecimal without printf: this runs in a signal handler. */
static size_t put_hex(char *out, uintptr_t value)
{
    char digits[2 * sizeof value];
    size_t n = 0, len = 0;
    do {
        digits[n++] = "0123456789abcdef"[value & 15U];
        value >>= 4;
    } while (value);
    while (n)
        out[len++] = digits[--n];
    return len;
}

static size_t put_text(char *out, const char *text)
{
    size_t n = strlen(text);
    memcpy(out, text, n);
    return n;
}

static void log_trace(void)
{
    void *frames[TRACE_FRAMES];
    char text[TRACE_FRAMES * (3 + 2 * sizeof(uintptr_t)) + 64];
    int n = backtrace(frames, TRACE_FRAMES);
    size_t len = put_text(text, "trace (addr2line -e ringpost):");
    for (int i = 0; i < n; i++) {
        uintptr_t at = (uintptr_t)frames[i], base = (uintptr_t)__executable_start;
        bool ours = at >= base && at < (uintptr_t)etext;
        len += put_text(text + len, " 0x");
        len += put_hex(text + len, ours ? at - base : at);
    }
    text[len] = '\0';
    log_panic(text);
    backtrace_symbols_fd(frames, n, STDERR_FILENO);
}

void check_failed(const char *file, int line, const char *what)
{
    char text[512];
    (void)snprintf(text, sizeof text, "%s:%d: %s", file, line, what);
    log_panic(text);
    log_trace();
    if (handlers_are_in)
        (void)signal(SIGABRT, SIG_DFL);
    abort();
}

static const char *signal_name(int number)
{
    switch (number) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    case SIGILL:
        return "SIGILL";
    default:
        return "SIGABRT";
    }
}

/* SA_RESETHAND has put the default action back, so that raising ends the process with the signal
 * its parent should see. */
static void crashed(int number, siginfo_t *info, void *context)
{
    char text[128];
    (void)context;
    size_t len = put_text(text, signal_name(number));
    if (number != SIGABRT) {
        len += put_text(text + len, " at address 0x");
        len += put_hex(text + len, (uintptr_t)info->si_addr);
    }
    text[len] = '\0';
    log_panic(text);
    log_trace();
    (void)raise(number);
}

void check_install_handlers(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    void *frame;
    /* The first call loads libgcc, which a handler must not. */
    (void)backtrace(&frame, 1);
    check_alt_stack();
    struct sigaction action = {.sa_sigaction = crashed,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)sigaction(signals[i], &action, NULL);
    handlers_are_in = 1;
}

void check_alt_stack(void)
{
    void *stack = mmap(NULL, ALT_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED)
        return; /* a crash by stack overflow will then have no trace: no reason not to run */
    stack_t alt = {.ss_sp = stack, .ss_size = ALT_STACK_BYTES};
    (void)sigaltstack(&alt, NULL);
}
