/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text names of the API's enumerations.  The tables are indexed by the enum's number;
 * tests/unit/proto checks that each has as many names as the enum has members.
 */
#include "vocab.h"

#include <errno.h>
#include <string.h>

const char *const vocab_formats[] = {
	[1] = "x86_64-4l",    [2] = "x86_64-5l",      [3] = "vtdss-3l",	     [4] = "vtdss-4l",
	[5] = "vtdss-5l",     [6] = "ept-4l",	      [7] = "ept-5l",	     [8] = "amdv1-1l",
	[9] = "amdv1-2l",     [10] = "amdv1-3l",      [11] = "amdv1-4l",     [12] = "amdv1-5l",
	[13] = "amdv1-6l",    [14] = "armv8-s1-4k",   [15] = "armv8-s1-16k", [16] = "armv8-s1-64k",
	[17] = "armv8-s2-4k", [18] = "armv8-s2-16k",  [19] = "armv8-s2-64k", [20] = "sv39",
	[21] = "sv48",	      [22] = "sv57",	      [23] = "sv39x4",	     [24] = "sv48x4",
	[25] = "sv57x4",      [26] = "kernel-chosen",
};
const size_t vocab_n_formats = sizeof(vocab_formats) / sizeof(vocab_formats[0]);

const char *const vocab_kinds[] = {
	[1] = "kernel",
	[2] = "user",
	[3] = "process",
	[4] = "kvm",
};
const size_t vocab_n_kinds = sizeof(vocab_kinds) / sizeof(vocab_kinds[0]);

static const char *const snoop_names[] = {"auto", "enforce", "none"};

static const char *const fault_names[] = {
	[1] = "not-present",   [2] = "permission",	    [3] = "reserved-bits",
	[4] = "non-canonical", [5] = "address-width",	    [6] = "output-width",
	[7] = "not-attached",  [8] = "reserved-range",	    [9] = "memory-error",
	[10] = "bad-entry",    [11] = "parent-not-present", [12] = "parent-permission",
	[13] = "access-flag",
};

static const char *const granularity_names[] = {
	[1] = "all", [2] = "range", [3] = "pasid", [4] = "device-tlb", [5] = "pasid-cache",
};

static const char *const device_state_names[] = {
	[1] = "free", [2] = "claimed", [3] = "unavailable", [4] = "revoking", [5] = "host",
};

static const char *const event_names[] = {
	[1] = "lease-opened",	    [2] = "lease-closed",	[3] = "device-claimed",
	[4] = "device-released",    [5] = "ioasid-allocated",	[6] = "ioasid-freed",
	[7] = "attached",	    [8] = "detached",		[9] = "quota-refused",
	[10] = "limit-changed",	    [11] = "policy-reloaded",	[12] = "tenant-drained",
	[13] = "lease-revoked",	    [14] = "device-removed",	[15] = "fault",
	[16] = "connection-opened", [17] = "connection-closed",
};

static const char *const refused_by_names[] = {
	[1] = "device",
	[2] = "policy",
	[3] = "shim",
	[4] = "request",
};

static const char *name_of(const char *const *names, size_t n, unsigned value)
{
	if (value >= n)
		return NULL;
	return names[value] ?: "unspecified";
}

static int value_of(const char *const *names, size_t n, const char *name, unsigned *ret)
{
	for (size_t i = 0; i < n; i++)
		if (names[i] && !strcmp(names[i], name)) {
			*ret = i;
			return 0;
		}
	return -EINVAL;
}

#define DEFINE_NAME(function, type, table)                                                         \
	const char *function(type value)                                                           \
	{                                                                                          \
		return name_of(table, sizeof(table) / sizeof(table[0]), (unsigned)value);          \
	}

#define DEFINE_FROM_NAME(function, type, table)                                                    \
	int function(const char *name, type *ret)                                                  \
	{                                                                                          \
		unsigned value;                                                                    \
		int r = value_of(table, sizeof(table) / sizeof(table[0]), name, &value);           \
                                                                                                   \
		if (!r)                                                                            \
			*ret = (type)value;                                                        \
		return r;                                                                          \
	}

DEFINE_NAME(vocab_format_name, Ioasid__V1__PageTableFormat, vocab_formats)
DEFINE_NAME(vocab_kind_name, Ioasid__V1__IoasidKind, vocab_kinds)
DEFINE_NAME(vocab_snoop_name, Ioasid__V1__SnoopMode, snoop_names)
DEFINE_NAME(vocab_fault_name, Ioasid__V1__FaultCause, fault_names)
DEFINE_NAME(vocab_granularity_name, Ioasid__V1__InvalidateGranularity, granularity_names)
DEFINE_NAME(vocab_device_state_name, Ioasid__V1__DeviceState, device_state_names)
DEFINE_NAME(vocab_event_name, Ioasid__V1__EventType, event_names)
DEFINE_NAME(vocab_refused_by_name, Ioasid__V1__RefusedBy, refused_by_names)

DEFINE_FROM_NAME(vocab_format_from_name, Ioasid__V1__PageTableFormat, vocab_formats)
DEFINE_FROM_NAME(vocab_kind_from_name, Ioasid__V1__IoasidKind, vocab_kinds)
DEFINE_FROM_NAME(vocab_snoop_from_name, Ioasid__V1__SnoopMode, snoop_names)
DEFINE_FROM_NAME(vocab_granularity_from_name, Ioasid__V1__InvalidateGranularity, granularity_names)
DEFINE_FROM_NAME(vocab_event_from_name, Ioasid__V1__EventType, event_names)
