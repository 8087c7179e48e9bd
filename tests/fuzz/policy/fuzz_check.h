/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_FUZZ_CHECK_H
#define IOASID_TESTS_FUZZ_CHECK_H

/* An assertion that holds in every build: what a fuzz target finds is an abort. */

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
