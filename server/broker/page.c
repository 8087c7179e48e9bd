/* SPDX-License-Identifier: Apache-2.0 */
/* Page tokens of the List methods.  Pure. */
#include "server/broker/page.h"

#include <errno.h>
#include <stdlib.h>

int page_start(struct broker_call *call, uint32_t size, const char *token, struct page *ret_page)
{
	char *end;

	if (size > PAGE_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "page_size", "at most %d",
				    PAGE_MAX);
	ret_page->size = size ?: PAGE_DEFAULT;
	ret_page->after = 0;
	if (!token[0])
		return OUTCOME_OK;
	errno = 0;
	ret_page->after = strtoull(token, &end, 10);
	if (errno || *end || token[0] < '0' || token[0] > '9')
		return refuse_field(call, OUTCOME_INVALID_FIELD, "page_token",
				    "not a token of this server");
	return OUTCOME_OK;
}

int page_continue(struct broker_call *call, const struct page *page, char **ret_token)
{
	char *token = scratch_printf(&call->scratch, "%llu", (unsigned long long)page->after);

	if (!token)
		return refuse_no_memory(call);
	*ret_token = token;
	return OUTCOME_OK;
}
