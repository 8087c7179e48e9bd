/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_LOG_H
#define IOASID_KEEPER_LOG_H

/* Lines on stderr, with the journal's <N> where stderr is the journal.  Any thread. */

#include <syslog.h>

void keeper_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
