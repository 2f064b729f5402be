/* One request, one answer, one octet each, again and again over one TCP connection: netperf's TCP_RR.
 *
 *   echo serve ADDRESS PORT
 *   echo ask   ADDRESS PORT SECONDS     prints round trips per second, of the best TOGETHER in a row
 *
 * Both ends run on the first processor they may use: how long it takes to wake another one says nothing of the way.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TOGETHER 200

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void settle(void) {
    cpu_set_t allowed, one;
    int cpu = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void prompt(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int main(int count, char **words) {
    struct sockaddr_in where = {.sin_family = AF_INET};
    char octet = 'x';
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (count < 4 || inet_pton(AF_INET, words[2], &where.sin_addr) != 1) return 2;
    where.sin_port = htons(atoi(words[3]));
    settle();
    if (strcmp(words[1], "serve") == 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&where, sizeof where) || listen(fd, 4)) return perror("listen"), 1;
        for (;;) {
            int client = accept(fd, NULL, NULL);
            if (client < 0) return perror("accept"), 1;
            prompt(client);
            while (read(client, &octet, 1) == 1 && write(client, &octet, 1) == 1) continue;
            close(client);
        }
    }
    if (count < 5 || connect(fd, (struct sockaddr *)&where, sizeof where)) return perror("connect"), 1;
    prompt(fd);
    double until = now() + atof(words[4]), begun, best = 1e9;
    while ((begun = now()) < until) {
        for (int trip = 0; trip < TOGETHER; trip++)
            if (write(fd, &octet, 1) != 1 || read(fd, &octet, 1) != 1) return perror("echo"), 1;
        double took = now() - begun;
        if (took < best) best = took;
    }
    printf("%.1f\n", TOGETHER / best);
    return 0;
}
