/*
 * The universe of prefixes, and each speaker's exact share of it.
 *
 * Every prefix has an id.  In CLUSTER and TABLE mode the id is arithmetic on the
 * prefix, so that reading one NLRI costs a few instructions; in STREAM mode a
 * hash table gives it.  What a speaker was told is a bitmap over ids; what it
 * must be told is "all live prefixes except my own".
 *
 * Attributes are checked too: an order-independent hash over all of them except
 * ORIGINATOR_ID and CLUSTER_LIST (which a reflector adds) must equal that of the
 * announced set, and ORIGINATOR_ID must be the announcer's.  As RFC 4456 section 8
 * asks of a client, one that is told its own route ignores it; that is counted.
 */
#include "loadgen.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ORIGIN = 1, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, COMMUNITIES = 8, ORIGINATOR_ID, CLUSTER_LIST, LARGE_COMMUNITIES = 32 };

#define FIRST_IDENTIFIER 0xac100001u /* 172.16.0.1 */
#define CLUSTER_BASE 0x0a000000u     /* 10.0.0.0, in blocks of /26 */
#define TABLE_BASE 0x14000000u       /* 20.0.0.0, in /24 */
#define NO_ID UINT32_MAX

struct attributes {
    uint64_t hash;
    uint32_t med, originator;
    bool reflected; /* carries ORIGINATOR_ID and a CLUSTER_LIST */
};

static uint64_t *expected; /* attribute hash: per speaker in CLUSTER, per group in TABLE mode */

/*
 * CLUSTER mode: the last UPDATE that announced a speaker's prefixes and was found
 * faultless.  A reflector sends the same octets to every client, so most UPDATEs
 * are recognised by comparing them, and their effect is that of the first.
 */
#define MEMO_OCTETS 480
#define MEMO_WORDS 2
struct memo {
    uint32_t length, prefixes, word; /* of the UPDATE; how many; first word of the bitmap concerned */
    uint64_t mask[MEMO_WORDS];
    uint8_t bytes[MEMO_OCTETS];
};
static struct memo *memos; /* per announcing speaker */

/* STREAM mode: open addressing from (prefix length, address) to id. */
static uint64_t *stream_key;
static uint32_t *stream_id, stream_slots;
static uint64_t *stream_prefix; /* id -> key */
static uint8_t **stream_bytes;  /* per sender */
static size_t *stream_length;

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return ntohl(v);
}

static inline void put32(uint8_t *p, uint32_t v)
{
    v = htonl(v);
    memcpy(p, &v, 4);
}

static inline uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static inline bool bit(const uint64_t *map, uint32_t i) { return map[i >> 6] >> (i & 63) & 1; }
static inline void set_bit(uint64_t *map, uint32_t i) { map[i >> 6] |= 1ull << (i & 63); }
static inline void clear_bit(uint64_t *map, uint32_t i) { map[i >> 6] &= ~(1ull << (i & 63)); }

static uint64_t hash_bytes(uint64_t h, const uint8_t *value, uint32_t length)
{
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, value, 8);
        h = mix(h ^ word);
        value += 8;
        length -= 8;
    }
    uint64_t word = 0;
    memcpy(&word, value, length);
    return mix(h ^ word);
}

/* Communities are a set: some daemons sort them. */
static uint64_t hash_attribute(uint8_t code, const uint8_t *value, uint32_t length)
{
    uint64_t h = mix((uint64_t)code << 32 | length), sum = 0;
    uint32_t element = code == COMMUNITIES ? 4 : code == LARGE_COMMUNITIES ? 12 : 0;
    if (!element || length % element)
        return hash_bytes(h, value, length);
    for (uint32_t i = 0; i < length; i += element)
        sum += hash_bytes(h, value + i, element);
    return sum;
}

