/* SPDX-License-Identifier: Apache-2.0 */
/* The state on stdin, and the annotations in it, which whoever starts a container writes. */
#include "oci_input.h"

#include "integrations/oci/ask.h"
#include "integrations/oci/names.h"
#include "integrations/oci/state.h"
#include "tests/fuzz/policy/fuzz_check.h"

#include <limits.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_names(const struct state *state)
{
	char name[NAMES_LEASE_SIZE];

	names_lease(state->id, state->bundle, name);
	CHECK(!strncmp(name, "oci-", 4) && strlen(name) < sizeof(name));
	CHECK(!strchr(name, '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state state, before;
	struct ask ask;

	memset(&state, 0x5a, sizeof(state));
	before = state;
	if (state_read(oci_input_fd(data, size), &state) < 0) {
		oci_check_untouched(&state, &before, sizeof(state));
		oci_check_message();
		return 0;
	}
	oci_check_silence();
	CHECK(*state.id && strlen(state.id) <= 1024);
	CHECK(state.bundle[0] == '/' && strlen(state.bundle) < PATH_MAX);
	CHECK(state.pid >= 0);
	check_names(&state);
	ask_init(&ask);
	if (ask_add_annotations(&ask, &state) < 0 || ask_check(&ask) < 0)
		oci_check_message();
	oci_check_silence();
	oci_check_ask(&ask);
	state_deinit(&state);
	return 0;
}
