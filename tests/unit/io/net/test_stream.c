/* stream: buffers, deadlines, layers; and over a real socket inside fibers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/fiber/wait.h"
#include "io/fiber/worker.h"
#include "io/net/sock.h"
#include "io/ring/ring.h"
#include "tests/unit/io/net/chunk_layer.h"

static void output_waits_for_one_flush(void **state)
{
    (void)state;
    struct chunk_layer c = chunk_of(STR(""));
    struct stream *s = stream_new_layer(&c.layer);
    assert_null(stream_put(s, STR("250-one\r\n"), 5));
    assert_null(stream_printf(s, 5, "250 %s\r\n", "two"));
    assert_int_equal(c.writes, 0);
    assert_int_equal(stream_unsent(s), 18);
    assert_null(stream_flush(s, 7));
    assert_null(stream_flush(s, 7));
    assert_int_equal(c.writes, 1);
    assert_int_equal(c.last_iovs, 1);
    assert_int_equal(c.deadlines[0], 7);
    assert_int_equal(stream_unsent(s), 0);
    assert_true(str_eq(buf_str(&c.out), STR("250-one\r\n250 two\r\n")));
    stream_free(s);
    assert_int_equal(c.closes, 1);
    buf_fini(&c.out);
}

static void more_is_read_behind_what_is_pending(void **state)
{
    (void)state;
    struct chunk_layer c = chunk_of(STR("DATA\r\n.\r\nQUIT\r\n"));
    c.step = 4;
    struct stream *s = stream_new_layer(&c.layer);
    assert_null(stream_more(s, 8, 3));
    assert_true(str_eq(stream_peek(s), STR("DATA")));
    assert_null(stream_more(s, 8, 3));
    assert_true(str_eq(stream_peek(s), STR("DATA\r\n.\r")));
    struct str taken;
    assert_null(stream_bytes(s, 6, 3, &taken));
    assert_true(str_eq(taken, STR("DATA\r\n")));
    assert_null(stream_more(s, 8, 3));
    assert_true(str_eq(stream_peek(s), STR(".\r\nQUI")));
    assert_null(stream_more(s, 8, 3));
    assert_int_equal(stream_more(s, 16, 3)->kind, ERR_CLOSED);
    stream_free(s);
    buf_fini(&c.out);
}

static void pieces_go_out_in_one_write_with_what_waits(void **state)
{
    (void)state;
    struct chunk_layer c = chunk_of(STR(""));
    struct stream *s = stream_new_layer(&c.layer);
    struct iovec iov[3] = {{(char *)"head", 4}, {NULL, 0}, {(char *)"body", 4}};
    assert_null(stream_put(s, STR("DATA\r\n"), 0));
    assert_null(stream_putv(s, iov, 3, 0));
    assert_int_equal(c.writes, 1);
    assert_int_equal(c.last_iovs, 3);
    assert_true(str_eq(buf_str(&c.out), STR("DATA\r\nheadbody")));
    buf_reset(&c.out);
    struct iovec many[40];
    for (int i = 0; i < 40; i++)
        many[i] = (struct iovec){(char *)"0123456789" + i % 10, 1};
    assert_null(stream_put(s, STR("x"), 0));
    assert_null(stream_putv(s, many, 40, 0));
    assert_true(str_eq(buf_str(&c.out), STR("x0123456789012345678901234567890123456789")));
    stream_free(s);
    buf_fini(&c.out);
}

static void a_full_buffer_goes_out_unasked(void **state)
{
    (void)state;
    struct chunk_layer c = chunk_of(STR(""));
    struct stream *s = stream_new_layer(&c.layer);
    static char big[40000];
    memset(big, 'b', sizeof(big));
    for (int i = 0; i < 20; i++)
        assert_null(stream_put(s, str_make(big, 1000), 0));
    assert_int_equal(c.writes, 1);
    assert_int_equal(stream_unsent(s), 3000);
    assert_null(stream_put(s, str_make(big, sizeof(big)), 0));
    assert_int_equal(c.writes, 2);
    assert_int_equal(c.out.len, 20000 + sizeof(big));
    stream_free(s);
    buf_fini(&c.out);
}

static void a_failed_write_is_not_repeated(void **state)
{
    (void)state;
    struct chunk_layer c = chunk_of(STR(""));
    struct stream *s = stream_new_layer(&c.layer);
    c.fail_write = err_new(ERR_CLOSED, EPIPE, "gone");
    assert_null(stream_put(s, STR("x"), 0));
    assert_int_equal(stream_flush(s, 0)->kind, ERR_CLOSED);
    c.fail_write = NULL;
    assert_null(stream_flush(s, 0));
    assert_int_equal(c.out.len, 0);
    stream_free(s);
}

static struct str ten_kib(void)
{
    static char text[10240 + 3];
    for (size_t i = 0; i < 10240; i += 64) {
        memset(text + i, 'a', 62);
        memcpy(text + i + 62, "\r\n", 2);
    }
    memcpy(text + 10240, ".\r\n", 3);
    return str_make(text, sizeof(text));
}

static void content_comes_in_large_reads_and_the_buffer_goes_back(void **state)
{
    (void)state;
    struct chunk_layer c = chunk_of(ten_kib());
    struct stream *s = stream_new_layer(&c.layer);
    struct dot d;
    struct line line;
    bool ended = false;
    size_t lines = 0;
    dot_begin(&d, s, BARE_NEWLINE_NORMALIZE);
    while (!ended) {
        assert_null(stream_dot(&d, 2048, 0, &line, &ended));
        lines += !ended;
    }
    assert_int_equal(lines, 160);
    assert_int_equal(c.reads, 1);
    assert_true(c.largest_room >= 10240);
    stream_shrink(s);
    c.in = STR("QUIT\r\n");
    c.at = c.largest_room = 0;
    assert_null(stream_line(s, 2048, 0, &line));
    assert_true(str_eq(line.text, STR("QUIT")));
    assert_int_equal(c.largest_room, 4096);
    stream_free(s);
}

static void a_large_message_grows_the_reads_but_not_for_ever(void **state)
{
    (void)state;
    size_t n = 1 << 20;
    char *text = malloc(n + 3);
    memset(text, 'a', n);
    for (size_t i = 76; i < n; i += 78)
        memcpy(text + i, "\r\n", 2);
    memcpy(text + n - 2, "\r\n.\r\n", 5);
    struct chunk_layer c = chunk_of(str_make(text, n + 3));
    struct stream *s = stream_new_layer(&c.layer);
    struct dot d;
    struct line line;
    bool ended = false;
    size_t bytes = 3;
    dot_begin(&d, s, BARE_NEWLINE_NORMALIZE);
    while (!ended) {
        assert_null(stream_dot(&d, 2048, 0, &line, &ended));
        bytes += ended ? 0 : line.text.len + 2;
    }
    assert_int_equal(bytes, n + 3);
    assert_true(c.largest_room <= 65536);
    assert_true(c.reads < 40);
    stream_free(s);
    free(text);
}

static void lines_longer_than_the_buffer(void **state)
{
    (void)state;
    static char text[9002];
    memset(text, 'a', 9000);
    memcpy(text + 9000, "\r\n", 2);
    for (size_t step = 1; step < 9100; step = step * 3 + 1) {
        struct chunk_layer c = chunk_of(str_make(text, sizeof(text)));
        struct line line;
        c.step = step;
        struct stream *s = stream_new_layer(&c.layer);
        assert_null(stream_line(s, 9000, 0, &line));
        assert_int_equal(line.text.len, 9000);
        assert_int_equal(line.end, LINE_CRLF);
        stream_free(s);
        c = chunk_of(str_make(text, sizeof(text)));
        c.step = step;
        s = stream_new_layer(&c.layer);
        assert_null(stream_line(s, 8999, 0, &line));
        assert_int_equal(line.text.len, 8999);
        assert_int_equal(line.end, LINE_LONG);
        assert_null(stream_line(s, 8999, 0, &line));
        assert_true(str_eq(line.text, STR("a")));
        stream_free(s);
    }
}

static void bdat_takes_exactly_its_bytes(void **state)
{
    (void)state;
    struct chunk_layer c = chunk_of(STR("BDAT 5\r\n1234\nNOOP\r\n"));
    struct stream *s = stream_new_layer(&c.layer);
    struct line line;
    struct str bytes;
    c.step = 11;
    assert_null(stream_line(s, 100, 0, &line));
    assert_null(stream_bytes(s, 5, 0, &bytes));
    assert_true(str_eq(bytes, STR("123")));
    assert_null(stream_bytes(s, 2, 0, &bytes));
    assert_true(str_eq(bytes, STR("4\n")));
    assert_null(stream_line(s, 100, 0, &line));
    assert_true(str_eq(line.text, STR("NOOP")));
    assert_int_equal(stream_bytes(s, 1, 0, &bytes)->kind, ERR_CLOSED);
    stream_free(s);
}

static int64_t now_ns;
static int64_t fake_mono(void)
{
    return now_ns += 1000;
}
static int64_t fake_wall(void)
{
    return 0;
}

static void deadlines_stand_or_move_as_told(void **state)
{
    (void)state;
    clock_replace(fake_mono, fake_wall);
    struct line line;
    for (int64_t idle_s = 0; idle_s <= 10; idle_s += 10) {
        struct chunk_layer c = chunk_of(STR("abc\r\n"));
        c.step = 1;
        now_ns = 0;
        struct stream *s = stream_new_layer(&c.layer);
        stream_set_idle(s, idle_s);
        assert_null(stream_line(s, 100, 77, &line));
        assert_int_equal(c.reads, 5);
        assert_int_equal(c.deadlines[0], 77);
        assert_int_equal(c.deadlines[1], idle_s ? 10 * NS_PER_S + 1000 : 77);
        assert_int_equal(c.deadlines[4], idle_s ? 10 * NS_PER_S + 4000 : 77);
        stream_free(s);
    }
    clock_replace(NULL, NULL);
}

static void a_pushed_layer_never_sees_bytes_read_before_it(void **state)
{
    (void)state;
    struct chunk_layer plain = chunk_of(STR("STARTTLS\r\nMAIL FROM:<evil>\r\n"));
    struct chunk_layer tls = chunk_of(STR("EHLO safe\r\n"));
    struct stream *s = stream_new_layer(&plain.layer);
    struct line line;
    assert_null(stream_line(s, 100, 0, &line));
    assert_int_equal(stream_pending(s), 18);
    stream_push(s, &tls.layer);
    assert_ptr_equal(tls.layer.under, &plain.layer);
    assert_int_equal(stream_pending(s), 0);
    assert_null(stream_line(s, 100, 0, &line));
    assert_true(str_eq(line.text, STR("EHLO safe")));
    stream_free(s);
    assert_int_equal(tls.closes, 1);
}

/* --- real sockets */

