/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kind USER: which table, or PASID table, of the tenant's an IOASID stands for.
 *
 * Owns ioasid->binding.  The broker reads no byte of such a table: it hands the root's address,
 * which is one of the parent's, to the shim, and every access goes through the parent; so a
 * wrong address is the tenant's own fault (a device's), never an error here.  Binding over a
 * binding is a replace: the shim returns when DMA through the old one is over.
 *
 * A bind without result is undone, an unbind is redone (restore_intent.c).  State thread; shim
 * calls in ops.
 */
#include "server/broker/page_table.h"

#include "server/broker/ioasid.h"
#include "server/broker/journal.h"
#include "server/broker/lease.h"

#include "vocab.h"

#include <stdio.h>

/* PCIe: a PASID is 20 bits wide at most. */
#define PASID_BITS_MAX 20

struct bind_work {
	struct ioasid *ioasid;
	struct binding binding;
	int result;
	char reason[SHIM_REASON_MAX];
};

int page_table_read(struct broker_call *call, const Ioasid__V1__PageTable *t,
		    enum shim_format format, struct shim_table *ret_table)
{
	if (!t)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "table", "must be given");
	if (t->format && (enum shim_format)t->format != format)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "table.format",
				    "the IOASID's format is %s, fixed at Alloc",
				    vocab_format_name((Ioasid__V1__PageTableFormat)format));
	*ret_table = (struct shim_table){
		.root = t->root,
		.flags = (t->supervisor_request ? SHIM_TABLE_SUPERVISOR : 0) |
			 (t->write_protect ? SHIM_TABLE_WRITE_PROTECT : 0) |
			 (t->extended_access ? SHIM_TABLE_EXTENDED_ACCESS : 0),
	};
	return OUTCOME_OK;
}

int page_table_refusal(struct broker_call *call, int error, const char *field, const char *reason)
{
	if (error == SHIM_E_RANGE || error == SHIM_E_UNSUPPORTED)
		return refuse_field(call, OUTCOME_INVALID_FIELD, field, "%s",
				    reason[0] ? reason : "the shim cannot use it");
	return refuse_shim(call, error, "bind", reason);
}

bool page_table_describe(struct scratch *scratch, const struct ioasid *ioasid,
			 Ioasid__V1__Ioasid *ret)
{
	const struct binding *b = &ioasid->binding;

	if (b->kind == BINDING_TABLE) {
		ret->table = scratch_alloc(scratch, sizeof(*ret->table));
		if (!ret->table)
			return false;
		ioasid__v1__page_table__init(ret->table);
		ret->table->root = b->table.root;
		ret->table->format = (Ioasid__V1__PageTableFormat)ioasid->choice.format;
		ret->table->supervisor_request = b->table.flags & SHIM_TABLE_SUPERVISOR;
		ret->table->write_protect = b->table.flags & SHIM_TABLE_WRITE_PROTECT;
		ret->table->extended_access = b->table.flags & SHIM_TABLE_EXTENDED_ACCESS;
	} else if (b->kind == BINDING_PASID_TABLE) {
		ret->pasid_table = scratch_alloc(scratch, sizeof(*ret->pasid_table));
		if (!ret->pasid_table)
			return false;
		ioasid__v1__pasid_table__init(ret->pasid_table);
		ret->pasid_table->format = (Ioasid__V1__PasidTableFormat)b->pasid_table.format;
		ret->pasid_table->root = b->pasid_table.root;
		ret->pasid_table->pasid_bits = b->pasid_table.pasid_bits;
		ret->pasid_table->shape = b->pasid_table.shape;
	}
	return true;
}

static int apply(struct shim_pt *pt, const struct binding *b, char *ret_reason)
{
	if (b->kind == BINDING_PASID_TABLE)
		return shim_pt_bind_pasid_table(pt, &b->pasid_table, ret_reason);
	return shim_pt_bind_table(pt, b->kind == BINDING_TABLE ? &b->table : NULL, ret_reason);
}

int page_table_apply(const struct ioasid *ioasid, char *ret_reason)
{
	return apply(ioasid->pt, &ioasid->binding, ret_reason);
}

static void bind_run(struct op *op)
{
	struct bind_work *w = call_of_op(op)->data;

	w->result = apply(w->ioasid->pt, &w->binding, w->reason);
}

static void bind_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct bind_work *w = call->data;

	if (w->result) {
		call_end(call,
			 page_table_refusal(call, w->result,
					    w->binding.kind == BINDING_TABLE ? "table" : "root",
					    w->reason));
		return;
	}
	w->ioasid->binding = w->binding;
	ioasid_result(call, w->ioasid);
	call_end(call, OUTCOME_OK);
}

/* The IOASID of kind USER that a request is about. */
static int bind_prepare(struct broker_call *call, uint64_t id, struct bind_work **ret_work)
{
	struct bind_work *w = scratch_calloc(&call->scratch, 1, sizeof(*w));

	if (!w || !call_response(call))
		return refuse_no_memory(call);
	w->ioasid = ioasid_find(call->lease, id);
	if (!w->ioasid || w->ioasid->kind != SHIM_KIND_USER)
		return refuse_id(call, "ioasid", "IOASID of kind user", id);
	call->note = scratch_printf(&call->scratch, "ioasid %llu", (unsigned long long)id);
	call->data = w;
	*ret_work = w;
	return OUTCOME_OK;
}

