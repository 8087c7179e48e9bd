/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_FAMILIES_H
#define IOASID_CLI_FAMILIES_H

/*
 * What the families of commands (cmd_*.c) give to the table in commands.c and to each
 * other.
 */

#include "args.h"
#include "command.h"
#include "output.h"

#include "lib/ioasid.h"

extern const struct cli_command cmd_device_list, cmd_device_show, cmd_device_claim,
	cmd_device_release, cmd_device_fd;
extern const struct cli_command cmd_memory_register, cmd_memory_unregister, cmd_memory_list,
	cmd_memory_write, cmd_memory_fill, cmd_memory_read;
extern const struct cli_command cmd_ioasid_negotiate, cmd_ioasid_alloc, cmd_ioasid_free,
	cmd_ioasid_list, cmd_ioasid_show, cmd_ioasid_tree;
extern const struct cli_command cmd_map_add, cmd_map_list, cmd_unmap;
extern const struct cli_command cmd_bind_table, cmd_unbind_table, cmd_bind_pasid_table,
	cmd_unbind_pasid_table;
extern const struct cli_command cmd_dirty_on, cmd_dirty_off, cmd_dirty_read;
extern const struct cli_command cmd_fault_watch, cmd_fault_respond;
extern const struct cli_command cmd_vm_create, cmd_vm_slot, cmd_vm_destroy, cmd_vm_list;
extern const struct cli_command cmd_attach_add, cmd_attach_list, cmd_detach, cmd_replace,
	cmd_invalidate;
extern const struct cli_command cmd_dma_read, cmd_dma_write, cmd_translate;
extern const struct cli_command cmd_walk;
extern const struct cli_command cmd_lease_open, cmd_lease_adopt, cmd_lease_close, cmd_lease_list;
extern const struct cli_command cmd_cdi_generate, cmd_cdi_list, cmd_cdi_remove;
extern const struct cli_command cmd_tenant_list, cmd_tenant_show, cmd_tenant_drain,
	cmd_tenant_revoke, cmd_tenant_set_limit;
extern const struct cli_command cmd_quota_show, cmd_quota_set, cmd_quota_explain;
extern const struct cli_command cmd_policy_check, cmd_policy_explain, cmd_policy_reload;
extern const struct cli_command cmd_registry_dump, cmd_registry_check;
extern const struct cli_command cmd_status, cmd_check, cmd_events, cmd_tree;
extern const struct cli_command cmd_exec, cmd_shell, cmd_completion, cmd_help;

/* Columns of a resource's limit and counters. */
extern const struct cli_column usage_columns[];
/* The values RESOURCE=N of a parameter; free(); the names are borrowed from args. */
struct ioasid_resource_amount *quota_amounts(const struct cli_args *args, const char *name,
					     size_t *ret_n);
/* IOASIDs without parent, each with its children in "nested". */
struct json_object *ioasid_forest(const struct ioasid_info *const *items, size_t n);

#endif
