/*
 * The generator's commands.  Each is one line on standard input and is answered
 * by one JSON object on one line; while none runs, sessions are kept alive.
 *
 *   pids PID...                        processes whose CPU time is accounted (the device under test)
 *   open FIRST COUNT INFLIGHT ANNOUNCE TIMEOUT
 *                                      connect speakers, at most INFLIGHT at a time; with ANNOUNCE
 *                                      1 each announces at once and all must become exact
 *   announce FIRST COUNT TIMEOUT       all announce in one burst; until all are exact
 *   close FIRST COUNT TIMEOUT          drop sessions; until the others are exact again
 *   cycle FIRST COUNT INFLIGHT TIMEOUT drop, reconnect, announce; until all are exact
 *   churn RATE COUNT TIMEOUT           COUNT changes at RATE a second, round robin: withdrawals,
 *                                      announcements and changes of MED; per change the time until
 *                                      the last receiver has it
 *   play QUIET TIMEOUT                 STREAM: all senders send; until nothing has changed for QUIET s
 *                                      and the device under test was idle
 *   dump FILE                          STREAM: the first receiver's routes
 *   idle SECONDS                       serve the sessions
 *   verify                             compare every speaker's set, bit by bit, with the one due
 *   quit
 *
 * Times are seconds from the command's first system call to the moment at which
 * the last speaker had read the last octet it needed.
 */
#define _GNU_SOURCE
#include "loadgen.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1e9
#define MAX_PIDS 64
#define IDLE_SHARE 0.03 /* of a processor: less than this is idle */

struct generator G;

static clockid_t process_clock[MAX_PIDS];
static int processes;
static struct totals before;
static double cpu_before, own_cpu_before;
static uint64_t upkeep_at;

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

void die(const char *format, ...)
{
    va_list arguments;
    char text[256];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("{\"ok\": false, \"fatal\": true, \"reason\": \"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}

void *must_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p)
        die("out of memory");
    return p;
}

/* ---- accounting -------------------------------------------------------- */

/* CPU seconds (user + system, all threads) used so far by the device under test. */
static double cpu_used(void)
{
    double sum = 0;
    for (int i = 0; i < processes; i++) {
        struct timespec t;
        if (!clock_gettime(process_clock[i], &t))
            sum += (double)t.tv_sec + (double)t.tv_nsec / NS;
    }
    return sum;
}

static double own_cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / NS;
}

static void begin(void)
{
    before = G.totals;
    G.last_exact = 0;
    G.last_close[0] = 0;
    cpu_before = cpu_used();
    own_cpu_before = own_cpu();
}

static void answer(bool ok, double seconds, const char *extra)
{
    printf("{\"ok\": %s, \"seconds\": %.6f, \"cpu\": %.6f, \"generator_cpu\": %.6f, \"messages\": %" PRIu64
           ", \"bytes\": %" PRIu64 ", \"delivered\": %" PRIu64 ", \"foreign\": %" PRIu64 ", \"altered\": %" PRIu64 ", \"echoed\": %" PRIu64
           ", \"lost\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"established\": %u, \"exact\": %u, \"due\": %u, \"last_close\": \"%s\"%s%s}\n",
           ok ? "true" : "false", seconds, cpu_used() - cpu_before, own_cpu() - own_cpu_before,
           G.totals.messages - before.messages, G.totals.bytes - before.bytes,
           G.totals.reached + G.totals.withdrawn - before.reached - before.withdrawn,
           G.totals.foreign - before.foreign, G.totals.altered - before.altered, G.totals.echoed - before.echoed,
           G.totals.lost - before.lost,
           G.totals.refused - before.refused, G.established_total, G.exact_total, G.tracked_total, G.last_close,
           extra ? ", " : "", extra ? extra : "");
    fflush(stdout);
}

static void turn(int timeout_ms)
{
    pump(timeout_ms, -1);
    uint64_t now = now_ns();
    if (now >= upkeep_at) {
        upkeep();
        upkeep_at = now + 20000000ull;
    }
}

