/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every function against every field: what each one sends, and that each member of what it
 * returns is the field that it should be.  The answers are made by reflection, so a field
 * that is new in the protocol is in them by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_broker.h"
#include "ioasid.h"
#include "message.h"

#include "ioasid.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	bool odd;
	char request[2048];
	/* DeviceDma: the simulated memory, and where it ends. */
	uint8_t *memory;
	uint64_t start;
	uint64_t end;
	unsigned n_chunks;
	uint32_t chunks[8];
	bool wrong_count;
} script;

/* The request and response types of a method, by its name in the generated descriptors. */
static const ProtobufCMethodDescriptor *method_of(const char *path)
{
	const ProtobufCServiceDescriptor *service = !strncmp(path, "/ioasid.v1.Admin/", 17)
							    ? &ioasid__v1__admin__descriptor
							    : &ioasid__v1__broker__descriptor;
	const ProtobufCMethodDescriptor *method =
		protobuf_c_service_descriptor_get_method_by_name(service, strrchr(path, '/') + 1);

	if (!method || strncmp(path + 1, service->name, strlen(service->name)))
		abort();
	return method;
}

static void do_dma(struct fake_call *call)
{
	Ioasid__V1__DeviceDmaRequest *request =
		fake_call_unpack(call, &ioasid__v1__device_dma_request__descriptor);
	Ioasid__V1__DeviceDmaResponse response = IOASID__V1__DEVICE_DMA_RESPONSE__INIT;
	Ioasid__V1__Fault fault = IOASID__V1__FAULT__INIT;
	bool read = request->access == IOASID__V1__ACCESS__ACCESS_READ;
	uint64_t length = read ? request->length : request->data.len;

	if (script.n_chunks < 8)
		script.chunks[script.n_chunks] = (uint32_t)length;
	script.n_chunks++;
	if (request->iova + length > script.end) {
		fault.cause = IOASID__V1__FAULT_CAUSE__FAULT_CAUSE_NOT_PRESENT;
		fault.address = script.end;
		response.fault = &fault;
		length = script.end - request->iova;
	}
	response.done = (uint32_t)length + script.wrong_count;
	if (read) {
		response.data.len = length;
		response.data.data = script.memory + (request->iova - script.start);
	} else {
		memcpy(script.memory + (request->iova - script.start), request->data.data, length);
	}
	fake_call_reply(call, &response.base);
}

static void send_bitmap(struct fake_call *call)
{
	static const struct {
		uint64_t iova;
		uint8_t bytes[2];
		size_t n;
	} parts[] = {
		{0x100000, {0x81, 0x01}, 2},
		/* Pages 16 to 19 of 20. */
		{0x110000, {0x0f}, 1},
	};

	for (size_t i = 0; i < 2; i++) {
		Ioasid__V1__ReadDirtyBitmapResponse part =
			IOASID__V1__READ_DIRTY_BITMAP_RESPONSE__INIT;

		part.iova = parts[i].iova + (script.wrong_count ? 0x8000 : 0);
		part.page_size = 4096;
		part.bitmap.data = (uint8_t *)parts[i].bytes;
		part.bitmap.len = parts[i].n;
		fake_call_send(call, &part.base);
	}
	fake_call_finish(call, 0, "", NULL, 0);
}

static void handler(struct fake_call *call, const char *path, void *userdata)
{
	const ProtobufCMethodDescriptor *method = method_of(path);
	ProtobufCMessage *request = fake_call_unpack(call, method->input), *response;
	int n;

	n = snprintf(script.request, sizeof(script.request), "%s ", strrchr(path, '/') + 1);
	message_print(request, script.request + n, sizeof(script.request) - (size_t)n);
	if (!strcmp(method->name, "DeviceDma")) {
		do_dma(call);
		return;
	}
	if (!strcmp(method->name, "ReadDirtyBitmap")) {
		send_bitmap(call);
		return;
	}
	response = message_fill(method->output, script.odd);
	/* A list ends with its first page. */
	for (unsigned i = 0; i < method->output->n_fields; i++)
		if (!strcmp(method->output->fields[i].name, "next_page_token")) {
			char **token =
				(char **)((uint8_t *)response + method->output->fields[i].offset);

			**token = 0;
		}
	if (!strcmp(method->name, "OpenLease")) {
		Ioasid__V1__OpenLeaseResponse *lease = (Ioasid__V1__OpenLeaseResponse *)response;

		free(lease->secret.data);
		lease->secret.data = calloc(1, 32);
		lease->secret.len = 32;
	}
	fake_call_reply(call, response);
	protobuf_c_message_free_unpacked(response, NULL);
}

static void no_fds(int connection, const uint8_t request[static 32], int fd, void *userdata)
{
}

static struct fake_broker *broker;
static struct ioasid_client *c;
static struct ioasid_error *error;
static const struct ioasid_scope scope = {.lease = "vm", .tenant = "org/a", .key = "k"};

static int setup(void **state)
{
	const struct ioasid_options options = {.reconnect_ms = IOASID_NO_RECONNECT};

	memset(&script, 0, sizeof(script));
	broker = fake_broker_new(handler, no_fds, NULL);
	error = NULL;
	return ioasid_connect(fake_broker_path(broker), &options, &c, &error);
}

