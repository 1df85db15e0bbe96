// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The lab's own program in the guest: /init of the initramfs, and the far end of the control channel.
 *
 *   /init               mounts, loads the modules of /lab/modules, then serves; or with kmend.root=1 on the kernel
 *                       command line moves on to the Debian disk, whose kmend-guest.service runs `guest serve`
 *   guest serve         answers on the virtio-serial port
 *   guest load FILE     finit_module; prints the error
 *   guest unload NAME   delete_module
 *
 * Channel, one line each (lab/channel.py is the other end):
 *   →  run ID UID TIMEOUT_MS ARGS STDIN      ARGS: NUL-separated, both base64, "-" for empty
 *   ←  hello 1 · alive UPTIME_MS · done ID CODE STDOUT STDERR
 * CODE: exit code, 128+signal, 124 out of time, 125 out of time and cannot be killed, 127 cannot be started.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_MAX (8u << 20)
#define LAB "/lab"
#define ROOT "/newroot"
#define NOBODY 65534

struct bytes {
	char *data;
	size_t size, room;
};

static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void say(const char *what, const char *which)
{
	fprintf(stderr, "kmend-guest: %s %s: %s\n", what, which, strerror(errno));
}

static void append(struct bytes *to, const char *data, size_t size)
{
	if (to->size + size + 1 > to->room) {
		to->room = (to->size + size + 1) * 2;
		to->data = realloc(to->data, to->room);
		if (!to->data)
			_exit(70);
	}
	memcpy(to->data + to->size, data, size);
	to->size += size;
	to->data[to->size] = 0;
}

