/* Sends RTP to a relay as raw frames, many flows at one total rate, and times what comes back.
 *
 * generator INTERFACE SOURCE_MAC DESTINATION_MAC RELAY_IP FLOWS RATE SECONDS < lines of "source-ip source-port relay-port"
 *
 * RATE in packets/s over all flows, 0 = as fast as possible. Flows take turns, so packets of one flow are as far apart
 * as they can be. Every payload carries its sending time; frames that come back to a port divisible by 128 are timed.
 * Prints one JSON line: sent, seconds, samples, p50, p99, max (microseconds).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD = 172, HEADERS = 42, FRAME = HEADERS + PAYLOAD, BURST = 64, STAMP = HEADERS + 12, SAMPLES = 1 << 20 };

static volatile int running = 1;
static uint32_t *samples;
static size_t sample_count;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void read_mac(const char *text, uint8_t *mac)
{
    unsigned v[6];
    if (sscanf(text, "%x:%x:%x:%x:%x:%x", v, v + 1, v + 2, v + 3, v + 4, v + 5) != 6) {
        fprintf(stderr, "%s is no MAC address\n", text);
        exit(2);
    }
    for (int i = 0; i < 6; i++)
        mac[i] = (uint8_t)v[i];
}

static int packet_socket(const char *interface, int protocol)
{
    int fd = socket(AF_PACKET, SOCK_RAW, protocol);
    if (fd < 0)
        fail("socket");
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = (uint16_t)protocol,
                             .sll_ifindex = (int)if_nametoindex(interface)};
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
        fail("bind");
    return fd;
}

/* UDP over IPv4 to a port divisible by 128, and no frame of our own. */
static void sample_only(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)SKF_AD_OFF + SKF_AD_PKTTYPE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 7, 0),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 36),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 127, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 128),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
        fail("SO_ATTACH_FILTER");
}

static void *listen_back(void *argument)
{
    int fd = *(int *)argument;
    uint8_t frame[256];
    while (running) {
        ssize_t size = recv(fd, frame, sizeof frame, 0);
        if (size < STAMP + 8)
            continue;
        uint64_t sent;
        memcpy(&sent, frame + STAMP, 8);
        uint64_t took = now() - sent;
        if (sample_count < SAMPLES && took < 4000000000u)
            samples[sample_count++] = (uint32_t)took;
    }
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint16_t ip_checksum(const uint8_t *header)
{
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)header[i] << 8 | header[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static void build(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint32_t source, unsigned source_port,
                  uint32_t relay, unsigned relay_port, uint32_t ssrc)
{
    memset(frame, 0, FRAME);
    memcpy(frame, to, 6);
    memcpy(frame + 6, from, 6);
    put16(frame + 12, ETH_P_IP);
    uint8_t *ip = frame + 14;
    ip[0] = 0x45;
    put16(ip + 2, 28 + PAYLOAD);
    ip[8] = 64;
    ip[9] = 17;
    memcpy(ip + 12, &source, 4);
    memcpy(ip + 16, &relay, 4);
    put16(ip + 10, ip_checksum(ip));
    uint8_t *udp = ip + 20;
    put16(udp, source_port);
    put16(udp + 2, relay_port);
    put16(udp + 4, 8 + PAYLOAD);
    uint8_t *rtp = udp + 8;
    rtp[0] = 0x80;
    put32(rtp + 8, ssrc);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: generator INTERFACE SOURCE_MAC DESTINATION_MAC RELAY_IP FLOWS RATE SECONDS\n");
        return 2;
    }
    uint8_t from[6], to[6];
    read_mac(argv[2], from);
    read_mac(argv[3], to);
    uint32_t relay = inet_addr(argv[4]);
    size_t flows = strtoul(argv[5], NULL, 10);
    double rate = atof(argv[6]), seconds = atof(argv[7]);
    uint8_t *frames = malloc(flows * FRAME);
    samples = malloc(SAMPLES * sizeof *samples);
    if (!frames || !samples || !flows)
        return 2;
    for (size_t i = 0; i < flows; i++) {
        char host[64];
        unsigned port, relay_port;
        if (scanf("%63s %u %u", host, &port, &relay_port) != 3) {
            fprintf(stderr, "flow %zu is missing\n", i);
            return 2;
        }
        build(frames + i * FRAME, to, from, inet_addr(host), port, relay, relay_port, (uint32_t)(i + 1));
    }
    int back = packet_socket(argv[1], htons(ETH_P_ALL));
    sample_only(back);
    struct timeval patience = {0, 100000};
    setsockopt(back, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int out = packet_socket(argv[1], 0), one = 1;
    setsockopt(out, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
    pthread_t listener;
    pthread_create(&listener, NULL, listen_back, &back);

    struct mmsghdr messages[BURST];
    struct iovec vectors[BURST];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BURST; i++) {
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        vectors[i].iov_len = FRAME;
    }
    uint64_t sent = 0, start = now(), end = start + (uint64_t)(seconds * 1e9);
    uint32_t round = 0;
    size_t next = 0;
    for (;;) {
        uint64_t t = now();
        if (t >= end)
            break;
        uint64_t due = BURST;
        if (rate > 0) {
            uint64_t wanted = (uint64_t)((double)(t - start) * rate / 1e9);
            if (wanted <= sent) {
                struct timespec nap = {0, 50000};
                nanosleep(&nap, NULL);
                continue;
            }
            due = wanted - sent < BURST ? wanted - sent : BURST;
        }
        for (uint64_t i = 0; i < due; i++) {
            uint8_t *frame = frames + next * FRAME;
            put16(frame + HEADERS + 2, round & 0xffff);
            put32(frame + HEADERS + 4, round * 160);
            memcpy(frame + STAMP, &t, 8);
            vectors[i].iov_base = frame;
            if (++next == flows) {
                next = 0;
                round++;
            }
        }
        uint64_t done = 0;
        while (done < due) {
            int n = sendmmsg(out, messages + done, (unsigned)(due - done), 0);
            if (n < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
                fail("sendmmsg");
            if (n > 0)
                done += (uint64_t)n;
        }
        sent += due;
    }
    double took = (double)(now() - start) / 1e9;
    usleep(200000);
    running = 0;
    pthread_join(listener, NULL);
    qsort(samples, sample_count, sizeof *samples, ascending);
    double p50 = 0, p99 = 0, top = 0;
    if (sample_count) {
        p50 = samples[sample_count / 2] / 1e3;
        p99 = samples[(size_t)((double)sample_count * 0.99)] / 1e3;
        top = samples[sample_count - 1] / 1e3;
    }
    printf("{\"sent\": %llu, \"seconds\": %.4f, \"samples\": %zu, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}\n",
           (unsigned long long)sent, took, sample_count, p50, p99, top);
    return 0;
}