static int teardown(void **state)
{
	ioasid_error_free(error);
	ioasid_client_unref(c);
	fake_broker_free(broker);
	return 0;
}

/* The call succeeded and sent this. */
#define SENT(call, text)                                                                           \
	do {                                                                                       \
		assert_int_equal(call, 0);                                                         \
		assert_string_equal(script.request, text);                                         \
	} while (0)

/* With and without a key: reads have none. */
#define K "scope{lease:vm tenant:org/a key:k}"
#define R "scope{lease:vm tenant:org/a}"

static void test_requests(void **state)
{
	static const char *const devices[] = {"d0", "d1"};
	static const enum ioasid_format formats[] = {IOASID_FORMAT_VTDSS_4L, IOASID_FORMAT_SV39};
	static const struct ioasid_page_table table = {
		.root = 4096,
		.format = IOASID_FORMAT_X86_64_4L,
		.flags = IOASID_TABLE_WRITE_PROTECT,
	};
	static const struct ioasid_page_table other_table = {
		.flags = IOASID_TABLE_SUPERVISOR_REQUEST | IOASID_TABLE_EXTENDED_ACCESS,
	};
	static const struct ioasid_alloc_request alloc = {
		.kind = IOASID_KIND_USER,
		.n_devices = 2,
		.devices = devices,
		.parent = 3,
		.n_candidates = 2,
		.candidates = formats,
		.input_bits = 48,
		.snoop = IOASID_SNOOP_NONE,
		.flags = IOASID_ALLOC_PASID,
		.table = &table,
		.vm = 9,
		.label = "l",
		.table_bits = 50,
	};
	static const struct ioasid_alloc_request least = {
		.kind = IOASID_KIND_KERNEL,
		.flags = IOASID_ALLOC_FAULTS | IOASID_ALLOC_DIRTY_TRACKING,
	};
	static const struct ioasid_map_entry entries[] = {
		{.iova = 1, .length = 2, .memory = 3, .offset = 4, .flags = IOASID_READ},
		{.parent_address = 5,
		 .flags = IOASID_MAP_FROM_PARENT | IOASID_MAP_CHOOSE | IOASID_WRITE},
	};
	static const struct ioasid_range ranges[] = {{1, 2}, {3, 4}};
	static const struct ioasid_invalidate_entry flushes[] = {
		{.granularity = IOASID_GRANULARITY_RANGE,
		 .flags = IOASID_INVALIDATE_LEAF,
		 .iova = 1,
		 .length = 2},
		{.granularity = IOASID_GRANULARITY_DEVICE_TLB, .device = "d", .pasid = 8},
	};
	static const struct ioasid_pasid_table pasid_table = {
		.format = IOASID_PASID_TABLE_SMMUV3_CD, .pasid_bits = 20, .root = 4096, .shape = 1};
	static const struct ioasid_memory_slot slot = {.slot = 1,
						       .flags = IOASID_SLOT_READ_ONLY,
						       .guest_address = 2,
						       .size = 3,
						       .memory = 4,
						       .offset = 5};
	static const struct ioasid_resource_amount amounts[] = {{"ioasids", 2}, {"vms", 1}};
	static const struct ioasid_lease_options delegated = {
		.pidfd = -1,
		.max_ioasids = 1,
		.max_registered_bytes = 2,
		.delegate = true,
	};
	static const uint8_t ticket[16] = {0xaa}, secret[32] = {0xbb};
	struct ioasid_ticket out_ticket;
	uint8_t out_secret[32];
	uint64_t id, x, y, iovas[2];
	uint32_t ms;
	size_t done;
	bool flag;

	SENT(ioasid_claim(c, &scope, devices, 2, NULL, &error),
	     "ClaimDevice " K " devices:d0 devices:d1");
	SENT(ioasid_release(c, &scope, devices, 1, &error), "ReleaseDevice " K " devices:d0");
	/* The fake's ticket has not 16 bytes: refused, but sent. */
	assert_int_equal(ioasid_device_ticket(c, &scope, "d", &out_ticket, NULL), -EPROTO);
	assert_string_equal(script.request, "GetDeviceFd " R " device:d");
	assert_int_equal(ioasid_context_ticket(c, &scope, &out_ticket, NULL), -EPROTO);
	assert_string_equal(script.request, "GetContextFd " R);
	assert_int_equal(ioasid_ticket_open(c, &scope, IOASID_TICKET_PROCESS, &out_ticket, NULL),
			 -EPROTO);
	assert_string_equal(script.request, "OpenTicket " R " purpose:2");
	assert_int_equal(ioasid_dma_service_open(c, &scope, &(int){0}, NULL), -EPROTO);
	assert_string_equal(script.request, "OpenDmaService " R);

	struct ioasid_memory *memory;
	SENT(ioasid_register_ticket(c, &scope, ticket, 1, 2, IOASID_WRITE, "l", &memory, &error),
	     "RegisterMemory " K
	     " ticket:aa000000000000000000000000000000 offset:1 length:2 write label:l");
	assert_int_equal(memory->id, 1);
	assert_int_equal(memory->length, 2);
	assert_int_equal(memory->page_size, 3);
	ioasid_memory_free(memory);
	SENT(ioasid_unregister_memory(c, &scope, 7, &flag, &error),
	     "UnregisterMemory " K " memory:7");

	struct ioasid_offer *offer;
	SENT(ioasid_negotiate(c, &scope, &least, &offer, &error),
	     "Negotiate alloc{" R " kind:1 faults dirty_tracking}");
	ioasid_offer_free(offer);
	SENT(ioasid_alloc(c, &scope, &alloc, &id, NULL, &error),
	     "Alloc " K " devices:d0 devices:d1 kind:2 parent:3 candidates{format:4} "
	     "candidates{format:20} input_bits:48 snoop:2 pasid "
	     "table{root:4096 format:1 write_protect} vm:9 label:l table_bits:50");
	assert_int_equal(id, 1);
	SENT(ioasid_free(c, &scope, 7, &flag, &error), "Free " K " ioasid:7");

	SENT(ioasid_map(c, &scope, 7, entries, 2, iovas, &error),
	     "Map " K " ioasid:7 entries{iova:1 length:2 memory:3 offset:4 read} "
	     "entries{choose from_parent parent_address:5 write}");
	assert_int_equal(iovas[0], VALUE(1, 0));
	assert_int_equal(iovas[1], VALUE(1, 1));
	SENT(ioasid_unmap(c, &scope, 7, ranges, 2, &x, &y, &error),
	     "Unmap " K " ioasid:7 ranges{iova:1 length:2} ranges{iova:3 length:4}");
	assert_int_equal(x, 1);
	assert_int_equal(y, 2);
	SENT(ioasid_unmap_all(c, &scope, 7, NULL, &y, &error), "Unmap " K " ioasid:7 all");
	SENT(ioasid_bind_page_table(c, &scope, 7, &other_table, &error),
	     "BindPageTable " K " ioasid:7 table{supervisor_request extended_access}");
	SENT(ioasid_unbind_page_table(c, &scope, 7, &error), "UnbindPageTable " K " ioasid:7");
	SENT(ioasid_bind_pasid_table(c, &scope, 7, &pasid_table, &error),
	     "BindPasidTable " K " ioasid:7 format:3 root:4096 pasid_bits:20 shape:1");
	SENT(ioasid_unbind_pasid_table(c, &scope, 7, &error), "UnbindPasidTable " K " ioasid:7");

	SENT(ioasid_attach(c, &scope, "d", 0, 7, &error), "Attach " K " device:d ioasid:7");
	SENT(ioasid_attach(c, &scope, "d", 5, 7, &error),
	     "Attach " K " device:d pasid{value:5} ioasid:7");
	SENT(ioasid_detach(c, &scope, "d", 5, &error), "Detach " K " device:d pasid{value:5}");
	SENT(ioasid_replace(c, &scope, "d", 0, 8, &error), "Replace " K " device:d ioasid:8");
	SENT(ioasid_invalidate(c, &scope, 7, flushes, 2, &done, &ms, &error),
	     "Invalidate " K " ioasid:7 entries{granularity:2 iova:1 length:2 leaf} "
	     "entries{granularity:4 pasid{value:8} device:d}");
	assert_int_equal(done, 1);
	assert_int_equal(ms, 2);
	SENT(ioasid_invalidate_native(c, &scope, 7, IOASID_NATIVE_SMMUV3, "AB", 2, &done, NULL,
				      &error),
	     "Invalidate " K " ioasid:7 native_type:2 native:4142");
	SENT(ioasid_dirty_set(c, &scope, 7, true, &error),
	     "SetDirtyTracking " K " ioasid:7 enable");
	SENT(ioasid_fault_respond(c, &scope, 6, IOASID_FAULT_RESPONSE_INVALID, &error),
	     "RespondFault " K " cookie:6 code:2");

	/* Leases are opened in none. */
	SENT(ioasid_lease_open(c, &scope, "n", 5, -1, out_secret, &error),
	     "OpenLease scope{tenant:org/a key:k} name:n linger_seconds:5");
	SENT(ioasid_lease_open_ticket(c, &scope, "n", 0, ticket, out_secret, &error),
	     "OpenLease scope{tenant:org/a key:k} name:n "
	     "watch_ticket:aa000000000000000000000000000000");
	SENT(ioasid_lease_open_with(c, &scope, "n", &delegated, out_secret, &error),
	     "OpenLease scope{tenant:org/a key:k} name:n limits{resource:ioasids amount:1} "
	     "limits{resource:registered_bytes amount:2} delegate");
	SENT(ioasid_lease_adopt(c, &scope, "n", secret, &error),
	     "AdoptLease scope{tenant:org/a key:k} name:n "
	     "secret:bb00000000000000000000000000000000000000000000000000000000000000");
	SENT(ioasid_lease_close(c, &scope, &error), "CloseLease " K);

	SENT(ioasid_vm_create(c, &scope, "l", &id, &error), "CreateVm " K " label:l");
	assert_int_equal(id, 1);
	SENT(ioasid_vm_set_slot(c, &scope, 7, &slot, &error),
	     "SetMemorySlot " K " vm:7 slot:1 guest_address:2 size:3 memory:4 offset:5 read_only");
	SENT(ioasid_vm_destroy(c, &scope, 7, &error), "DestroyVm " K " vm:7");

	struct ioasid_quota_answer *answer;
	SENT(ioasid_quota_explain(c, &scope, amounts, 2, &answer, &error),
	     "ExplainQuota " R
	     " amounts{resource:ioasids amount:2} amounts{resource:vms amount:1}");
	ioasid_quota_answer_free(answer);

	SENT(ioasid_limits_set(c, &scope, "t", amounts, 1, NULL, &error),
	     "SetLimits tenant:t limits{resource:ioasids amount:2} key:k");
	SENT(ioasid_policy_reload(c, &scope, NULL, &error), "ReloadPolicy key:k");
	SENT(ioasid_tenant_drain(c, &scope, "t", true, false, &x, &error),
	     "DrainTenant tenant:t drain key:k");
	assert_int_equal(x, 1);
	SENT(ioasid_tenant_drain(c, &scope, "t", false, true, NULL, &error),
	     "DrainTenant tenant:t close_leases key:k");
	SENT(ioasid_revoke_lease(c, &scope, 12, &error), "Revoke lease_serial:12 key:k");
	SENT(ioasid_revoke_device(c, &scope, "d", &error), "Revoke device:d key:k");
}

