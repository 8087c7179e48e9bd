/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_INTERNAL_H
#define IOASID_POLICY_INTERNAL_H

/*
 * What a policy is made of, for the files of policy/ only.
 *
 * parse.c fills it file by file, check.c sorts it and checks what spans files, after which
 * nothing changes any more: policy.c, identify.c and explain.c read.
 * Invariants after the check: tenants are sorted by path, tenants[0] is the host, every
 * parent pointer is set; identities are sorted by identity_compare() and distinct; every
 * string is in the arena.
 */

#include "arena.h"
#include "policy.h"

#include <stdarg.h>

#define POLICY_FILE_SIZE_MAX	  ((size_t)32 << 20)
#define POLICY_FILES_MAX	  4096
#define POLICY_VALUES_MAX	  ((size_t)2 << 20) /* JSON values in one file */
#define POLICY_JSON_DEPTH_MAX	  16		    /* the schema needs 5 */
#define POLICY_RULES_MAX	  4096		    /* device rules of one tenant */
#define POLICY_IDENTITIES_MAX	  262144
#define POLICY_HOST_DEVICES_MAX	  4096
#define POLICY_COMPONENT_MAX	  63 /* bytes of one component of a tenant path */
#define POLICY_SOCKET_NAME_MAX	  63
#define POLICY_DEVICE_ADDRESS_MAX 17 /* "ffffffff:ff:1f.7" with NUL */
#define POLICY_ADMIN_SOCKET	  "admin"

/* Where something was written.  line 0: nowhere, it is built in. */
struct policy_place {
	unsigned file; /* index into policy.files */
	unsigned line;
	unsigned column;
};

struct policy_file {
	const char *name; /* as given, for problems */
	const char *base; /* after the last '/', for rules */
};

/* One line of "limits" or "reservations". */
struct policy_amount {
	enum quota_resource resource;
	uint64_t value;
	struct policy_place place;
};

enum policy_rule_type {
	POLICY_RULE_ADDRESS,
	POLICY_RULE_GROUP,
	POLICY_RULE_VENDOR_DEVICE,
	POLICY_RULE_CLASS,
	POLICY_RULE_ANY,
};

struct policy_rule {
	enum policy_rule_type type;
	char address[POLICY_DEVICE_ADDRESS_MAX];
	uint32_t group;
	uint16_t vendor;
	uint16_t device;
	bool any_device;     /* "8086:*" */
	uint32_t class_code; /* the leading class_digits of the 24-bit code */
	unsigned class_digits;
	struct policy_place place;
};

/* "devices" of a tenant. */
struct policy_devices {
	const char *origin; /* "20-acme.json:7: tenants.acme.devices"; NULL: not written */
	struct policy_rule *rules;
	size_t n_rules;
};

/* "formats" or "kinds" of a tenant. */
struct policy_words {
	/* NULL: not written; mask is then all ones, of the host all words that exist. */
	const char *origin;
	uint64_t mask;
};

struct policy_tenant {
	const char *path;
	const struct policy_tenant *parent;
	struct policy_place place;
	struct policy_amount *limits;
	size_t n_limits;
	struct policy_amount *reservations;
	size_t n_reservations;
	struct policy_devices devices;
	struct policy_words formats;
	struct policy_words kinds;
	enum policy_pasid_policy pasid_policy;
	const char *pasid_origin; /* NULL: not written */
	bool delegate;
	const char *delegate_origin; /* NULL: not written */
};

struct policy_identity_rule {
	const char *socket;
	bool has_uid;
	bool has_gid;
	uid_t uid;
	gid_t gid;
	enum policy_role role;
	const char *tenant; /* see struct policy_identity */
	const char *origin;
	struct policy_place place;
	struct policy_place tenant_place; /* of the key that names tenant; line 0: none */
	size_t index;			  /* in the file's list */
};

struct policy {
	struct arena arena;
	struct policy_file *files;
	size_t n_files;
	/* A vector while parsing; [0] is the host. */
	struct policy_tenant *tenants;
	size_t n_tenants;
	size_t n_tenants_allocated;
	struct policy_identity_rule *identities;
	size_t n_identities;
	size_t n_identities_allocated;
	/* Lower case, sorted. */
	char (*host_devices)[POLICY_DEVICE_ADDRESS_MAX];
	size_t n_host_devices;
	struct policy_place host_devices_place;
};

/* ---- parse.c ---- */

int policy_new(const struct policy_vocabulary *vocabulary, struct policy **ret_policy);
/* Adds one text.  After a failure the policy is good for policy_free() only. */
int policy_parse_file(struct policy *policy, const char *name, const char *text, size_t length,
		      const struct policy_vocabulary *vocabulary, struct policy_problem *problem);

/* ---- check.c ---- */

/* Sorts, links and checks what spans tenants and files. */
int policy_check(struct policy *policy, struct policy_problem *problem);
/*
 * need of every tenant when nothing is charged: what its children have reserved.
 * ret_needs has n_tenants elements; sums stop at UINT64_MAX.
 */
void policy_needs(const struct policy *policy, enum quota_resource r, uint64_t *ret_needs);
/* By socket, then uid before gid before neither; see policy_identify(). */
int policy_identity_compare(const struct policy_identity_rule *a,
			    const struct policy_identity_rule *b);

/* ---- policy.c ---- */

/*
 * Where in a file a tenant is, and below it a section and a key if given:
 * "tenants.org/team.limits.vms", "host".
 */
void policy_tenant_where(const struct policy_tenant *tenant, const char *section, const char *key,
			 char *ret, size_t size);

const struct policy_amount *policy_tenant_amount(const struct policy_amount *amounts, size_t n,
						 enum quota_resource r);
/* The host's limit where the policy has none. */
uint64_t policy_host_default(enum quota_resource r);

/* ---- rule.c: words of the schema ---- */

/*
 * Each returns 0 or -EINVAL.  A device address is lower-cased into ret.
 */
int policy_address_parse(const char *s, size_t length, char ret[static POLICY_DEVICE_ADDRESS_MAX]);
int policy_vendor_device_parse(const char *s, size_t length, struct policy_rule *rule);
int policy_class_parse(const char *s, size_t length, struct policy_rule *rule);
/* "4G", "4096".  -ERANGE: does not fit below QUOTA_UNLIMITED. */
int policy_bytes_parse(const char *s, size_t length, uint64_t *ret);
/* NULL: a good path; else what is wrong with it. */
const char *policy_path_fault(const char *path, size_t length);
/* NULL: a good name of a socket; else what is wrong. */
const char *policy_socket_fault(const char *name, size_t length);

bool policy_rule_matches(const struct policy_rule *rule, const struct policy_device *device);
/* The rule as one would write it, {"class": "0200"}. */
void policy_rule_format(const struct policy_rule *rule, char *ret, size_t size);

#endif
