/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registered memory: a memfd that was checked once and may be mapped.  Owns struct memory,
 * its fd and its shim object.
 *
 * Invariants: listed in its lease until unregistered, then in lease->unlisted while
 * mappings refer to it; charged (fd, bytes of the union, the record) until it is destroyed.
 * State thread; the check of the file and the shim's part run in an op.
 */
#include "server/broker/memory.h"

#include "server/broker/fault_point.h"
#include "server/broker/journal.h"
#include "server/broker/kept_fd.h"
#include "server/broker/lease.h"
#include "server/broker/memory_file.h"
#include "server/broker/page.h"
#include "server/broker/ticket.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct memory *memory_find(struct lease *lease, uint64_t id)
{
	struct object *o = lease_object(lease, OBJECT_MEMORY, id);

	return o ? CONTAINER_OF(o, struct memory, object) : NULL;
}

/* The shim object is gone or never was, or the whole context is. */
static void memory_free(struct memory *m)
{
	if (m->fd >= 0)
		close(m->fd);
	kept_fd_free(m->kept);
	page_charge_release(&m->registered, QUOTA_REGISTERED_BYTES);
	charge_release(&m->fd_charge);
	charge_release(&m->charge);
	free(m);
}

static void memory_destroy(struct memory *m)
{
	struct lease *lease = m->object.lease;

	if (lease->ctx)
		shim_mem_unregister(m->shim);
	FAULT_POINT_HERE("shim");
	lease_forget(&m->object);
	journal_drop_memory(lease, m);
	if (!lease->leaving) {
		kept_fd_drop(lease->broker, m->kept);
		m->kept = NULL;
	}
	lease->n_memory--;
	lease->registered_bytes -= m->length;
	lease->n_pending_memory--;
	memory_free(m);
}

void memory_retire(struct memory *memory)
{
	lease_unpublish(&memory->object);
	memory->object.lease->n_pending_memory++;
	if (!memory->n_mappings)
		memory_destroy(memory);
}

void memory_put(struct memory *memory)
{
	assert(memory->n_mappings);
	if (--memory->n_mappings == 0 && !memory->object.listed)
		memory_destroy(memory);
}

/* ---- OpenTicket ---- */

int rpc_open_ticket(struct broker_call *call)
{
	const Ioasid__V1__OpenTicketRequest *q = (const void *)call->request;
	Ioasid__V1__OpenTicketResponse *p = call_response(call);
	struct quota_refusal refusal;
	struct ticket *ticket;
	bool refused;
	int r;

	if (q->purpose == IOASID__V1__TICKET_PURPOSE__TICKET_PURPOSE_UNSPECIFIED)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "purpose", "must be given");
	if (!p)
		return refuse_no_memory(call);
	p->ticket.data = scratch_alloc(&call->scratch, TICKET_SIZE);
	if (!p->ticket.data)
		return refuse_no_memory(call);
	r = ticket_new(call->lease, call->session, (enum ticket_purpose)q->purpose, &refused,
		       &refusal, &ticket);
	if (r)
		return refuse_ticket(call, r, refused, &refusal);
	memcpy(p->ticket.data, ticket->bytes, TICKET_SIZE);
	p->ticket.len = TICKET_SIZE;
	p->lifetime_ms = TICKET_LIFETIME_MS;
	return OUTCOME_OK;
}

/* ---- RegisterMemory ---- */

struct registration {
	struct memory *memory;
	struct memory_file file;
	int result;
	bool from_shim;
	bool from_keeper;
	char why[SHIM_REASON_MAX];
};

static void register_run(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	struct registration *reg = call->data;
	struct memory *m = reg->memory;
	struct shim_ctx *ctx;

	reg->result = memory_file_check_holes(m->fd, &reg->file, m->offset, m->length, reg->why,
					      sizeof(reg->why));
	if (reg->result)
		return;
	if (m->kept) {
		reg->result = kept_fd_hold(m->kept, m->fd, reg->why);
		if (reg->result) {
			reg->from_keeper = true;
			return;
		}
	}
	reg->from_shim = true;
	reg->result = lease_context(call->lease, reg->why, &ctx);
	if (reg->result)
		return;
	reg->result = shim_mem_register(ctx, m->fd, m->offset, m->length, m->prot, &m->shim);
}

/* Before anything of the request is done: room for the fd at the keeper, and the intent. */
static int register_begin(struct broker_call *call, struct memory *m)
{
	struct lease *lease = call->lease;

	journal_intent(call)->memory = lease->next_id;
	if (kept_fds_are_kept(call->broker) &&
	    kept_fd_new(call->broker, lease->tenant->path, lease->serial, lease->next_id, &m->kept))
		return refuse_no_memory(call);
	return journal_begin(call, RECORD_MEMORY_BOUND, 0);
}

static void register_write(struct broker_call *call, struct memory *m)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Memory record, *records = &record;

	record_memory(&record, m);
	record.freed = false;
	batch.memories = &records;
	batch.n_memories = 1;
	journal_result(call, &batch);
}

