/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SHIM_LIST_H
#define IOASID_SHIM_LIST_H

/*
 * Doubly linked lists of a shim's objects: items have prev and next of their own type, the
 * head is a pointer to the first.  An item that was added last is the first.  No locks.
 */

#define SHIM_LIST_ADD(head, item)                                                                  \
	do {                                                                                       \
		(item)->prev = NULL;                                                               \
		(item)->next = (head);                                                             \
		if (head)                                                                          \
			(head)->prev = (item);                                                     \
		(head) = (item);                                                                   \
	} while (0)

#define SHIM_LIST_REMOVE(head, item)                                                               \
	do {                                                                                       \
		if ((item)->prev)                                                                  \
			(item)->prev->next = (item)->next;                                         \
		else                                                                               \
			(head) = (item)->next;                                                     \
		if ((item)->next)                                                                  \
			(item)->next->prev = (item)->prev;                                         \
	} while (0)

#endif