/* ---- base64 ---- */

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode(struct bytes *to, const struct bytes *from)
{
	const unsigned char *in = (const unsigned char *)from->data;

	if (!from->size)
		append(to, "-", 1);
	for (size_t i = 0; i < from->size; i += 3) {
		size_t left = from->size - i;
		unsigned v = in[i] << 16 | (left > 1 ? in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
		char four[4] = { DIGITS[v >> 18], DIGITS[v >> 12 & 63],
				 left > 1 ? DIGITS[v >> 6 & 63] : '=', left > 2 ? DIGITS[v & 63] : '=' };
		append(to, four, 4);
	}
}

static void decode(struct bytes *to, const char *in)
{
	unsigned v = 0;
	int bits = 0;

	for (append(to, "", 0); *in && strcmp(in, "-"); in++) {
		const char *digit = strchr(DIGITS, *in);

		if (!digit)
			break;
		v = v << 6 | (unsigned)(digit - DIGITS);
		bits += 6;
		if (bits >= 8) {
			char byte = (char)(v >> (bits -= 8));

			append(to, &byte, 1);
		}
	}
}

/* ---- modules ---- */

static int load(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	int failed = fd < 0 || syscall(SYS_finit_module, fd, "", 0);

	if (failed)
		say("cannot load", file);
	if (fd >= 0)
		close(fd);
	return failed;
}

static int unload(const char *name)
{
	int failed = syscall(SYS_delete_module, name, O_NONBLOCK) != 0;

	if (failed)
		say("cannot unload", name);
	return failed;
}

static void load_listed(void)
{
	char line[512];
	FILE *list = fopen(LAB "/modules", "re");

	while (list && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = 0;
		load(line);
	}
	if (list)
		fclose(list);
}

/* ---- running one command ---- */

static void become(int uid, char **words, int pipes[3][2])
{
	setsid();
	dup2(pipes[0][0], 0);
	dup2(pipes[1][1], 1);
	dup2(pipes[2][1], 2);
	signal(SIGPIPE, SIG_DFL);
	if (uid && (setgroups(0, NULL) || setgid(uid) || setuid(uid)))
		_exit(126);
	execvp(words[0], words);
	say("cannot start", words[0]);
	_exit(127);
}

static int take(int fd, struct bytes *to)
{
	char chunk[65536];
	ssize_t size = read(fd, chunk, sizeof(chunk));

	if (size > 0 && to->size < OUTPUT_MAX)
		append(to, chunk, size);
	return size > 0 || (size < 0 && errno == EAGAIN);
}

static int code_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Feeds stdin and collects output until the command has ended or its time is up. */
static int attend(pid_t child, const struct bytes *in, struct bytes out[2], int pipes[3][2], long long deadline)
{
	struct pollfd fds[3] = { { pipes[0][1], POLLOUT, 0 }, { pipes[1][0], POLLIN, 0 }, { pipes[2][0], POLLIN, 0 } };
	size_t fed = 0;
	int status;

	for (;;) {
		if (fds[0].fd >= 0 && fed >= in->size) {
			close(fds[0].fd);
			fds[0].fd = -1;
		}
		poll(fds, 3, 20);
		if (fds[0].fd >= 0 && fds[0].revents) {
			ssize_t size = write(fds[0].fd, in->data + fed, in->size - fed);

			if (size > 0)
				fed += size;
			else if (errno != EAGAIN)
				fed = in->size;
		}
		for (int i = 1; i < 3; i++)
			if (fds[i].fd >= 0 && fds[i].revents && !take(fds[i].fd, &out[i - 1]))
				fds[i].fd = -1;
		/* A child in the background may hold the pipes: the command's own end is what counts. */
		if (waitpid(child, &status, WNOHANG) == child) {
			for (int i = 1; i < 3; i++)
				while (fds[i].fd >= 0 && poll(&fds[i], 1, 0) > 0 && take(fds[i].fd, &out[i - 1]))
					;
			return code_of(status);
		}
		if (now_ms() > deadline)
			return -1;
	}
}

static int put_down(pid_t child)
{
	kill(-child, SIGKILL);
	for (int i = 0; i < 100; i++) {
		if (waitpid(child, NULL, WNOHANG) == child)
			return 124;
		usleep(50000);
	}
	return 125;
}

static int command(int uid, long timeout_ms, const struct bytes *args, const struct bytes *in, struct bytes out[2])
{
	char *words[256] = { 0 };
	int pipes[3][2], count = 0, code;
	pid_t child;

	for (size_t at = 0; at < args->size && count < 255; at += strlen(args->data + at) + 1)
		words[count++] = args->data + at;
	if (!count)
		return 127;
	for (int i = 0; i < 3; i++)
		if (pipe2(pipes[i], O_CLOEXEC))
			return 126;
	child = fork();
	if (!child)
		become(uid, words, pipes);
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
	fcntl(pipes[0][1], F_SETFL, O_NONBLOCK);
	code = attend(child, in, out, pipes, now_ms() + timeout_ms);
	return code < 0 ? put_down(child) : code;
}

/* ---- the channel ---- */

static int port = -1;

/* Workers are processes of their own, so a lock keeps their lines whole. */
static void send_line(const struct bytes *line)
{
	int guard = open("/run/kmend-guest.lock", O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	flock(guard, LOCK_EX);
	for (size_t sent = 0; sent < line->size;) {
		size_t left = line->size - sent;
		ssize_t size = write(port, line->data + sent, left > 16384 ? 16384 : left);

		if (size < 0 && errno != EINTR && errno != EAGAIN)
			break;
		if (size > 0)
			sent += size;
		else
			usleep(1000);
	}
	close(guard);
}

static void answer(const char *id, int code, const struct bytes out[2])
{
	struct bytes line = { 0 };
	char head[96];

	append(&line, head, snprintf(head, sizeof(head), "done %.20s %d ", id, code));
	encode(&line, &out[0]);
	append(&line, " ", 1);
	encode(&line, &out[1]);
	append(&line, "\n", 1);
	send_line(&line);
}

static void alive(const char *word)
{
	struct bytes line = { 0 };
	char text[64];

	append(&line, text, snprintf(text, sizeof(text), "%s %lld\n", word, now_ms()));
	send_line(&line);
	free(line.data);
}

static void work(char *line)
{
	char *rest = line, *word[6] = { 0 };
	struct bytes args = { 0 }, in = { 0 }, out[2] = { { 0 }, { 0 } };

	for (int i = 0; i < 6; i++)
		word[i] = strsep(&rest, " ");
	if (!word[5] || strcmp(word[0], "run"))
		_exit(1);
	decode(&args, word[4]);
	decode(&in, word[5]);
	signal(SIGCHLD, SIG_DFL);
	int code = command(atoi(word[2]), atol(word[3]), &args, &in, out);

	answer(word[1], code, out);
	_exit(0);
}

static void each_line(struct bytes *buffer)
{
	char *end;

	while ((end = memchr(buffer->data, '\n', buffer->size))) {
		size_t used = end - buffer->data + 1;

		*end = 0;
		if (!fork())
			work(buffer->data);
		memmove(buffer->data, buffer->data + used, buffer->size - used);
		buffer->size -= used;
	}
}

static int open_port(void)
{
	for (int i = 0; i < 600; i++) {
		glob_t found;

		if (!glob("/dev/vport*p1", 0, NULL, &found)) {
			int fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);

			if (fd >= 0)
				return fd;
		}
		usleep(50000);
	}
	say("no port", "/dev/vport*p1");
	return -1;
}

static int serve(void)
{
	struct bytes buffer = { 0 };
	long long said;

	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	mkdir("/run", 0755);
	port = open_port();
	if (port < 0)
		return 1;
	append(&buffer, "", 0);
	alive("hello");
	for (said = now_ms();;) {
		struct pollfd fd = { port, POLLIN, 0 };
		char chunk[65536];
		ssize_t size;

		poll(&fd, 1, 500);
		if (fd.revents & POLLIN) {
			size = read(port, chunk, sizeof(chunk));
			if (size > 0) {
				append(&buffer, chunk, size);
				each_line(&buffer);
			}
		} else if (fd.revents) {
			usleep(50000); /* the host's end is not connected yet */
		}
		if (now_ms() - said >= 500) {
			alive("alive");
			said = now_ms();
		}
	}
}

/* ---- /init ---- */

static int asked(const char *word)
{
	char line[4096] = { 0 };
	int fd = open("/proc/cmdline", O_RDONLY);
	int size = read(fd, line, sizeof(line) - 1);

	close(fd);
	return size > 0 && strstr(line, word) != NULL;
}

static void mount_on(const char *what, const char *where, const char *type, unsigned long flags)
{
	for (int i = 0; i < 100; i++) { /* a disk may take a moment to show up */
		mkdir(where, 0755);
		if (!mount(what, where, type, flags, NULL) || errno == EBUSY)
			return;
		usleep(50000);
	}
	say("cannot mount", where);
}

static int copy(const char *from, const char *to)
{
	char chunk[65536];
	int in = open(from, O_RDONLY), out = open(to, O_CREAT | O_TRUNC | O_WRONLY, 0755);
	ssize_t size;

	while ((size = read(in, chunk, sizeof(chunk))) > 0)
		if (write(out, chunk, size) != size)
			break;
	fchmod(out, 0755);
	close(in);
	close(out);
	return size != 0;
}

static void copy_all(const char *folder, const char *to)
{
	char pattern[256], target[512];
	glob_t found;

	mkdir(to, 0755);
	snprintf(pattern, sizeof(pattern), "%s/*", folder);
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		struct stat about;

		snprintf(target, sizeof(target), "%s/%s", to, strrchr(found.gl_pathv[i], '/') + 1);
		if (stat(found.gl_pathv[i], &about))
			continue;
		if (S_ISDIR(about.st_mode))
			copy_all(found.gl_pathv[i], target);
		else
			copy(found.gl_pathv[i], target);
	}
}

