/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting thread; its duties and invariants are in acceptor.h. */
#include "acceptor.h"

#include "clock.h"
#include "list.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <syslog.h>
#include <unistd.h>

/* What an epoll event is about: the top byte of its data. */
enum {
	ABOUT_LISTENER = 1,
	ABOUT_GUEST = 2,
	ABOUT_WATCH = 3,
	ABOUT_REQUEST = 4,
	ABOUT_SIGNAL = 5,
};
#define ABOUT_SHIFT 56

#define EVENTS_AT_ONCE	64
#define ACCEPTS_AT_ONCE 16
#define PAUSE_US	UINT64_C(100000)
/* Fds that one message may carry before the rest is dropped as malformed. */
#define PASSED_FDS_MAX 4

enum guest_phase {
	GUEST_FREE,
	GUEST_SILENT,	  /* its first four bytes are awaited */
	GUEST_REQUESTING, /* "IOFD": its request is awaited */
	GUEST_THROTTLED,  /* "PRI ": its principal connects too fast */
};

struct guest {
	struct list link; /* by deadline, or the free ones */
	enum guest_phase phase;
	uint32_t generation;
	int fd;
	uint64_t deadline;
	const struct listener *listener;
	struct ucred peer;
	struct principal *principal;
	uint8_t request[FD_PROTOCOL_REQUEST_SIZE];
	size_t n_request;
	int passed_fd;
	size_t n_passed;
};

struct signal_mail {
	struct mail mail;
	struct acceptor *acceptor;
	int signal;
	/* Under way; a second one of the kind is merged into it, as signals are. */
	atomic_bool posted;
};

struct acceptor {
	struct acceptor_config config;
	pthread_t thread;
	bool has_thread;
	int epoll_fd;
	int request_fd; /* eventfd: look at the flags below */
	int signal_fd;
	int reserve_fd;
	atomic_bool want_listening;
	atomic_bool stop;
	struct watches *watches;

	bool listening;
	uint64_t paused_until; /* 0: not paused */
	struct guest *guests;
	struct list free;
	/*
	 * In order of arrival, so in order of deadline among equals: a guest's deadline is set
	 * when it joins the end of a list, with the same wait for each list.
	 */
	struct list silent;
	struct list requesting;
	struct list throttled;
	struct signal_mail signals[NSIG];
};

static uint64_t event_data(unsigned about, uint32_t generation, uint32_t index)
{
	return (uint64_t)about << ABOUT_SHIFT | (uint64_t)(generation & 0xffffff) << 32 | index;
}

static void acceptor_log(struct acceptor *acceptor, int level, const char *what, int error)
{
	char line[160];

	snprintf(line, sizeof(line), "%s: %s", what, strerror(error));
	acceptor->config.log(acceptor->config.userdata, level, line);
}

/* ---- guests ---- */

/* Takes the guest out of the table; fd and principal are the caller's now. */
static void guest_release(struct acceptor *acceptor, struct guest *guest)
{
	if (guest->passed_fd >= 0)
		close(guest->passed_fd);
	guest->passed_fd = -1;
	guest->phase = GUEST_FREE;
	guest->generation++;
	list_remove(&guest->link);
	list_append(&acceptor->free, &guest->link);
}

static void guest_close(struct acceptor *acceptor, struct guest *guest)
{
	principal_leave_pending(acceptor->config.principals, guest->principal, clock_us());
	close(guest->fd);
	guest_release(acceptor, guest);
}

static void guest_join(struct guest *guest, enum guest_phase phase, struct list *list,
		       uint64_t deadline)
{
	guest->phase = phase;
	guest->deadline = deadline;
	list_remove(&guest->link);
	list_append(list, &guest->link);
}

static uint64_t handshake_deadline(const struct acceptor *acceptor)
{
	return clock_us() + (uint64_t)acceptor->config.handshake_ms * 1000;
}

/* Who connects too fast makes room first, then the oldest guest that has not spoken. */
static struct guest *guest_take(struct acceptor *acceptor)
{
	struct list *lists[] = {&acceptor->throttled, &acceptor->silent, &acceptor->requesting};
	struct guest *guest;

