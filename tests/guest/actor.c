/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an actor does when it is told.  Both halves are here: the director's calls, and the
 * loop of the process that they talk to.  One order at a time; no threads but libioasid's.
 */
#include "actor.h"

#include "actor_tables.h"
#include "edu_irq.h"
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <ioasid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct order {
	enum actor_op op;
	uint64_t a, b, c, d, e;
	char text[128];
};

struct self {
	struct ioasid_client *client;
	char lease[128];
	int memfd;
	uint8_t *bytes;
	uint64_t memory;
	struct device {
		int cdev;
		int irq;
		bool has_edu;
		struct edu edu;
	} devices[ACTOR_DEVICES];
};

void actor_pattern(uint8_t *bytes, size_t length, uint64_t seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < length; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		/* Never zero: a device whose read was refused holds zeros. */
		bytes[i] = seed ? (uint8_t)(x % 255 + 1) : 0;
	}
}

static int64_t fail_with(int r, struct ioasid_error *error)
{
	fprintf(stderr, "uid %u: %s: %s: %s\n", getuid(), error->method, error->reason,
		error->message);
	ioasid_error_free(error);
	return r;
}

static int memfd_new(unsigned seals, uint8_t **ret_bytes)
{
	size_t size = ACTOR_PAGES * ACTOR_PAGE;
	int fd = memfd_create("actor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *bytes;

	if (fd < 0 || ftruncate(fd, size))
		return -errno;
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	for (size_t page = 0; page < ACTOR_PAGES; page++)
		actor_pattern(bytes + page * ACTOR_PAGE, ACTOR_PAGE, 1000 + page);
	if (seals & F_SEAL_WRITE) {
		munmap(bytes, size);
		bytes = NULL;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | seals))
		return -errno;
	if (ret_bytes)
		*ret_bytes = bytes;
	return fd;
}

static int64_t do_memory(struct self *self, const struct ioasid_scope *scope,
			 enum actor_memory what)
{
	uint32_t flags = IOASID_READ | IOASID_WRITE;
	struct ioasid_memory *memory;
	struct ioasid_error *error;
	int fd = self->memfd, r;
	int64_t id;
	char path[64];

	if (what == ACTOR_MEMORY_RDONLY || what == ACTOR_MEMORY_SEALED)
		flags = IOASID_READ;
	if (what == ACTOR_MEMORY_RDONLY || what == ACTOR_MEMORY_RDONLY_WRITE) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", self->memfd);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	} else if (what != ACTOR_MEMORY) {
		fd = memfd_new(F_SEAL_WRITE, NULL);
		if (fd < 0)
			return fd;
	}
	r = ioasid_register_memory(self->client, scope, fd, 0, 0, flags, "actor", &memory, &error);
	if (fd != self->memfd)
		close(fd);
	if (r < 0)
		return fail_with(r, error);
	id = memory->id;
	ioasid_memory_free(memory);
	return id;
}

static int64_t do_alloc(struct self *self, const struct ioasid_scope *scope, const char *device)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = device[0] ? 1 : 0,
		.devices = &device,
	};
	struct ioasid_error *error;
	uint64_t id;
	int r = ioasid_alloc(self->client, scope, &request, &id, NULL, &error);

	return r < 0 ? fail_with(r, error) : (int64_t)id;
}

static int64_t do_map(struct self *self, const struct ioasid_scope *scope,
		      const struct order *order)
{
	const struct ioasid_map_entry entry = {
		.iova = order->b,
		.length = ACTOR_PAGE,
		.memory = order->e,
		.offset = order->c * ACTOR_PAGE,
		.flags = (uint32_t)order->d,
	};
	struct ioasid_error *error;
	int r = ioasid_map(self->client, scope, order->a, &entry, 1, NULL, &error);

	return r < 0 ? fail_with(r, error) : r;
}

static int64_t do_unmap(struct self *self, const struct ioasid_scope *scope,
			const struct order *order)
{
	const struct ioasid_range range = {order->b, ACTOR_PAGE};
	struct ioasid_error *error;
	int r = ioasid_unmap(self->client, scope, order->a, &range, 1, NULL, NULL, &error);

	return r < 0 ? fail_with(r, error) : r;
}

static void close_fd(struct device *device)
{
	if (device->has_edu)
		edu_close(&device->edu);
	device->has_edu = false;
	if (device->irq >= 0)
		close(device->irq);
	if (device->cdev >= 0)
		close(device->cdev);
	device->irq = device->cdev = -1;
}

static int64_t do_device_fd(struct self *self, const struct ioasid_scope *scope, const char *name,
			    struct device *device)
{
	struct ioasid_error *error;
	int r;

