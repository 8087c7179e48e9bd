/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of commands, of nouns, and of the options that every command takes.
 */
#include "families.h"

#include <string.h>

const struct cli_command *const cli_commands[] = {
	&cmd_device_list,
	&cmd_device_show,
	&cmd_device_claim,
	&cmd_device_release,
	&cmd_device_fd,
	&cmd_memory_register,
	&cmd_memory_unregister,
	&cmd_memory_list,
	&cmd_memory_write,
	&cmd_memory_fill,
	&cmd_memory_read,
	&cmd_ioasid_negotiate,
	&cmd_ioasid_alloc,
	&cmd_ioasid_free,
	&cmd_ioasid_list,
	&cmd_ioasid_show,
	&cmd_ioasid_tree,
	&cmd_map_add,
	&cmd_map_list,
	&cmd_unmap,
	&cmd_bind_table,
	&cmd_unbind_table,
	&cmd_bind_pasid_table,
	&cmd_unbind_pasid_table,
	&cmd_attach_add,
	&cmd_attach_list,
	&cmd_detach,
	&cmd_replace,
	&cmd_invalidate,
	&cmd_dirty_on,
	&cmd_dirty_off,
	&cmd_dirty_read,
	&cmd_fault_watch,
	&cmd_fault_respond,
	&cmd_vm_create,
	&cmd_vm_slot,
	&cmd_vm_destroy,
	&cmd_vm_list,
	&cmd_dma_read,
	&cmd_dma_write,
	&cmd_translate,
	&cmd_walk,
	&cmd_lease_open,
	&cmd_lease_adopt,
	&cmd_lease_close,
	&cmd_lease_list,
	&cmd_cdi_generate,
	&cmd_cdi_list,
	&cmd_cdi_remove,
	&cmd_tenant_list,
	&cmd_tenant_show,
	&cmd_tenant_drain,
	&cmd_tenant_revoke,
	&cmd_tenant_set_limit,
	&cmd_quota_show,
	&cmd_quota_set,
	&cmd_quota_explain,
	&cmd_policy_check,
	&cmd_policy_explain,
	&cmd_policy_reload,
	&cmd_registry_dump,
	&cmd_registry_check,
	&cmd_status,
	&cmd_check,
	&cmd_events,
	&cmd_tree,
	&cmd_exec,
	&cmd_shell,
	&cmd_completion,
	&cmd_help,
};
const size_t cli_n_commands = sizeof(cli_commands) / sizeof(cli_commands[0]);

static const char *const output_words[] = {"table", "json", "id", NULL};

const struct cli_param cli_globals[] = {
	{"socket", CLI_FILE, .letter = 's',
	 .help = "the broker's socket ($IOASID_SOCKET, /run/ioasid/ioasid.sock)"},
	{"lease", CLI_TEXT, .letter = 'l', .value = "NAME", .max = 128,
	 .help = "act in this named lease ($IOASID_LEASE; else what `exec` or a container's hook "
		 "gave)"},
	{"secret-file", CLI_FILE, .help = "the lease's secret ($IOASID_LEASE_SECRET_FILE)"},
	{"tenant", CLI_TEXT, .letter = 't', .value = "PATH", .help = "agents: act for this tenant"},
	{"key", CLI_TEXT, .max = 64,
	 .help = "idempotency key: the same call with it has one effect"},
	{"timeout", CLI_UINT, .value = "SECONDS", .min = 1, .max = 4000000,
	 .help = "give up after so long (30)"},
	{"output", CLI_WORD, .letter = 'o', .value = "FORMAT", .words = output_words,
	 .help = "table, json or id (table)"},
	{"help", CLI_FLAG, .letter = 'h', .help = "show help about the command"},
	{"version", CLI_FLAG, .letter = 'V', .help = "show the version"},
	{},
};

static const struct {
	const char *noun, *summary;
} nouns[] = {
	{"device", "devices, what they can do, claiming them"},
	{"memory", "memory that devices may be given"},
	{"ioasid", "I/O address spaces"},
	{"map", "mappings of an IOASID"},
	{"unmap", "take mappings away"},
	{"bind-table", "which table of the tenant's an IOASID is"},
	{"unbind-table", "take such a table away"},
	{"bind-pasid-table", "which PASID table of the tenant's an IOASID is"},
	{"unbind-pasid-table", "take such a PASID table away"},
	{"attach", "which device goes through which IOASID"},
	{"detach", "end an attachment"},
	{"replace", "move an attachment"},
	{"invalidate", "invalidate cached translations"},
	{"dirty", "which pages devices have written"},
	{"fault", "what devices met, and answers to their page requests"},
	{"vm", "virtual machines, for kind kvm"},
	{"dma", "DMA of a simulated device"},
	{"translate", "walk a table for one address"},
	{"walk", "page tables in a memory dump"},
	{"lease", "named leases, which outlive a connection"},
	{"cdi", "names by which container engines give out devices"},
	{"tenant", "tenants (administrators)"},
	{"quota", "limits and counters"},
	{"policy", "check, explain and reload the policy"},
	{"registry", "what a broker keeps for its next start"},
	{"status", "the broker, and who the caller is to it"},
	{"check", "whether the broker agrees with itself (administrators)"},
	{"events", "what happens, live"},
	{"tree", "everything at a glance"},
	{"exec", "a program in a lease of its own"},
	{"shell", "many commands on one connection"},
	{"completion", "completion for a shell"},
	{"help", "this help"},
};

const char *cli_noun_summary(const char *noun)
{
	for (size_t i = 0; i < sizeof(nouns) / sizeof(nouns[0]); i++)
		if (!strcmp(nouns[i].noun, noun))
			return nouns[i].summary;
	return "";
}
