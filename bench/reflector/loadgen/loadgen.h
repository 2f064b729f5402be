/*
 * The load generator: one process, one thread, many BGP speakers.
 *
 * It plays N internal peers of one device under test, each a TCP connection
 * from a loopback address of its own, and knows for every one of them exactly
 * which prefixes it must hold.  It is driven by commands on standard input and
 * answers each with one line of JSON (see main.c).
 *
 *   routes.c   the universe of prefixes: what each speaker announces, what each
 *              was told, and whether that is the exact set
 *   speaker.c  one BGP session: connect, OPEN, KEEPALIVE, reading UPDATEs
 *   main.c     the event loop's commands and their measurements
 *
 * Left out on purpose: IPv6, TCP MD5, any decision process.  It measures; it
 * does not route.
 */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mode {
    CLUSTER, /* every speaker announces `per_speaker` blocks (/26 of 10/8) of its own */
    TABLE,   /* speaker 0 announces `total` /24s from 20.0.0.0 up, `group` per attribute set */
    STREAM   /* recorded UPDATEs; several speakers may announce the same prefix */
};

enum state { IDLE, CONNECTING, OPEN_SENT, OPEN_CONFIRM, ESTABLISHED };

struct speaker {
    uint32_t index;
    enum state state;
    int fd;
    bool wanted;      /* meant to be connected: a lost session is opened again */
    bool announcing;  /* sends its routes as soon as it is ESTABLISHED */
    bool writable;    /* EPOLLOUT is armed */
    bool tracked;     /* its set counts when asking "has everyone everything?" */
    bool exact;       /* tracked, ESTABLISHED and holding as many prefixes as it must */
    uint32_t held;    /* prefixes in `have` */
    uint64_t *have;   /* bitmap over prefix ids */
    uint64_t *value;  /* STREAM: hash of the attributes last received, per prefix id */
    uint32_t *origin; /* STREAM: ORIGINATOR_ID last received, per prefix id */
    uint8_t *partial; /* an incomplete message, at most 64 KiB */
    uint32_t partial_length;
    uint8_t *out; /* bytes not yet written */
    size_t out_length, out_done, out_room;
    uint64_t exact_at, established_at, retry_at, keepalive_at, last_received; /* ns, monotonic */
    uint32_t keepalive; /* seconds; 0 = none */
};

/* One observed change of the churn command. */
struct change {
    uint64_t sent, last;
    uint32_t id, med, seen;
    bool withdraw;
    uint64_t *receivers; /* bitmap over speakers */
};

struct totals {
    uint64_t messages, bytes, reached, withdrawn; /* received: UPDATEs, octets, NLRI, withdrawn NLRI */
    uint64_t foreign;                             /* NLRI nobody announced, or by the wrong speaker */
    uint64_t altered;                             /* UPDATEs whose attributes are not the announced ones */
    uint64_t echoed;                              /* NLRI sent back to the client that announced them */
    uint64_t lost;                                /* sessions lost that should have stayed */
    uint64_t refused;                             /* connection attempts that had to be repeated */
    uint64_t hold_expired;                        /* peers silent for longer than the hold time */
    uint64_t last_update;                         /* time of the last UPDATE received, ns */
};

struct generator {
    enum mode mode;
    uint32_t asn, speakers, per_speaker, group, total, words, senders;
    uint16_t port;
    int receive_buffer, send_buffer;
    bool quickack;
    struct speaker *speaker;
    uint64_t *live; /* bitmap: prefixes announced by somebody */
    uint32_t live_total;
    uint32_t tracked_total, exact_total, established_total, opening_total;
    uint64_t last_exact; /* when the latest speaker became exact */
    struct totals totals;
    struct change *change;    /* while the churn command runs, else NULL */
    uint32_t *pending_change; /* prefix id -> index into change + 1, or 0 */
    char last_close[160];     /* why the latest session was lost */
};

extern struct generator G;

/* main.c */
uint64_t now_ns(void);
void *must_alloc(size_t count, size_t size);
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* routes.c */
void routes_init(void);
uint32_t speaker_identifier(const struct speaker *s); /* host order: BGP Identifier and next hop */
void routes_set_live(const struct speaker *s, bool live);
uint32_t routes_wanted(const struct speaker *s);
void routes_queue(struct speaker *s); /* append the UPDATEs announcing everything s announces */
void routes_queue_change(struct speaker *s, const struct change *c);
void routes_forget(struct speaker *s); /* the session is gone: s holds nothing */
void routes_receive(struct speaker *s, const uint8_t *update, uint32_t length);
void routes_progress(struct speaker *s);
void routes_recount(void);
uint32_t routes_inexact(uint64_t *missing, uint64_t *surplus); /* speakers whose set is not exact */
void stream_load(const char *path);
void stream_dump(const char *path);
uint64_t stream_digest(const struct speaker *s);

/* speaker.c */
void speakers_init(void);
void speaker_open(struct speaker *s);
void speaker_close(struct speaker *s);
void speaker_append(struct speaker *s, const void *bytes, size_t length);
void speaker_flush(struct speaker *s);
void pump(int timeout_ms, int extra_fd); /* one turn of the event loop; extra_fd readable ends it */
void upkeep(void);                       /* keepalives, hold times, retries */

#endif
