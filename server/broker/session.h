/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_SESSION_H
#define IOASID_BROKER_SESSION_H

#include "server/broker/state.h"

/*
 * After a reload: ends connections whose principal now is somebody else, or nobody, while
 * their tenant is still in the policy.
 */
void sessions_reidentify(struct broker *broker);

#endif
