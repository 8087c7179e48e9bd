/* SPDX-License-Identifier: Apache-2.0 */
/* Binding tables of a tenant, and PASID tables of a guest, to IOASIDs of kind USER. */
#include "page_table.h"

#define TABLE_FLAGS                                                                                \
	(IOASID_TABLE_SUPERVISOR_REQUEST | IOASID_TABLE_WRITE_PROTECT |                            \
	 IOASID_TABLE_EXTENDED_ACCESS)

int page_table_fill(struct call *call, const struct ioasid_page_table *from,
		    Ioasid__V1__PageTable *to)
{
	if (from->reserved[0] || from->reserved[1])
		return call_invalid(call, "table: reserved members are not 0");
	if (from->flags & ~TABLE_FLAGS)
		return call_invalid(call, "table: unknown flags %#x", from->flags);
	to->root = from->root;
	to->format = (Ioasid__V1__PageTableFormat)from->format;
	to->supervisor_request = !!(from->flags & IOASID_TABLE_SUPERVISOR_REQUEST);
	to->write_protect = !!(from->flags & IOASID_TABLE_WRITE_PROTECT);
	to->extended_access = !!(from->flags & IOASID_TABLE_EXTENDED_ACCESS);
	return 0;
}

void page_table_convert(struct result *result, const void *message, void *ret_table)
{
	const Ioasid__V1__PageTable *from = message;
	struct ioasid_page_table *to = ret_table;

	to->root = from->root;
	to->format = (enum ioasid_format)from->format;
	to->flags = (from->supervisor_request ? IOASID_TABLE_SUPERVISOR_REQUEST : 0) |
		    (from->write_protect ? IOASID_TABLE_WRITE_PROTECT : 0) |
		    (from->extended_access ? IOASID_TABLE_EXTENDED_ACCESS : 0);
}

void pasid_table_convert(struct result *result, const void *message, void *ret_table)
{
	const Ioasid__V1__PasidTable *from = message;
	struct ioasid_pasid_table *to = ret_table;

	to->format = (enum ioasid_pasid_table_format)from->format;
	to->root = from->root;
	to->pasid_bits = from->pasid_bits;
	to->shape = from->shape;
}

int ioasid_bind_page_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			   uint64_t ioasid, const struct ioasid_page_table *table,
			   struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "BindPageTable", bind_page_table_response, true, IN_LEASE);
	Ioasid__V1__BindPageTableRequest request = IOASID__V1__BIND_PAGE_TABLE_REQUEST__INIT;
	Ioasid__V1__PageTable message = IOASID__V1__PAGE_TABLE__INIT;
	Ioasid__V1__BindPageTableResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (!r)
		r = table ? page_table_fill(&call, table, &message)
			  : call_invalid(&call, "table is NULL");
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.table = &message;
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_unbind_page_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			     uint64_t ioasid, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "UnbindPageTable", unbind_page_table_response, true, IN_LEASE);
	Ioasid__V1__UnbindPageTableRequest request = IOASID__V1__UNBIND_PAGE_TABLE_REQUEST__INIT;
	Ioasid__V1__UnbindPageTableResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_bind_pasid_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			    uint64_t ioasid, const struct ioasid_pasid_table *table,
			    struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "BindPasidTable", bind_pasid_table_response, true, IN_LEASE);
	Ioasid__V1__BindPasidTableRequest request = IOASID__V1__BIND_PASID_TABLE_REQUEST__INIT;
	Ioasid__V1__BindPasidTableResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (!r && !table)
		r = call_invalid(&call, "table is NULL");
	if (!r && (table->reserved[0] || table->reserved[1] || table->reserved[2]))
		r = call_invalid(&call, "table: reserved members are not 0");
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.format = (Ioasid__V1__PasidTableFormat)table->format;
	request.root = table->root;
	request.pasid_bits = table->pasid_bits;
	request.shape = table->shape;
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_unbind_pasid_table(struct ioasid_client *client, const struct ioasid_scope *scope,
			      uint64_t ioasid, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "UnbindPasidTable", unbind_pasid_table_response, true, IN_LEASE);
	Ioasid__V1__UnbindPasidTableRequest request = IOASID__V1__UNBIND_PASID_TABLE_REQUEST__INIT;
	Ioasid__V1__UnbindPasidTableResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	return call_unary(&call, &method, &request.base, &response);
}