static bool sound(void)
{
    return G.totals.foreign == before.foreign && G.totals.altered == before.altered && G.totals.lost == before.lost;
}

static bool all_exact(void) { return G.exact_total == G.tracked_total; }

static double since(uint64_t start, uint64_t end) { return end > start ? (double)(end - start) / NS : 0; }

/* Serve until all are exact or the time is up or a session is lost. */
static bool until_exact(uint64_t deadline)
{
    while (!all_exact() && now_ns() < deadline && G.totals.lost == before.lost)
        turn(50);
    return all_exact() && sound();
}

static uint64_t deadline_after(double seconds) { return now_ns() + (uint64_t)(seconds * NS); }

/* ---- commands ---------------------------------------------------------- */

/* Connect [first, last), at most inflight at a time, until `done` or the deadline. */
static bool connect_all(uint32_t first, uint32_t last, uint32_t inflight, bool announce, uint64_t deadline, uint64_t *established)
{
    uint32_t next = first, target = G.established_total;
    for (uint32_t i = first; i < last; i++) {
        struct speaker *s = &G.speaker[i];
        target += s->state != ESTABLISHED;
        s->announcing = announce;
        s->wanted = true;
        if (announce)
            routes_set_live(s, true);
    }
    routes_recount();
    uint64_t now = now_ns(), scan_at = now;
    while (G.established_total < target && now < deadline && G.totals.lost == before.lost) {
        for (; next < last && G.opening_total < inflight; next++)
            if (G.speaker[next].state == IDLE)
                speaker_open(&G.speaker[next]);
        turn(next < last ? 1 : 20);
        now = now_ns();
        if (now >= scan_at) { /* those refused try again */
            for (uint32_t i = first; i < next; i++) {
                struct speaker *s = &G.speaker[i];
                if (s->state == IDLE && s->retry_at && now >= s->retry_at && G.opening_total < inflight)
                    speaker_open(s);
            }
            scan_at = now + 20000000ull;
        }
    }
    *established = 0;
    for (uint32_t i = first; i < last; i++)
        if (G.speaker[i].established_at > *established)
            *established = G.speaker[i].established_at;
    return G.established_total >= target;
}

static void command_open(uint32_t first, uint32_t count, uint32_t inflight, bool announce, double timeout)
{
    char extra[128];
    begin();
    uint64_t start = now_ns(), deadline = deadline_after(timeout), established;
    bool ok = connect_all(first, first + count, inflight, announce, deadline, &established);
    if (ok && announce)
        ok = until_exact(deadline);
    uint64_t end = announce && G.last_exact > established ? G.last_exact : established;
    /* when one speaker joined: the time at which it alone had everything */
    snprintf(extra, sizeof extra, "\"first_exact\": %.6f, \"connected\": %.6f", since(start, G.speaker[first].exact_at), since(start, established));
    answer(ok && sound(), since(start, ok ? end : now_ns()), extra);
}

static void command_announce(uint32_t first, uint32_t count, double timeout)
{
    begin();
    for (uint32_t i = first; i < first + count; i++) {
        G.speaker[i].announcing = true;
        routes_set_live(&G.speaker[i], true);
        routes_queue(&G.speaker[i]);
    }
    routes_recount();
    uint64_t start = now_ns(), deadline = deadline_after(timeout);
    for (uint32_t i = first; i < first + count; i++)
        speaker_flush(&G.speaker[i]);
    bool ok = until_exact(deadline);
    answer(ok, since(start, ok ? G.last_exact : now_ns()), NULL);
}

static void drop(uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        routes_set_live(&G.speaker[i], false);
        speaker_close(&G.speaker[i]);
    }
    routes_recount();
}

static void command_close(uint32_t first, uint32_t count, double timeout)
{
    begin();
    uint64_t start = now_ns(), deadline = deadline_after(timeout);
    drop(first, count);
    bool ok = until_exact(deadline);
    answer(ok, since(start, ok ? G.last_exact : now_ns()), NULL);
}

