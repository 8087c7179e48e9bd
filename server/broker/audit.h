/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_AUDIT_H
#define IOASID_BROKER_AUDIT_H

struct broker_call;

/*
 * Hands the host one line of JSON about a call that ended: who, what, in which lease, with
 * which outcome.  Numbers of every quota refusal are in it, whoever may see them.
 */
void audit_call(struct broker_call *call);

#endif