/* The defaults of a client, and what a scope puts in their place. */
static void test_scopes(void **state)
{
	const struct ioasid_options options = {
		.lease = "L", .tenant = "T", .reconnect_ms = IOASID_NO_RECONNECT};
	const struct ioasid_scope empty = {.lease = "", .tenant = ""}, other = {.lease = "M"};
	struct ioasid_client *client;

	assert_int_equal(ioasid_connect(fake_broker_path(broker), &options, &client, NULL), 0);
	SENT(ioasid_free(client, NULL, 1, NULL, &error), "Free scope{lease:L tenant:T} ioasid:1");
	SENT(ioasid_free(client, &other, 1, NULL, &error), "Free scope{lease:M tenant:T} ioasid:1");
	SENT(ioasid_free(client, &empty, 1, NULL, &error), "Free scope{} ioasid:1");
	ioasid_client_unref(client);
}

/* ---- answers ---- */

/* What message_fill() puts into a boolean of this number. */
#define B(field)	(((field)&1) == script.odd)
#define N(value, field) assert_int_equal(value, field)
#define S(value, text)	assert_string_equal(value, text)

static void check_range(const struct ioasid_address_range *range)
{
	N(range->start, 1);
	N(range->last, 2);
	S(range->use, "use");
}

static void check_capabilities(const struct ioasid_device_capabilities *caps)
{
	N(caps->n_formats, 2);
	for (size_t i = 0; i < 2; i++) {
		N(caps->formats[i]->format, 1);
		N(caps->formats[i]->input_bits, 2);
		N(caps->formats[i]->output_bits, 3);
		N(caps->formats[i]->page_sizes, 4);
		N(caps->formats[i]->access_dirty, B(5));
		N(caps->formats[i]->execute, B(6));
		N(caps->formats[i]->nest_child, B(7));
		N(caps->formats[i]->nest_parent, B(8));
		N(caps->formats[i]->table_bits_least, 9);
		N(caps->formats[i]->tenant_only, B(10));
	}
	N(caps->n_kinds, 2);
	N(caps->kinds[1]->kind, 1);
	N(caps->kinds[1]->supported, B(2));
	S(caps->kinds[1]->reason, "reason");
	N(caps->pasid_bits, 3);
	N(caps->recoverable_faults, B(4));
	N(caps->dirty_tracking, B(5));
	N(caps->snoop_control, B(6));
	N(caps->device_tlb, B(7));
	N(caps->n_invalidations, 2);
	N(caps->invalidations[0], 1);
	N(caps->invalidations[1], 1);
	N(caps->n_reserved, 2);
	check_range(caps->reserved[1]);
	N(caps->max_depth, 10);
	N(caps->n_absent, 2);
	S(caps->absent[1]->feature, "feature");
	S(caps->absent[1]->reason, "reason");
}