	close_fd(device);
	r = ioasid_device_fd(self->client, scope, name, &device->cdev, &error);
	if (r < 0)
		return fail_with(r, error);
	r = edu_open(device->cdev, &device->edu);
	device->has_edu = r == 0;
	return r;
}

/* Claims or releases what the text names. */
static int64_t do_devices(struct self *self, const struct ioasid_scope *scope,
			  const struct order *order)
{
	const char *names[ACTOR_DEVICES + 1];
	struct ioasid_error *error;
	char text[sizeof(order->text)], *rest = text, *word;
	size_t n = 0;
	int r;

	memcpy(text, order->text, sizeof(text));
	while (n < ACTOR_DEVICES + 1 && (word = strsep(&rest, " ")))
		names[n++] = word;
	if (order->op == ACT_CLAIM)
		r = ioasid_claim(self->client, scope, names, n, NULL, &error);
	else
		r = ioasid_release(self->client, scope, names, n, &error);
	return r < 0 ? fail_with(r, error) : r;
}

static int64_t do_translate(struct self *self, const struct ioasid_scope *scope,
			    const struct order *order)
{
	struct ioasid_translation *translation;
	struct ioasid_error *error;
	int r = ioasid_translate(self->client, scope, order->a, order->b, IOASID_ACCESS_READ,
				 &translation, &error);
	int64_t offset;

	if (r < 0)
		return fail_with(r, error);
	offset = translation->fault ? -EFAULT : (int64_t)translation->offset;
	ioasid_translation_free(translation);
	return offset;
}

static int64_t do_self_attach(const struct device *device, uint64_t first, uint64_t last)
{
	int64_t n = 0;

	for (uint64_t id = first; id <= last; id++)
		n += raw_attach(device->cdev, (uint32_t)id) == 0;
	return n;
}

static int64_t do_send_fds(struct self *self, int socket)
{
	int fds[] = {self->memfd, self->devices[0].cdev};
	size_t n = fds[1] >= 0 ? 2 : 1;
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(fds))];
	} control = {0};
	char byte = 0;
	struct iovec vector = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -errno;
}

static int64_t obey(struct self *self, const struct order *order, int socket)
{
	const struct ioasid_scope scope = {.lease = self->lease};
	struct device *device = &self->devices[order->e % ACTOR_DEVICES];
	const char *text = order->text;
	uint8_t pattern[ACTOR_PAGE];
	struct ioasid_options options = {0};
	struct ioasid_error *error;
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	int r;

	switch (order->op) {
	case ACT_CONNECT:
		options.reconnect_ms = order->a ? 0 : IOASID_NO_RECONNECT;
		r = ioasid_connect(text, &options, &self->client, &error);
		return r < 0 ? fail_with(r, error) : r;
	case ACT_LEASE:
		snprintf(self->lease, sizeof(self->lease), "%s", text);
		r = ioasid_lease_open(self->client, NULL, text, (uint32_t)order->a, -1, secret,
				      &error);
		return r < 0 ? fail_with(r, error) : r;
	case ACT_DISCONNECT:
		self->client = ioasid_client_unref(self->client);
		return 0;
	case ACT_CLAIM:
	case ACT_RELEASE:
		return do_devices(self, &scope, order);
	case ACT_DEVICE_FD:
		return do_device_fd(self, &scope, text, device);
	case ACT_CLOSE_FD:
		close_fd(device);
		return 0;
	case ACT_MEMORY:
		return do_memory(self, &scope, (enum actor_memory)order->a);
	case ACT_ALLOC:
		return do_alloc(self, &scope, text);
	case ACT_FREE:
		r = ioasid_free(self->client, &scope, order->a, NULL, &error);
		return r < 0 ? fail_with(r, error) : r;
	case ACT_MAP:
		return do_map(self, &scope, order);
	case ACT_UNMAP:
		return do_unmap(self, &scope, order);
	case ACT_ATTACH:
		r = ioasid_attach(self->client, &scope, text, IOASID_NO_PASID, order->a, &error);
		return r < 0 ? fail_with(r, error) : r;
	case ACT_REPLACE:
		r = ioasid_replace(self->client, &scope, text, IOASID_NO_PASID, order->a, &error);
		return r < 0 ? fail_with(r, error) : r;
	case ACT_DETACH:
		r = ioasid_detach(self->client, &scope, text, IOASID_NO_PASID, &error);
		return r < 0 ? fail_with(r, error) : r;
	case ACT_TO_DEVICE:
		return edu_to_device(&device->edu, order->a, ACTOR_BYTES);
	case ACT_FROM_DEVICE:
		return edu_from_device(&device->edu, order->a, order->b ? order->b : ACTOR_BYTES);
	case ACT_FILL:
		actor_pattern(self->bytes + order->a * ACTOR_PAGE, ACTOR_PAGE, order->b);
		return 0;
	case ACT_COMPARE:
		actor_pattern(pattern, sizeof(pattern), order->b);
		return memcmp(self->bytes + order->a * ACTOR_PAGE, pattern, ACTOR_BYTES) ? -EILSEQ
											 : 0;
	case ACT_TRUNCATE:
		return ftruncate(self->memfd, 0) ? -errno : 0;
	case ACT_PUNCH:
		return fallocate(self->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(order->a * ACTOR_PAGE), ACTOR_PAGE)
			       ? -errno
			       : 0;
	case ACT_SELF_ATTACH:
		return do_self_attach(device, order->a, order->b);
	case ACT_TRANSLATE:
		return do_translate(self, &scope, order);
	case ACT_SEND_FDS:
		return do_send_fds(self, socket);
	case ACT_IRQ_OPEN:
		return edu_irq_open(device->cdev, &device->irq);
	case ACT_IRQ:
		return edu_irq_raise(&device->edu, device->irq, (int)order->a);
	default:
		return actor_tables(
			&(struct tables_actor){self->client, &scope, self->bytes}, order->op, text,
			(const uint64_t[5]){order->a, order->b, order->c, order->d, order->e});
	}
}

