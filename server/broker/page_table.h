/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_PAGE_TABLE_H
#define IOASID_BROKER_PAGE_TABLE_H

#include "server/broker/call.h"

/*
 * What a request says of a table for an IOASID of this format.  An outcome; the refusal names
 * the field, which begins with `table`.
 */
int page_table_read(struct broker_call *call, const Ioasid__V1__PageTable *table,
		    enum shim_format format, struct shim_table *ret_table);
/* The shim would not have it: an outcome. */
int page_table_refusal(struct broker_call *call, int error, const char *field, const char *reason);
/* Fills in what is bound; false: out of memory. */
bool page_table_describe(struct scratch *scratch, const struct ioasid *ioasid,
			 Ioasid__V1__Ioasid *ret);
/* [blocking] The shim's table gets what the broker's record says is bound. */
int page_table_apply(const struct ioasid *ioasid, char *ret_reason);

int rpc_bind_page_table(struct broker_call *call);
int rpc_unbind_page_table(struct broker_call *call);
int rpc_bind_pasid_table(struct broker_call *call);
int rpc_unbind_pasid_table(struct broker_call *call);

#endif
