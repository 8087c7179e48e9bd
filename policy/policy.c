/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a policy: tenants, limits, verdicts.  Everything here is a search in what
 * parse.c and check.c left; nothing allocates, nothing fails, any thread may ask.
 *
 * A verdict walks from the tenant up to the host and stops at the first that says no: a
 * tenant's own list is named before an ancestor's, and no node can give what one above it
 * has not in its list.
 */

#include "policy_internal.h"
#include "problem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char no_device_list[] =
	"built in: a tenant below the host that lists no \"devices\" has none";

/*
 * What the host is limited to where its policy says nothing: finite for what costs the
 * broker memory, fds or threads, so that an empty policy is not an open door.  Rates are
 * not limited; per-kind IOASIDs are limited by their sum.
 */
static const uint64_t host_defaults[_QUOTA_MAX] = {
	[QUOTA_IOASIDS] = 262144,
	[QUOTA_IOASIDS_KERNEL] = QUOTA_UNLIMITED,
	[QUOTA_IOASIDS_USER] = QUOTA_UNLIMITED,
	[QUOTA_IOASIDS_PROCESS] = QUOTA_UNLIMITED,
	[QUOTA_IOASIDS_KVM] = QUOTA_UNLIMITED,
	[QUOTA_PASIDS] = 1048576, /* 20 bits, all that a TLP carries */
	[QUOTA_DEVICES] = 65536,  /* 16 bits of RID in one segment */
	[QUOTA_MAP_ENTRIES] = 16777216,
	[QUOTA_REGISTERED_BYTES] = UINT64_C(16) << 40,
	[QUOTA_MAPPED_BYTES] = UINT64_C(1) << 57, /* the widest input address */
	[QUOTA_PINNED_BYTES] = UINT64_C(16) << 40,
	[QUOTA_VMS] = 4096,
	[QUOTA_LEASES] = 65536,
	[QUOTA_CONNECTIONS] = 4096,
	[QUOTA_WATCH_STREAMS] = 1024,
	[QUOTA_FAULT_SLOTS] = 65536,
	[QUOTA_REQUESTS_IN_FLIGHT] = 4096,
	[QUOTA_KEPT_FDS] = 65536,
	[QUOTA_BROKER_BYTES] = UINT64_C(4) << 30,
	[QUOTA_NESTING_DEPTH] = 4,
	[QUOTA_CHILDREN_PER_PARENT] = 4096,
	[QUOTA_CALLS_PER_SECOND] = QUOTA_UNLIMITED,
	[QUOTA_INVALIDATIONS_PER_SECOND] = QUOTA_UNLIMITED,
};

uint64_t policy_host_default(enum quota_resource r)
{
	return (unsigned)r < _QUOTA_MAX ? host_defaults[r] : QUOTA_UNLIMITED;
}

const char *policy_role_name(enum policy_role role)
{
	switch (role) {
	case POLICY_ROLE_NONE:
		return "none";
	case POLICY_ROLE_TENANT:
		return "tenant";
	case POLICY_ROLE_AGENT:
		return "agent";
	case POLICY_ROLE_OBSERVER:
		return "observer";
	case POLICY_ROLE_ADMIN:
		return "admin";
	}
	return NULL;
}

void policy_free(struct policy *policy)
{
	if (!policy)
		return;
	free(policy->tenants);
	free(policy->identities);
	free(policy->files);
	arena_deinit(&policy->arena);
	free(policy);
}

/* ---- tenants ---- */

size_t policy_n_tenants(const struct policy *policy)
{
	return policy->n_tenants;
}

const struct policy_tenant *policy_tenant_at(const struct policy *policy, size_t index)
{
	return index < policy->n_tenants ? &policy->tenants[index] : NULL;
}

static int tenant_key_compare(const void *key, const void *element)
{
	return strcmp(key, ((const struct policy_tenant *)element)->path);
}