/* False if the attributes do not parse. */
static bool read_attributes(const uint8_t *p, uint32_t length, struct attributes *a)
{
    const uint8_t *end = p + length;
    bool clusters = false, originator = false;
    a->hash = 0;
    a->med = 0;
    a->originator = 0;
    while (end - p >= 3) {
        uint8_t flags = p[0], code = p[1];
        uint32_t size, header = flags & 0x10 ? 4 : 3;
        if (end - p < header)
            return false;
        size = flags & 0x10 ? get16(p + 2) : p[2];
        p += header;
        if ((uint64_t)(end - p) < size)
            return false;
        if (code == ORIGINATOR_ID && size == 4) {
            a->originator = get32(p);
            originator = true;
        } else if (code == CLUSTER_LIST && size >= 4) {
            clusters = true;
        } else if (code == MED && size == 4 && (G.mode == CLUSTER || !get32(p))) {
            a->med = get32(p); /* churn changes it: kept beside the hash; and 0 says what its absence says */
        } else {
            a->hash += hash_attribute(code, p, size);
        }
        p += size;
    }
    a->reflected = clusters && originator;
    return p == end;
}

uint32_t speaker_identifier(const struct speaker *s) { return FIRST_IDENTIFIER + s->index; }

/* ---- what is announced ------------------------------------------------- */

static uint8_t *begin_update(uint8_t *p)
{
    memset(p, 0xff, 16);
    p[18] = 2;
    p[19] = p[20] = 0; /* no withdrawn routes */
    return p + 23;     /* the attribute length is written by end_attributes */
}

static uint8_t *attribute(uint8_t *p, uint8_t flags, uint8_t code, uint32_t length)
{
    p[0] = flags;
    p[1] = code;
    p[2] = (uint8_t)length;
    return p + 3;
}

static uint8_t *attribute32(uint8_t *p, uint8_t flags, uint8_t code, uint32_t value)
{
    p = attribute(p, flags, code, 4);
    put32(p, value);
    return p + 4;
}

static void end_attributes(uint8_t *message, const uint8_t *end)
{
    size_t length = (size_t)(end - message) - 23;
    message[21] = (uint8_t)(length >> 8);
    message[22] = (uint8_t)length;
}

static size_t end_message(uint8_t *message, const uint8_t *end)
{
    size_t length = (size_t)(end - message);
    message[16] = (uint8_t)(length >> 8);
    message[17] = (uint8_t)length;
    return length;
}

/* A block announced by a cluster's node: local origin, no AS path. */
static uint8_t *node_attributes(uint8_t *p, const struct speaker *s, uint32_t med)
{
    p = attribute(p, 0x40, ORIGIN, 1);
    *p++ = 0;
    p = attribute(p, 0x40, AS_PATH, 0);
    p = attribute32(p, 0x40, NEXT_HOP, speaker_identifier(s));
    if (med)
        p = attribute32(p, 0x80, MED, med);
    return attribute32(p, 0x40, LOCAL_PREF, 100);
}

/* A full table's attribute set number g: AS paths of 3 to 6, communities on half of them. */
static uint8_t *table_attributes(uint8_t *p, const struct speaker *s, uint32_t g)
{
    uint64_t random = mix(g + 1);
    uint32_t hops = 3 + (uint32_t)(random & 3);
    p = attribute(p, 0x40, ORIGIN, 1);
    *p++ = (random >> 2 & 7) ? 0 : 2;
    p = attribute(p, 0x40, AS_PATH, 2 + 4 * hops);
    *p++ = 2;
    *p++ = (uint8_t)hops;
    for (uint32_t i = 0; i < hops; i++, p += 4) {
        uint64_t r = mix(random + i);
        /* few transit networks in front, many origins behind; never a private or reserved AS */
        put32(p, i + 1 < hops ? 1000 + (uint32_t)(r % (50u << 2 * i)) : 100000 + (uint32_t)(r % 60000));
    }
    p = attribute32(p, 0x40, NEXT_HOP, speaker_identifier(s));
    if (random >> 8 & 1)
        p = attribute32(p, 0x80, MED, (uint32_t)(random >> 16 & 255));
    p = attribute32(p, 0x40, LOCAL_PREF, 100 + 10 * (uint32_t)(random >> 24 & 3));
    if (random >> 9 & 1) {
        uint32_t count = 1 + (uint32_t)(random >> 10 & 3);
        p = attribute(p, 0xc0, COMMUNITIES, 4 * count);
        for (uint32_t i = 0; i < count; i++, p += 4) /* ascending, as some daemons sort them */
            put32(p, (1000u + 100 * i + (uint32_t)(mix(random ^ i) % 100)) << 16 | (uint32_t)(mix(random + 99 * i) & 0x3ff));
    }
    return p;
}

