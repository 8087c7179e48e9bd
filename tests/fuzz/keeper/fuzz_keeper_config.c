/* SPDX-License-Identifier: Apache-2.0 */
/* Config space as a hostile device shows it: bounded, and inside the bytes. */
#include "keeper/config_space.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_capabilities found;

	if (size > CONFIG_SPACE_MAX)
		return 0;
	config_space_examine(data, size, &found);
	if (found.pasid_bits > 20 || (found.pasid_exec && !found.pasid_bits))
		abort();
	return 0;
}