const struct policy_tenant *policy_tenant_find(const struct policy *policy, const char *path)
{
	return bsearch(path, policy->tenants, policy->n_tenants, sizeof(*policy->tenants),
		       tenant_key_compare);
}

const char *policy_tenant_path(const struct policy_tenant *tenant)
{
	return tenant->path;
}

const struct policy_tenant *policy_tenant_parent(const struct policy_tenant *tenant)
{
	return tenant->parent;
}

void policy_tenant_where(const struct policy_tenant *tenant, const char *section, const char *key,
			 char *ret, size_t size)
{
	ret[0] = '\0';
	if (*tenant->path) {
		problem_path_add_key(ret, size, "tenants", strlen("tenants"));
		problem_path_add_key(ret, size, tenant->path, strlen(tenant->path));
	} else {
		problem_path_add_key(ret, size, "host", strlen("host"));
	}
	if (section)
		problem_path_add_key(ret, size, section, strlen(section));
	if (key)
		problem_path_add_key(ret, size, key, strlen(key));
}

const struct policy_amount *policy_tenant_amount(const struct policy_amount *amounts, size_t n,
						 enum quota_resource r)
{
	for (size_t i = 0; i < n; i++)
		if (amounts[i].resource == r)
			return &amounts[i];
	return NULL;
}

uint64_t policy_tenant_limit(const struct policy_tenant *tenant, enum quota_resource r)
{
	const struct policy_amount *limit =
		policy_tenant_amount(tenant->limits, tenant->n_limits, r);

	if (limit)
		return limit->value;
	return *tenant->path ? QUOTA_UNLIMITED : policy_host_default(r);
}

uint64_t policy_tenant_reservation(const struct policy_tenant *tenant, enum quota_resource r)
{
	const struct policy_amount *reservation =
		policy_tenant_amount(tenant->reservations, tenant->n_reservations, r);

	return reservation ? reservation->value : 0;
}

bool policy_path_in_subtree(const char *path, const char *subtree)
{
	size_t n = strlen(subtree);

	return !n || (!strncmp(path, subtree, n) && (path[n] == '\0' || path[n] == '/'));
}

/* ---- verdicts ---- */

static const struct policy_rule *devices_match(const struct policy_devices *devices,
					       const struct policy_device *device)
{
	for (size_t i = 0; i < devices->n_rules; i++)
		if (policy_rule_matches(&devices->rules[i], device))
			return &devices->rules[i];
	return NULL;
}

void policy_device_verdict(const struct policy_tenant *tenant, const struct policy_device *device,
			   struct policy_verdict *ret_verdict)
{
	struct policy_verdict verdict = {.allowed = true};
	const struct policy_tenant *top = tenant;

	for (const struct policy_tenant *up = tenant; up; up = up->parent) {
		if (up->parent)
			top = up;
		if (up->devices.origin) {
			if (!devices_match(&up->devices, device)) {
				*ret_verdict = (struct policy_verdict){
					.tenant = up->path,
					.rule = up->devices.origin,
				};
				return;
			}
			if (!verdict.rule) {
				verdict.tenant = up->path;
				verdict.rule = up->devices.origin;
			}
		}
	}
	/* The host's list only bounds; some tenant of the chain has to name the device. */
	if (*tenant->path && (!verdict.rule || !*verdict.tenant))
		verdict = (struct policy_verdict){.tenant = top->path, .rule = no_device_list};
	*ret_verdict = verdict;
}

static void words_verdict(const struct policy_tenant *tenant, size_t offset, unsigned index,
			  struct policy_verdict *ret_verdict)
{
	struct policy_verdict verdict = {.allowed = true};

	for (; tenant; tenant = tenant->parent) {
		const struct policy_words *words =
			(const struct policy_words *)((const char *)tenant + offset);

		if (index > 63 || !(words->mask & UINT64_C(1) << index)) {
			*ret_verdict = (struct policy_verdict){
				.tenant = tenant->path,
				.rule = words->origin ? words->origin : "built in: no such word",
			};
			return;
		}
		if (!verdict.rule && words->origin) {
			verdict.tenant = tenant->path;
			verdict.rule = words->origin;
		}
	}
	*ret_verdict = verdict;
}

