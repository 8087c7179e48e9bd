/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_PAGE_H
#define IOASID_BROKER_PAGE_H

#include "server/broker/call.h"

/*
 * Pages of a list.  A token is the number of the last element that was shown; elements are
 * ordered by it, so that a list that changes meanwhile repeats nothing.
 */
#define PAGE_DEFAULT 256
#define PAGE_MAX     1024

struct page {
	uint32_t size;
	uint64_t after; /* 0: from the beginning */
};

/* An outcome. */
int page_start(struct broker_call *call, uint32_t size, const char *token, struct page *ret_page);
/* There is more after page->after: sets the token. */
int page_continue(struct broker_call *call, const struct page *page, char **ret_token);

#endif