static uint8_t *put_prefix(uint8_t *p, uint32_t id)
{
    if (G.mode == CLUSTER) {
        p[0] = 26;
        put32(p + 1, CLUSTER_BASE + (id << 6));
        return p + 5;
    }
    uint8_t raw[4];
    put32(raw, TABLE_BASE + (id << 8));
    p[0] = 24;
    memcpy(p + 1, raw, 3);
    return p + 4;
}

static void queue_group(struct speaker *s, uint32_t set, uint32_t first, uint32_t last)
{
    uint8_t message[4096], *p = message;
    p = begin_update(message);
    p = G.mode == CLUSTER ? node_attributes(p, s, 0) : table_attributes(p, s, set);
    end_attributes(message, p);
    uint8_t *nlri = p;
    for (uint32_t id = first; id < last; id++) {
        p = put_prefix(p, id);
        if (p - message > 4090) {
            speaker_append(s, message, end_message(message, p));
            p = nlri;
        }
    }
    if (p > nlri)
        speaker_append(s, message, end_message(message, p));
}

void routes_queue(struct speaker *s)
{
    if (G.mode == CLUSTER) {
        queue_group(s, 0, s->index * G.per_speaker, (s->index + 1) * G.per_speaker);
    } else if (G.mode == TABLE && s->index == 0) {
        for (uint32_t first = 0, set = 0; first < G.total; first += G.group, set++)
            queue_group(s, set, first, first + G.group < G.total ? first + G.group : G.total);
    } else if (G.mode == STREAM && s->index < G.senders) {
        speaker_append(s, stream_bytes[s->index], stream_length[s->index]);
    }
}

void routes_queue_change(struct speaker *s, const struct change *c)
{
    uint8_t message[128], *p;
    if (c->withdraw) {
        memset(message, 0xff, 16);
        message[18] = 2;
        p = put_prefix(message + 21, c->id);
        message[19] = 0;
        message[20] = (uint8_t)(p - message - 21);
        *p++ = 0;
        *p++ = 0;
    } else {
        p = node_attributes(begin_update(message), s, c->med);
        end_attributes(message, p);
        p = put_prefix(p, c->id);
    }
    speaker_append(s, message, end_message(message, p));
    if (c->withdraw && bit(G.live, c->id)) {
        clear_bit(G.live, c->id);
        G.live_total--;
    } else if (!c->withdraw && !bit(G.live, c->id)) {
        set_bit(G.live, c->id);
        G.live_total++;
    }
}

static void own_range(const struct speaker *s, uint32_t *first, uint32_t *last)
{
    *first = *last = 0;
    if (G.mode == CLUSTER) {
        *first = s->index * G.per_speaker;
        *last = *first + G.per_speaker;
    } else if (G.mode == TABLE && s->index == 0) {
        *last = G.total;
    }
}

void routes_set_live(const struct speaker *s, bool live)
{
    uint32_t first, last;
    own_range(s, &first, &last);
    if (G.mode == STREAM)
        last = s->index < G.senders ? G.total : 0;
    for (uint32_t id = first; id < last; id++) {
        if (bit(G.live, id) == live)
            continue;
        if (live) {
            set_bit(G.live, id);
            G.live_total++;
        } else {
            clear_bit(G.live, id);
            G.live_total--;
        }
    }
}

uint32_t routes_wanted(const struct speaker *s)
{
    uint32_t first, last, own = 0;
    own_range(s, &first, &last);
    if (G.mode == TABLE)
        return first == last ? G.live_total : 0;
    for (uint32_t id = first; id < last; id++)
        own += bit(G.live, id);
    return G.live_total - own;
}

/* ---- what was received ------------------------------------------------- */

static uint32_t stream_find(uint64_t key, bool insert)
{
    uint32_t slot = (uint32_t)mix(key) & (stream_slots - 1);
    while (stream_key[slot] != key) {
        if (stream_key[slot] == UINT64_MAX) {
            if (!insert)
                return NO_ID;
            if (G.total * 2 >= stream_slots)
                die("more than %u prefixes in the stream", stream_slots / 2);
            stream_key[slot] = key;
            stream_prefix[G.total] = key;
            stream_id[slot] = G.total++;
            break;
        }
        slot = (slot + 1) & (stream_slots - 1);
    }
    return stream_id[slot];
}

