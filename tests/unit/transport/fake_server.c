/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport with the fake broker behind it, as a program for test_transport.py.
 * Options are ioasidd's; FAKE_* variables shrink the limits so that tests can reach them.
 */
#include "server/transport/options.h"
#include "server/transport/sink.h"
#include "server/transport/transport.h"

#include <grpc/grpc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void set_from_environment(const char *name, unsigned *value)
{
	const char *text = getenv(name);

	if (text)
		*value = strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	struct listeners listeners = {0};
	struct transport_config config;
	struct broker_config broker_config = {0};
	struct transport *transport;
	struct broker *broker;
	struct options options;
	unsigned unsent = 128 << 20;
	char problem[512];
	sigset_t signals;
	int r;

	if (options_parse(argc, argv, &options, problem, sizeof(problem))) {
		fprintf(stderr, "%s\n", problem);
		return 2;
	}
	sigfillset(&signals);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (listeners_adopt(&listeners, problem, sizeof(problem)))
		goto refused;
	for (size_t i = 0; i < options.n_listen; i++)
		if (listeners_bind(&listeners, &options.listen[i], problem, sizeof(problem)))
			goto refused;
	grpc_init();
	transport_config_init(&config);
	config.listeners = &listeners;
	config.workers = options.workers;
	set_from_environment("FAKE_GUESTS", &config.guests);
	set_from_environment("FAKE_PENDING", &config.limits.pending);
	set_from_environment("FAKE_OPEN", &config.limits.open);
	set_from_environment("FAKE_OPEN_LISTENER", &config.limits.open_listener);
	set_from_environment("FAKE_RATE", &config.limits.rate);
	set_from_environment("FAKE_UNSENT", &unsent);
	config.limits.unsent = unsent;
	set_from_environment("FAKE_REFUSED_MS", &config.refused_ms);
	set_from_environment("FAKE_DRAIN_MS", &config.drain_ms);
	if (sink_new("stderr", SINK_TEXT, 65536, &config.log) ||
	    sink_new(options.audit, SINK_JSON, 65536, &config.audit) ||
	    transport_new(&config, &transport))
		return 1;
	broker_config.host_ops = transport_host_ops();
	broker_config.host = transport;
	if (broker_new(&broker_config, &broker))
		return 1;
	r = transport_run(transport, broker);
	if (r < 0) {
		sink_free(config.log);
		_exit(1);
	}
	broker_free(broker);
	transport_free(transport);
	sink_free(config.audit);
	sink_free(config.log);
	grpc_shutdown();
	listeners_deinit(&listeners);
	options_deinit(&options);
	return 0;
refused:
	fprintf(stderr, "%s\n", problem);
	listeners_deinit(&listeners);
	options_deinit(&options);
	return 1;
}