static void check_device(const struct ioasid_device *device)
{
	S(device->address, "address");
	S(device->vendor_device, "vendor_device");
	S(device->class_code, "class_code");
	S(device->iommu, "iommu");
	N(device->group, 5);
	N(device->n_group_members, 2);
	S(device->group_members[0], "group_members0");
	S(device->group_members[1], "group_members1");
	N(device->numa_node, 7);
	S(device->driver, "driver");
	N(device->state, 1);
	S(device->lease, "lease");
	check_capabilities(device->capabilities);
	S(device->tenant, "tenant");
}

static void check_choice(const struct ioasid_choice *choice)
{
	N(choice->format, 1);
	N(choice->kernel_chosen, B(2));
	N(choice->input_bits, 3);
	N(choice->output_bits, 4);
	N(choice->page_sizes, 5);
	N(choice->enforce_snoop, B(6));
	N(choice->n_valid, 2);
	check_range(choice->valid[0]);
	check_range(choice->valid[1]);
	N(choice->n_passed_over, 2);
	N(choice->passed_over[1]->format, 1);
	N(choice->passed_over[1]->by, 1);
	S(choice->passed_over[1]->who, "who");
	S(choice->passed_over[1]->reason, "reason");
}

static void check_info(const struct ioasid_info *info)
{
	N(info->id, 1);
	N(info->kind, 1);
	check_choice(info->choice);
	N(info->parent, 4);
	N(info->depth, 5);
	N(info->n_devices, 2);
	S(info->devices[1], "devices1");
	S(info->label, "label");
	N(info->mappings, 8);
	N(info->mapped_bytes, 9);
	N(info->attachments, 10);
	N(info->children, 11);
	N(info->dirty_tracking, B(12));
	N(info->table->root, 1);
	N(info->table->format, 1);
	N(info->table->flags, (B(3) ? IOASID_TABLE_SUPERVISOR_REQUEST : 0) |
				      (B(4) ? IOASID_TABLE_WRITE_PROTECT : 0) |
				      (B(5) ? IOASID_TABLE_EXTENDED_ACCESS : 0));
	N(info->tracking, B(15));
	N(info->vm, 16);
}

