/*
 * Tries ways into the kernel, each in a process of its own, and says whether it stood open or why not.
 * Questions come through the named pipe /gate/in, one line of words each; answers go into /gate/out.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/io_uring.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>

/* Sends a message and returns 0, or -1 with the errno that the kernel answers. */
static int ask(int protocol, struct nlmsghdr *message)
{
	char answer[4096];
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int sock = socket(AF_NETLINK, SOCK_RAW, protocol);

	if (sock < 0 || sendto(sock, message, message->nlmsg_len, 0, (void *)&kernel, sizeof kernel) < 0)
		return -1;
	if (recv(sock, answer, sizeof answer, 0) < 0)
		return -1;
	struct nlmsghdr *head = (void *)answer;
	if (head->nlmsg_type == NLMSG_ERROR) {
		errno = -((struct nlmsgerr *)NLMSG_DATA(head))->error;
		return errno ? -1 : 0;
	}
	return 0;
}

/* ip_set's question for its protocol: type 1 of its subsystem, with the attribute that it wants. */
static int ipset(void)
{
	struct {
		struct nlmsghdr head;
		struct nfgenmsg family;
		struct nlattr attribute;
		unsigned char protocol, pad[3];
	} message = {
		.head = { sizeof message, NFNL_SUBSYS_IPSET << 8 | 1, NLM_F_REQUEST | NLM_F_ACK, 1, 0 },
		.family = { AF_INET, NFNETLINK_V0, 0 },
		.attribute = { sizeof(struct nlattr) + 1, 1 },
		.protocol = 7,
	};
	return ask(NETLINK_NETFILTER, &message.head);
}

/* Makes a network link of some kind. */
static int add_link(const char *kind)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
		struct nlattr outer, inner;
		char kind[12];
	} message = {
		.head = { sizeof message, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 1, 0 },
		.outer = { sizeof(struct nlattr) * 2 + 12, IFLA_LINKINFO },
		.inner = { sizeof(struct nlattr) + strlen(kind) + 1, IFLA_INFO_KIND },
	};
	strncpy(message.kind, kind, sizeof message.kind - 1);
	return ask(NETLINK_ROUTE, &message.head);
}

static int make_node(const char *path, int major_number, int minor_number)
{
	if (access(path, F_OK) && mknod(path, S_IFCHR | 0600, makedev(major_number, minor_number)))
		return -1;
	return open(path, O_RDWR);
}

static int discipline(int number)
{
	int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);

	return terminal < 0 ? -1 : ioctl(terminal, TIOCSETD, &number);
}

static int upper_protocol(const char *name)
{
	int sock = socket(AF_INET, SOCK_STREAM, 0);

	if (sock < 0)
		return -1;
	int result = setsockopt(sock, SOL_TCP, TCP_ULP, name, strlen(name));
	/* The module is there when it complains that there is no connection. */
	return result && errno == ENOTCONN ? 0 : result;
}

/* Loads a module from a file of the container's own. */
static int load(const char *path)
{
	int file = open(path, O_RDONLY);
	int result = file < 0 ? -1 : syscall(SYS_finit_module, file, "", 0);

	return result && errno == EEXIST ? 0 : result;
}

static int attempt(char **word)
{
	struct io_uring_params ring = { 0 };
	struct perf_event_attr event = { .type = PERF_TYPE_SOFTWARE, .size = sizeof event, .exclude_kernel = 1 };
	union bpf_attr map = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };

	if (!strcmp(word[0], "socket"))
		return socket(atoi(word[1]), atoi(word[2]), atoi(word[3]));
	if (!strcmp(word[0], "ipset"))
		return ipset();
	if (!strcmp(word[0], "link"))
		return add_link(word[1]);
	if (!strcmp(word[0], "node"))
		return make_node(word[1], atoi(word[2]), atoi(word[3]));
	if (!strcmp(word[0], "discipline"))
		return discipline(atoi(word[1]));
	if (!strcmp(word[0], "ulp"))
		return upper_protocol(word[1]);
	if (!strcmp(word[0], "fsopen"))
		return syscall(430, word[1], 0);
	if (!strcmp(word[0], "bpf"))
		return syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map);
	if (!strcmp(word[0], "io_uring"))
		return syscall(425, 1, &ring);
	if (!strcmp(word[0], "perf"))
		return syscall(SYS_perf_event_open, &event, 0, -1, -1, 0);
	if (!strcmp(word[0], "load"))
		return load(word[1]);
	if (!strcmp(word[0], "keyctl"))
		return syscall(SYS_keyctl, 0, -3, 1);
	errno = ENOSYS;
	return -1;
}

static int try(char **word)
{
	int result;

	if (strcmp(word[0], "anyhow"))
		return attempt(word);
	/* As it is, and, where that fails, in namespaces of its own. */
	result = attempt(word + 1);
	if (result < 0 && !unshare(CLONE_NEWUSER | CLONE_NEWNET))
		result = attempt(word + 1);
	return result;
}

static void answer(char *line)
{
	char *word[8] = { 0 }, text[200];
	int count = 0, result, out;

	for (char *part = strtok(line, " \n"); part && count < 7; part = strtok(NULL, " \n"))
		word[count++] = part;
	result = count ? try(word) : -1;
	int length = snprintf(text, sizeof text, "%s\n", result >= 0 ? "open" : strerror(errno));
	out = open("/gate/out", O_WRONLY);
	if (out < 0 || write(out, text, length) < 0)
		_exit(1);
	_exit(0);
}

int main(void)
{
	char line[400];

	for (;;) {
		FILE *in = fopen("/gate/in", "r");

		if (!in)
			return 1;
		if (fgets(line, sizeof line, in)) {
			pid_t child = fork();

			if (!child)
				answer(line);
			waitpid(child, NULL, 0);
		}
		fclose(in);
	}
}
