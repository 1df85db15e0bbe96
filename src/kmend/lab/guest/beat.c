// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the lab's containers run: proof from inside an unprivileged container that nothing stopped or restarted.
 *
 *   beat NAME PEER [PROBE_MS]
 *
 * Writes to /beat/NAME.log, one line each, times in ms of CLOCK_REALTIME:
 *   s TIME BOOTTIME_MS           started
 *   h TIME                       a heartbeat, every 50 ms
 *   c TIME | x TIME              the TCP connection to PEER came up | broke
 *   p TIME PROBE CODE            a program of /probes was run, every PROBE_MS (without it: never)
 * The address of NAME is found by its peer in /beat/NAME.addr.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BEAT_MS 50
#define PORT 9000
#define LOST_MS 20000 /* an echo that takes longer is a broken connection */

static int out = -1;

static long long ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void note(const char *format, ...)
{
	char line[256];
	va_list args;

	va_start(args, format);
	int size = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(out, line, size) != size)
		_exit(3);
}

static void publish_address(const char *name)
{
	char path[128], text[INET_ADDRSTRLEN + 1] = "127.0.0.1";
	struct ifaddrs *all, *one;

	if (!getifaddrs(&all))
		for (one = all; one; one = one->ifa_next)
			if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET && !(one->ifa_flags & IFF_LOOPBACK))
				inet_ntop(AF_INET, &((struct sockaddr_in *)one->ifa_addr)->sin_addr, text, sizeof(text));
	snprintf(path, sizeof(path), "/beat/%s.addr", name);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);

	if (write(fd, text, strlen(text)) < 0)
		_exit(3);
	close(fd);
}

static int peer_address(const char *peer, struct sockaddr_in *to)
{
	char path[128], text[64] = { 0 };

	snprintf(path, sizeof(path), "/beat/%s.addr", peer);
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return -1;
	ssize_t size = read(fd, text, sizeof(text) - 1);

	close(fd);
	*to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(PORT) };
	return size > 0 && inet_pton(AF_INET, text, &to->sin_addr) == 1 ? 0 : -1;
}

static int listen_here(void)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = INADDR_ANY };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&here, sizeof(here)) || listen(fd, 8))
		_exit(4);
	return fd;
}

/* Whoever connects gets back what they send. */
static void echo(int listener, int *client)
{
	char chunk[256];
	ssize_t size;
	int fresh = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fresh >= 0) {
		if (*client >= 0)
			close(*client);
		*client = fresh;
	}
	while (*client >= 0 && (size = read(*client, chunk, sizeof(chunk))) != 0) {
		if (size < 0)
			return;
		if (write(*client, chunk, size) != size)
			break;
	}
	if (*client >= 0)
		close(*client);
	*client = -1;
}

struct link {
	int fd, up;
	long long heard, tried;
};

static void drop(struct link *link)
{
	if (link->up)
		note("x %lld\n", ms(CLOCK_REALTIME));
	close(link->fd);
	link->fd = -1;
	link->up = 0;
}

static void keep(struct link *link, const char *peer)
{
	struct sockaddr_in to;
	char chunk[256];
	long long now = ms(CLOCK_MONOTONIC);

	if (link->fd < 0) {
		if (now - link->tried < 500 || peer_address(peer, &to))
			return;
		link->tried = link->heard = now;
		link->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connect(link->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS) {
			drop(link);
			return;
		}
	}
	if (write(link->fd, "k", 1) < 0 && errno != EAGAIN && errno != ENOTCONN) {
		drop(link);
		return;
	}
	ssize_t size = read(link->fd, chunk, sizeof(chunk));

	if (size > 0) {
		if (!link->up)
			note("c %lld\n", ms(CLOCK_REALTIME));
		link->up = 1;
		link->heard = now;
	} else if (!size || (errno != EAGAIN && errno != ENOTCONN) || now - link->heard > LOST_MS) {
		drop(link);
	}
}

static int run_probe(const char *path)
{
	pid_t child = fork();
	int status;

	if (!child) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		alarm(30);
		execl(path, path, (char *)NULL);
		_exit(127);
	}
	if (waitpid(child, &status, 0) != child)
		return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void probe_for_ever(int every_ms)
{
	glob_t found;

	for (;; usleep(every_ms * 1000)) {
		if (glob("/probes/*", 0, NULL, &found))
			continue;
		for (size_t i = 0; i < found.gl_pathc; i++) {
			int code = run_probe(found.gl_pathv[i]);

			note("p %lld %s %d\n", ms(CLOCK_REALTIME), strrchr(found.gl_pathv[i], '/') + 1, code);
		}
		globfree(&found);
	}
}

int main(int count, char **words)
{
	struct link link = { .fd = -1 };
	int listener, client = -1;
	char path[128];
	long long next;

	if (count < 3)
		return 2;
	snprintf(path, sizeof(path), "/beat/%s.log", words[1]);
	out = open(path, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0644);
	if (out < 0)
		return 3;
	signal(SIGPIPE, SIG_IGN);
	note("s %lld %lld\n", ms(CLOCK_REALTIME), ms(CLOCK_BOOTTIME));
	if (count > 3 && atoi(words[3]) > 0 && !fork())
		probe_for_ever(atoi(words[3]));
	listener = listen_here();
	publish_address(words[1]);
	for (next = ms(CLOCK_MONOTONIC);;) {
		long long now = ms(CLOCK_MONOTONIC);

		if (now < next) {
			usleep((next - now) * 1000);
			continue;
		}
		next = now - next > BEAT_MS ? now + BEAT_MS : next + BEAT_MS;
		note("h %lld\n", ms(CLOCK_REALTIME));
		echo(listener, &client);
		keep(&link, words[2]);
	}
}