	for (size_t i = 0; i < 3 && list_is_empty(&acceptor->free); i++)
		if (!list_is_empty(lists[i]))
			guest_close(acceptor, container_of(lists[i]->next, struct guest, link));
	guest = container_of(acceptor->free.next, struct guest, link);
	list_remove(&guest->link);
	return guest;
}

/* HTTP/2: the connection is the state thread's from here on, if its principal may have it. */
static void guest_promote(struct acceptor *acceptor, struct guest *guest)
{
	struct arrival *arrival;
	uint64_t retry_us = 0;
	int r;

	arrival = calloc(1, sizeof(*arrival));
	if (!arrival) {
		guest_close(acceptor, guest);
		return;
	}
	r = principal_promote(acceptor->config.principals, guest->principal, clock_us(), &retry_us);
	if (r) {
		free(arrival);
		if (r == PRINCIPAL_E_RATE)
			guest_join(guest, GUEST_THROTTLED, &acceptor->throttled,
				   clock_us() + retry_us);
		else
			guest_close(acceptor, guest);
		return;
	}
	epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_DEL, guest->fd, NULL);
	arrival->mail.deliver = acceptor->config.arrived;
	arrival->userdata = acceptor->config.userdata;
	arrival->fd = guest->fd;
	arrival->listener = guest->listener;
	arrival->peer = guest->peer;
	arrival->principal = guest->principal;
	guest_release(acceptor, guest);
	mailbox_post(acceptor->config.mailbox, &arrival->mail);
}

static void guest_reply_malformed(struct acceptor *acceptor, struct guest *guest)
{
	uint8_t reply[FD_PROTOCOL_REPLY_SIZE];

	fd_reply_build(FD_STATUS_MALFORMED, reply);
	send(guest->fd, reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
	guest_close(acceptor, guest);
}

static void guest_finish_request(struct acceptor *acceptor, struct guest *guest)
{
	struct exchange *exchange;
	struct fd_request request;

	if (fd_request_parse(guest->request, guest->n_request, guest->n_passed, &request) !=
	    FD_STATUS_OK) {
		guest_reply_malformed(acceptor, guest);
		return;
	}
	exchange = calloc(1, sizeof(*exchange));
	if (!exchange) {
		guest_close(acceptor, guest);
		return;
	}
	epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_DEL, guest->fd, NULL);
	exchange->mail.deliver = acceptor->config.exchanged;
	exchange->userdata = acceptor->config.userdata;
	exchange->fd = guest->fd;
	exchange->passed_fd = guest->passed_fd;
	exchange->listener = guest->listener;
	exchange->peer = guest->peer;
	exchange->principal = guest->principal;
	exchange->request = request;
	guest->passed_fd = -1;
	guest_release(acceptor, guest);
	mailbox_post(acceptor->config.mailbox, &exchange->mail);
}

/* Keeps the first fd of a message and closes others; all of them are counted. */
static void guest_take_fds(struct guest *guest, struct msghdr *message)
{
	struct cmsghdr *control;

	for (control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
		size_t n = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
			/* "With the first byte": one that comes later is one too many. */
			if (guest->n_passed || guest->n_request) {
				close(fd);
				guest->n_passed += 2;
			} else {
				guest->passed_fd = fd;
				guest->n_passed = 1;
			}
		}
	}
	/* The kernel closed what found no room. */
	if (message->msg_flags & MSG_CTRUNC)
		guest->n_passed += 2;
}

/* As far as it has come. */
static bool guest_has_magic(const struct guest *guest)
{
	size_t n = guest->n_request < FD_PROTOCOL_MAGIC_SIZE ? guest->n_request
							     : FD_PROTOCOL_MAGIC_SIZE;

	return !memcmp(guest->request, FD_PROTOCOL_MAGIC, n);
}

static void guest_read_request(struct acceptor *acceptor, struct guest *guest)
{
	while (guest->n_request < FD_PROTOCOL_REQUEST_SIZE) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(PASSED_FDS_MAX * sizeof(int))];
		} control;
		struct iovec vector = {
			.iov_base = guest->request + guest->n_request,
			.iov_len = FD_PROTOCOL_REQUEST_SIZE - guest->n_request,
		};
		struct msghdr message = {
			.msg_iov = &vector,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes),
		};
		ssize_t n = recvmsg(guest->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0) {
			guest_take_fds(guest, &message);
			guest->n_request += n;
			if (guest_has_magic(guest))
				continue;
		}
		/* Not this protocol, or the end half-way: no answer. */
		guest_close(acceptor, guest);
		return;
	}
	guest_finish_request(acceptor, guest);
}

