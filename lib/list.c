/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists.  The pages stay where they were unpacked, in the result; only the table of their
 * items grows.  A broker that returns the same token twice would be asked for ever, so
 * that ends the call.
 */
#include "list.h"

#include <string.h>

const void *list_convert(struct result *result, size_t n, void *const *messages, size_t item_size,
			 list_item_t item)
{
	void **table = result_table(result, n, item_size);

	if (!table)
		return NULL;
	for (size_t i = 0; i < n; i++)
		item(result, messages[i], table[i]);
	return table;
}

int list_call(struct call *call, const struct method *method, const ProtobufCMessage *request,
	      char **page_token, size_t item_size, list_item_t item)
{
	struct list_root *root = call_root(call);
	void **messages = NULL;
	size_t n = 0, room = 0;

	*page_token = (char *)"";
	for (;;) {
		struct list_page *page;
		int r = call_unary(call, method, request, &page);

		if (r < 0)
			return r;
		if (page->n > room - n) {
			size_t more = page->n > room ? n + page->n : room * 2;
			void **grown = result_alloc(call->result, more, sizeof(*grown));

			if (!grown)
				return error_no_memory(call->ret_error);
			if (n)
				memcpy(grown, messages, n * sizeof(*grown));
			messages = grown;
			room = more;
		}
		if (page->n)
			memcpy(messages + n, page->items, page->n * sizeof(*messages));
		n += page->n;
		if (!*page->next_page_token)
			break;
		if (!strcmp(page->next_page_token, *page_token))
			return error_bad_answer(method->name, "a page names itself as the next",
						call->ret_error);
		*page_token = page->next_page_token;
	}
	root->n = n;
	root->items = list_convert(call->result, n, messages, item_size, item);
	return 0;
}