static void command_cycle(uint32_t first, uint32_t count, uint32_t inflight, double timeout)
{
    char extra[64];
    begin();
    uint64_t start = now_ns(), deadline = deadline_after(timeout), established;
    drop(first, count);
    bool ok = connect_all(first, first + count, inflight, true, deadline, &established) && until_exact(deadline);
    snprintf(extra, sizeof extra, "\"connected\": %.6f", since(start, established));
    answer(ok, since(start, ok ? G.last_exact : now_ns()), extra);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/*
 * Change k: even k toggles one prefix of speaker k/2 (withdrawn in one round,
 * announced in the next), odd k announces another speaker's prefix with MED k.
 * A prefix does not change again before the last receiver has its previous change,
 * so none may be skipped (at a realistic number of speakers nothing ever waits).
 */
static struct speaker *plan_change(uint32_t k, struct change *c)
{
    uint32_t half = k / 2, round = half / G.speakers;
    struct speaker *s = &G.speaker[half % G.speakers];
    if (k % 2 == 0) {
        c->id = s->index * G.per_speaker + round / 2 % G.per_speaker;
        c->withdraw = round % 2 == 0;
        c->med = c->withdraw ? 0 : k + 1;
        return s;
    }
    s = &G.speaker[(half + G.speakers / 2) % G.speakers];
    c->id = s->index * G.per_speaker + (round / 2 + 1) % G.per_speaker;
    c->withdraw = false;
    c->med = k + 1;
    return s;
}

static void command_churn(double rate, uint32_t count, double timeout)
{
    if (G.mode != CLUSTER || G.per_speaker < 2)
        die("churn needs at least two prefixes per speaker");
    begin();
    uint32_t receivers = G.established_total - 1, next = 0, done = 0;
    G.change = must_alloc(count, sizeof *G.change);
    double *latency = must_alloc(count, sizeof *latency);
    uint64_t start = now_ns(), deadline = deadline_after(timeout), now = start;
    while (done < count && now < deadline && G.totals.lost == before.lost) {
        uint64_t due = start + (uint64_t)(next / rate * NS);
        struct speaker *s = next < count ? plan_change(next, &G.change[next]) : NULL;
        uint32_t previous = s ? G.pending_change[G.change[next].id] : 0;
        if (previous && G.change[previous - 1].seen < receivers) {
            turn(5);
        } else if (s && now >= due) {
            struct change *c = &G.change[next];
            c->receivers = must_alloc((G.speakers + 63) / 64, 8);
            G.pending_change[c->id] = ++next;
            routes_queue_change(s, c);
            c->sent = now_ns();
            speaker_flush(s);
        } else if (s && due - now < 1500000) {
            turn(0); /* the next change is due within epoll's resolution */
        } else {
            turn(s ? (int)((due - now) / 1000000) - 1 : 20);
        }
        while (done < next && G.change[done].seen >= receivers)
            done++;
        now = now_ns();
    }
    uint32_t seen = 0;
    for (uint32_t k = 0; k < next; k++) {
        if (G.change[k].seen >= receivers)
            latency[seen++] = since(G.change[k].sent, G.change[k].last);
        G.pending_change[G.change[k].id] = 0;
        free(G.change[k].receivers);
    }
    free(G.change);
    G.change = NULL;
    routes_recount();
    bool ok = seen == count && until_exact(deadline);
    char extra[160];
    qsort(latency, seen, sizeof *latency, ascending);
#define PERCENTILE(q) (seen ? latency[(uint32_t)((seen - 1) * (q) + 0.5)] : 0)
    snprintf(extra, sizeof extra, "\"changes\": %u, \"seen\": %u, \"p50\": %.6f, \"p99\": %.6f, \"max\": %.6f", next, seen,
             PERCENTILE(0.5), PERCENTILE(0.99), PERCENTILE(1));
    free(latency);
    answer(ok, since(start, now_ns()), extra);
}

static bool all_sent(void)
{
    for (uint32_t i = 0; i < G.senders; i++)
        if (G.speaker[i].out_done < G.speaker[i].out_length)
            return false;
    return true;
}

static void command_play(double quiet, double timeout)
{
    begin();
    for (uint32_t i = 0; i < G.senders; i++) {
        routes_set_live(&G.speaker[i], true);
        routes_queue(&G.speaker[i]);
    }
    routes_recount();
    uint64_t start = now_ns(), deadline = deadline_after(timeout), now = start;
    G.totals.last_update = start;
    for (uint32_t i = 0; i < G.senders; i++)
        speaker_flush(&G.speaker[i]);
    uint64_t mark = start;
    double mark_cpu = cpu_used();
    bool settled = false;
    while (now < deadline && G.totals.lost == before.lost && !settled) {
        turn(20);
        now = now_ns();
        if (since(mark, now) >= quiet) {
            /* silence alone may be a long thought: the device must have been idle as well */
            settled = all_sent() && since(G.totals.last_update, now) >= quiet && cpu_used() - mark_cpu < IDLE_SHARE * quiet;
            mark = now;
            mark_cpu = cpu_used();
        }
    }
    uint32_t differing = 0;
    uint64_t digest = stream_digest(&G.speaker[G.senders]);
    for (uint32_t i = G.senders; i < G.speakers; i++)
        differing += stream_digest(&G.speaker[i]) != digest;
    char extra[128];
    snprintf(extra, sizeof extra, "\"prefixes\": %u, \"held\": %u, \"differing\": %u, \"late\": %s, \"digest\": \"%016" PRIx64 "\"", G.live_total,
             G.speaker[G.senders].held, differing, now < deadline ? "false" : "true", digest);
    bool late = now >= deadline;
    answer(!late && sound() && !differing && all_exact(), since(start, late ? now : G.totals.last_update), extra);
}

static void command_verify(void)
{
    uint64_t missing, surplus;
    char extra[128];
    begin();
    routes_recount();
    uint32_t inexact = routes_inexact(&missing, &surplus);
    snprintf(extra, sizeof extra, "\"inexact\": %u, \"missing\": %" PRIu64 ", \"surplus\": %" PRIu64, inexact, missing, surplus);
    answer(!inexact && !G.totals.foreign && !G.totals.altered, 0, extra);
}

static void command_pids(char *text)
{
    processes = 0;
    for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n"))
        if (processes < MAX_PIDS && !clock_getcpuclockid((pid_t)atoi(word), &process_clock[processes]))
            processes++;
    begin();
    answer(processes > 0, 0, NULL);
}

static bool in_range(uint32_t first, uint32_t count) { return count && first + count <= G.speakers; }

static void obey(char *line)
{
    char path[4096];
    uint32_t first, count, inflight, announce;
    double timeout, number;
    if (!strncmp(line, "pids ", 5)) {
        command_pids(line + 5);
    } else if (sscanf(line, "open %u %u %u %u %lf", &first, &count, &inflight, &announce, &timeout) == 5 && in_range(first, count)) {
        command_open(first, count, inflight, announce, timeout);
    } else if (sscanf(line, "announce %u %u %lf", &first, &count, &timeout) == 3 && in_range(first, count)) {
        command_announce(first, count, timeout);
    } else if (sscanf(line, "close %u %u %lf", &first, &count, &timeout) == 3 && in_range(first, count)) {
        command_close(first, count, timeout);
    } else if (sscanf(line, "cycle %u %u %u %lf", &first, &count, &inflight, &timeout) == 4 && in_range(first, count)) {
        command_cycle(first, count, inflight, timeout);
    } else if (sscanf(line, "churn %lf %u %lf", &number, &count, &timeout) == 3 && count) {
        command_churn(number, count, timeout);
    } else if (sscanf(line, "play %lf %lf", &number, &timeout) == 2 && G.mode == STREAM) {
        command_play(number, timeout);
    } else if (sscanf(line, "dump %4095s", path) == 1 && G.mode == STREAM) {
        begin();
        stream_dump(path);
        answer(true, 0, NULL);
    } else if (sscanf(line, "idle %lf", &number) == 1) {
        begin();
        for (uint64_t end = deadline_after(number); now_ns() < end;)
            turn(10);
        answer(sound(), number, NULL);
    } else if (!strncmp(line, "verify", 6)) {
        command_verify();
    } else if (!strncmp(line, "quit", 4)) {
        exit(0);
    } else {
        begin();
        answer(false, 0, "\"reason\": \"no such command\"");
    }
}

static void serve(void)
{
    static char line[8192];
    size_t length = 0;
    for (;;) {
        pump(500, STDIN_FILENO);
        turn(0);
        fd_set readable;
        struct timeval none = {0};
        FD_ZERO(&readable);
        FD_SET(STDIN_FILENO, &readable);
        if (select(1, &readable, NULL, NULL, &none) != 1)
            continue;
        ssize_t n = read(STDIN_FILENO, line + length, sizeof line - 1 - length);
        if (n <= 0)
            return;
        length += (size_t)n;
        line[length] = 0;
        for (char *end; (end = strchr(line, '\n'));) {
            *end = 0;
            obey(line);
            length -= (size_t)(end + 1 - line);
            memmove(line, end + 1, length + 1);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"mode", required_argument, NULL, 'm'},     {"port", required_argument, NULL, 'p'},
        {"asn", required_argument, NULL, 'a'},      {"speakers", required_argument, NULL, 'n'},
        {"prefixes", required_argument, NULL, 'x'}, {"group", required_argument, NULL, 'g'},
        {"senders", required_argument, NULL, 's'},  {"stream", required_argument, NULL, 'f'},
        {"buffer", required_argument, NULL, 'b'},   {"quickack", no_argument, NULL, 'q'},
        {NULL, 0, NULL, 0},
    };
    const char *stream = NULL;
    uint32_t prefixes = 1;
    G = (struct generator){.mode = CLUSTER, .asn = 65000, .port = 17900, .speakers = 1, .group = 6, .senders = 1};
    G.receive_buffer = G.send_buffer = 1 << 20;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        uint32_t number = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'm':
            G.mode = !strcmp(optarg, "table") ? TABLE : !strcmp(optarg, "stream") ? STREAM : CLUSTER;
            break;
        case 'p':
            G.port = (uint16_t)number;
            break;
        case 'a':
            G.asn = number;
            break;
        case 'n':
            G.speakers = number;
            break;
        case 'x':
            prefixes = number;
            break;
        case 'g':
            G.group = number;
            break;
        case 's':
            G.senders = number;
            break;
        case 'f':
            stream = optarg;
            break;
        case 'b':
            G.receive_buffer = G.send_buffer = (int)number;
            break;
        case 'q':
            G.quickack = true;
            break;
        default:
            die("unknown option");
        }
    }
    if (!G.speakers || !prefixes || !G.group || G.speakers > 60000 || (G.mode == STREAM) != (stream != NULL) ||
        (G.mode == STREAM && G.senders >= G.speakers))
        die("options that do not go together");
    struct rlimit files = {G.speakers + 64, G.speakers + 64};
    if (setrlimit(RLIMIT_NOFILE, &files))
        die("cannot open %u files: %s", G.speakers, strerror(errno));
    G.per_speaker = G.total = prefixes;
    G.speaker = must_alloc(G.speakers, sizeof *G.speaker);
    speakers_init();
    if (stream)
        stream_load(stream);
    routes_init();
    for (uint32_t i = 0; i < G.speakers; i++) {
        G.speaker[i].have = must_alloc(G.words, 8);
        if (G.mode == STREAM && i >= G.senders) {
            G.speaker[i].value = must_alloc(G.total, 8);
            G.speaker[i].origin = must_alloc(G.total, 4);
        }
    }
    serve();
    return 0;
}
