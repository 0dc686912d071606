/* The plainest relay in C, as a yardstick: one socket per leg, epoll, recvfrom and sendto, nothing checked or counted.
 *
 * epoll_relay IP < lines of "a-ip a-port b-ip b-port"
 * prints lines of "relay-port-for-a relay-port-for-b", then "ready"; ends at end of input after that is closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct leg {
    int fd, other;
    struct sockaddr_in party;
};

static int open_leg(const char *host, unsigned *port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(host)};
    socklen_t size = sizeof at;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) < 0 || getsockname(fd, (struct sockaddr *)&at, &size) < 0) {
        perror("socket");
        exit(1);
    }
    *port = ntohs(at.sin_port);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    size_t room = 1024, count = 0;
    struct leg *legs = malloc(room * sizeof *legs);
    int poller = epoll_create1(0);
    char a_host[64], b_host[64];
    unsigned a_port, b_port;
    while (scanf("%63s %u %63s %u", a_host, &a_port, b_host, &b_port) == 4) {
        if (count + 2 > room)
            legs = realloc(legs, (room *= 2) * sizeof *legs);
        unsigned ports[2];
        for (int side = 0; side < 2; side++) {
            struct leg *leg = &legs[count + (size_t)side];
            memset(leg, 0, sizeof *leg);
            leg->fd = open_leg(argv[1], &ports[side]);
            leg->other = (int)count + !side;
            leg->party.sin_family = AF_INET;
            leg->party.sin_addr.s_addr = inet_addr(side ? b_host : a_host);
            leg->party.sin_port = htons((uint16_t)(side ? b_port : a_port));
            struct epoll_event want = {.events = EPOLLIN, .data.u32 = (unsigned)count + (unsigned)side};
            epoll_ctl(poller, EPOLL_CTL_ADD, leg->fd, &want);
        }
        count += 2;
        printf("%u %u\n", ports[0], ports[1]);
    }
    printf("ready\n");
    fflush(stdout);
    struct epoll_event ready[512];
    char packet[2048];
    for (;;) {
        int n = epoll_wait(poller, ready, 512, -1);
        for (int i = 0; i < n; i++) {
            struct leg *leg = &legs[ready[i].data.u32], *other = &legs[leg->other];
            struct sockaddr_in from;
            socklen_t size = sizeof from;
            ssize_t length = recvfrom(leg->fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &size);
            if (length < 0)
                continue;
            if (from.sin_addr.s_addr != leg->party.sin_addr.s_addr || from.sin_port != leg->party.sin_port)
                continue;
            sendto(other->fd, packet, (size_t)length, 0, (struct sockaddr *)&other->party, sizeof other->party);
        }
    }
}
