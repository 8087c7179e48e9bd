/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_POLICY_WORDS_H
#define IOASID_CLI_POLICY_WORDS_H

/*
 * Policies without a broker: the words that they may use, and loading one.
 */

#include "cli.h"
#include "value.h"

#include "policy/policy.h"

static inline void policy_freep(struct policy **policy)
{
	policy_free(*policy);
}
#define _cleanup_policy_ __attribute__((cleanup(policy_freep)))

/* Formats and kinds by the numbers of the API. */
const struct policy_vocabulary *policy_words(void);
/* An exit code; the failure is stored with file, line and column. */
int policy_open(struct cli *cli, const char *path, struct policy **ret_policy);

#endif
