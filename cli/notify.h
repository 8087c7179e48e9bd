/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_NOTIFY_H
#define IOASID_CLI_NOTIFY_H

/*
 * What systemd is told of a command that runs as a service of Type=notify.  By hand, so that a
 * client that is mostly run by hand needs no libsystemd.
 */

/* "READY=1", "STATUS=...", lines.  Without $NOTIFY_SOCKET, or with one that is of no use: nothing.
 */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
