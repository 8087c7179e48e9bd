/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The back door: a socket (SOCK_SEQPACKET) whose path is in IOASID_MOCK_DOOR.  A message is a line
 * of text that names a device; the answer is a line: 0 or -errno, then what was asked for.
 *
 *	page ADDRESS PASID GROUP PERM IOVA	it asks for a page (IOMMU_TEST_OP_TRIGGER_IOPF)
 *	iotlb ADDRESS PASID ENTRY VALUE		0 if that is in the IOTLB of its nested table
 *						(MD_CHECK_IOTLB)
 *	attached ADDRESS PASID			0 if the kernel has the PASID where the shim put it
 *	pasids ADDRESS				the PASIDs that it is attached by
 *
 * PASIDs are those of the kernel; "-" is none.  Numbers are as strtoull() reads them.
 *
 * Owns the list of devices, under its own lock, which is held over a call to the kernel: so a
 * device that is in the list has a context.  Such a call goes beside those of the context's own
 * thread, as DMA does: the kernel locks.
 */

#include "door.h"
#include "mock.h"
#include "mock_uapi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_MAX 256
#define WORDS	    6
#define RECORDS	    64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct iommufd_dev *records[RECORDS];

/* ---- devices ---- */

static void swap(struct iommufd_dev *old, struct iommufd_dev *new)
{
	size_t i = 0;

	pthread_mutex_lock(&lock);
	while (i < RECORDS && records[i] != old)
		i++;
	if (i == RECORDS)
		abort();
	records[i] = new;
	pthread_mutex_unlock(&lock);
}

void mock_door_add(struct iommufd_dev *dev)
{
	swap(NULL, dev);
}

void mock_door_remove(struct iommufd_dev *dev)
{
	swap(dev, NULL);
}

/* A device that is bound: a claim that will be refused has a record for a moment, too. */
static struct iommufd_dev *find(const char *address)
{
	for (size_t i = 0; i < RECORDS; i++)
		if (records[i] && records[i]->id &&
		    !strcmp(records[i]->slot->info.address, address))
			return records[i];
	return NULL;
}

/* ---- what is asked ---- */

static uint32_t number(const char *word)
{
	return (uint32_t)strtoull(word, NULL, 0);
}

static uint32_t pasid_of(const char *word)
{
	return strcmp(word, "-") ? number(word) : SHIM_NO_PASID;
}

static int ask_page(struct iommufd_dev *dev, char *const words[])
{
	uint32_t pasid = pasid_of(words[2]);
	struct mock_cmd cmd = {.page_request = {.bound = dev->id,
						.pasid = pasid == SHIM_NO_PASID ? 0 : pasid,
						.group = number(words[3]),
						.perm = number(words[4]),
						.address = strtoull(words[5], NULL, 0)}};

	return mock_call(dev->ctx, MOCK_OP_PAGE_REQUEST, &cmd);
}

static int ask_iotlb(struct iommufd_dev *dev, char *const words[])
{
	struct mock_cmd cmd = {
		.check_iotlb = {.entry = number(words[3]), .expected = number(words[4])}};

	if (!mock_routes_pt(dev->backend, pasid_of(words[2]), &cmd.id))
		return -ENOENT;
	return mock_call(dev->ctx, MOCK_OP_CHECK_IOTLB, &cmd);
}

static int ask_attached(struct iommufd_dev *dev, char *const words[])
{
	struct mock_cmd cmd = {.id = dev->own[0], .pasid = {.pasid = number(words[2])}};

	if (!mock_routes_pt(dev->backend, cmd.pasid.pasid, &cmd.pasid.pt))
		return -ENOENT;
	return mock_call(dev->ctx, MOCK_OP_PASID_CHECK, &cmd);
}

static int answer(char *message, char *ret_answer, size_t size)
{
	char *words[WORDS + 1] = {NULL}, *rest = NULL;
	uint32_t pasids[MESSAGE_MAX / 12];
	struct iommufd_dev *dev;
	size_t n = 0, at;
	int r = -EINVAL;

	for (char *word = strtok_r(message, " ", &rest); word && n <= WORDS;
	     word = strtok_r(NULL, " ", &rest))
		words[n++] = word;
	if (n < 2)
		return snprintf(ret_answer, size, "%d", r);
	dev = find(words[1]);
	if (!dev)
		return snprintf(ret_answer, size, "%d", -ENODEV);
	if (!strcmp(words[0], "page") && n == 6)
		r = ask_page(dev, words);
	else if (!strcmp(words[0], "iotlb") && n == 5)
		r = ask_iotlb(dev, words);
	else if (!strcmp(words[0], "attached") && n == 3)
		r = ask_attached(dev, words);
	else if (strcmp(words[0], "pasids") || n != 2)
		return snprintf(ret_answer, size, "%d", r);
	else {
		n = mock_routes_pasids(dev->backend, pasids, sizeof(pasids) / sizeof(pasids[0]));
		at = (size_t)snprintf(ret_answer, size, "%d", n > 21 ? -E2BIG : 0);
		for (size_t i = 0; n <= 21 && i < n; i++)
			at += (size_t)snprintf(ret_answer + at, size - at, " %u", pasids[i]);
		return (int)at;
	}
	return snprintf(ret_answer, size, "%d", r);
}

/* ---- the socket ---- */

static void serve(int conn)
{
	char message[MESSAGE_MAX], reply[MESSAGE_MAX];
	ssize_t got;

	while ((got = recv(conn, message, sizeof(message) - 1, 0)) > 0) {
		int n;

		message[got] = '\0';
		pthread_mutex_lock(&lock);
		n = answer(message, reply, sizeof(reply));
		pthread_mutex_unlock(&lock);
		if (send(conn, reply, (size_t)n, MSG_NOSIGNAL) < 0)
			break;
	}
	close(conn);
}

static void *run(void *data)
{
	int listener = (int)(intptr_t)data;

	for (;;) {
		int conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (conn >= 0)
			serve(conn);
	}
	return NULL;
}

int mock_door_open(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	pthread_t thread;
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* What a broker that was killed has left. */
	(void)unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8)) {
		r = -errno;
		close(fd);
		return r;
	}
	r = -pthread_create(&thread, NULL, run, (void *)(intptr_t)fd);
	if (r) {
		close(fd);
		return r;
	}
	pthread_detach(thread);
	return 0;
}
