/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a transport while its acceptor still has something to say. */
#include "server/transport/listener.h"
#include "server/transport/transport.h"

#include <grpc/grpc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static struct transport *transport_start(void)
{
	static struct listeners listeners;
	struct transport_config config;
	struct transport *transport;

	transport_config_init(&config);
	config.listeners = &listeners;
	assert_int_equal(transport_new(&config, &transport), 0);
	return transport;
}

/* The mail of a signal lives in the acceptor; it is delivered when the thread has ended. */
static void test_signal_at_the_end(void **state)
{
	static const int signals[] = {SIGTERM, SIGHUP, SIGINT};

	for (size_t i = 0; i < 3; i++) {
		struct transport *transport = transport_start();

		kill(getpid(), signals[i]);
		/* Not needed, but then the mail is posted for sure. */
		usleep(100000);
		transport_free(transport);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signal_at_the_end),
	};
	sigset_t signals;
	int r;

	sigfillset(&signals);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	grpc_init();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	grpc_shutdown();
	return r;
}
