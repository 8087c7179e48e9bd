/* SPDX-License-Identifier: Apache-2.0 */
/* The queue into the state thread; its rules are in mailbox.h. */
#include "mailbox.h"

#include <stddef.h>

int mailbox_init(struct mailbox *mailbox, void (*wake)(void *userdata), void *userdata)
{
	int r = pthread_mutex_init(&mailbox->lock, NULL);

	if (r)
		return -r;
	mailbox->head = NULL;
	mailbox->tail = &mailbox->head;
	mailbox->woken = false;
	mailbox->wake = wake;
	mailbox->userdata = userdata;
	return 0;
}

void mailbox_deinit(struct mailbox *mailbox)
{
	pthread_mutex_destroy(&mailbox->lock);
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
	bool wake;

	mail->next = NULL;
	pthread_mutex_lock(&mailbox->lock);
	*mailbox->tail = mail;
	mailbox->tail = &mail->next;
	wake = !mailbox->woken;
	mailbox->woken = true;
	pthread_mutex_unlock(&mailbox->lock);
	if (wake)
		mailbox->wake(mailbox->userdata);
}

void mailbox_deliver(struct mailbox *mailbox)
{
	struct mail *mail;

	pthread_mutex_lock(&mailbox->lock);
	mail = mailbox->head;
	mailbox->head = NULL;
	mailbox->tail = &mailbox->head;
	mailbox->woken = false;
	pthread_mutex_unlock(&mailbox->lock);
	while (mail) {
		struct mail *next = mail->next;

		mail->deliver(mail);
		mail = next;
	}
}
