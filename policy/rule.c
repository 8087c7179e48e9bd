/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of the schema: device addresses, vendor:device, class, sizes, tenant paths; and
 * whether a device rule matches.  Pure, no allocation.
 */

#include "policy_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Exactly n digits, at most 8. */
static int hex_parse(const char *s, size_t n, uint32_t *ret)
{
	uint32_t value = 0;

	for (size_t i = 0; i < n; i++) {
		int digit = hex_digit(s[i]);

		if (digit < 0)
			return -EINVAL;
		value = value << 4 | (uint32_t)digit;
	}
	*ret = value;
	return 0;
}

/* domain:bus:device.function, "0000:3b:00.0"; domains of some bridges have up to 8 digits. */
int policy_address_parse(const char *s, size_t length, char ret[static POLICY_DEVICE_ADDRESS_MAX])
{
	size_t domain = 0;
	uint32_t value;

	while (domain < length && s[domain] != ':')
		domain++;
	if (domain < 4 || domain > 8 || length != domain + strlen(":3b:00.0"))
		return -EINVAL;
	if (hex_parse(s, domain, &value) || hex_parse(s + domain + 1, 2, &value))
		return -EINVAL;
	if (s[domain + 3] != ':' || hex_parse(s + domain + 4, 2, &value) || value > 0x1f)
		return -EINVAL;
	if (s[domain + 6] != '.' || s[domain + 7] < '0' || s[domain + 7] > '7')
		return -EINVAL;
	for (size_t i = 0; i < length; i++)
		ret[i] = s[i] >= 'A' && s[i] <= 'F' ? s[i] - 'A' + 'a' : s[i];
	ret[length] = '\0';
	return 0;
}

int policy_vendor_device_parse(const char *s, size_t length, struct policy_rule *rule)
{
	uint32_t vendor, device = 0;
	bool any;

	if (length < 6 || s[4] != ':' || hex_parse(s, 4, &vendor))
		return -EINVAL;
	any = length == 6 && s[5] == '*';
	if (!any && (length != 9 || hex_parse(s + 5, 4, &device)))
		return -EINVAL;
	rule->vendor = vendor;
	rule->device = device;
	rule->any_device = any;
	return 0;
}

int policy_class_parse(const char *s, size_t length, struct policy_rule *rule)
{
	uint32_t value;

	if ((length != 2 && length != 4 && length != 6) || hex_parse(s, length, &value))
		return -EINVAL;
	rule->class_code = value;
	rule->class_digits = length;
	return 0;
}

int policy_bytes_parse(const char *s, size_t length, uint64_t *ret)
{
	static const char suffixes[] = "KMGT";
	uint64_t value = 0, unit = 1;
	size_t i;

	for (i = 0; i < length && s[i] >= '0' && s[i] <= '9'; i++)
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s[i] - '0'), &value))
			value = UINT64_MAX;
	if (!i || (i > 1 && s[0] == '0') || length > i + 1)
		return -EINVAL;
	if (i < length) {
		const char *suffix = memchr(suffixes, s[i], sizeof(suffixes) - 1);

		if (!suffix)
			return -EINVAL;
		unit = UINT64_C(1) << 10 * (suffix - suffixes + 1);
	}
	if (__builtin_mul_overflow(value, unit, &value) || value == QUOTA_UNLIMITED)
		return -ERANGE;
	*ret = value;
	return 0;
}

static bool name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.';
}

static bool alphanumeric(char c)
{
	return name_byte(c) && c != '-' && c != '_' && c != '.';
}

const char *policy_path_fault(const char *path, size_t length)
{
	size_t start = 0, components = 0;

	if (!length)
		return "it is empty";
	if (length > POLICY_PATH_MAX)
		return "it is longer than 255 bytes";
	for (size_t i = 0; i <= length; i++) {
		if (i < length && path[i] != '/') {
			if (!name_byte(path[i]))
				return "only A-Z a-z 0-9 - _ . are allowed between the slashes";
			continue;
		}
		if (i == start)
			return "a component is empty";
		if (!alphanumeric(path[start]))
			return "a component begins with a letter or a digit";
		if (i - start > POLICY_COMPONENT_MAX)
			return "a component is longer than 63 bytes";
		if (++components > POLICY_DEPTH_MAX)
			return "it has more than 8 components";
		start = i + 1;
	}
	return NULL;
}

const char *policy_socket_fault(const char *name, size_t length)
{
	if (!length)
		return "it is empty";
	if (length > POLICY_SOCKET_NAME_MAX)
		return "it is longer than 63 bytes";
	for (size_t i = 0; i < length; i++)
		if (!name_byte(name[i]))
			return "only A-Z a-z 0-9 - _ . are allowed";
	return NULL;
}

bool policy_rule_matches(const struct policy_rule *rule, const struct policy_device *device)
{
	switch (rule->type) {
	case POLICY_RULE_ADDRESS:
		return device->address && !strcasecmp(rule->address, device->address);
	case POLICY_RULE_GROUP:
		return rule->group == device->group;
	case POLICY_RULE_VENDOR_DEVICE:
		return rule->vendor == device->vendor &&
		       (rule->any_device || rule->device == device->device);
	case POLICY_RULE_CLASS:
		return rule->class_code ==
		       (device->class_code & 0xffffff) >> (24 - 4 * rule->class_digits);
	case POLICY_RULE_ANY:
		return true;
	}
	return false;
}

void policy_rule_format(const struct policy_rule *rule, char *ret, size_t size)
{
	switch (rule->type) {
	case POLICY_RULE_ADDRESS:
		snprintf(ret, size, "{\"address\": \"%s\"}", rule->address);
		break;
	case POLICY_RULE_GROUP:
		snprintf(ret, size, "{\"group\": %" PRIu32 "}", rule->group);
		break;
	case POLICY_RULE_VENDOR_DEVICE:
		if (rule->any_device)
			snprintf(ret, size, "{\"vendor_device\": \"%04x:*\"}", rule->vendor);
		else
			snprintf(ret, size, "{\"vendor_device\": \"%04x:%04x\"}", rule->vendor,
				 rule->device);
		break;
	case POLICY_RULE_CLASS:
		snprintf(ret, size, "{\"class\": \"%0*" PRIx32 "\"}", (int)rule->class_digits,
			 rule->class_code);
		break;
	case POLICY_RULE_ANY:
		snprintf(ret, size, "{\"any\": true}");
		break;
	}
}
