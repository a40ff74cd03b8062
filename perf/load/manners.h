/* manners: how one receiving address behaves. A manner is a line of words; a rules file has one line
 * per address or range of addresses, the first that fits wins:
 *
 *     # addresses               words
 *     127.1.0.0/16              rcpt=450:10%  delay.dot=exp:20ms
 *     127.2.0.1-127.2.3.232     mail=451_4.3.2_please_wait
 *     *                         connections=20
 *
 *     word   = stage "=" what [ ":" when ]
 *            / "delay=" TIME / "delay." stage "=" TIME      before the reply; TIME as in dist.h
 *            / "tarpit=" TIME          replies leave one byte at a time, each after TIME (drawn for each)
 *            / "connections=" number   421 beyond so many at a time, for each address
 *            / "greylist=" TIME        450 until TIME after the first RCPT of a sender and recipient
 *            / "size=" SIZE            announced, and 552 beyond
 *            / "no-pipelining" / "no-ehlo"
 *     stage  = "banner" / "helo" / "mail" / "rcpt" / "data" / "content" / "dot" / "quit"
 *     what   = code [ "_" text ]       the reply, '_' for blanks: 450, 550_5.1.1_unknown_user
 *            / "drop"                  the connection closes (content: in the middle of it)
 *            / "hang"                  no reply until the client goes away
 *     when   = rate "%"                at random
 *            / "after=" n              from the n+1st time on that this address comes to the stage
 *            / "first=" n              the first n times
 *            / "every=" n              each nth time
 *            / "until=" TIME           until TIME after the sink's start
 *            / "from=" TIME            from then on
 *
 * Of several answers to a stage the first whose time it is counts; with none of them, all is well.
 * Read only once made: any thread. */
#ifndef PERF_LOAD_MANNERS_H
#define PERF_LOAD_MANNERS_H

#include "io/base/arena.h"
#include "io/base/err.h"
#include "io/net/addr.h"
#include "perf/load/dist.h"

enum sink_stage {
    SINK_BANNER,
    SINK_HELO,
    SINK_MAIL,
    SINK_RCPT,
    SINK_DATA,
    SINK_CONTENT,
    SINK_DOT,
    SINK_QUIT,
    SINK_STAGES,
};
extern const char *const sink_stage_names[SINK_STAGES];

enum answer_kind { ANSWER_REPLY, ANSWER_DROP, ANSWER_HANG };
enum answer_when { WHEN_ALWAYS, WHEN_RATE, WHEN_AFTER, WHEN_FIRST, WHEN_EVERY, WHEN_UNTIL, WHEN_FROM };

struct answer {
    enum sink_stage stage;
    enum answer_kind kind;
    enum answer_when when;
    struct str reply; /* with CR LF */
    uint64_t number;  /* AFTER FIRST EVERY; nanoseconds for UNTIL FROM */
    double rate;      /* 0..1 */
};

#define ANSWERS_MAX 16

struct manner {
    struct answer answers[ANSWERS_MAX];
    size_t answer_count;
    struct dist delay[SINK_STAGES];
    bool acts[SINK_STAGES]; /* has an answer or a delay: else nothing needs looking at */
    bool has_delay[SINK_STAGES];
    struct dist tarpit;
    int64_t greylist_ns;        /* 0: none */
    uint64_t connections, size; /* 0: no limit */
    bool no_pipelining, no_ehlo, drips;
};

/* Adds the words to *m, which begins as all zeros. */
struct err *manner_parse(struct arena *a, struct str words, struct manner *m) MUST_USE;
/* The answer of this manner, NULL: the usual one. times: how often this address came to the stage
 * before. since_ns: since the sink's start. */
const struct answer *manner_answer(const struct manner *m, enum sink_stage stage, uint64_t times,
                                   int64_t since_ns);

struct rules;
/* fallback: for addresses in no line, "" words are fine. path NULL: no file. ERR_CONFIG has file and
 * line. */
struct err *rules_read(struct arena *a, const char *path, const struct manner *fallback,
                       const struct rules **out) MUST_USE;
const struct manner *rules_find(const struct rules *r, const struct addr *at);

#endif
