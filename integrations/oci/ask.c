/* SPDX-License-Identifier: Apache-2.0 */
/* See ask.h.  Text that comes from a container's maker: all of it is checked here. */
#include "integrations/oci/ask.h"

#include "integrations/oci/fail.h"
#include "integrations/oci/state.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

void ask_init(struct ask *ret_ask)
{
	memset(ret_ask, 0, sizeof(*ret_ask));
	ret_ask->max_ioasids = ret_ask->max_bytes = UINT64_MAX;
}

static bool is_alnum(char c)
{
	return isascii((unsigned char)c) && isalnum((unsigned char)c);
}

/* As the policy has it: components of letters, digits, "-_." that begin with one of the first. */
static bool is_tenant(const char *text)
{
	bool first = true;

	if (!*text || strlen(text) >= ASK_TENANT_SIZE)
		return false;
	for (; *text; text++) {
		if (*text == '/' ? first
		    : first	 ? !is_alnum(*text)
				 : !is_alnum(*text) && !strchr("-_.", *text))
			return false;
		first = *text == '/';
	}
	return !first;
}

int ask_add_tenant(struct ask *ask, const char *where, const char *tenant)
{
	if (!is_tenant(tenant))
		return hook_fail(-EINVAL, "%s: \"%.64s\" is no tenant (as \"org/team\")", where,
				 tenant);
	if (ask->tenant[0] && strcmp(ask->tenant, tenant))
		return hook_fail(-EINVAL,
				 "%s: tenant %s, but %s says %s: one container has one tenant",
				 where, tenant, ask->tenant_from, ask->tenant);
	if (!ask->tenant[0]) {
		strcpy(ask->tenant, tenant);
		ask->tenant_from = where;
	}
	return 0;
}

static bool is_hex(const char *text, size_t n)
{
	while (n--)
		if (!isxdigit((unsigned char)*text++))
			return false;
	return true;
}

/* "0000:01:00.0", the domain of 4 to 8 digits. */
static bool is_device(const char *text, size_t n)
{
	const char *rest = memchr(text, ':', n);
	size_t domain = rest ? (size_t)(rest - text) : 0;

	return domain >= 4 && domain <= 8 && n - domain == 8 && is_hex(text, domain) &&
	       is_hex(rest + 1, 2) && rest[3] == ':' && is_hex(rest + 4, 2) && rest[6] == '.' &&
	       rest[7] >= '0' && rest[7] <= '7';
}

static int add_device(struct ask *ask, const char *where, const char *text, size_t n)
{
	char *device = ask->devices[ask->n_devices < ASK_DEVICES_MAX ? ask->n_devices : 0];
	char address[ASK_DEVICE_SIZE] = {};

	if (!is_device(text, n))
		return hook_fail(-EINVAL, "%s: \"%.*s\" is no device (an address as 0000:3b:00.0)",
				 where, (int)(n > 64 ? 64 : n), text);
	for (size_t i = 0; i < n; i++)
		address[i] = (char)tolower((unsigned char)text[i]);
	for (size_t i = 0; i < ask->n_devices; i++)
		if (!strcmp(ask->devices[i], address))
			return 0;
	if (ask->n_devices == ASK_DEVICES_MAX)
		return hook_fail(-E2BIG, "%s: more than %d devices", where, ASK_DEVICES_MAX);
	memcpy(device, address, sizeof(address));
	ask->n_devices++;
	return 0;
}

int ask_add_devices(struct ask *ask, const char *where, const char *devices)
{
	bool another = true;

	devices += strspn(devices, " ");
	while (another || *devices) {
		size_t n = strcspn(devices, ", ");
		int r = add_device(ask, where, devices, n);

		if (r < 0)
			return r;
		devices += n;
		devices += strspn(devices, " ");
		another = *devices == ',';
		devices += another;
		devices += strspn(devices, " ");
	}
	return 0;
}

/* Digits and one letter of a power of 1024, if units are allowed; false: no such number. */
static bool parse_amount(const char *text, const char *units, uint64_t *ret_amount)
{
	uint64_t amount = 0;
	const char *unit;

	if (!isdigit((unsigned char)*text))
		return false;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(amount, 10u, &amount) ||
		    __builtin_add_overflow(amount, (uint64_t)(*text - '0'), &amount))
			return false;
	if (*text) {
		unit = strchr(units, *text);
		if (!unit || text[1] ||
		    __builtin_mul_overflow(amount, UINT64_C(1) << (10 * (unit - units + 1)),
					   &amount))
			return false;
	}
	if (amount == UINT64_MAX)
		return false;
	*ret_amount = amount;
	return true;
}

static int narrow(uint64_t *limit, const char *where, const char *text, const char *units,
		  const char *expected)
{
	uint64_t amount;

	if (!parse_amount(text, units, &amount))
		return hook_fail(-EINVAL, "%s: \"%.64s\": expected %s", where, text, expected);
	if (amount < *limit)
		*limit = amount;
	return 0;
}

int ask_add_ioasids(struct ask *ask, const char *where, const char *number)
{
	return narrow(&ask->max_ioasids, where, number, "", "a whole number");
}

int ask_add_memory(struct ask *ask, const char *where, const char *bytes)
{
	return narrow(&ask->max_bytes, where, bytes, "KMGT", "bytes, as 4096, 64K, 512M, 4G or 1T");
}

struct field {
	const char *annotation, *option;
	int (*add)(struct ask *ask, const char *where, const char *value);
};
static const struct field fields[] = {
	{"io.ioasid.tenant", "--tenant", ask_add_tenant},
	{"io.ioasid.devices", "--device", ask_add_devices},
	{"io.ioasid.ioasids", "--ioasids", ask_add_ioasids},
	{"io.ioasid.memory", "--memory", ask_add_memory},
};
#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))

int ask_add_annotations(struct ask *ask, const struct state *state)
{
	for (size_t i = 0; i < N_FIELDS; i++) {
		const char *value;
		int r = state_annotation(state, fields[i].annotation, &value);

		if (!r && value)
			r = fields[i].add(ask, fields[i].annotation, value);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_argument(struct ask *ask, const char *option, const char *value,
			const char **ret_config)
{
	if (!strcmp(option, "--config")) {
		if (ret_config)
			*ret_config = value;
		return 0;
	}
	for (size_t i = 0; i < N_FIELDS; i++)
		if (!strcmp(option, fields[i].option))
			return fields[i].add(ask, fields[i].option, value);
	return hook_fail(-EINVAL, "%s: no such option", option);
}

int ask_add_arguments(struct ask *ask, size_t n, const char *const *arguments,
		      const char **ret_config)
{
	for (size_t i = 0; i < n; i += 2) {
		int r = i + 1 < n ? add_argument(ask, arguments[i], arguments[i + 1], ret_config)
				  : hook_fail(-EINVAL, "%s: no such option, or no value behind it",
					      arguments[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

int ask_check(const struct ask *ask)
{
	if (ask->tenant[0])
		return 0;
	if (ask->n_devices || ask->max_ioasids != UINT64_MAX || ask->max_bytes != UINT64_MAX)
		return hook_fail(-EINVAL, "io.ioasid.tenant: missing, though devices or limits are "
					  "asked for");
	return 0;
}
