/* One request, one answer, one octet each, again and again over one TCP connection: netperf's TCP_RR.
 *
 *   echo serve ADDRESS PORT
 *   echo ask   ADDRESS PORT SECONDS     prints round trips per second
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
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
    double begun = now(), until = begun + atof(words[4]), end = begun;
    long trips = 0;
    for (; end < until; trips++) {
        if (write(fd, &octet, 1) != 1 || read(fd, &octet, 1) != 1) return perror("echo"), 1;
        if ((trips & 15) == 0) end = now();
    }
    printf("%.1f\n", trips / (end - begun));
    return 0;
}