static void check_vm(const struct ioasid_vm *vm)
{
	N(vm->id, 1);
	S(vm->label, "label");
	N(vm->slots, 3);
	N(vm->slot_bytes, 4);
	N(vm->ioasids, 5);
}

static void check_memory(const struct ioasid_memory *memory)
{
	N(memory->id, 1);
	N(memory->length, 2);
	N(memory->page_size, 3);
	N(memory->flags, (B(4) ? IOASID_READ : 0) | (B(5) ? IOASID_WRITE : 0));
	S(memory->label, "label");
	N(memory->mappings, 7);
}

static void check_attachment(const struct ioasid_attachment *attachment)
{
	S(attachment->device, "device");
	N(attachment->pasid, 1);
	N(attachment->ioasid, 3);
}

static void check_lease(const struct ioasid_lease *lease)
{
	S(lease->name, "name");
	S(lease->tenant, "tenant");
	N(lease->mine, B(3));
	N(lease->held, B(4));
	N(lease->closing, B(5));
	N(lease->linger_seconds, 6);
	N(lease->ioasids, 7);
	N(lease->memories, 8);
	N(lease->devices, 9);
	N(lease->attachments, 10);
	N(lease->uid, 11);
	N(lease->pid, 12);
	N(lease->serial, 13);
	N(lease->awaited, B(14));
}

static void check_usage(const struct ioasid_resource_usage *usage)
{
	S(usage->resource, "resource");
	N(usage->limit, 2);
	N(usage->reserved, 3);
	N(usage->used, 4);
	N(usage->own, 5);
	N(usage->peak, 6);
	N(usage->refused_local, 7);
	N(usage->refused, 8);
}

static void check_tenant(const struct ioasid_tenant *tenant)
{
	S(tenant->path, "path");
	S(tenant->parent, "parent");
	N(tenant->n_resources, 2);
	check_usage(tenant->resources[0]);
	check_usage(tenant->resources[1]);
	N(tenant->draining, B(4));
	N(tenant->orphaned, B(5));
}

static void check_fault(const struct ioasid_fault *fault)
{
	N(fault->cause, 1);
	N(fault->stage, 2);
	N(fault->level, 3);
	N(fault->address, 4);
	N(fault->entry, 5);
	N(fault->access, 1);
}

/* All of a list's items are as the first. */
#define CHECK_LIST(list, check)                                                                    \
	do {                                                                                       \
		N((list)->n, 2);                                                                   \
		check((list)->items[0]);                                                           \
		check((list)->items[1]);                                                           \
	} while (0)