/* Looks at the first bytes, which stay in the socket. */
static void guest_judge(struct acceptor *acceptor, struct guest *guest)
{
	char first[FD_PROTOCOL_MAGIC_SIZE];
	ssize_t n;

	do
		n = recv(guest->fd, first, sizeof(first), MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		guest_close(acceptor, guest);
		return;
	}
	/* A wrong first byte is judged at once; a right one waits for the others. */
	if (!memcmp(first, "PRI ", n)) {
		if (n == sizeof(first))
			guest_promote(acceptor, guest);
	} else if (!memcmp(first, FD_PROTOCOL_MAGIC, n)) {
		/* From its first byte on: a peek never looks past bytes that carry fds. */
		guest_join(guest, GUEST_REQUESTING, &acceptor->requesting,
			   handshake_deadline(acceptor));
		guest_read_request(acceptor, guest);
	} else {
		guest_close(acceptor, guest);
	}
}

static void guest_event(struct acceptor *acceptor, uint64_t data, uint32_t events)
{
	struct guest *guest = &acceptor->guests[(uint32_t)data];

	/* Released, and perhaps taken again, by an earlier event of the same round. */
	if (event_data(ABOUT_GUEST, guest->generation, (uint32_t)data) != data ||
	    guest->phase == GUEST_FREE)
		return;
	if (guest->phase == GUEST_SILENT)
		guest_judge(acceptor, guest);
	else if (guest->phase == GUEST_REQUESTING)
		guest_read_request(acceptor, guest);
	else if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		guest_close(acceptor, guest);
	if (event_data(ABOUT_GUEST, guest->generation, (uint32_t)data) == data &&
	    events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		guest_close(acceptor, guest);
}

/* ---- accepting ---- */

static void acceptor_listen(struct acceptor *acceptor, bool listen)
{
	const struct listeners *listeners = acceptor->config.listeners;

	if (acceptor->listening == listen)
		return;
	acceptor->listening = listen;
	for (size_t i = 0; i < listeners->n; i++) {
		struct epoll_event event = {
			.events = EPOLLIN,
			.data.u64 = event_data(ABOUT_LISTENER, 0, i),
		};

		if (epoll_ctl(acceptor->epoll_fd, listen ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
			      listeners->list[i].fd, &event) < 0)
			acceptor_log(acceptor, LOG_ERR, "cannot watch a listening socket", errno);
	}
}

static void acceptor_pause(struct acceptor *acceptor)
{
	acceptor_listen(acceptor, false);
	acceptor->paused_until = clock_us() + PAUSE_US;
}

/* Out of fds: the reserve lets us take the caller off the queue and refuse it. */
static void accept_and_refuse(struct acceptor *acceptor, int listener_fd)
{
	int fd;

	if (acceptor->reserve_fd >= 0)
		close(acceptor->reserve_fd);
	fd = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	acceptor->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	acceptor_pause(acceptor);
}

static void guest_welcome(struct acceptor *acceptor, size_t index, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
	struct principal *principal;
	struct guest *guest;
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	    principal_arrive(acceptor->config.principals, index, peer.uid, clock_us(),
			     &principal)) {
		close(fd);
		return;
	}
	guest = guest_take(acceptor);
	guest->fd = fd;
	guest->listener = &acceptor->config.listeners->list[index];
	guest->peer = peer;
	guest->principal = principal;
	guest->n_request = 0;
	guest->n_passed = 0;
	guest_join(guest, GUEST_SILENT, &acceptor->silent, handshake_deadline(acceptor));
	event.data.u64 = event_data(ABOUT_GUEST, guest->generation, guest - acceptor->guests);
	if (epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		guest_close(acceptor, guest);
		return;
	}
	/* A client that connected a while ago may have spoken already; epoll says so too. */
	guest_judge(acceptor, guest);
}

