/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_CONFIG_H
#define IOASID_OCI_CONFIG_H

/*
 * /etc/ioasid/oci-hook.json: where the broker is, where the hook keeps what it must know
 * later, and by which socket each tenant's programs reach the broker.  It grants nothing:
 * what a tenant may have is the broker's policy.
 */

#include <stdint.h>

#define CONFIG_PATH "/etc/ioasid/oci-hook.json"

struct json_object;

struct config {
	struct json_object *document; /* owns the text below */
	const char *path;
	const char *socket;    /* of the agents */
	const char *state_dir; /* absolute */
	uint32_t timeout_ms;   /* of the whole run's talk with the broker */
	struct json_object *tenants;
};

int config_read(const char *path, struct config *ret_config);
void config_deinit(struct config *config);
/* Absolute path of the tenant's socket. */
int config_tenant_socket(const struct config *config, const char *tenant, const char **ret_socket);

#endif