static void answers_of_tenants(void)
{
	static const char *const devices[] = {"d"};
	static const struct ioasid_alloc_request alloc = {.kind = IOASID_KIND_KERNEL};
	struct ioasid_server_status *status;
	struct ioasid_attachments *attachments;
	struct ioasid_translation *translation;
	struct ioasid_quota_answer *answer;
	struct ioasid_memories *memories;
	struct ioasid_vms *vms;
	struct ioasid_mappings *mappings;
	struct ioasid_devices *devs;
	struct ioasid_device *device;
	struct ioasid_choice *choice;
	struct ioasid_leases *leases;
	struct ioasid_offer *offer;
	struct ioasid_infos *infos;
	struct ioasid_quota *quota;
	struct ioasid_info *info;
	uint64_t id;

	SENT(ioasid_server_status(c, NULL, &status, &error), "GetStatus ");
	S(status->version, "version");
	S(status->shim, "shim");
	N(status->n_capabilities, 2);
	S(status->capabilities[0], "capabilities0");
	S(status->role, "role");
	S(status->tenant, "tenant");
	N(status->uptime_seconds, 6);
	N(status->connections, 7);
	N(status->leases, 8);
	N(status->ioasids, 9);
	N(status->policy_generation, 10);
	N(status->registry_generation, 12);
	N(status->restart->leases_restored, 1);
	N(status->restart->leases_ended, 2);
	N(status->restart->memories, 3);
	N(status->restart->ioasids, 4);
	N(status->restart->mappings, 5);
	N(status->restart->attachments, 6);
	N(status->restart->devices, 7);
	N(status->restart->undone, 8);
	N(status->restart->redone, 9);
	N(status->restart->strays, 10);
	N(status->restart->damaged_records, 11);
	N(status->restart->duration_us, 12);
	N(status->restart->other_boot_leases, 13);
	ioasid_server_status_free(status);

	SENT(ioasid_device_list(c, &scope, true, &devs, &error),
	     "ListDevices " R " with_capabilities");
	CHECK_LIST(devs, check_device);
	ioasid_devices_free(devs);
	SENT(ioasid_device_get(c, &scope, "d", &device, &error), "GetDevice " R " device:d");
	check_device(device);
	ioasid_device_free(device);
	assert_int_equal(ioasid_claim(c, &scope, devices, 1, &devs, &error), 0);
	CHECK_LIST(devs, check_device);
	ioasid_devices_free(devs);

	SENT(ioasid_memory_list(c, &scope, &memories, &error), "ListMemory " R);
	CHECK_LIST(memories, check_memory);
	ioasid_memories_free(memories);
	SENT(ioasid_vm_list(c, &scope, &vms, &error), "ListVms " R);
	CHECK_LIST(vms, check_vm);
	ioasid_vms_free(vms);

	assert_int_equal(ioasid_negotiate(c, &scope, &alloc, &offer, &error), 0);
	check_choice(offer->choice);
	N(offer->within_quota, B(2));
	S(offer->quota_refusal, "quota_refusal");
	ioasid_offer_free(offer);
	assert_int_equal(ioasid_alloc(c, &scope, &alloc, &id, &choice, &error), 0);
	N(id, 1);
	check_choice(choice);
	ioasid_choice_free(choice);
	SENT(ioasid_get(c, &scope, 7, &info, &error), "GetIoasid " R " ioasid:7");
	check_info(info);
	ioasid_info_free(info);
	SENT(ioasid_list(c, &scope, &infos, &error), "ListIoasids " R);
	CHECK_LIST(infos, check_info);
	ioasid_infos_free(infos);

	SENT(ioasid_translate(c, &scope, 7, 8, IOASID_ACCESS_WRITE, &translation, &error),
	     "Translate " R " ioasid:7 iova:8 access:2");
	N(translation->n_levels, 2);
	N(translation->levels[1]->stage, 1);
	N(translation->levels[1]->level, 2);
	N(translation->levels[1]->input, 3);
	N(translation->levels[1]->table, 4);
	N(translation->levels[1]->index, 5);
	N(translation->levels[1]->entry, 6);
	S(translation->levels[1]->decoded, "decoded");
	check_fault(translation->fault);
	N(translation->output, 3);
	N(translation->page_size, 4);
	N(translation->flags,
	  (B(5) ? IOASID_READ : 0) | (B(6) ? IOASID_WRITE : 0) | (B(7) ? IOASID_EXECUTE : 0));
	N(translation->memory, 8);
	N(translation->offset, 9);
	ioasid_translation_free(translation);

	SENT(ioasid_mapping_list(c, &scope, 7, &mappings, &error), "ListMappings " R " ioasid:7");
	N(mappings->n, 2);
	N(mappings->items[1]->iova, 1);
	N(mappings->items[1]->length, 2);
	N(mappings->items[1]->memory, 3);
	N(mappings->items[1]->offset, 4);
	N(mappings->items[1]->parent_address, 6);
	N(mappings->items[1]->flags, (B(5) ? IOASID_MAP_FROM_PARENT : 0) |
					     (B(7) ? IOASID_READ : 0) | (B(8) ? IOASID_WRITE : 0) |
					     (B(9) ? IOASID_EXECUTE : 0));
	ioasid_mappings_free(mappings);
	SENT(ioasid_attachment_list(c, &scope, &attachments, &error), "ListAttachments " R);
	CHECK_LIST(attachments, check_attachment);
	ioasid_attachments_free(attachments);
	SENT(ioasid_lease_list(c, &scope, &leases, &error), "ListLeases " R);
	CHECK_LIST(leases, check_lease);
	ioasid_leases_free(leases);

	SENT(ioasid_quota_get(c, &scope, &quota, &error), "GetQuota " R);
	S(quota->tenant, "tenant");
	N(quota->n_resources, 2);
	check_usage(quota->resources[0]);
	check_usage(quota->resources[1]);
	ioasid_quota_free(quota);
	assert_int_equal(ioasid_quota_explain(c, &scope, NULL, 0, &answer, &error), 0);
	N(answer->fits, B(1));
	S(answer->refusing_tenant, "refusing_tenant");
	S(answer->resource, "resource");
	S(answer->explanation, "explanation");
	ioasid_quota_answer_free(answer);
}