static void acceptor_accept(struct acceptor *acceptor, size_t index)
{
	int listener_fd = acceptor->config.listeners->list[index].fd;

	for (int i = 0; i < ACCEPTS_AT_ONCE && acceptor->listening; i++) {
		int fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			guest_welcome(acceptor, index, fd);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		acceptor_log(acceptor, LOG_WARNING, "accept", errno);
		if (errno == EMFILE || errno == ENFILE)
			accept_and_refuse(acceptor, listener_fd);
		else
			acceptor_pause(acceptor);
	}
}

/* ---- signals and requests ---- */

static void signal_deliver(struct mail *mail)
{
	struct signal_mail *signal = container_of(mail, struct signal_mail, mail);

	atomic_store(&signal->posted, false);
	signal->acceptor->config.signalled(signal->acceptor->config.userdata, signal->signal);
}

static void acceptor_read_signals(struct acceptor *acceptor)
{
	struct signalfd_siginfo info;

	while (read(acceptor->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		struct signal_mail *signal = &acceptor->signals[info.ssi_signo % NSIG];

		if ((int)info.ssi_signo == SIGRTMIN) {
			acceptor->config.ticked(acceptor->config.userdata);
			continue;
		}
		if (!atomic_exchange(&signal->posted, true))
			mailbox_post(acceptor->config.mailbox, &signal->mail);
	}
}

static void acceptor_request(struct acceptor *acceptor)
{
	uint64_t one = 1;

	if (write(acceptor->request_fd, &one, sizeof(one)) < 0)
		acceptor_log(acceptor, LOG_ERR, "eventfd", errno);
}

/* ---- time ---- */

static void acceptor_expire(struct acceptor *acceptor, uint64_t now)
{
	struct list *lists[] = {&acceptor->silent, &acceptor->requesting};
	struct list *item, *after;

	for (size_t i = 0; i < 2; i++) {
		while (!list_is_empty(lists[i])) {
			struct guest *guest = container_of(lists[i]->next, struct guest, link);

			if (guest->deadline > now)
				break;
			guest_close(acceptor, guest);
		}
	}
	/* One that is still too fast goes to the end of the list with a new time. */
	list_for_each_safe (item, after, &acceptor->throttled) {
		struct guest *guest = container_of(item, struct guest, link);

		if (guest->deadline > now)
			continue;
		guest_promote(acceptor, guest);
	}
	if (acceptor->paused_until && acceptor->paused_until <= now) {
		acceptor->paused_until = 0;
		if (atomic_load(&acceptor->want_listening))
			acceptor_listen(acceptor, true);
	}
}

static int acceptor_timeout(struct acceptor *acceptor)
{
	struct list *lists[] = {&acceptor->silent, &acceptor->requesting};
	uint64_t now = clock_us(), next = UINT64_MAX;
	struct list *item;

	for (size_t i = 0; i < 2; i++) {
		struct guest *guest = container_of(lists[i]->next, struct guest, link);

		if (!list_is_empty(lists[i]) && guest->deadline < next)
			next = guest->deadline;
	}
	list_for_each (item, &acceptor->throttled) {
		struct guest *guest = container_of(item, struct guest, link);

		if (guest->deadline < next)
			next = guest->deadline;
	}
	if (acceptor->paused_until && acceptor->paused_until < next)
		next = acceptor->paused_until;
	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now + 999) / 1000);
}

static void acceptor_dismiss(struct acceptor *acceptor)
{
	struct list *lists[] = {&acceptor->silent, &acceptor->requesting, &acceptor->throttled};

	for (size_t i = 0; i < 3; i++)
		while (!list_is_empty(lists[i]))
			guest_close(acceptor, container_of(lists[i]->next, struct guest, link));
}

static void *acceptor_main(void *userdata)
{
	struct acceptor *acceptor = userdata;
	struct epoll_event events[EVENTS_AT_ONCE];

	while (!atomic_load(&acceptor->stop)) {
		int n = epoll_wait(acceptor->epoll_fd, events, EVENTS_AT_ONCE,
				   acceptor_timeout(acceptor));

		for (int i = 0; i < n; i++) {
			uint64_t data = events[i].data.u64, value;

			switch (data >> ABOUT_SHIFT) {
			case ABOUT_LISTENER:
				acceptor_accept(acceptor, (uint32_t)data);
				break;
			case ABOUT_GUEST:
				guest_event(acceptor, data, events[i].events);
				break;
			case ABOUT_WATCH:
				watches_fire(acceptor->watches, data);
				break;
			case ABOUT_SIGNAL:
				acceptor_read_signals(acceptor);
				break;
			case ABOUT_REQUEST:
				if (read(acceptor->request_fd, &value, sizeof(value)) < 0)
					break;
				acceptor_listen(acceptor, atomic_load(&acceptor->want_listening));
				if (!acceptor->listening)
					acceptor_dismiss(acceptor);
				break;
			}
		}
		acceptor_expire(acceptor, clock_us());
	}
	acceptor_dismiss(acceptor);
	return NULL;
}