/* The id of the NLRI at *p, moving *p on; NO_ID if nobody announces it.  False if it overruns. */
static inline bool next_prefix(const uint8_t **p, const uint8_t *end, uint32_t *id, bool insert)
{
    uint32_t bits = **p, octets = (bits + 7) >> 3, address = 0;
    if (bits > 32 || (*p) + 1 + octets > end)
        return false;
    for (uint32_t i = 0; i < octets; i++)
        address |= (uint32_t)(*p)[1 + i] << (24 - 8 * i);
    *p += 1 + octets;
    if (G.mode == CLUSTER) {
        *id = (address & 0xffffff) >> 6;
        if (bits != 26 || address >> 24 != CLUSTER_BASE >> 24 || address & 63 || *id >= G.total)
            *id = NO_ID;
    } else if (G.mode == TABLE) {
        *id = (address - TABLE_BASE) >> 8;
        if (bits != 24 || *id >= G.total)
            *id = NO_ID;
    } else {
        *id = stream_find((uint64_t)bits << 32 | address, insert);
    }
    return true;
}

static void note_change(struct speaker *s, uint32_t id, bool withdraw, uint32_t med)
{
    uint32_t k = G.pending_change[id];
    if (!k)
        return;
    struct change *c = &G.change[k - 1];
    if (c->withdraw != withdraw || (!withdraw && c->med != med) || bit(c->receivers, s->index))
        return;
    set_bit(c->receivers, s->index);
    c->seen++;
    c->last = s->last_received;
}

static bool receive_reach(struct speaker *s, const uint8_t *p, const uint8_t *end, const struct attributes *a)
{
    uint32_t owner = a->originator - FIRST_IDENTIFIER, low = 0, high = G.total, id;
    bool own = a->reflected && owner == s->index;
    if (!a->reflected || owner >= G.speakers)
        G.totals.altered++;
    else if (G.mode == CLUSTER) {
        low = owner * G.per_speaker;
        high = low + G.per_speaker;
        G.totals.altered += a->hash != expected[owner];
    }
    while (p < end) {
        if (!next_prefix(&p, end, &id, false))
            return false;
        G.totals.reached++;
        if (own) {
            G.totals.echoed++;
            if (id != NO_ID && bit(s->have, id)) {
                clear_bit(s->have, id);
                s->held--;
            }
            continue;
        }
        if (id < low || id >= high) { /* NO_ID is beyond every range */
            G.totals.foreign++;
            continue;
        }
        uint64_t *word = &s->have[id >> 6], mask = 1ull << (id & 63);
        s->held += !(*word & mask);
        *word |= mask;
        if (G.mode == TABLE)
            G.totals.altered += a->hash != expected[id / G.group];
        else if (G.change)
            note_change(s, id, false, a->med);
        if (s->value) {
            s->value[id] = a->hash;
            s->origin[id] = a->originator;
        }
    }
    return true;
}

/* The memo of the speaker whose prefix ends this UPDATE; NULL where there can be none. */
static struct memo *memo_of(const struct speaker *s, const uint8_t *update, uint32_t length)
{
    if (G.mode != CLUSTER || G.change || length < 32 || length > MEMO_OCTETS || update[length - 5] != 26)
        return NULL;
    uint32_t id = (get32(update + length - 4) & 0xffffff) >> 6;
    if (id >= G.total || id / G.per_speaker == s->index)
        return NULL;
    return &memos[id / G.per_speaker];
}

static void memo_apply(struct speaker *s, const struct memo *m)
{
    for (uint32_t i = 0; i < MEMO_WORDS && m->mask[i]; i++) {
        uint64_t *word = &s->have[m->word + i];
        s->held += (uint32_t)__builtin_popcountll(m->mask[i] & ~*word);
        *word |= m->mask[i];
    }
    G.totals.reached += m->prefixes;
}

