/* sched: options of the scheduler thread. Postfix's names (postconf(5)); filled by core/config. */
#ifndef QUEUE_SCHED_SCHED_H
#define QUEUE_SCHED_SCHED_H

#include <stdint.h>
#include <stdbool.h>
#include <stddef.h>

/* Per transport: TRANSPORT_destination_..., or the default_... where it has none of its own. */
struct sched_transport {
    const char *name;                /* master.cf service name */
    int64_t initial_concurrency;     /* initial_destination_concurrency */
    int64_t concurrency_limit;       /* default_destination_concurrency_limit; 0 = none */
    int64_t recipient_limit;         /* default_destination_recipient_limit; 0 = none */
    int64_t rate_delay_ms;           /* default_destination_rate_delay */
    int64_t transport_rate_delay_ms; /* default_transport_rate_delay */
    bool rate_serial; /* default_rate_delay_serial: the pauses are between deliveries, one at a
                         time, and not between their begins */
    int64_t failed_cohort_limit;     /* default_destination_concurrency_failed_cohort_limit */
    double negative_feedback; /* default_destination_concurrency_negative_feedback at window w: num
                                 + per_window/w */
    double negative_per_window; /* "1" -> 1, 0;  "1/concurrency" -> 0, 1;  "1/sqrt_concurrency":
                                   sqrt flag */
    bool negative_sqrt;
    double positive_feedback;
    double positive_per_window;
    bool positive_sqrt;
    int64_t pool, extra_pool; /* default_recipient_limit, default_extra_recipient_limit */
    int64_t refill_limit, refill_delay_s; /* default_recipient_refill_limit, ..._delay */
    int64_t slot_cost, slot_loan, slot_discount; /* default_delivery_slot_... */
    int64_t minimum_slots;                       /* default_minimum_delivery_slots */
    int64_t process_limit; /* maxproc of master.cf; 0 = none */
    int64_t patience_ms;   /* a delivery that is out for longer stalls */
    int64_t lingering_max; /* so many that stall do not count for it; 0: all do */
    bool unavailable;      /* master.cf service that does not exist here: defer with `why` */
    const char *why;
};
struct sched_options {
    const struct sched_transport *transports;
    size_t transport_count;
    struct sched_transport
        fallback; /* transports nobody declared: unavailable, "mail transport unavailable" */
    int64_t message_active_limit;    /* qmgr_message_active_limit */
    int64_t message_recipient_limit; /* qmgr_message_recipient_limit; 0 = none */
    int64_t recipient_minimum;       /* qmgr_message_recipient_minimum */
    int64_t transport_retry_s; /* transport_retry_time; 0 = a failed transport is not put by */
    int64_t queue_run_delay_s, minimal_backoff_s, maximal_backoff_s;
    int64_t backoff_jitter; /* queue_backoff_jitter, percent */
    bool feedback_debug;    /* destination_concurrency_feedback_debug */
    int64_t maximal_lifetime_s, bounce_lifetime_s;
    int64_t delay_warning_s; /* delay_warning_time; 0 = off */
    const char *defer_transports;        /* list */
};

#endif
