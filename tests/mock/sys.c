/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real system, but for the devices: the keeper has the contexts, and who has which mock
 * device is known here.  A restarted broker claims by taking again what it restores.
 */

#include "mock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct mock_sys {
	struct iommufd_sys real;
	pthread_mutex_t lock;
	uint64_t claims[MOCK_DEVICES]; /* 0: nobody's */
};

/* -1: no such device. */
static int index_of(const char *address)
{
	char name[SHIM_NAME_MAX];

	for (unsigned i = 0; i < MOCK_DEVICES; i++) {
		snprintf(name, sizeof(name), "0000:f0:%02x.0", i);
		if (!strcmp(name, address))
			return (int)i;
	}
	return -1;
}

static int mock_ioctl(void *user, int fd, unsigned long request, void *arg)
{
	struct mock_sys *m = user;

	return m->real.ioctl(m->real.user, fd, request, arg);
}

static int mock_dup(void *user, int fd)
{
	struct mock_sys *m = user;

	return m->real.dup(m->real.user, fd);
}

/* Devices have none. */
static void mock_close(void *user, int fd)
{
	struct mock_sys *m = user;

	if (fd >= 0)
		m->real.close(m->real.user, fd);
}

static int mock_memory_new(void *user, size_t size, int *ret_fd, void **ret_bytes)
{
	struct mock_sys *m = user;

	return m->real.memory_new(m->real.user, size, ret_fd, ret_bytes);
}

static void mock_memory_free(void *user, int fd, void *bytes, size_t size)
{
	struct mock_sys *m = user;

	m->real.memory_free(m->real.user, fd, bytes, size);
}

static int mock_poll_new(void *user)
{
	struct mock_sys *m = user;

	return m->real.poll_new(m->real.user);
}

static int mock_poll_add(void *user, int poll, int fd)
{
	struct mock_sys *m = user;

	return m->real.poll_add(m->real.user, poll, fd);
}

static ssize_t mock_read(void *user, int fd, void *bytes, size_t n)
{
	struct mock_sys *m = user;

	return m->real.read(m->real.user, fd, bytes, n);
}

static int mock_write(void *user, int fd, const void *bytes, size_t n)
{
	struct mock_sys *m = user;

	return m->real.write(m->real.user, fd, bytes, n);
}

static int mock_open(void *user, const char *owner, char *ret_reason,
		     struct keeper_context_id *ret_context, int *ret_fd)
{
	struct mock_sys *m = user;

	return m->real.context_open(m->real.user, owner, ret_reason, ret_context, ret_fd);
}

static int mock_context_close(void *user, struct keeper_context_id context)
{
	struct mock_sys *m = user;

	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < MOCK_DEVICES; i++)
		if (m->claims[i] == context.value)
			m->claims[i] = 0;
	pthread_mutex_unlock(&m->lock);
	return m->real.context_close(m->real.user, context);
}

static int mock_context_next(void *user, struct keeper_context_id after,
			     struct keeper_context_id *ret_context)
{
	struct mock_sys *m = user;

	return m->real.context_next(m->real.user, after, ret_context);
}

static int mock_context_take(void *user, struct keeper_context_id context, int *ret_fd)
{
	struct mock_sys *m = user;

	return m->real.context_take(m->real.user, context, ret_fd);
}

static int mock_context_delegate(void *user, struct keeper_context_id context, int pidfd,
				 uid_t opener, uint64_t bytes, char *ret_reason)
{
	struct mock_sys *m = user;

	return m->real.context_delegate(m->real.user, context, pidfd, opener, bytes, ret_reason);
}

static int mock_holder_end(void *user, const char *owner, int pidfd, char *ret_reason)
{
	struct mock_sys *m = user;

	return m->real.holder_end(m->real.user, owner, pidfd, ret_reason);
}

