/* SPDX-License-Identifier: Apache-2.0 */
/* A socket that was deleted is told by the inode that its name has now. */
#include "listeners.h"

#include "say.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

struct listener {
	int fd; /* -1: none */
	dev_t dev;
	ino_t ino;
};

struct listeners {
	const struct config *config;
	struct server *server;
	pthread_t thread;
	bool has_thread;
	/* Readable: the listeners have changed, or it is time to stop. */
	int wake_fd;
	pthread_mutex_t lock;
	bool stopping;
	struct listener all[CONFIG_RESOURCES_MAX];
};

void listeners_name(const struct config *config, unsigned resource, char name[LISTENERS_NAME_SIZE])
{
	snprintf(name, LISTENERS_NAME_SIZE, "ioasid-%s.sock", config->resources[resource].suffix);
}

static void address_of(const struct listeners *l, unsigned resource, struct sockaddr_un *address)
{
	char name[LISTENERS_NAME_SIZE];

	listeners_name(l->config, resource, name);
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	/* config.c keeps room for it. */
	snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s", l->config->kubelet_dir,
		 name);
}

/* Under the lock: the thread may be polling the fd's number. */
static void accept_one(struct listeners *l, unsigned resource)
{
	int fd = accept4(l->all[resource].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	    (peer.uid && peer.uid != geteuid())) {
		say("%s: a connection of uid %u is refused", l->config->resources[resource].name,
		    (unsigned)peer.uid);
		close(fd);
	} else if (server_adopt(l->server, resource, fd) < 0) {
		say("%s: too many connections", l->config->resources[resource].name);
	}
}

static void *run(void *argument)
{
	struct pollfd fds[CONFIG_RESOURCES_MAX + 1];
	struct listeners *l = argument;
	uint64_t count;

	pthread_mutex_lock(&l->lock);
	while (!l->stopping) {
		size_t n = l->config->n_resources;

		for (size_t i = 0; i < n; i++)
			fds[i] = (struct pollfd){.fd = l->all[i].fd, .events = POLLIN};
		fds[n] = (struct pollfd){.fd = l->wake_fd, .events = POLLIN};
		pthread_mutex_unlock(&l->lock);
		(void)poll(fds, n + 1, -1);
		pthread_mutex_lock(&l->lock);
		if (fds[n].revents && read(l->wake_fd, &count, sizeof(count)) < 0) {
			/* Nothing but EAGAIN, which is as good. */
		}
		for (size_t i = 0; i < n; i++)
			if (fds[i].revents && fds[i].fd == l->all[i].fd)
				accept_one(l, i);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static void wake(struct listeners *l)
{
	const uint64_t one = 1;

	if (write(l->wake_fd, &one, sizeof(one)) < 0) {
		/* It is readable already. */
	}
}

static int listen_at(const struct sockaddr_un *address, struct listener *listener)
{
	struct stat st;
	int fd, r = 0;

	(void)unlink(address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ||
	    chmod(address->sun_path, 0600) < 0 || lstat(address->sun_path, &st) < 0 ||
	    listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r) {
		close(fd);
		return r;
	}
	*listener = (struct listener){fd, st.st_dev, st.st_ino};
	return 0;
}

int listeners_ensure(struct listeners *l, unsigned resource, bool *ret_fresh)
{
	struct listener *listener = &l->all[resource], fresh;
	struct sockaddr_un address;
	struct stat st;
	int r;

	address_of(l, resource, &address);
	if (listener->fd >= 0 && lstat(address.sun_path, &st) == 0 && st.st_dev == listener->dev &&
	    st.st_ino == listener->ino) {
		*ret_fresh = false;
		return 0;
	}
	r = listen_at(&address, &fresh);
	if (r)
		return r;
	pthread_mutex_lock(&l->lock);
	if (listener->fd >= 0)
		close(listener->fd);
	*listener = fresh;
	pthread_mutex_unlock(&l->lock);
	wake(l);
	*ret_fresh = true;
	return 0;
}

int listeners_new(const struct config *config, struct server *server,
		  struct listeners **ret_listeners)
{
	struct listeners *l = calloc(1, sizeof(*l));
	int r = 0;

	if (!l)
		return -ENOMEM;
	l->config = config;
	l->server = server;
	pthread_mutex_init(&l->lock, NULL);
	for (size_t i = 0; i < CONFIG_RESOURCES_MAX; i++)
		l->all[i].fd = -1;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		r = -errno;
	if (!r)
		r = -pthread_create(&l->thread, NULL, run, l);
	l->has_thread = !r;
	if (r) {
		listeners_free(l);
		return r;
	}
	*ret_listeners = l;
	return 0;
}

static void unlink_own(struct listeners *l, unsigned resource)
{
	struct sockaddr_un address;
	struct stat st;

	address_of(l, resource, &address);
	if (lstat(address.sun_path, &st) == 0 && st.st_ino == l->all[resource].ino)
		(void)unlink(address.sun_path);
	close(l->all[resource].fd);
}

void listeners_free(struct listeners *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_mutex_unlock(&l->lock);
	wake(l);
	if (l->has_thread)
		pthread_join(l->thread, NULL);
	for (size_t i = 0; i < l->config->n_resources; i++)
		if (l->all[i].fd >= 0)
			unlink_own(l, i);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
