/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_EXPLAIN_H
#define IOASID_POLICY_EXPLAIN_H

/*
 * Why a policy allows or forbids: the answer to `ioasidctl policy explain`, offline, from
 * the files alone.  A question names who asks (a caller, a tenant, or an agent's caller and
 * the tenant it acts for) and any of: a device, a format, a kind, an amount of a resource.
 * The answer is a list of lines, for every node of the tenant's chain what it says and
 * where that is written, and whether all of it is allowed.
 *
 * Verdicts come from policy_device_verdict() and its kin, which the broker asks too: an
 * explanation cannot say otherwise than the broker does.  Of quotas it knows limits and
 * reservations but no use: it answers for a broker in which nothing is charged yet.
 *
 * Pure; the policy may be read by others meanwhile.
 */

#include "policy.h"

struct policy_question {
	/* Who.  At least one of the two; NULL: not given. */
	const struct policy_caller *caller;
	const char *tenant; /* path */
	/* What; NULL: not asked. */
	const struct policy_device *device;
	const char *format; /* words of the vocabulary */
	const char *kind;
	bool delegate; /* a lease whose context is the tenant's own */
	const struct quota_amount *amount;
};

enum policy_mark {
	POLICY_MARK_NOTE,   /* tells something, decides nothing */
	POLICY_MARK_ALLOWS, /* this node or rule allows */
	POLICY_MARK_DENIES, /* this one forbids, and therewith the whole */
};
/* "note", "allows", "denies"; NULL: out of range. */
const char *policy_mark_name(enum policy_mark mark);

struct policy_explanation_line {
	enum policy_mark mark;
	const char *topic; /* "identity", "device", "format", "kind", "delegate" or "quota" */
	/* Path of the node that speaks, "" the host; NULL: no node does. */
	const char *tenant;
	/* One sentence without newline, valid UTF-8: "acme allows it by {\"class\": \"02\"}". */
	const char *text;
	/* Where it is written, "20-acme.json:7: tenants.acme.devices[0]"; NULL: nowhere. */
	const char *rule;
};

struct policy_explanation {
	bool allowed; /* no line denies */
	/* The role and the tenant that the question is about; "" if there is none. */
	enum policy_role role; /* NONE: the question gave no caller, or no rule knows it */
	const char *tenant;
	struct policy_explanation_line *lines;
	size_t n_lines;
};

/*
 * Topics in the order of struct policy_question; within one, from the tenant up to the host.
 * A tenant, word or caller that the policy does not know is an answer (a line that
 * denies), not an error.  -ENOMEM; -EINVAL: neither caller nor tenant is given.  The
 * explanation borrows from the policy and ends before it.
 */
int policy_explain(const struct policy *policy, const struct policy_vocabulary *vocabulary,
		   const struct policy_question *question,
		   struct policy_explanation **ret_explanation);
void policy_explanation_free(struct policy_explanation *explanation); /* NULL-safe */

#endif
