/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_SESSION_H
#define IOASID_BROKER_SESSION_H

#include "server/broker/state.h"

/* Whom the session's leases are awaited for after a restart; found out once. */
void session_find_process(struct broker_session *session);
/*
 * After a reload: ends connections whose principal now is somebody else, or nobody, while
 * their tenant is still in the policy.
 */
void sessions_reidentify(struct broker *broker);

#endif
