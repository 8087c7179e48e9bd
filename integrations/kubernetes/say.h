/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_SAY_H
#define KUBERNETES_SAY_H

/* Lines on stderr, for the pod's log.  Any thread; control characters are shown as '?'. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

#endif
