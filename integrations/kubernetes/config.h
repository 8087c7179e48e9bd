/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_CONFIG_H
#define KUBERNETES_CONFIG_H

/*
 * The configuration: one file of strict JSON, read once, immutable afterwards (any thread).
 * It is taken as a whole or not at all; docs/integrations/kubernetes.md describes every key.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_RESOURCES_MAX  32
#define CONFIG_NAMESPACES_MAX 1024
#define CONFIG_IOAS_MAX	      4096
#define CONFIG_ADDRESSES_MAX  1024
/* So often is a lease renewed in the time that it lasts while nobody holds it. */
#define CONFIG_RENEWALS 4

enum config_error {
	/* Not acceptable; the problem names the place and the reason. */
	CONFIG_E_INVALID = 1,
};

struct config_namespace {
	char *name;
	char *tenant;
	/* The broker's socket whose callers are that tenant. */
	char *socket;
};

struct config_resource {
	/* "ioasid.io/nic" */
	char *name;
	/* "nic": what follows the slash. */
	const char *suffix;
	/* Where a container finds its lease. */
	char *container_path;
	/* Number of ids without a device; 0: a resource of devices. */
	uint32_t ioas;
	/* Exactly one of these for devices. */
	char *class_prefix;
	char *vendor_device;
	size_t n_addresses;
	char **addresses;
	/* Limits of a lease for each id in it; UINT64_MAX: the tenant's only. */
	uint64_t max_ioasids;
	uint64_t max_registered_bytes;
};

struct config {
	char *broker;
	char *kubelet_dir;
	char *pod_resources;
	char *state_dir;
	/* "vendor/class" of CDI names; NULL: none are given. */
	char *cdi;
	uint32_t poll_seconds;
	uint32_t grace_seconds;
	uint32_t settle_seconds;
	uint32_t linger_seconds;
	size_t n_namespaces;
	struct config_namespace *namespaces;
	size_t n_resources;
	struct config_resource *resources;
};

#define CONFIG_PROBLEM_SIZE 512

/* CONFIG_E_INVALID: ret_problem is one line, "resources[0].name: ..."; else -errno. */
int config_parse(const char *text, size_t length, struct config **ret_config,
		 char ret_problem[CONFIG_PROBLEM_SIZE]);
/* The same of a file; what cannot be read is CONFIG_E_INVALID, too. */
int config_load(const char *path, struct config **ret_config,
		char ret_problem[CONFIG_PROBLEM_SIZE]);
void config_free(struct config *config);

/* NULL: no such namespace. */
const struct config_namespace *config_find_namespace(const struct config *config, const char *name);
/* -1: no such resource. */
int config_find_resource(const struct config *config, const char *name);

#endif