static void answers_of_admins(void)
{
	struct ioasid_tenants *tenants;
	struct ioasid_tenant *tenant;
	struct ioasid_objects *objects;
	struct ioasid_check_report *report;
	struct ioasid_reload *reload;

	SENT(ioasid_tenant_list(c, &scope, "s", true, &tenants, &error),
	     "ListTenants subtree:s with_unused");
	CHECK_LIST(tenants, check_tenant);
	ioasid_tenants_free(tenants);
	assert_int_equal(ioasid_limits_set(c, &scope, "t", NULL, 0, &tenant, &error), 0);
	check_tenant(tenant);
	ioasid_tenant_free(tenant);
	assert_int_equal(ioasid_policy_reload(c, &scope, &reload, &error), 0);
	N(reload->generation, 1);
	N(reload->n_orphaned, 2);
	S(reload->orphaned[0], "orphaned0");
	ioasid_reload_free(reload);
	SENT(ioasid_object_list(c, &scope, NULL, &objects, &error), "ListObjects ");
	N(objects->n, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct ioasid_lease_objects *one = objects->items[i];

		check_lease(one->lease);
		N(one->n_ioasids, 2);
		check_info(one->ioasids[1]);
		N(one->n_memories, 2);
		check_memory(one->memories[1]);
		N(one->n_attachments, 2);
		check_attachment(one->attachments[1]);
		N(one->n_devices, 2);
		S(one->devices[1], "devices1");
		N(one->omitted, 6);
		N(one->n_vms, 2);
		check_vm(one->vms[1]);
	}
	ioasid_objects_free(objects);

	SENT(ioasid_check(c, &scope, &report, &error), "Check ");
	N(report->n_problems, 2);
	S(report->problems[1]->subject, "subject");
	S(report->problems[1]->text, "text");
	N(report->omitted, 2);
	N(report->tenants, 3);
	N(report->leases, 4);
	N(report->objects, 5);
	N(report->counters, 6);
	ioasid_check_report_free(report);
}

static void test_answers(void **state)
{
	for (int odd = 0; odd < 2; odd++) {
		script.odd = odd;
		answers_of_tenants();
		answers_of_admins();
	}
}

static void test_pending(void **state)
{
	bool flag;

	script.odd = true;
	assert_int_equal(ioasid_free(c, NULL, 1, &flag, &error), 0);
	assert_true(flag);
	assert_int_equal(ioasid_unregister_memory(c, NULL, 1, &flag, &error), 0);
	assert_true(flag);
	script.odd = false;
	assert_int_equal(ioasid_free(c, NULL, 1, &flag, &error), 0);
	assert_false(flag);
	assert_int_equal(ioasid_unregister_memory(c, NULL, 1, &flag, &error), 0);
	assert_false(flag);
}

/* An answer with another count of addresses than entries is none. */
static void test_map_count(void **state)
{
	static const struct ioasid_map_entry entries[3];
	uint64_t iovas[3] = {1, 1, 1};

	assert_int_equal(ioasid_map(c, NULL, 7, entries, 3, iovas, &error), -EPROTO);
	assert_int_equal(iovas[0], 1);
}

/* ---- DMA in chunks ---- */

#define MIB (1u << 20)

static void test_dma_chunks(void **state)
{
	size_t length = 2 * MIB + 300;
	uint8_t *data = malloc(length), *back = malloc(length);
	struct ioasid_dma_result *result;

	script.start = 0x7000;
	script.end = script.start + length;
	script.memory = calloc(1, length);
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)(i * 31 + (i >> 13));
	assert_int_equal(
		ioasid_dma_write(c, &scope, "d", 0, script.start, data, length, &result, &error),
		0);
	assert_int_equal(result->done, length);
	assert_null(result->fault);
	ioasid_dma_result_free(result);
	assert_int_equal(script.n_chunks, 3);
	assert_int_equal(script.chunks[0], MIB);
	assert_int_equal(script.chunks[1], MIB);
	assert_int_equal(script.chunks[2], 300);
	assert_memory_equal(script.memory, data, length);

	script.n_chunks = 0;
	assert_int_equal(
		ioasid_dma_read(c, &scope, "d", 3, script.start, back, length, &result, &error), 0);
	assert_int_equal(result->done, length);
	ioasid_dma_result_free(result);
	assert_int_equal(script.n_chunks, 3);
	assert_memory_equal(back, data, length);
	assert_string_equal(script.request,
			    "DeviceDma " R
			    " device:d pasid{value:3} access:1 iova:2125824 length:300");

	/* It ends at the first fault, which may be in any chunk. */
	script.n_chunks = 0;
	script.end = script.start + MIB + 5;
	memset(back, 0, length);
	assert_int_equal(
		ioasid_dma_read(c, NULL, "d", 0, script.start, back, length, &result, &error), 0);
	assert_int_equal(result->done, MIB + 5);
	assert_int_equal(result->fault->cause, IOASID_FAULT_NOT_PRESENT);
	assert_int_equal(result->fault->address, script.end);
	assert_int_equal(script.n_chunks, 2);
	assert_memory_equal(back, data, MIB + 5);
	assert_int_equal(back[MIB + 5], 0);
	ioasid_dma_result_free(result);

	/* A broker that counts wrongly must not make the library write beyond the buffer. */
	script.wrong_count = true;
	assert_int_equal(ioasid_dma_read(c, NULL, "d", 0, script.start, back, 100, &result, &error),
			 -EPROTO);
	ioasid_error_free(error);
	assert_int_equal(ioasid_dma_read(c, NULL, "d", 0, UINT64_MAX, back, 2, &result, &error),
			 -EINVAL);
	free(script.memory);
	free(data);
	free(back);
}