/* All or none; again: what is claimed for this context already is no obstacle. */
static int claim(struct mock_sys *m, uint64_t context, bool again, const char *const *addresses,
		 size_t n, int *ret_fds)
{
	int r = 0;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; !r && i < n; i++) {
		int at = index_of(addresses[i]);

		if (at < 0)
			r = KEEPER_E_NOT_FOUND;
		else if (m->claims[at] && !(again && m->claims[at] == context))
			r = KEEPER_E_BUSY;
	}
	for (size_t i = 0; !r && i < n; i++) {
		m->claims[index_of(addresses[i])] = context;
		ret_fds[i] = -1;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static int mock_claim(void *user, struct keeper_context_id context, const char *const *addresses,
		      size_t n, char *ret_reason, int *ret_fds)
{
	int r = claim(user, context.value, false, addresses, n, ret_fds);

	if (r)
		snprintf(ret_reason, KEEPER_REASON_MAX, "%s",
			 r == KEEPER_E_BUSY ? "a mock device is in use" : "no such mock device");
	return r;
}

static int mock_take(void *user, struct keeper_context_id context, const char *const *addresses,
		     size_t n, int *ret_fds)
{
	int r = claim(user, context.value, true, addresses, n, ret_fds);

	return r == KEEPER_E_BUSY ? KEEPER_E_NOT_FOUND : r;
}

static int mock_release(void *user, struct keeper_context_id context, const char *const *addresses,
			size_t n)
{
	struct mock_sys *m = user;
	int r = 0;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < n; i++) {
		int at = index_of(addresses[i]);

		if (at >= 0 && m->claims[at] == context.value)
			m->claims[at] = 0;
		else
			r = KEEPER_E_NOT_FOUND;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static int mock_claim_next(void *user, struct keeper_context_id context, const char *after,
			   char *ret_address)
{
	struct mock_sys *m = user;
	int r = KEEPER_E_NOT_FOUND;

	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; r && i < MOCK_DEVICES; i++) {
		char name[SHIM_NAME_MAX];

		snprintf(name, sizeof(name), "0000:f0:%02x.0", i);
		if (m->claims[i] != context.value || strcmp(name, after) <= 0)
			continue;
		memcpy(ret_address, name, sizeof(name));
		r = 0;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static int mock_is_free(void *user, const char *address)
{
	struct mock_sys *m = user;
	int at = index_of(address), r;

	if (at < 0)
		return KEEPER_E_NOT_FOUND;
	pthread_mutex_lock(&m->lock);
	r = m->claims[at] ? KEEPER_E_BUSY : 0;
	pthread_mutex_unlock(&m->lock);
	return r;
}

static int mock_examine(void *user, const char *address, struct keeper_device *ret_device)
{
	if (index_of(address) < 0)
		return KEEPER_E_NOT_FOUND;
	*ret_device = (struct keeper_device){0};
	return 0;
}

static void mock_end(void *user)
{
	struct mock_sys *m = user;

	m->real.end(m->real.user);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

int mock_sys_wrap(const struct iommufd_sys *real, struct iommufd_sys *ret_sys)
{
	struct mock_sys *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->real = *real;
	pthread_mutex_init(&m->lock, NULL);
	*ret_sys = (struct iommufd_sys){
		.user = m,
		.ioctl = mock_ioctl,
		.dup = mock_dup,
		.close = mock_close,
		.memory_new = mock_memory_new,
		.memory_free = mock_memory_free,
		.poll_new = mock_poll_new,
		.poll_add = mock_poll_add,
		.read = mock_read,
		.write = mock_write,
		.context_open = mock_open,
		.context_close = mock_context_close,
		.context_next = mock_context_next,
		.context_take = mock_context_take,
		.context_delegate = mock_context_delegate,
		.holder_end = mock_holder_end,
		.claim = mock_claim,
		.release = mock_release,
		.devices_take = mock_take,
		.claim_next = mock_claim_next,
		.is_free = mock_is_free,
		.examine = mock_examine,
		.end = mock_end,
	};
	return 0;
}