struct meeting {
    int listen_fd;
    struct addr at;
};

static void be_server(void *arg)
{
    struct meeting *m = arg;
    struct sockaddr_storage peer;
    int fd;
    struct line line;
    assert_null(io_accept(m->listen_fd, &peer, clock_in_s(20), &fd));
    struct stream *s = stream_new(fd);
    assert_null(stream_put(s, STR("220 hello\r\n"), 0));
    assert_null(stream_flush(s, clock_in_s(20)));
    assert_null(stream_line(s, 2048, clock_in_s(20), &line));
    assert_true(str_eq(line.text, STR("EHLO me")));
    assert_int_equal(stream_line(s, 2048, clock_in_ms(20), &line)->kind, ERR_TIMEOUT);
    stream_free(s);
}

static void be_client(void *arg)
{
    struct meeting *m = arg;
    struct line line;
    struct addr from, seen;
    int fd;
    assert_true(addr_parse(STR("127.0.0.5"), 0, &from));
    assert_null(sock_connect(&m->at, &from, clock_in_s(20), &fd));
    assert_null(sock_local(fd, &seen));
    assert_true(addr_eq_host(&seen, &from));
    assert_null(sock_peer(fd, &seen));
    assert_int_equal(addr_port(&seen), addr_port(&m->at));
    struct stream *s = stream_new(fd);
    struct iovec iov[2] = {{(char *)"EHLO ", 5}, {(char *)"me\r\n", 4}};
    assert_null(stream_line(s, 2048, clock_in_s(20), &line));
    assert_true(str_eq(line.text, STR("220 hello")));
    assert_null(stream_putv(s, iov, 2, clock_in_s(20)));
    assert_int_equal(stream_line(s, 2048, clock_in_s(20), &line)->kind, ERR_CLOSED);
    stream_free(s);
}