static void test_dirty_bitmap(void **state)
{
	struct ioasid_dirty_bitmap *bitmap;

	SENT(ioasid_dirty_read(c, &scope, 7, 0x100000, 20 * 4096, 4096, false, &bitmap, &error),
	     "ReadDirtyBitmap " R " ioasid:7 iova:1048576 length:81920 page_size:4096 no_clear");
	assert_int_equal(bitmap->iova, 0x100000);
	assert_int_equal(bitmap->page_size, 4096);
	assert_int_equal(bitmap->n_pages, 20);
	assert_int_equal(bitmap->bits[0], 0x81);
	assert_int_equal(bitmap->bits[1], 0x01);
	assert_int_equal(bitmap->bits[2], 0x0f);
	ioasid_dirty_bitmap_free(bitmap);
	/* A part beyond what was asked for. */
	script.wrong_count = true;
	assert_int_equal(
		ioasid_dirty_read(c, NULL, 7, 0x100000, 20 * 4096, 4096, true, &bitmap, &error),
		-EPROTO);
	ioasid_error_free(error);
	error = NULL;
	assert_int_equal(ioasid_dirty_read(c, NULL, 7, 0, 0, 4096, true, &bitmap, NULL), -EINVAL);
	assert_int_equal(ioasid_dirty_read(c, NULL, 7, 0, 1 << 20, 3, true, &bitmap, NULL),
			 -EINVAL);
	assert_int_equal(ioasid_dirty_read(c, NULL, 7, 1, 4096, 4096, true, &bitmap, NULL),
			 -EINVAL);
	assert_int_equal(ioasid_dirty_read(c, NULL, 7, 0, (1ull << 32) + 1, 1, true, &bitmap, NULL),
			 -EINVAL);
}

/* Arguments that the library itself refuses, before anything is sent. */
static void test_bad_arguments(void **state)
{
	static const char *const holes[] = {"d", NULL};
	static const struct ioasid_map_entry map_flags = {.flags = 1u << 30},
					     map_reserved = {.reserved = 1};
	static const struct ioasid_invalidate_entry flush = {.flags = 2};
	static const struct ioasid_alloc_request alloc_flags = {.flags = 8},
						 alloc_reserved = {.reserved = {0, 0, 1}},
						 alloc_reserved32 = {.reserved32 = 1};
	static const struct ioasid_alloc_request alloc_devices = {.n_devices = 2, .devices = holes};
	static const struct ioasid_alloc_request alloc_formats = {.n_candidates = 1};
	static const struct ioasid_page_table table = {.flags = 8};
	static const struct ioasid_memory_slot slot = {.flags = 2};
	uint64_t id;
	size_t done;

	assert_int_equal(ioasid_claim(c, NULL, holes, 2, NULL, &error), -EINVAL);
	assert_string_equal(error->message, "devices[1] is NULL");
	ioasid_error_free(error);
	error = NULL;
	assert_int_equal(ioasid_release(c, NULL, NULL, 1, NULL), -EINVAL);
	assert_int_equal(ioasid_map(c, NULL, 1, &map_flags, 1, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_map(c, NULL, 1, &map_reserved, 1, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_map(c, NULL, 1, NULL, 1, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_unmap(c, NULL, 1, NULL, 1, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_invalidate(c, NULL, 1, &flush, 1, &done, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_alloc(c, NULL, NULL, &id, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_alloc(c, NULL, &alloc_flags, &id, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_alloc(c, NULL, &alloc_reserved, &id, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_alloc(c, NULL, &alloc_reserved32, &id, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_alloc(c, NULL, &alloc_devices, &id, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_alloc(c, NULL, &alloc_formats, &id, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_bind_page_table(c, NULL, 1, &table, NULL), -EINVAL);
	assert_int_equal(ioasid_bind_page_table(c, NULL, 1, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_bind_pasid_table(c, NULL, 1, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_vm_set_slot(c, NULL, 1, &slot, NULL), -EINVAL);
	assert_int_equal(ioasid_vm_set_slot(c, NULL, 1, NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_lease_adopt(c, NULL, "n", NULL, NULL), -EINVAL);
	assert_int_equal(ioasid_free(NULL, NULL, 1, NULL, NULL), -EINVAL);
	assert_string_equal(script.request, "");
}

/* Free functions accept NULL. */
static void test_free_nothing(void **state)
{
	ioasid_server_status_free(NULL);
	ioasid_device_free(NULL);
	ioasid_devices_free(NULL);
	ioasid_memory_free(NULL);
	ioasid_memories_free(NULL);
	ioasid_choice_free(NULL);
	ioasid_offer_free(NULL);
	ioasid_info_free(NULL);
	ioasid_infos_free(NULL);
	ioasid_translation_free(NULL);
	ioasid_mappings_free(NULL);
	ioasid_attachments_free(NULL);
	ioasid_dirty_bitmap_free(NULL);
	ioasid_leases_free(NULL);
	ioasid_dma_result_free(NULL);
	ioasid_quota_free(NULL);
	ioasid_quota_answer_free(NULL);
	ioasid_event_free(NULL);
	ioasid_fault_event_free(NULL);
	ioasid_tenant_free(NULL);
	ioasid_tenants_free(NULL);
	ioasid_reload_free(NULL);
	ioasid_objects_free(NULL);
	ioasid_check_report_free(NULL);
	assert_null(ioasid_watch_close(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scopes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dma_chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dirty_bitmap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_arguments, setup, teardown),
		cmocka_unit_test(test_free_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
