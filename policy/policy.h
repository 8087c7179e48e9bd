/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_POLICY_H
#define IOASID_POLICY_POLICY_H

/*
 * The policy: what the operator wrote, parsed, merged, checked, immutable afterwards.
 * It answers who a caller is, what a tenant may have, and which rule says so.  Pure: it
 * reads no clock and holds no live counter; only policy_load() touches the file system.
 * The schema of the files is docs/policy.md.
 *
 * Threads: a struct policy is immutable and may be read from any thread.
 */

#include "quota.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum policy_error {
	/* The text is not a policy; the problem says file, position and what was expected. */
	POLICY_E_INVALID = 1,
	/* No rule matches this caller. */
	POLICY_E_NO_MATCH,
	/* A rule forbids, or none allows. */
	POLICY_E_FORBIDDEN,
};

#define POLICY_PATH_MAX	   255 /* of a tenant path "org/team/job", bytes */
#define POLICY_DEPTH_MAX   8   /* components of a tenant path */
#define POLICY_TENANTS_MAX 65536

enum policy_role {
	POLICY_ROLE_NONE,
	POLICY_ROLE_TENANT,
	POLICY_ROLE_AGENT,
	POLICY_ROLE_OBSERVER,
	POLICY_ROLE_ADMIN,
};
const char *policy_role_name(enum policy_role role);

/*
 * Words that a policy may use for formats and kinds; bit n of a mask is word n.  Given by
 * the caller, so that policy/ knows neither the API nor the shim.  NULL entries are holes.
 */
struct policy_vocabulary {
	const char *const *formats;
	size_t n_formats; /* <= 64 */
	const char *const *kinds;
	size_t n_kinds; /* <= 64 */
};

/* Where a text went wrong. */
struct policy_problem {
	char file[256];
	unsigned line;	   /* 1-based; 0: the file as a whole */
	unsigned column;   /* 1-based */
	char path[256];	   /* "tenants.acme/web.limits.ioasids" */
	char message[512]; /* "expected an unsigned integer or \"max\", found a string" */
};

struct policy;
struct policy_tenant;

/*
 * Parses one file, or every *.json of a folder in order of name, merges and checks them.
 * POLICY_E_INVALID fills *ret_problem; so does an -errno that says that a file cannot be
 * read (line 0, the file is named).  -ENOMEM leaves it.
 */
int policy_load(const char *path, const struct policy_vocabulary *vocabulary,
		struct policy **ret_policy, struct policy_problem *ret_problem);
/* The same from memory; name is used in problems. */
int policy_parse(const char *name, const char *text, size_t length,
		 const struct policy_vocabulary *vocabulary, struct policy **ret_policy,
		 struct policy_problem *ret_problem);
void policy_free(struct policy *policy); /* NULL-safe */

/* ---- tenants ---- */

/*
 * Tenants in order of path; a parent comes before its children.  Index 0 is the host
 * itself, path "", the root of the tree; its limits are the host's.
 */
size_t policy_n_tenants(const struct policy *policy);
const struct policy_tenant *policy_tenant_at(const struct policy *policy, size_t index);
/* NULL: no such tenant.  O(log n). */
const struct policy_tenant *policy_tenant_find(const struct policy *policy, const char *path);

const char *policy_tenant_path(const struct policy_tenant *tenant);
/* NULL for the host. */
const struct policy_tenant *policy_tenant_parent(const struct policy_tenant *tenant);
/* QUOTA_UNLIMITED where the policy sets none (and no default applies). */
uint64_t policy_tenant_limit(const struct policy_tenant *tenant, enum quota_resource r);
uint64_t policy_tenant_reservation(const struct policy_tenant *tenant, enum quota_resource r);
/* Is path at or below subtree?  "" holds everything.  Both are valid paths. */
bool policy_path_in_subtree(const char *path, const char *subtree);

/* ---- identities ---- */

struct policy_caller {
	const char *socket; /* name of the listening socket */
	uid_t uid;
	gid_t gid;
};
struct policy_identity {
	enum policy_role role;
	const char *tenant; /* tenant: its path; agent, observer, admin: root of its subtree */
	const char *rule;   /* "tenants.json:12: identities[2]" for explanations; policy's own */
};
/*
 * The most specific rule wins: socket with uid and gid, with uid, with gid, socket alone.
 * Two equally specific rules for one caller are refused at load.  NO_MATCH.  O(log n).
 */
int policy_identify(const struct policy *policy, const struct policy_caller *caller,
		    struct policy_identity *ret_identity);

/* ---- what a tenant may have: the intersection over its chain ---- */

struct policy_device {
	const char *address;
	uint16_t vendor;
	uint16_t device;
	uint32_t class_code;
	uint32_t group;
};
/*
 * verdict->allowed; else who (tenant path) and which rule says no, the nearest to the
 * tenant first.  Where allowed, tenant and rule are the nearest list that says yes, NULL if
 * there is none.  Strings are the policy's own or static.
 */
struct policy_verdict {
	bool allowed;
	const char *tenant;
	const char *rule;
};
/*
 * Every node of the chain that lists devices has a rule that matches, and some node other
 * than the host lists devices: a top-level tenant without a list has none.
 */
void policy_device_verdict(const struct policy_tenant *tenant, const struct policy_device *device,
			   struct policy_verdict *ret_verdict);
/* index: position in the vocabulary. */
void policy_format_verdict(const struct policy_tenant *tenant, unsigned index,
			   struct policy_verdict *ret_verdict);
void policy_kind_verdict(const struct policy_tenant *tenant, unsigned index,
			 struct policy_verdict *ret_verdict);
/*
 * How guest PASIDs go to devices.  The strictest of the chain holds: a child can only narrow.
 */
enum policy_pasid_policy {
	/* As they are. */
	POLICY_PASID_IDENTITY,
	/* Others stand for them. */
	POLICY_PASID_TRANSLATED,
	/* No attachment by PASID. */
	POLICY_PASID_NONE,
};
/* verdict: who says so; rule NULL: nobody, it is identity. */
enum policy_pasid_policy policy_pasid_policy(const struct policy_tenant *tenant,
					     struct policy_verdict *ret_verdict);
/*
 * May the tenant have leases whose context is its own (OpenLease, delegate)?  Some tenant of the
 * chain says so, and none, nor the host, says no.
 */
void policy_delegate_verdict(const struct policy_tenant *tenant,
			     struct policy_verdict *ret_verdict);
/* May device (by address) be claimed although the host uses it? */
bool policy_host_device_allowed(const struct policy *policy, const char *address);

#endif