/* ---- life ---- */

static int acceptor_add(struct acceptor *acceptor, int fd, unsigned about)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = event_data(about, 0, 0)};

	return epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int acceptor_init(struct acceptor *acceptor)
{
	int r;

	acceptor->guests = calloc(acceptor->config.guests, sizeof(*acceptor->guests));
	if (!acceptor->guests)
		return -ENOMEM;
	for (unsigned i = 0; i < acceptor->config.guests; i++) {
		acceptor->guests[i].fd = -1;
		acceptor->guests[i].passed_fd = -1;
		list_append(&acceptor->free, &acceptor->guests[i].link);
	}
	acceptor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	acceptor->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	acceptor->signal_fd = signalfd(-1, &acceptor->config.signals, SFD_CLOEXEC | SFD_NONBLOCK);
	acceptor->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (acceptor->epoll_fd < 0 || acceptor->request_fd < 0 || acceptor->signal_fd < 0 ||
	    acceptor->reserve_fd < 0)
		return -errno;
	r = acceptor_add(acceptor, acceptor->request_fd, ABOUT_REQUEST);
	if (r == 0)
		r = acceptor_add(acceptor, acceptor->signal_fd, ABOUT_SIGNAL);
	if (r == 0)
		r = watches_new(acceptor->epoll_fd, event_data(ABOUT_WATCH, 0, 0),
				acceptor->config.mailbox, &acceptor->watches);
	if (r < 0)
		return r;
	r = pthread_create(&acceptor->thread, NULL, acceptor_main, acceptor);
	acceptor->has_thread = r == 0;
	return -r;
}

int acceptor_new(const struct acceptor_config *config, struct acceptor **ret_acceptor)
{
	struct acceptor *acceptor = calloc(1, sizeof(*acceptor));
	int r;

	if (!acceptor)
		return -ENOMEM;
	acceptor->config = *config;
	acceptor->epoll_fd = acceptor->request_fd = -1;
	acceptor->signal_fd = acceptor->reserve_fd = -1;
	list_init(&acceptor->free);
	list_init(&acceptor->silent);
	list_init(&acceptor->requesting);
	list_init(&acceptor->throttled);
	for (int i = 0; i < NSIG; i++) {
		acceptor->signals[i].mail.deliver = signal_deliver;
		acceptor->signals[i].acceptor = acceptor;
		acceptor->signals[i].signal = i;
	}
	r = acceptor_init(acceptor);
	if (r < 0) {
		acceptor_free(acceptor);
		return r;
	}
	*ret_acceptor = acceptor;
	return 0;
}

struct watches *acceptor_watches(struct acceptor *acceptor)
{
	return acceptor->watches;
}

void acceptor_set_listening(struct acceptor *acceptor, bool listen)
{
	atomic_store(&acceptor->want_listening, listen);
	acceptor_request(acceptor);
}

void acceptor_stop(struct acceptor *acceptor)
{
	if (!acceptor || !acceptor->has_thread)
		return;
	atomic_store(&acceptor->stop, true);
	acceptor_request(acceptor);
	pthread_join(acceptor->thread, NULL);
	acceptor->has_thread = false;
}

void acceptor_free(struct acceptor *acceptor)
{
	int fds[4];

	if (!acceptor)
		return;
	assert(!acceptor->has_thread);
	watches_free(acceptor->watches);
	fds[0] = acceptor->epoll_fd;
	fds[1] = acceptor->request_fd;
	fds[2] = acceptor->signal_fd;
	fds[3] = acceptor->reserve_fd;
	for (size_t i = 0; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(acceptor->guests);
	free(acceptor);
}