/* On to the Debian disk; what the lab brings along lies in /run/kmend there. */
static void move_on(void)
{
	static const char *const kept[] = { "/proc", "/sys", "/dev" };
	struct utsname kernel;
	char path[300];

	uname(&kernel);
	mount_on("/dev/vda", ROOT, "ext4", 0);
	snprintf(path, sizeof(path), ROOT "/usr/lib/modules/%s", kernel.release);
	mkdir(ROOT "/usr/lib/modules", 0755);
	mount_on("/dev/vdb", path, "ext4", MS_RDONLY);
	mount_on("tmpfs", ROOT "/run", "tmpfs", MS_NOSUID | MS_NODEV);
	copy_all(LAB, ROOT "/run/kmend");
	copy("/init", ROOT "/run/kmend/guest");
	mkdir(ROOT "/run/kmend/probes", 0755);
	mkdir(ROOT "/run/kmend/beat", 0755);
	if (chown(ROOT "/run/kmend/beat", NOBODY, NOBODY))
		say("cannot own", "/run/kmend/beat");
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), ROOT "%s", kept[i]);
		mount(kept[i], path, NULL, MS_MOVE, NULL);
	}
	if (chdir(ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		say("cannot move to", ROOT);
	execl("/sbin/init", "/sbin/init", (char *)NULL);
	say("cannot start", "/sbin/init");
}

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static int init(void)
{
	int status;
	pid_t child;

	mount_on("proc", "/proc", "proc", 0);
	if (asked("kmend.probe=1")) {
		printf("kmend-guest: this accelerator works\n");
		power_off();
	}
	mount_on("sysfs", "/sys", "sysfs", 0);
	mount_on("devtmpfs", "/dev", "devtmpfs", 0);
	load_listed();
	if (asked("kmend.root=1"))
		move_on();
	mount_on("tmpfs", "/run", "tmpfs", 0);
	mount_on("tmpfs", "/tmp", "tmpfs", 0);
	chmod("/tmp", 01777);
	mkdir("/dev/pts", 0755);
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	child = fork();
	if (!child)
		_exit(serve());
	while (wait(&status) != child)
		;
	printf("kmend-guest: the channel is gone (status %d)\n", status);
	power_off();
	return 0;
}

int main(int count, char **words)
{
	if (getpid() == 1)
		return init();
	if (count == 2 && !strcmp(words[1], "serve"))
		return serve();
	if (count == 3 && !strcmp(words[1], "load"))
		return load(words[2]);
	if (count == 3 && !strcmp(words[1], "unload"))
		return unload(words[2]);
	fprintf(stderr, "guest serve | load FILE | unload NAME\n");
	return 2;
}