static void meet(void *arg)
{
    struct group g;
    group_init(&g);
    assert_true(group_spawn(&g, "server", be_server, arg));
    assert_true(group_spawn(&g, "client", be_client, arg));
    assert_null(group_join(&g, clock_in_s(60)));
}

static void over_a_socket(void **state)
{
    (void)state;
    struct meeting m;
    struct addr any;
    assert_true(addr_parse(STR("127.0.0.1"), 0, &any));
    assert_null(sock_listen(&any, 5, true, &m.listen_fd));
    assert_null(sock_local(m.listen_fd, &m.at));
    struct err *e = worker_run_here(&(struct worker_options){.name = "test", .cpu = -1}, meet, &m);
    close(m.listen_fd);
    if (e && (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED))
        skip();
    assert_null(e);
}

/* A reader who is made to rest at once, and a writer who speaks only when he does. */
struct nap {
    int fds[2];
    int rests;
    bool timed_out, over;
};

static void napping(void *arg)
{
    struct nap *n = arg;
    n->rests++;
}

static void nap_reader(void *arg)
{
    struct nap *n = arg;
    struct line line;
    struct stream *s = stream_new(n->fds[0]);
    stream_set_rest(s, 1, napping, n);
    assert_null(stream_line(s, 2048, clock_in_s(30), &line));
    assert_true(str_eq(line.text, STR("first")));
    assert_int_equal(n->rests, 1);
    assert_null(stream_line(s, 2048, clock_in_s(30), &line)); /* its beginning comes, then nothing */
    assert_true(str_eq(line.text, STR("second")));
    assert_int_equal(n->rests, 2);
    assert_null(stream_line(s, 2048, clock_in_s(30), &line)); /* byte by byte: one rest before it, one in it */
    assert_true(str_eq(line.text, STR("3rd")));
    assert_int_equal(n->rests, 4);
    assert_int_equal(stream_line(s, 2048, clock_in_ms(50), &line)->kind, ERR_TIMEOUT);
    assert_int_equal(n->rests, 5); /* the next line is waited for as the first was */
    n->rests = 0;
    n->timed_out = true;
    struct err *e = stream_line(s, 2048, clock_in_s(30), &line); /* he hangs up meanwhile */
    assert_int_equal(e->kind, ERR_CLOSED);
    stream_free(s);
    n->over = true;
}

