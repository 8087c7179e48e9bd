/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of a bundle: where the root is, and what the hooks in it ask for. */
#include "oci_input.h"

#include "integrations/oci/ask.h"
#include "integrations/oci/bundle.h"
#include "tests/fuzz/policy/fuzz_check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_hooks(const struct bundle *bundle, const char *stage)
{
	struct ask ask;

	ask_init(&ask);
	if (bundle_add_hooks(bundle, stage, &ask) < 0)
		oci_check_message();
	oci_check_silence();
	oci_check_ask(&ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bundle bundle, before;

	memset(&bundle, 0x5a, sizeof(bundle));
	before = bundle;
	if (bundle_read_fd(oci_input_fd(data, size), "config.json", "/bundle", &bundle) < 0) {
		oci_check_untouched(&bundle, &before, sizeof(bundle));
		oci_check_message();
		return 0;
	}
	oci_check_silence();
	CHECK(bundle.rootfs[0] == '/');
	check_hooks(&bundle, "createRuntime");
	check_hooks(&bundle, "prestart");
	bundle_deinit(&bundle);
	return 0;
}
