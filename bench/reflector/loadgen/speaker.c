/*
 * One BGP session of the generator, and the event loop that serves them all.
 *
 * Every speaker connects from its own loopback address, so the device under
 * test sees as many peers as there are speakers.  Capabilities: IPv4 unicast,
 * route refresh, 4-octet AS numbers; no graceful restart, so that a dropped
 * session's routes must go.  Hold time 90 s, honoured both ways; the speakers'
 * KEEPALIVEs are spread over time, as those of independent nodes are.
 */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_OPEN = 1, MESSAGE_UPDATE, MESSAGE_NOTIFICATION, MESSAGE_KEEPALIVE, MESSAGE_REFRESH };

#define FIRST_ADDRESS 0x7f010001u /* 127.1.0.1 */
#define HOLD_TIME 90
#define RETRY_NS 100000000ull
#define READ_SIZE (512 * 1024)
#define READS_PER_TURN 4 /* then the others get their turn */
#define EVENTS 512

static int epoll_fd;
static uint8_t *read_buffer; /* room for a partial message in front of READ_SIZE */

static void arm(struct speaker *s, int operation, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.u32 = s->index};
    s->writable = writable;
    if (epoll_ctl(epoll_fd, operation, s->fd, &event))
        die("epoll_ctl: %s", strerror(errno));
}

static void set_state(struct speaker *s, enum state state)
{
    if (s->state == ESTABLISHED)
        G.established_total--;
    if (s->state > IDLE && s->state < ESTABLISHED)
        G.opening_total--;
    s->state = state;
    if (state == ESTABLISHED)
        G.established_total++;
    if (state > IDLE && state < ESTABLISHED)
        G.opening_total++;
}

/* Close the socket and forget what was heard over it.  A wanted speaker tries again. */
static void disconnect(struct speaker *s, const char *why)
{
    if (why && s->wanted) {
        if (s->state == ESTABLISHED)
            G.totals.lost++;
        else
            G.totals.refused++;
        snprintf(G.last_close, sizeof G.last_close, "speaker %u: %s", s->index, why);
    }
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    set_state(s, IDLE);
    s->out_length = s->out_done = 0;
    s->partial_length = 0;
    s->retry_at = s->wanted ? now_ns() + RETRY_NS : 0;
    routes_forget(s);
    routes_progress(s);
}

void speaker_append(struct speaker *s, const void *bytes, size_t length)
{
    if (s->out_done == s->out_length)
        s->out_done = s->out_length = 0;
    if (s->out_length + length > s->out_room) {
        s->out_room = (s->out_length + length) * 2 + 256;
        s->out = realloc(s->out, s->out_room);
        if (!s->out)
            die("out of memory");
    }
    memcpy(s->out + s->out_length, bytes, length);
    s->out_length += length;
}

void speaker_flush(struct speaker *s)
{
    if (s->fd < 0 || s->state == CONNECTING)
        return;
    while (s->out_done < s->out_length) {
        ssize_t n = send(s->fd, s->out + s->out_done, s->out_length - s->out_done, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN) {
                disconnect(s, strerror(errno));
                return;
            }
            break;
        }
        s->out_done += (size_t)n;
    }
    bool waiting = s->out_done < s->out_length;
    if (waiting != s->writable)
        arm(s, EPOLL_CTL_MOD, waiting);
}

static void queue_message(struct speaker *s, uint8_t type, const uint8_t *body, uint16_t length)
{
    uint8_t header[19];
    uint16_t total = htons((uint16_t)(length + 19));
    memset(header, 0xff, 16);
    memcpy(header + 16, &total, 2);
    header[18] = type;
    speaker_append(s, header, 19);
    speaker_append(s, body, length);
}

static void send_open(struct speaker *s)
{
    uint32_t asn = htonl(G.asn), identifier = htonl(speaker_identifier(s));
    uint16_t short_asn = htons((uint16_t)(G.asn > 65535 ? 23456 : G.asn)), hold = htons(HOLD_TIME);
    uint8_t body[] = {4, 0, 0, 0, 0, 0, 0, 0, 0, 16, 2, 14, 1, 4, 0, 1, 0, 1, 2, 0, 65, 4, 0, 0, 0, 0};
    memcpy(body + 1, &short_asn, 2);
    memcpy(body + 3, &hold, 2);
    memcpy(body + 5, &identifier, 4);
    memcpy(body + 22, &asn, 4);
    queue_message(s, MESSAGE_OPEN, body, sizeof body);
    set_state(s, OPEN_SENT);
    speaker_flush(s);
}

void speaker_open(struct speaker *s)
{
    int on = 1;
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(FIRST_ADDRESS + s->index)};
    struct sockaddr_in remote = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(G.port)};
    s->wanted = true;
    s->retry_at = 0;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &G.receive_buffer, sizeof G.receive_buffer);
    setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &G.send_buffer, sizeof G.send_buffer);
    if (bind(s->fd, (struct sockaddr *)&local, sizeof local))
        die("bind speaker %u: %s", s->index, strerror(errno));
    set_state(s, CONNECTING);
    s->last_received = now_ns();
    s->keepalive = 0;
    if (connect(s->fd, (struct sockaddr *)&remote, sizeof remote) && errno != EINPROGRESS) {
        disconnect(s, strerror(errno));
        return;
    }
    arm(s, EPOLL_CTL_ADD, true);
}

void speaker_close(struct speaker *s)
{
    s->wanted = s->announcing = false;
    disconnect(s, NULL);
}