void policy_format_verdict(const struct policy_tenant *tenant, unsigned index,
			   struct policy_verdict *ret_verdict)
{
	words_verdict(tenant, offsetof(struct policy_tenant, formats), index, ret_verdict);
}

void policy_kind_verdict(const struct policy_tenant *tenant, unsigned index,
			 struct policy_verdict *ret_verdict)
{
	words_verdict(tenant, offsetof(struct policy_tenant, kinds), index, ret_verdict);
}

enum policy_pasid_policy policy_pasid_policy(const struct policy_tenant *tenant,
					     struct policy_verdict *ret_verdict)
{
	enum policy_pasid_policy strictest = POLICY_PASID_IDENTITY;
	struct policy_verdict verdict = {.tenant = ""};

	for (; tenant; tenant = tenant->parent) {
		if (!tenant->pasid_origin || (verdict.rule && tenant->pasid_policy <= strictest))
			continue;
		strictest = tenant->pasid_policy;
		verdict.tenant = tenant->path;
		verdict.rule = tenant->pasid_origin;
	}
	verdict.allowed = strictest != POLICY_PASID_NONE;
	*ret_verdict = verdict;
	return strictest;
}

void policy_delegate_verdict(const struct policy_tenant *tenant, struct policy_verdict *ret_verdict)
{
	struct policy_verdict allows = {.tenant = ""};

	for (const struct policy_tenant *node = tenant; node; node = node->parent) {
		if (!node->delegate_origin)
			continue;
		if (!node->delegate) {
			*ret_verdict = (struct policy_verdict){
				.tenant = node->path,
				.rule = node->delegate_origin,
			};
			return;
		}
		/* The host's is only a bound. */
		if (!allows.allowed && *node->path)
			allows = (struct policy_verdict){true, node->path, node->delegate_origin};
	}
	if (!allows.allowed)
		allows.rule = "no tenant of the chain has \"delegate\": true";
	*ret_verdict = allows;
}

static int address_compare(const void *key, const void *element)
{
	return strcmp(key, element);
}

bool policy_host_device_allowed(const struct policy *policy, const char *address)
{
	char canonical[POLICY_DEVICE_ADDRESS_MAX];

	if (!policy->n_host_devices || policy_address_parse(address, strlen(address), canonical))
		return false;
	return bsearch(canonical, policy->host_devices, policy->n_host_devices,
		       sizeof(*policy->host_devices), address_compare) != NULL;
}

/* ---- identities ---- */

static int identity_key_compare(const void *key, const void *element)
{
	return policy_identity_compare(key, element);
}

int policy_identify(const struct policy *policy, const struct policy_caller *caller,
		    struct policy_identity *ret_identity)
{
	/* From the most specific; each is one key, so that at most one rule has it. */
	static const struct {
		bool uid, gid;
	} by[] = {{true, true}, {true, false}, {false, true}, {false, false}};

	for (unsigned i = 0; policy->n_identities && i < sizeof(by) / sizeof(by[0]); i++) {
		const struct policy_identity_rule key = {
			.socket = caller->socket,
			.has_uid = by[i].uid,
			.uid = caller->uid,
			.has_gid = by[i].gid,
			.gid = caller->gid,
		};
		const struct policy_identity_rule *rule =
			bsearch(&key, policy->identities, policy->n_identities,
				sizeof(*policy->identities), identity_key_compare);

		if (rule) {
			*ret_identity = (struct policy_identity){
				.role = rule->role,
				.tenant = rule->tenant,
				.rule = rule->origin,
			};
			return 0;
		}
	}
	return POLICY_E_NO_MATCH;
}
