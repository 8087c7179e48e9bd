/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_UNARY_H
#define KUBERNETES_UNARY_H

/*
 * One gRPC call to a kubelet over a connection of its own, which ends with it: registration
 * and PodResources are asked a few times a minute at most, and a kubelet that was restarted is
 * no special case this way.  Blocks, at most for timeout_ms; any thread.
 */

#include "message.h"

#define UNARY_PROBLEM_SIZE 512

/*
 * The answer goes to message_free().  -errno: nobody listens, or no answer in time; -EPROTO:
 * the other side refused or made no sense.  ret_problem says it in words.
 */
int unary_call(const char *socket_path, const char *method, const ProtobufCMessage *request,
	       const ProtobufCMessageDescriptor *answer_type, unsigned timeout_ms,
	       ProtobufCMessage **ret_answer, char ret_problem[UNARY_PROBLEM_SIZE]);

#endif
