/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_LIST_H
#define IOASID_TRANSPORT_LIST_H

/*
 * A circular doubly linked list whose links live in its members: joining and leaving one
 * never allocates, so neither can fail.  No locks: the owner of the list has them.
 */

#include <stdbool.h>
#include <stddef.h>

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

struct list {
	struct list *prev;
	struct list *next;
};

static inline void list_init(struct list *list)
{
	list->prev = list;
	list->next = list;
}

static inline bool list_is_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_append(struct list *list, struct list *item)
{
	item->prev = list->prev;
	item->next = list;
	list->prev->next = item;
	list->prev = item;
}

/* Leaves the item as a list of its own, so that leaving twice is harmless. */
static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

#define list_for_each(item, list) for (item = (list)->next; item != (list); item = item->next)
/* The body may remove item, and nothing else. */
#define list_for_each_safe(item, after, list)                                                      \
	for (item = (list)->next, after = item->next; item != (list);                              \
	     item = after, after = item->next)

#endif
