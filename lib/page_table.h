/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_PAGE_TABLE_H
#define LIBIOASID_PAGE_TABLE_H

/* Tables that tenants write, to and from messages. */

#include "call.h"

int page_table_fill(struct call *call, const struct ioasid_page_table *from,
		    Ioasid__V1__PageTable *to);
void page_table_convert(struct result *result, const void *message, void *ret_table);
void pasid_table_convert(struct result *result, const void *message, void *ret_table);

#endif
