/* SPDX-License-Identifier: Apache-2.0 */
/* See names.h. */
#include "integrations/oci/names.h"

#include <stdio.h>
#include <string.h>

#define ID_SHOWN 64

/* FNV-1a, with the NUL, so that ("a", "bc") and ("ab", "c") differ. */
static uint64_t hash(uint64_t h, const char *text)
{
	do {
		h ^= (unsigned char)*text;
		h *= 0x100000001b3;
	} while (*text++);
	return h;
}

#define HASH_BEGIN 0xcbf29ce484222325

static char lease_letter(char c)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	return c && strchr(letters, c) ? c : '_';
}

void names_lease(const char *id, const char *bundle, char ret_name[NAMES_LEASE_SIZE])
{
	char shown[ID_SHOWN + 1];
	size_t n = 0;

	for (; id[n] && n < ID_SHOWN; n++)
		shown[n] = lease_letter(id[n]);
	shown[n] = '\0';
	snprintf(ret_name, NAMES_LEASE_SIZE, "oci-%s-%016llx", shown,
		 (unsigned long long)hash(hash(HASH_BEGIN, id), bundle));
}

void names_key(const char *lease, const char *what, int pid, uint64_t started,
	       char ret_key[NAMES_KEY_SIZE])
{
	char process[48];

	snprintf(process, sizeof(process), "%d %llu", pid, (unsigned long long)started);
	snprintf(ret_key, NAMES_KEY_SIZE, "oci-%016llx%016llx",
		 (unsigned long long)hash(hash(HASH_BEGIN, lease), what),
		 (unsigned long long)hash(hash(HASH_BEGIN, process), lease));
}