static int register_refusal(struct broker_call *call, const struct registration *reg)
{
	if (reg->from_keeper)
		return refuse(call, OUTCOME_SHIM_GONE, "the keeper does not keep the fd: %s",
			      reg->result < 0 ? strerror(-reg->result) : reg->why);
	if (!reg->from_shim && reg->result > 0)
		return refuse_precondition(call, OUTCOME_MEMORY_UNSUITABLE, "ticket", "%s",
					   reg->why);
	if (reg->result == SHIM_E_MEMORY)
		return refuse_precondition(call, OUTCOME_MEMORY_UNSUITABLE, "ticket",
					   "the shim cannot use this file");
	return refuse_shim(call, reg->result, "register memory", reg->why);
}

/*
 * One fd is kept, first by the ticket, then by the memory, and its charge goes along.  A
 * refused request leaves the ticket as it was.
 */
static void register_undo(struct broker_call *call, struct memory *m)
{
	const Ioasid__V1__RegisterMemoryRequest *q = (const void *)call->request;
	struct ticket *ticket = ticket_find(call->lease, &q->ticket, TICKET_MEMORY);

	if (ticket)
		charge_move(&ticket->fd_charge, &m->fd_charge);
	kept_fd_drop(call->broker, m->kept);
	m->kept = NULL;
	memory_free(m);
}

static void register_complete(struct op *op)
{
	struct broker_call *call = call_of_op(op);
	const Ioasid__V1__RegisterMemoryRequest *q = (const void *)call->request;
	Ioasid__V1__RegisterMemoryResponse *p = (void *)call->response;
	struct registration *reg = call->data;
	struct memory *m = reg->memory;

	if (reg->result) {
		register_undo(call, m);
		call_end(call, register_refusal(call, reg));
		return;
	}
	/* The ticket's own fd goes with it; ours is a duplicate of the same file. */
	ticket_free(ticket_find(call->lease, &q->ticket, TICKET_MEMORY));
	m->object.id.value = call->lease->next_id;
	p->memory = m->object.id.value;
	p->length = m->length;
	p->page_size = m->page_size;
	register_write(call, m);
	call->lease->n_memory++;
	call->lease->registered_bytes += m->length;
	lease_publish(call->lease, &m->object);
	call->note = scratch_printf(&call->scratch, "memory %llu, %llu bytes",
				    (unsigned long long)p->memory, (unsigned long long)p->length);
	call_end(call, OUTCOME_OK);
}

/* Range and permissions against the file. */
static int register_check(struct broker_call *call, const Ioasid__V1__RegisterMemoryRequest *q,
			  const struct memory_file *file, uint64_t *ret_length)
{
	uint64_t length = q->length, end;

	if (!q->read && !q->write)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "read",
				    "read, write or both must be set");
	if (strlen(q->label) > LABEL_MAX)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "label", "at most %d bytes",
				    LABEL_MAX);
	if (q->offset % file->page_size)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "offset",
				    "must be a multiple of the file's page size %llu",
				    (unsigned long long)file->page_size);
	if (q->offset >= file->size)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "offset",
				    "beyond the end of the file (%llu bytes)",
				    (unsigned long long)file->size);
	if (!length)
		length = file->size - q->offset;
	if (length % file->page_size)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "length",
				    "must be a multiple of the file's page size %llu",
				    (unsigned long long)file->page_size);
	if (__builtin_add_overflow(q->offset, length, &end) || end > file->size)
		return refuse_field(call, OUTCOME_INVALID_FIELD, "length",
				    "reaches beyond the end of the file (%llu bytes)",
				    (unsigned long long)file->size);
	if (q->write && !file->writable)
		return refuse_precondition(call, OUTCOME_MEMORY_UNSUITABLE, "write",
					   "the fd is read-only or sealed against writing");
	*ret_length = length;
	return OUTCOME_OK;
}

static int memory_charge(struct broker_call *call, struct memory *m)
{
	struct quota_amount amount = {QUOTA_BROKER_BYTES, sizeof(*m)};
	struct quota_refusal refusal;
	int r;

	r = charge_take(&m->charge, call->tenant, &amount, 1, &refusal);
	if (!r)
		r = page_charge_take(&m->registered, call->tenant, QUOTA_REGISTERED_BYTES, m->key,
				     m->offset, m->offset + m->length, &refusal);
	return r ? refuse_charge(call, r, &refusal) : OUTCOME_OK;
}

