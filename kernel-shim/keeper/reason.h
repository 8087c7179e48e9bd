/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_REASON_H
#define IOASID_KEEPER_REASON_H

/* What a refusal says to people: the caller's KEEPER_REASON_MAX bytes.  Returns error. */
int reason_refuse(char *ret_reason, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
