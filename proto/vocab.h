/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_PROTO_VOCAB_H
#define IOASID_PROTO_VOCAB_H

/*
 * The text names of the API's enumerations, as the command line, policy files, logs and
 * tests spell them: "x86_64-4l", "vtdss-3l", "kernel", "not-present".  One table for all;
 * pure, thread-safe, nothing to free.
 */

#include "ioasid.pb-c.h"

/* "unspecified" for 0, NULL for a number that is no member. */
const char *vocab_format_name(Ioasid__V1__PageTableFormat format);
const char *vocab_kind_name(Ioasid__V1__IoasidKind kind);
const char *vocab_snoop_name(Ioasid__V1__SnoopMode mode);
const char *vocab_fault_name(Ioasid__V1__FaultCause cause);
const char *vocab_granularity_name(Ioasid__V1__InvalidateGranularity granularity);
const char *vocab_device_state_name(Ioasid__V1__DeviceState state);
const char *vocab_event_name(Ioasid__V1__EventType type);
const char *vocab_refused_by_name(Ioasid__V1__RefusedBy by);

/* -EINVAL: no such name. */
int vocab_format_from_name(const char *name, Ioasid__V1__PageTableFormat *ret);
int vocab_kind_from_name(const char *name, Ioasid__V1__IoasidKind *ret);
int vocab_snoop_from_name(const char *name, Ioasid__V1__SnoopMode *ret);
int vocab_granularity_from_name(const char *name, Ioasid__V1__InvalidateGranularity *ret);
int vocab_event_from_name(const char *name, Ioasid__V1__EventType *ret);

/* Names by number, entry 0 NULL: the words for formats and kinds in a policy. */
extern const char *const vocab_formats[];
extern const size_t vocab_n_formats;
extern const char *const vocab_kinds[];
extern const size_t vocab_n_kinds;

#endif
