/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_ASK_H
#define IOASID_OCI_ASK_H

/*
 * What one container asks for: a tenant, devices, limits of its lease.  It comes from
 * annotations and from the arguments of the hooks (CDI), and adds up to one ask: one tenant,
 * all the devices, the lower of two limits.  Nothing here grants anything.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ASK_DEVICES_MAX 64
#define ASK_TENANT_SIZE 256
#define ASK_DEVICE_SIZE 20

struct state;

struct ask {
	char tenant[ASK_TENANT_SIZE]; /* "": nothing is asked for */
	size_t n_devices;
	char devices[ASK_DEVICES_MAX][ASK_DEVICE_SIZE]; /* lower case, each once */
	uint64_t max_ioasids;				/* UINT64_MAX: none */
	uint64_t max_bytes;
	const char *tenant_from; /* what named the tenant first */
};

void ask_init(struct ask *ret_ask);
/* where: "annotation io.ioasid.tenant", "--tenant" */
int ask_add_tenant(struct ask *ask, const char *where, const char *tenant);
/* One address, or several with commas or blanks between them (podman cuts at commas). */
int ask_add_devices(struct ask *ask, const char *where, const char *devices);
int ask_add_ioasids(struct ask *ask, const char *where, const char *number);
/* Bytes, with K, M, G or T (powers of 1024). */
int ask_add_memory(struct ask *ask, const char *where, const char *bytes);
int ask_add_annotations(struct ask *ask, const struct state *state);
/*
 * Arguments of a hook behind its stage: --tenant T, --device D[,D], --ioasids N, --memory SIZE,
 * and --config FILE, which is returned if ret_config is not NULL.
 */
int ask_add_arguments(struct ask *ask, size_t n, const char *const *arguments,
		      const char **ret_config);
/* Devices or limits without a tenant are a mistake. */
int ask_check(const struct ask *ask);

#endif
