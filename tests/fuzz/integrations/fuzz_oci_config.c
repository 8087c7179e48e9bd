/* SPDX-License-Identifier: Apache-2.0 */
/* The hook's configuration: what is taken can be used for every tenant in it. */
#include "oci_input.h"

#include "integrations/oci/config.h"
#include "integrations/oci/fail.h"
#include "tests/fuzz/policy/fuzz_check.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_config(const struct config *config)
{
	const char *text = NULL;

	CHECK(config->socket[0] == '/' && config->state_dir[0] == '/');
	CHECK(config->timeout_ms >= 1000 && config->timeout_ms <= 600000);
	json_object_object_foreach(config->tenants, tenant, entry)
	{
		CHECK(entry);
		CHECK(!config_tenant_socket(config, tenant, &text));
		CHECK(text[0] == '/' && strlen(text) < sizeof(((struct sockaddr_un *)0)->sun_path));
		CHECK(strrchr(text, '/') > text && strrchr(text, '/')[1]);
	}
	oci_check_silence();
	CHECK(config_tenant_socket(config, "no/such.tenant", &text) < 0 ||
	      json_object_object_get_ex(config->tenants, "no/such.tenant", NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config, before;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", oci_input_fd(data, size));
	memset(&config, 0x5a, sizeof(config));
	before = config;
	if (config_read(path, &config) < 0) {
		oci_check_untouched(&config, &before, sizeof(config));
		oci_check_message();
		return 0;
	}
	check_config(&config);
	config_deinit(&config);
	hook_forgive();
	return 0;
}
