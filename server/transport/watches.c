/* SPDX-License-Identifier: Apache-2.0 */
/* Slots for watched fds, shared by acceptor and state thread; see watches.h. */
#include "watches.h"

#include "list.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define NONE UINT32_MAX
/* A token is 24 bits of generation over 32 bits of index: 8 bits are left for tag_base. */
#define GENERATION_MASK UINT32_C(0xffffff)

struct slot {
	int fd;
	uint32_t generation;
	uint32_t next; /* free slots, or fired ones */
	bool active;   /* added and not removed */
	bool fired;    /* in the fired list: not free before it was delivered */
	watch_fn callback;
	void *userdata;
};

struct watches {
	int epoll_fd;
	uint64_t tag_base;
	struct mailbox *mailbox;
	struct mail mail;

	pthread_mutex_t lock;
	struct slot *slots;
	uint32_t n_slots;
	uint32_t free;
	uint32_t fired;
	bool posted;
};

static uint64_t token_of(const struct watches *watches, uint32_t index)
{
	return (uint64_t)(watches->slots[index].generation & GENERATION_MASK) << 32 | index;
}

/* Gives a slot back; its old tokens are void. */
static void slot_release(struct watches *watches, uint32_t index)
{
	struct slot *slot = &watches->slots[index];

	slot->generation++;
	slot->next = watches->free;
	watches->free = index;
}

static void watches_deliver(struct mail *mail)
{
	struct watches *watches = container_of(mail, struct watches, mail);

	pthread_mutex_lock(&watches->lock);
	watches->posted = false;
	while (watches->fired != NONE) {
		uint32_t index = watches->fired;
		struct slot slot = watches->slots[index];

		watches->fired = slot.next;
		watches->slots[index].fired = false;
		watches->slots[index].active = false;
		if (slot.active)
			epoll_ctl(watches->epoll_fd, EPOLL_CTL_DEL, slot.fd, NULL);
		slot_release(watches, index);
		if (!slot.active)
			continue;
		pthread_mutex_unlock(&watches->lock);
		slot.callback(slot.userdata);
		pthread_mutex_lock(&watches->lock);
	}
	pthread_mutex_unlock(&watches->lock);
}

int watches_new(int epoll_fd, uint64_t tag_base, struct mailbox *mailbox,
		struct watches **ret_watches)
{
	struct watches *watches = calloc(1, sizeof(*watches));

	if (!watches)
		return -ENOMEM;
	pthread_mutex_init(&watches->lock, NULL);
	watches->epoll_fd = epoll_fd;
	watches->tag_base = tag_base;
	watches->mailbox = mailbox;
	watches->mail.deliver = watches_deliver;
	watches->free = NONE;
	watches->fired = NONE;
	*ret_watches = watches;
	return 0;
}

void watches_free(struct watches *watches)
{
	if (!watches)
		return;
	pthread_mutex_destroy(&watches->lock);
	free(watches->slots);
	free(watches);
}

/* The lock is held. */
static int watches_grow(struct watches *watches)
{
	uint32_t n = watches->n_slots ? watches->n_slots * 2 : 64;
	struct slot *slots = reallocarray(watches->slots, n, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	watches->slots = slots;
	for (uint32_t i = watches->n_slots; i < n; i++) {
		slots[i] = (struct slot){.fd = -1, .next = watches->free};
		watches->free = i;
	}
	watches->n_slots = n;
	return 0;
}

int watches_add(struct watches *watches, int fd, uint32_t events, watch_fn fired, void *userdata,
		uint64_t *ret_token)
{
	struct epoll_event event = {.events = events | EPOLLONESHOT};
	struct slot *slot;
	uint32_t index;
	int r = 0;

	pthread_mutex_lock(&watches->lock);
	if (watches->free == NONE)
		r = watches_grow(watches);
	if (r < 0)
		goto out;
	index = watches->free;
	slot = &watches->slots[index];
	event.data.u64 = watches->tag_base | token_of(watches, index);
	/* An event of it waits for the lock, so the slot is complete when it is looked up. */
	if (epoll_ctl(watches->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		r = -errno;
		goto out;
	}
	watches->free = slot->next;
	slot->fd = fd;
	slot->active = true;
	slot->callback = fired;
	slot->userdata = userdata;
	*ret_token = token_of(watches, index);
out:
	pthread_mutex_unlock(&watches->lock);
	return r;
}

void watches_remove(struct watches *watches, uint64_t token)
{
	uint32_t index = (uint32_t)token;
	struct slot *slot;

	pthread_mutex_lock(&watches->lock);
	slot = index < watches->n_slots ? &watches->slots[index] : NULL;
	if (slot && slot->active && token_of(watches, index) == token) {
		epoll_ctl(watches->epoll_fd, EPOLL_CTL_DEL, slot->fd, NULL);
		slot->active = false;
		if (!slot->fired)
			slot_release(watches, index);
	}
	pthread_mutex_unlock(&watches->lock);
}

void watches_each(struct watches *watches,
		  void (*each)(watch_fn fired, int fd, void *userdata, void *argument),
		  void *argument)
{
	pthread_mutex_lock(&watches->lock);
	for (uint32_t i = 0; i < watches->n_slots; i++) {
		struct slot *slot = &watches->slots[i];

		if (slot->active && !slot->fired)
			each(slot->callback, slot->fd, slot->userdata, argument);
	}
	pthread_mutex_unlock(&watches->lock);
}

void watches_fire(struct watches *watches, uint64_t token)
{
	uint32_t index = (uint32_t)token;
	bool post = false;

	token &= UINT64_C(0xffffffffffffff);
	pthread_mutex_lock(&watches->lock);
	if (index < watches->n_slots && watches->slots[index].active &&
	    !watches->slots[index].fired && token_of(watches, index) == token) {
		watches->slots[index].fired = true;
		watches->slots[index].next = watches->fired;
		watches->fired = index;
		post = !watches->posted;
		watches->posted = true;
	}
	pthread_mutex_unlock(&watches->lock);
	if (post)
		mailbox_post(watches->mailbox, &watches->mail);
}