/* Rests are counted before the fiber waits again: another moment, and it does. */
static void until_rests(const struct nap *n, int count)
{
    while (n->rests < count)
        assert_null(fiber_sleep_until(clock_in_ms(1)));
    assert_null(fiber_sleep_until(clock_in_ms(1)));
}

static void nap_meet(void *arg)
{
    struct nap *n = arg;
    assert_non_null(fiber_spawn("reader", nap_reader, n));
    until_rests(n, 1);
    assert_int_equal(write(n->fds[1], "first\r\nsec", 10), 10);
    until_rests(n, 2);
    assert_int_equal(write(n->fds[1], "ond\r\n", 5), 5);
    until_rests(n, 3);
    assert_int_equal(write(n->fds[1], "3", 1), 1);
    until_rests(n, 4);
    for (const char *at = "rd\r\n"; *at; at++) {
        assert_int_equal(write(n->fds[1], at, 1), 1);
        assert_null(fiber_sleep_until(clock_in_ms(5)));
    }
    while (!n->timed_out)
        assert_null(fiber_sleep_until(clock_in_ms(1)));
    until_rests(n, 1);
    close(n->fds[1]);
    while (!n->over)
        assert_null(fiber_sleep_until(clock_in_ms(1)));
}

static void a_reader_rests_and_misses_nothing(void **state)
{
    (void)state;
    struct nap n = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, n.fds), 0);
    struct err *e = worker_run_here(&(struct worker_options){.name = "test", .cpu = -1}, nap_meet, &n);
    if (e && (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED))
        skip();
    assert_null(e);
}

static void sockets_that_cannot_be(void **state)
{
    (void)state;
    struct addr at;
    int first, fd = -1;
    char folder[] = "/tmp/test_stream.XXXXXX", path[64], longer[200];
    assert_true(addr_parse(STR("127.0.0.1"), 0, &at));
    assert_null(sock_listen(&at, 5, false, &first));
    assert_null(sock_local(first, &at));
    struct err *e = sock_listen(&at, 5, false, &fd);
    assert_non_null(e);
    assert_int_equal(e->code, EADDRINUSE);
    close(first);
    e = sock_connect(&at, NULL, clock_in_s(5), &fd);
    assert_non_null(e);
    assert_int_equal(e->code, ECONNREFUSED);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/socket", folder);
    memset(longer, 'x', sizeof(longer));
    longer[199] = '\0';
    assert_int_equal(sock_listen_unix(longer, 0600, 5, &fd)->kind, ERR_CONFIG);
    assert_int_equal(sock_connect_unix(path, clock_in_s(5), &fd)->kind, ERR_NOTFOUND);
    int listener;
    assert_null(sock_listen_unix(path, 0600, 5, &listener));
    close(listener); /* as if its process had died */
    assert_null(sock_listen_unix(path, 0600, 5, &listener));
    assert_null(sock_connect_unix(path, clock_in_s(5), &fd));
    close(fd);
    close(listener);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_waits_for_one_flush),
        cmocka_unit_test(more_is_read_behind_what_is_pending),
        cmocka_unit_test(pieces_go_out_in_one_write_with_what_waits),
        cmocka_unit_test(a_full_buffer_goes_out_unasked),
        cmocka_unit_test(a_failed_write_is_not_repeated),
        cmocka_unit_test(content_comes_in_large_reads_and_the_buffer_goes_back),
        cmocka_unit_test(a_large_message_grows_the_reads_but_not_for_ever),
        cmocka_unit_test(lines_longer_than_the_buffer),
        cmocka_unit_test(bdat_takes_exactly_its_bytes),
        cmocka_unit_test(deadlines_stand_or_move_as_told),
        cmocka_unit_test(a_pushed_layer_never_sees_bytes_read_before_it),
        cmocka_unit_test(over_a_socket),
        cmocka_unit_test(a_reader_rests_and_misses_nothing),
        cmocka_unit_test(sockets_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
