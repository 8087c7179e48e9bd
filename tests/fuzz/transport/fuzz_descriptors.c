/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search of reflection: a client chooses the symbol or the file's name.  A member and
 * what it is a member of are found in the same file.
 */
#include "server/transport/services.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *file, *again;
	size_t n, n_again;
	char *text;

	if (size > 4096)
		return 0;
	text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (descriptors_find_symbol(text, &file, &n)) {
		char *dot = strrchr(text, '.');

		/* Whoever declares a name declares what it is a member of, or its package. */
		if (!n || !file)
			abort();
		if (dot) {
			*dot = '\0';
			if (descriptors_find_symbol(text, &again, &n_again) && again != file)
				abort();
		}
	}
	if (descriptors_find_file(text, &file, &n) && !n)
		abort();
	free(text);
	return 0;
}