/* Remember an UPDATE that announced `nlri` and nothing else, without a fault. */
static void memo_keep(struct memo *m, const uint8_t *update, uint32_t length, const uint8_t *nlri)
{
    const uint8_t *end = update + length;
    uint32_t low = G.total, id = 0;
    m->length = m->prefixes = 0;
    m->mask[0] = m->mask[1] = 0;
    for (const uint8_t *p = nlri; p < end && next_prefix(&p, end, &id, false);)
        low = id < low ? id : low;
    m->word = low >> 6;
    for (const uint8_t *p = nlri; p < end && next_prefix(&p, end, &id, false); m->prefixes++) {
        if ((id >> 6) - m->word >= MEMO_WORDS)
            return;
        m->mask[(id >> 6) - m->word] |= 1ull << (id & 63);
    }
    memcpy(m->bytes, update, length);
    m->length = length;
}

void routes_receive(struct speaker *s, const uint8_t *update, uint32_t length)
{
    const uint8_t *end = update + length, *p = update + 2;
    struct attributes a;
    uint32_t id;
    struct memo *memo = memo_of(s, update, length);
    if (memo && memo->length == length && !memcmp(memo->bytes, update, length)) {
        memo_apply(s, memo);
        G.totals.last_update = s->last_received;
        return;
    }
    uint64_t faults = G.totals.foreign + G.totals.altered + G.totals.echoed;
    if (length < 4 || get16(update) > length - 4)
        die("speaker %u: an UPDATE that does not parse", s->index);
    const uint8_t *withdrawn_end = p + get16(update);
    while (p < withdrawn_end) {
        if (!next_prefix(&p, withdrawn_end, &id, false))
            die("speaker %u: withdrawn routes that do not parse", s->index);
        G.totals.withdrawn++;
        if (id == NO_ID) {
            G.totals.foreign++;
            continue;
        }
        if (bit(s->have, id)) {
            clear_bit(s->have, id);
            s->held--;
        }
        if (G.change)
            note_change(s, id, true, 0);
    }
    uint32_t attributes_length = get16(p);
    p += 2;
    if (attributes_length > (uint64_t)(end - p))
        die("speaker %u: path attributes overrun the UPDATE", s->index);
    const uint8_t *nlri = p + attributes_length;
    if (nlri < end) {
        if (!read_attributes(p, attributes_length, &a))
            die("speaker %u: path attributes that do not parse", s->index);
        if (!receive_reach(s, nlri, end, &a))
            die("speaker %u: NLRI that do not parse", s->index);
        if (memo && withdrawn_end == update + 2 && faults == G.totals.foreign + G.totals.altered + G.totals.echoed)
            memo_keep(memo, update, length, nlri);
    }
    G.totals.last_update = s->last_received;
}

/* ---- bookkeeping ------------------------------------------------------- */

void routes_forget(struct speaker *s)
{
    memset(s->have, 0, G.words * 8);
    s->held = 0;
}

void routes_progress(struct speaker *s)
{
    bool exact = s->tracked && s->state == ESTABLISHED && s->held == routes_wanted(s);
    if (exact == s->exact)
        return;
    s->exact = exact;
    if (exact) {
        G.exact_total++;
        G.last_exact = s->exact_at = now_ns();
    } else {
        G.exact_total--;
    }
}

void routes_recount(void)
{
    G.exact_total = G.tracked_total = 0;
    for (uint32_t i = 0; i < G.speakers; i++) {
        struct speaker *s = &G.speaker[i];
        s->tracked = s->wanted && !(G.mode == STREAM && i < G.senders);
        G.tracked_total += s->tracked;
        s->exact = s->tracked && s->state == ESTABLISHED && s->held == routes_wanted(s);
        G.exact_total += s->exact;
    }
}

uint32_t routes_inexact(uint64_t *missing, uint64_t *surplus)
{
    uint32_t wrong = 0;
    uint64_t *want = must_alloc(G.words, 8);
    *missing = *surplus = 0;
    for (uint32_t i = 0; i < G.speakers; i++) {
        const struct speaker *s = &G.speaker[i];
        uint32_t first, last;
        uint64_t lacks = 0, extra = 0;
        if (!s->tracked)
            continue;
        memcpy(want, G.live, G.words * 8);
        own_range(s, &first, &last);
        for (uint32_t id = first; id < last; id++)
            clear_bit(want, id);
        for (uint32_t w = 0; w < G.words; w++) {
            lacks += (uint64_t)__builtin_popcountll(want[w] & ~s->have[w]);
            extra += (uint64_t)__builtin_popcountll(s->have[w] & ~want[w]);
        }
        wrong += lacks || extra || s->state != ESTABLISHED;
        *missing += lacks;
        *surplus += extra;
    }
    free(want);
    return wrong;
}