static int bind_begin(struct broker_call *call, struct bind_work *w)
{
	int r;

	journal_intent(call)->ioasid = w->ioasid->object.id.value;
	r = call->method->flags & METHOD_RELEASES ? journal_promise(call) : OUTCOME_OK;
	if (!r)
		r = journal_begin(call, record_ioasid_bound(w->ioasid), 0);
	return r ?: call_run(call, bind_run, bind_complete, false);
}

int rpc_bind_page_table(struct broker_call *call)
{
	const Ioasid__V1__BindPageTableRequest *q = (const void *)call->request;
	struct bind_work *w;
	int r;

	r = bind_prepare(call, q->ioasid, &w);
	if (!r)
		r = page_table_read(call, q->table, w->ioasid->choice.format, &w->binding.table);
	if (r)
		return r;
	w->binding.kind = BINDING_TABLE;
	return bind_begin(call, w);
}

static int unbind(struct broker_call *call, uint64_t id, enum binding_kind bound, const char *what)
{
	struct bind_work *w;
	char subject[32];
	int r;

	r = bind_prepare(call, id, &w);
	if (r)
		return r;
	if (w->ioasid->binding.kind != bound) {
		snprintf(subject, sizeof(subject), "ioasid %llu", (unsigned long long)id);
		return refuse_precondition(call, OUTCOME_WRONG_STATE, subject, "no %s is bound",
					   what);
	}
	return bind_begin(call, w);
}

int rpc_unbind_page_table(struct broker_call *call)
{
	const Ioasid__V1__UnbindPageTableRequest *q = (const void *)call->request;

	return unbind(call, q->ioasid, BINDING_TABLE, "table");
}

/* Every device that the IOASID was allocated for must know the format. */
static int check_pasid_format(struct broker_call *call, const struct ioasid *ioasid,
			      Ioasid__V1__PasidTableFormat format)
{
	if (format == IOASID__V1__PASID_TABLE_FORMAT__PASID_TABLE_FORMAT_UNSPECIFIED)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "format", "must be given");
	for (uint32_t i = 0; i < ioasid->n_devices; i++) {
		const struct shim_device_info *info = ioasid->devices[i]->info;

		if (!(info->caps.pasid_tables & 1u << format))
			return refuse_precondition(
				call, OUTCOME_INCOMPATIBLE, info->address,
				"its IOMMU %s does not read PASID tables of this format",
				info->iommu);
	}
	return OUTCOME_OK;
}

/* Whose PASIDs others are to choose, or may be none, chooses none in a table of its own. */
static int check_pasid_policy(struct broker_call *call)
{
	struct policy_verdict verdict;

	if (!call->tenant->policy)
		return refuse(call, OUTCOME_POLICY_FORBIDDEN,
			      "the tenant is no longer in the policy");
	if (policy_pasid_policy(call->tenant->policy, &verdict) == POLICY_PASID_IDENTITY)
		return OUTCOME_OK;
	return refuse(
		call, OUTCOME_POLICY_FORBIDDEN,
		"a PASID table has the guest's own PASIDs: pasid_policy of %s is not identity "
		"(%s)",
		verdict.tenant[0] ? verdict.tenant : "the host", verdict.rule);
}

/* An SMMUv3 without substreams has a table of one descriptor, too (S1CDMax 0). */
static bool may_be_one(Ioasid__V1__PasidTableFormat format)
{
	return format == IOASID__V1__PASID_TABLE_FORMAT__PASID_TABLE_FORMAT_SMMUV3_CD;
}

int rpc_bind_pasid_table(struct broker_call *call)
{
	const Ioasid__V1__BindPasidTableRequest *q = (const void *)call->request;
	struct bind_work *w;
	int r;

	r = bind_prepare(call, q->ioasid, &w);
	if (r)
		return r;
	if (q->pasid_bits > PASID_BITS_MAX || (!q->pasid_bits && !may_be_one(q->format)))
		return refuse_field(call, OUTCOME_INVALID_FIELD, "pasid_bits", "must be 1 to %d",
				    PASID_BITS_MAX);
	r = check_pasid_format(call, w->ioasid, q->format);
	if (!r)
		r = check_pasid_policy(call);
	if (!r && w->ioasid->dirty_tracking)
		r = refuse_precondition(call, OUTCOME_WRONG_STATE, "dirty_tracking",
					"it was allocated to track dirty pages, which are those of "
					"one table, and not of a table for each PASID");
	if (r)
		return r;
	w->binding = (struct binding){
		.kind = BINDING_PASID_TABLE,
		.pasid_table =
			{
				.format = (enum shim_pasid_format)q->format,
				.root = q->root,
				.pasid_bits = (uint8_t)q->pasid_bits,
				.shape = q->shape,
			},
	};
	return bind_begin(call, w);
}

int rpc_unbind_pasid_table(struct broker_call *call)
{
	const Ioasid__V1__UnbindPasidTableRequest *q = (const void *)call->request;

	return unbind(call, q->ioasid, BINDING_PASID_TABLE, "PASID table");
}
