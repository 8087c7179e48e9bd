/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm create, slot, destroy, list: the memory of a virtual machine, which IOASIDs of kind kvm
 * share.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

SESSION_CLEANUP(ioasid_vms, ioasid_vms_free)

static const struct cli_column vm_form[] = {{"vm", "vm"}, {}};
static const struct cli_view vm_view = {.form = vm_form, .id = "vm"};

static const struct cli_column slot_form[] = {
	{"vm", "vm"},
	{"slot", "slot"},
	{"guest_address", "guest address", .optional = true},
	{"size", "size", RENDER_SIZE},
	{},
};
static const struct cli_view slot_view = {.form = slot_form, .id = "slot"};

static const struct cli_column list_columns[] = {
	{"vm", "VM"},
	{"slots", "SLOTS"},
	{"slot_bytes", "MEMORY", RENDER_SIZE},
	{"ioasids", "IOASIDS"},
	{"label", "LABEL", .optional = true},
	{},
};
static const struct cli_section list_sections[] = {
	{"vms", NULL, list_columns, .empty = "no VM in this lease"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "vm"};

static int show_vm(struct cli *cli, const char *type, uint64_t vm)
{
	struct json_object *document = doc_new(type);

	doc_put_u64(document, "vm", vm);
	return cli_show(cli, document);
}

static int vm_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_call_ struct session_call c = {};
	uint64_t vm;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_vm_create(c.client, &c.scope, args_text(args, "label", NULL), &vm, &c.error) < 0)
		return session_fail(cli, c.error);
	return show_vm(cli, "vm-create", vm);
}

static int vm_destroy(struct cli *cli, const struct cli_args *args)
{
	_cleanup_call_ struct session_call c = {};
	uint64_t vm = args_number(args, "VM", 0);
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_vm_destroy(c.client, &c.scope, vm, &c.error) < 0)
		return session_fail(cli, c.error);
	return show_vm(cli, "vm-destroy", vm);
}

static int vm_slot(struct cli *cli, const struct cli_args *args)
{
	const struct ioasid_memory_slot slot = {
		.slot = (uint32_t)args_number(args, "SLOT", 0),
		.flags = args_has(args, "read-only") ? IOASID_SLOT_READ_ONLY : 0,
		.guest_address = args_number(args, "address", 0),
		.size = args_number(args, "SIZE", 0),
		.memory = args_number(args, "memory", 0),
		.offset = args_number(args, "offset", 0),
	};
	uint64_t vm = args_number(args, "VM", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_vm_set_slot(c.client, &c.scope, vm, &slot, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("vm-slot");
	doc_put_u64(document, "vm", vm);
	doc_put_u64(document, "slot", slot.slot);
	if (slot.size)
		doc_put_hex(document, "guest_address", slot.guest_address);
	doc_put_u64(document, "size", slot.size);
	return cli_show(cli, document);
}

static int vm_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_vms_free) struct ioasid_vms *vms = NULL;
	struct json_object *document, *list;
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_vm_list(c.client, &c.scope, &vms, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("vm-list");
	list = doc_array();
	for (size_t i = 0; i < vms->n; i++)
		doc_put(list, NULL, object_vm(vms->items[i]));
	doc_put(document, "vms", list);
	return cli_show(cli, document);
}

static const struct cli_param create_options[] = {
	{"label", CLI_TEXT, .help = "for people, at most 64 bytes", .max = 64},
	{},
};
static const struct cli_param one_vm[] = {
	{"VM", CLI_ID, CLI_REQUIRED, .help = "id of a VM"},
	{},
};
static const struct cli_param slot_args[] = {
	{"VM", CLI_ID, CLI_REQUIRED, .help = "id of a VM"},
	{"SLOT", CLI_UINT, CLI_REQUIRED, .help = "number of the slot", .max = UINT32_MAX},
	{"SIZE", CLI_SIZE, CLI_REQUIRED, .help = "bytes; 0 deletes the slot"},
	{},
};
static const struct cli_param slot_options[] = {
	{"address", CLI_ADDRESS, .help = "where the guest sees it (0)"},
	{"memory", CLI_ID, .help = "id of registered memory"},
	{"offset", CLI_SIZE, .help = "where it begins there (0)"},
	{"read-only", CLI_FLAG, .help = "devices may not write it"},
	{},
};

const struct cli_command cmd_vm_create = {
	.noun = "vm",
	.verb = "create",
	.roles = "tenant, agent",
	.summary = "make a VM without memory",
	.options = create_options,
	.view = &vm_view,
	.run = vm_create,
};
const struct cli_command cmd_vm_slot = {
	.noun = "vm",
	.verb = "slot",
	.roles = "tenant, agent",
	.summary = "put memory into a slot, move the slot, or delete it",
	.help = "KVM's rules: slots never overlap, size 0 deletes.  A deletion returns when no DMA "
		"goes there any more.",
	.example = "ioasidctl --lease vm vm slot 2 0 1G --memory 1",
	.args = slot_args,
	.options = slot_options,
	.view = &slot_view,
	.run = vm_slot,
};
const struct cli_command cmd_vm_destroy = {
	.noun = "vm",
	.verb = "destroy",
	.roles = "tenant, agent",
	.summary = "destroy a VM; it stays charged while IOASIDs use it",
	.args = one_vm,
	.view = &vm_view,
	.run = vm_destroy,
};
const struct cli_command cmd_vm_list = {
	.noun = "vm",
	.verb = "list",
	.roles = "tenant, agent",
	.summary = "list the VMs of the lease",
	.view = &list_view,
	.run = vm_list,
};