int rpc_register_memory(struct broker_call *call)
{
	const Ioasid__V1__RegisterMemoryRequest *q = (const void *)call->request;
	struct registration *reg = scratch_calloc(&call->scratch, 1, sizeof(*reg));
	struct ticket *ticket = ticket_find(call->lease, &q->ticket, TICKET_MEMORY);
	struct memory *m;
	uint64_t length = 0;
	int r;

	if (!ticket)
		return refuse(call, OUTCOME_TICKET_REFUSED,
			      "ticket: unknown, used, expired, or of another lease or purpose");
	if (ticket->fd < 0)
		return refuse(call, OUTCOME_TICKET_REFUSED,
			      "ticket: no fd has been given with it yet");
	if (!reg || !call_response(call))
		return refuse_no_memory(call);
	r = memory_file_examine(ticket->fd, &reg->file, reg->why, sizeof(reg->why));
	if (r > 0)
		return refuse_precondition(call, OUTCOME_MEMORY_UNSUITABLE, "ticket", "%s",
					   reg->why);
	if (r < 0)
		return refuse(call, OUTCOME_INTERNAL, "the fd cannot be examined: %s",
			      strerror(-r));
	r = register_check(call, q, &reg->file, &length);
	if (!r)
		r = lease_limit_check(call, QUOTA_REGISTERED_BYTES, length);
	if (r)
		return r;

	m = calloc(1, sizeof(*m));
	if (!m)
		return refuse_no_memory(call);
	*m = (struct memory){
		.object = {.lease = call->lease, .type = OBJECT_MEMORY},
		.key = reg->file.key,
		.offset = q->offset,
		.length = length,
		.page_size = reg->file.page_size,
		.prot = (q->read ? SHIM_READ : 0) | (q->write ? SHIM_WRITE : 0),
	};
	snprintf(m->label, sizeof(m->label), "%s", q->label);
	m->fd = fcntl(ticket->fd, F_DUPFD_CLOEXEC, 3);
	charge_move(&m->fd_charge, &ticket->fd_charge);
	r = m->fd < 0 ? refuse_no_memory(call) : memory_charge(call, m);
	if (!r)
		r = register_begin(call, m);
	if (r) {
		register_undo(call, m);
		return r;
	}
	reg->memory = m;
	call->data = reg;
	/* The keeper is another process: nobody else waits for it. */
	return call_run(call, register_run, register_complete,
			m->kept || m->length / 4096 > OP_LIGHT_PAGES);
}

/* ---- UnregisterMemory, ListMemory ---- */

static void unregister_write(struct broker_call *call, const struct memory *m)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT, *drops = &drop;
	Ioasid__Registry__Memory record, *records = &record;

	if (m->n_mappings) {
		record_memory(&record, m);
		record.freed = true;
		batch.memories = &records;
		batch.n_memories = 1;
	} else {
		drop.memory = m->object.id.value;
		batch.drops = &drops;
		batch.n_drops = 1;
	}
	journal_result(call, &batch);
}

int rpc_unregister_memory(struct broker_call *call)
{
	const Ioasid__V1__UnregisterMemoryRequest *q = (const void *)call->request;
	struct memory *m = memory_find(call->lease, q->memory);
	Ioasid__V1__UnregisterMemoryResponse *p;

	if (!m)
		return refuse_id(call, "memory", "memory", q->memory);
	p = call_response(call);
	if (!p)
		return refuse_no_memory(call);
	p->pending = m->n_mappings > 0;
	call->note = scratch_printf(&call->scratch, "memory %llu", (unsigned long long)q->memory);
	unregister_write(call, m);
	memory_retire(m);
	return OUTCOME_OK;
}

Ioasid__V1__Memory *memory_describe(struct scratch *scratch, const struct memory *memory)
{
	Ioasid__V1__Memory *d = scratch_alloc(scratch, sizeof(*d));

	if (!d)
		return NULL;
	ioasid__v1__memory__init(d);
	d->memory = memory->object.id.value;
	d->length = memory->length;
	d->page_size = memory->page_size;
	d->read = memory->prot & SHIM_READ;
	d->write = memory->prot & SHIM_WRITE;
	d->label = (char *)memory->label;
	d->mappings = memory->n_mappings;
	return d;
}

int rpc_list_memory(struct broker_call *call)
{
	const Ioasid__V1__ListMemoryRequest *q = (const void *)call->request;
	Ioasid__V1__ListMemoryResponse *p = call_response(call);
	struct object *o;
	struct page page;
	int r;

	r = page_start(call, q->page_size, q->page_token, &page);
	if (r)
		return r;
	if (p)
		p->memory = scratch_calloc(&call->scratch, page.size, sizeof(*p->memory));
	if (!p || !p->memory)
		return refuse_no_memory(call);
	while ((o = lease_object_after(call->lease, OBJECT_MEMORY, page.after))) {
		struct memory *m = CONTAINER_OF(o, struct memory, object);

		if (p->n_memory == page.size)
			return page_continue(call, &page, &p->next_page_token);
		p->memory[p->n_memory] = memory_describe(&call->scratch, m);
		if (!p->memory[p->n_memory])
			return refuse_no_memory(call);
		p->n_memory++;
		page.after = o->id.value;
	}
	return OUTCOME_OK;
}