static void receive_open(struct speaker *s, const uint8_t *body, uint32_t length)
{
    if (length < 10 || s->state != OPEN_SENT)
        die("speaker %u: an OPEN out of place", s->index);
    uint32_t hold = (uint32_t)(body[3] << 8 | body[4]);
    if (hold > HOLD_TIME)
        hold = HOLD_TIME;
    s->keepalive = hold / 3;
    bool four_octets = false;
    for (uint32_t i = 10; i + 2 <= length;) { /* optional parameters, each a run of capabilities */
        uint32_t end = i + 2 + body[i + 1];
        for (uint32_t j = i + 2; body[i] == 2 && end <= length && j + 2 <= end; j += 2u + body[j + 1])
            four_octets |= body[j] == 65;
        i = end;
    }
    if (!four_octets)
        die("the device under test does not offer 4-octet AS numbers");
    queue_message(s, MESSAGE_KEEPALIVE, NULL, 0);
    set_state(s, OPEN_CONFIRM);
    speaker_flush(s);
}

static void receive_keepalive(struct speaker *s)
{
    if (s->state != OPEN_CONFIRM)
        return;
    set_state(s, ESTABLISHED);
    s->established_at = s->last_received;
    s->keepalive_at = s->last_received + (uint64_t)((double)(s->index * 2654435761u) / 4294967296.0 * s->keepalive * 1e9);
    if (s->announcing) {
        routes_queue(s);
        speaker_flush(s);
    }
    routes_progress(s);
}

/* False if the session ended. */
static bool receive_message(struct speaker *s, const uint8_t *message, uint32_t length)
{
    char why[64];
    const uint8_t *body = message + 19;
    switch (message[18]) {
    case MESSAGE_UPDATE:
        G.totals.messages++;
        routes_receive(s, body, length - 19);
        return true;
    case MESSAGE_KEEPALIVE:
        receive_keepalive(s);
        return s->fd >= 0;
    case MESSAGE_OPEN:
        receive_open(s, body, length - 19);
        return s->fd >= 0;
    case MESSAGE_NOTIFICATION:
        snprintf(why, sizeof why, "NOTIFICATION %u/%u", length > 20 ? body[0] : 0u, length > 20 ? body[1] : 0u);
        disconnect(s, why);
        return false;
    case MESSAGE_REFRESH:
        return true;
    default:
        die("speaker %u: message type %u", s->index, message[18]);
    }
}

static void keep_partial(struct speaker *s, const uint8_t *bytes, uint32_t length)
{
    if (length) {
        if (!s->partial)
            s->partial = must_alloc(65536, 1);
        memcpy(s->partial, bytes, length);
    }
    s->partial_length = length;
}

static void receive(struct speaker *s)
{
    for (int turn = 0; turn < READS_PER_TURN; turn++) {
        uint32_t kept = s->partial_length;
        if (kept)
            memcpy(read_buffer, s->partial, kept);
        ssize_t n = recv(s->fd, read_buffer + kept, READ_SIZE, 0);
        if (n <= 0) {
            if (n < 0 && (errno == EAGAIN || errno == EINTR))
                break;
            disconnect(s, n ? strerror(errno) : "closed by the device under test");
            return;
        }
        s->last_received = now_ns();
        G.totals.bytes += (uint64_t)n;
        if (G.quickack) {
            int on = 1;
            setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        }
        const uint8_t *p = read_buffer, *end = read_buffer + kept + n;
        while (end - p >= 19) {
            uint32_t length = (uint32_t)(p[16] << 8 | p[17]);
            if (length < 19)
                die("speaker %u: a message of length %u", s->index, length);
            if (end - p < length)
                break;
            if (!receive_message(s, p, length))
                return;
            p += length;
        }
        keep_partial(s, p, (uint32_t)(end - p));
        if (n < READ_SIZE)
            break;
    }
    routes_progress(s);
}

static void connected(struct speaker *s)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        disconnect(s, strerror(error));
    else
        send_open(s);
}

void pump(int timeout_ms, int extra_fd)
{
    struct epoll_event events[EVENTS];
    if (extra_fd >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, extra_fd, &event);
    }
    int count = epoll_wait(epoll_fd, events, EVENTS, timeout_ms);
    if (extra_fd >= 0)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, extra_fd, NULL);
    for (int i = 0; i < count; i++) {
        if (events[i].data.u32 == UINT32_MAX)
            continue;
        struct speaker *s = &G.speaker[events[i].data.u32];
        if (s->fd < 0)
            continue;
        if (s->state == CONNECTING) {
            if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
                connected(s);
            continue;
        }
        if (events[i].events & EPOLLOUT)
            speaker_flush(s);
        if (s->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            receive(s);
    }
}

void upkeep(void)
{
    uint64_t now = now_ns(), second = 1000000000ull;
    for (uint32_t i = 0; i < G.speakers; i++) {
        struct speaker *s = &G.speaker[i];
        if (s->state == ESTABLISHED && s->keepalive) {
            if (now - s->last_received > 3 * s->keepalive * second) {
                const uint8_t expired[] = {4, 0};
                queue_message(s, MESSAGE_NOTIFICATION, expired, 2);
                speaker_flush(s);
                G.totals.hold_expired++;
                if (s->fd >= 0)
                    disconnect(s, "hold timer expired");
            } else if (now >= s->keepalive_at) {
                s->keepalive_at = now + s->keepalive * second;
                queue_message(s, MESSAGE_KEEPALIVE, NULL, 0);
                speaker_flush(s);
            }
        } else if (s->state > IDLE && s->state < ESTABLISHED && now - s->last_received > HOLD_TIME * second) {
            disconnect(s, "no answer within the hold time");
        }
    }
}

void speakers_init(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    read_buffer = must_alloc(READ_SIZE + 65536, 1);
    for (uint32_t i = 0; i < G.speakers; i++) {
        struct speaker *s = &G.speaker[i];
        s->index = i;
        s->fd = -1;
    }
}