static void __attribute__((noreturn)) act(int socket, unsigned uid)
{
	struct self self = {.memfd = -1};
	struct order order;
	int64_t result = raw_drop_to(uid);

	for (size_t i = 0; i < ACTOR_DEVICES; i++)
		self.devices[i].irq = self.devices[i].cdev = -1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!result) {
		self.memfd = memfd_new(0, &self.bytes);
		result = self.memfd < 0 ? self.memfd : 0;
	}
	if (write(socket, &result, sizeof(result)) != sizeof(result))
		_exit(1);
	while (read(socket, &order, sizeof(order)) == sizeof(order)) {
		result = obey(&self, &order, socket);
		if (write(socket, &result, sizeof(result)) != sizeof(result))
			break;
	}
	_exit(0);
}

static int64_t result_of(struct actor *actor)
{
	int64_t result;

	if (read(actor->orders, &result, sizeof(result)) != sizeof(result)) {
		printf("not ok actor %d: it ended\n", (int)actor->pid);
		exit(1);
	}
	return result;
}

void actor_start(struct actor *actor, unsigned uid)
{
	int sockets[2];
	int64_t result;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets)) {
		perror("socketpair");
		exit(1);
	}
	actor->pid = fork();
	if (actor->pid == 0) {
		/* Also those of actors before it, which would not see their director end. */
		close_range(STDERR_FILENO + 1, (unsigned)sockets[1] - 1, 0);
		act(sockets[1], uid);
	}
	close(sockets[1]);
	actor->orders = sockets[0];
	result = result_of(actor);
	if (result < 0) {
		printf("not ok actor of uid %u: %s\n", uid, strerror((int)-result));
		exit(1);
	}
}

int64_t actor_do(struct actor *actor, enum actor_op op, const char *text, uint64_t a, uint64_t b,
		 uint64_t c, uint64_t d, uint64_t e)
{
	struct order order = {.op = op, .a = a, .b = b, .c = c, .d = d, .e = e};

	snprintf(order.text, sizeof(order.text), "%s", text ? text : "");
	if (write(actor->orders, &order, sizeof(order)) != sizeof(order)) {
		printf("not ok actor %d: it is gone\n", (int)actor->pid);
		exit(1);
	}
	return op == ACT_SEND_FDS ? 0 : result_of(actor);
}

void actor_take_fds(struct actor *actor, int *ret_memory, int *ret_device)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	char byte;
	struct iovec vector = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int fds[2] = {-1, -1};

	actor_do(actor, ACT_SEND_FDS, NULL, 0, 0, 0, 0, 0);
	if (recvmsg(actor->orders, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
		memcpy(fds, CMSG_DATA(&control.header), control.header.cmsg_len - CMSG_LEN(0));
	result_of(actor);
	*ret_memory = fds[0];
	*ret_device = fds[1];
}

void actor_end(struct actor *actor, bool kill_it)
{
	if (kill_it)
		kill(actor->pid, SIGKILL);
	close(actor->orders);
	waitpid(actor->pid, NULL, 0);
}