void routes_init(void)
{
    if (G.mode == CLUSTER)
        G.total = G.speakers * G.per_speaker;
    if ((G.mode == CLUSTER && G.total > 1u << 18) || (G.mode == TABLE && G.total > 1u << 22))
        die("too many prefixes: %u", G.total);
    G.words = (G.total + 63) / 64 + 1;
    G.live = must_alloc(G.words, 8);
    if (G.mode == CLUSTER)
        memos = must_alloc(G.speakers, sizeof *memos);
    G.pending_change = must_alloc(G.total + 1, 4);
    uint32_t sets = G.mode == CLUSTER ? G.speakers : G.mode == TABLE ? (G.total + G.group - 1) / G.group : 0;
    expected = must_alloc(sets + 1, 8);
    for (uint32_t i = 0; i < sets; i++) {
        uint8_t bytes[1024];
        struct attributes a;
        uint8_t *end = G.mode == CLUSTER ? node_attributes(bytes, &G.speaker[i], 0) : table_attributes(bytes, &G.speaker[0], i);
        if (!read_attributes(bytes, (uint32_t)(end - bytes), &a))
            die("the generator's own attributes do not parse");
        expected[i] = a.hash;
    }
}

/* ---- recorded streams -------------------------------------------------- */

/* The file: per sender in turn, a 4-octet length in network order and that many octets of UPDATEs. */
void stream_load(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        die("cannot read the stream");
    stream_slots = 1u << 21;
    stream_key = must_alloc(stream_slots, 8);
    stream_id = must_alloc(stream_slots, 4);
    stream_prefix = must_alloc(stream_slots, 8);
    stream_bytes = must_alloc(G.senders, sizeof *stream_bytes);
    stream_length = must_alloc(G.senders, sizeof *stream_length);
    memset(stream_key, 0xff, stream_slots * 8);
    G.total = 0;
    for (uint32_t i = 0; i < G.senders; i++) {
        uint8_t raw[4];
        if (fread(raw, 1, 4, file) != 4)
            die("the stream ends before sender %u", i);
        size_t length = get32(raw);
        uint8_t *bytes = stream_bytes[i] = must_alloc(length + 1, 1);
        stream_length[i] = length;
        if (fread(bytes, 1, length, file) != length)
            die("the stream ends within sender %u", i);
        for (const uint8_t *m = bytes; m < bytes + length; m += get16(m + 16)) {
            const uint8_t *end = m + get16(m + 16), *p = m + 21;
            if (end < m + 23 || end > bytes + length || m[18] != 2 || get16(m + 19))
                die("the stream of sender %u is not a run of announcing UPDATEs", i);
            p += 2 + get16(p);
            uint32_t id;
            while (p < end)
                if (!next_prefix(&p, end, &id, true))
                    die("the stream of sender %u has a bad prefix", i);
        }
    }
    fclose(file);
}

/* One line per prefix held by the first receiver: prefix, announcer's index, hash of the attributes. */
void stream_dump(const char *path)
{
    const struct speaker *s = &G.speaker[G.senders];
    FILE *file = fopen(path, "w");
    if (!file)
        die("cannot write the dump");
    for (uint32_t id = 0; id < G.total; id++) {
        if (!bit(s->have, id))
            continue;
        uint32_t address = (uint32_t)stream_prefix[id];
        fprintf(file, "%u.%u.%u.%u/%u %d %016" PRIx64 "\n", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255,
                (unsigned)(stream_prefix[id] >> 32), (int)(s->origin[id] - FIRST_IDENTIFIER), s->value[id]);
    }
    fclose(file);
}

uint64_t stream_digest(const struct speaker *s)
{
    uint64_t digest = 0;
    for (uint32_t id = 0; id < G.total; id++)
        if (bit(s->have, id))
            digest += mix(stream_prefix[id] ^ mix(s->value[id]) ^ mix(s->origin[id] + 1ull));
    return digest;
}
