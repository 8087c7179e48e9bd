/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_PROCESS_H
#define IOASID_BROKER_PROCESS_H

#include "server/broker/state.h"

/* pid 0 if there is no such process any more. */
struct process_id process_of_pid(pid_t pid);
struct process_id process_of_pidfd(int pidfd);
/* The same process, not only the same pid. */
bool process_is_same(const struct process_id *a, const struct process_id *b);
/* A pidfd of exactly that process.  -ESRCH: it has ended. */
int process_open(const struct process_id *process, int *ret_pidfd);

#endif
