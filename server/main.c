/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioasidd: joins policy, shim, broker and transport into a process.  Everything that can be
 * wrong with the configuration is found before a socket is bound.
 *
 * It needs no privilege: it opens no device node and runs as a user of its own.
 *
 * Order at the start: signals are blocked and GRPC_* variables cleared before grpc_init(),
 * which starts threads and believes its environment.
 */
#include "kernel-shim/iommufd/iommufd.h"
#include "kernel-shim/shim.h"
#include "kernel-shim/soft/soft.h"
#include "policy/policy.h"
#include "server/broker/broker.h"
#include "server/kept.h"
#include "server/transport/options.h"
#include "server/transport/sink.h"
#include "server/transport/transport.h"

#include <errno.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>
#include <unistd.h>

#define AUDIT_RING (1 << 20)
#define LOG_RING   (256 << 10)

extern char **environ;

/* What main() builds, in the order of building. */
struct process {
	struct options options;
	struct policy *policy; /* the broker's after broker_new() */
	struct shim *shim;
	bool chosen; /* by us: --shim auto */
	struct listeners listeners;
	struct sink *log;
	struct sink *audit;
	bool grpc;
	struct transport *transport;
	struct broker *broker;
	struct kept kept;
};

/* gRPC logs from any thread and knows no context. */
static struct sink *grpc_log;

static void complain(const char *what)
{
	fprintf(stderr, "ioasidd: %s\n", what);
}

/* file:line:column: path: message, without what is not known. */
static void complain_at(const char *file, unsigned line, unsigned column, const char *path,
			const char *message)
{
	fprintf(stderr, "%s:", file);
	if (line)
		fprintf(stderr, "%u:%u:", line, column);
	if (*path)
		fprintf(stderr, " %s:", path);
	fprintf(stderr, " %s\n", message);
}

static int load_policy(struct process *process)
{
	struct policy_problem problem = {0};
	int r = policy_load(process->options.policy, broker_policy_vocabulary(), &process->policy,
			    &problem);

	if (r == POLICY_E_INVALID)
		complain_at(problem.file, problem.line, problem.column, problem.path,
			    problem.message);
	else if (r)
		complain_at(process->options.policy, 0, 0, "", strerror(-r));
	return r;
}

static int load_soft(struct process *process)
{
	struct soft_options options = {0};
	struct soft_problem problem = {0};
	const char *topology = process->options.topology;
	int r = soft_shim_new(topology, &options, &process->shim, &problem);

	if (r == SOFT_E_TOPOLOGY)
		complain_at(problem.file, problem.line, problem.column, problem.path,
			    problem.message);
	else if (r)
		complain_at(topology ? topology : "--shim soft", 0, 0, "", strerror(-r));
	return r;
}

static const char iommufd_no_topology[] = "--topology: only for --shim soft";

static int load_iommufd(struct process *process)
{
	struct iommufd_options options = {.keeper_socket =
						  process->options.keeper ?: OPTIONS_KEEPER};
	struct iommufd_problem problem = {0};
	int r;

	if (process->options.topology) {
		complain(iommufd_no_topology);
		return -EINVAL;
	}
	r = iommufd_shim_new(&options, &process->shim, &problem);
	if (r)
		complain_at("--shim iommufd", 0, 0, "", r < 0 ? strerror(-r) : problem.message);
	return r;
}

/* Only a look: opening it is the keeper's. */
static bool host_has_iommufd(void)
{
	return access("/dev/iommu", F_OK) == 0;
}

static bool wants_iommufd(const struct options *options)
{
	if (strcmp(options->shim, "auto") != 0)
		return !strcmp(options->shim, "iommufd");
	/* A topology is of simulated devices: who names one wants these. */
	return !options->topology && host_has_iommufd();
}

static int load_shim(struct process *process)
{
	process->chosen = !strcmp(process->options.shim, "auto");
	return wants_iommufd(&process->options) ? load_iommufd(process) : load_soft(process);
}

/* The policy, and the topology if there is one.  Nothing of the machine, nor its keeper. */
static int check_configuration(struct process *process)
{
	/* Both are read, so that one run shows both problems. */
	int r = load_policy(process);

	if (wants_iommufd(&process->options)) {
		if (process->options.topology)
			complain(iommufd_no_topology);
		if (r || process->options.topology)
			return -EINVAL;
		printf("the configuration is good: %zu tenants, devices of the host\n",
		       policy_n_tenants(process->policy) - 1);
		return 0;
	}
	if (load_soft(process) || r)
		return -EINVAL;
	printf("the configuration is good: %zu tenants, %zu devices\n",
	       policy_n_tenants(process->policy) - 1, shim_device_count(process->shim));
	return 0;
}

static bool shim_is_iommufd(const struct process *process)
{
	return !strcmp(process->shim->ops->name, "iommufd");
}

static void log_shim(struct process *process)
{
	char line[512];
	int n;

	n = snprintf(line, sizeof(line), "shim: %s, %zu devices%s", process->shim->ops->name,
		     shim_device_count(process->shim),
		     !process->chosen ? ""
		     : host_has_iommufd() && !process->options.topology
			     ? " (chosen: /dev/iommu exists)"
			     : " (chosen: a software IOMMU, no device of this host is touched)");
	sink_put(process->log, line, n < (int)sizeof(line) ? n : (int)sizeof(line) - 1);
	if (!shim_is_iommufd(process))
		return;
	n = snprintf(line, sizeof(line), "shim: %s", iommufd_shim_describe(process->shim));
	sink_put(process->log, line, n < (int)sizeof(line) ? n : (int)sizeof(line) - 1);
}

/* The kernel says ENOMEM then, and an operator looks for memory. */
static void warn_of_memlock(struct process *process)
{
	struct rlimit limit;
	char line[160];
	int n;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return;
	n = snprintf(line, sizeof(line),
		     "locked memory is limited to %llu bytes: maps beyond that fail, as out of "
		     "memory; LimitMEMLOCK=infinity",
		     (unsigned long long)limit.rlim_cur);
	sink_put(process->log, line, n);
}

/*
 * Without a registry nothing is known of what an earlier broker left: it is ended before
 * anybody is served.
 */
static int sweep_shim(struct process *process)
{
	char line[128];
	size_t ended;
	int r;

	log_shim(process);
	if (!shim_is_iommufd(process))
		return 0;
	warn_of_memlock(process);
	if (process->kept.registry)
		return 0;
	r = shim_sweep(process->shim, NULL, 0, &ended);
	if (r < 0) {
		complain_at("--shim iommufd", 0, 0, "what an earlier broker left", strerror(-r));
		return r;
	}
	if (ended) {
		r = snprintf(line, sizeof(line), "shim: ended %zu contexts of an earlier broker",
			     ended);
		sink_put(process->log, line, r);
	}
	return 0;
}

/* What systemd passed, then --listen; only without either, the two default sockets. */
static int open_sockets(struct process *process)
{
	static const char *const defaults[] = {
		"tenants=" OPTIONS_SOCKET ":0666",
		"admin=" OPTIONS_ADMIN_SOCKET ":0600",
	};
	struct options *options = &process->options;
	char text[512] = "";
	const char *problem;
	int r = listeners_adopt(&process->listeners, text, sizeof(text));

	for (size_t i = 0; i < 2 && !r && !process->listeners.n && options->n_listen == i; i++) {
		r = listener_spec_parse(defaults[i], &options->listen[i], &problem);
		if (!r)
			options->n_listen++;
	}
	for (size_t i = 0; i < options->n_listen && !r; i++)
		r = listeners_bind(&process->listeners, &options->listen[i], text, sizeof(text));
	if (r)
		complain(r < 0 ? strerror(-r) : text);
	return r;
}

static void grpc_logs(gpr_log_func_args *args)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "gRPC: %s", args->message);

	sink_put(grpc_log, line, n < (int)sizeof(line) ? n : (int)sizeof(line) - 1);
}

/* A privileged process must not be steered by variables that somebody left in it. */
static void clear_grpc_environment(void)
{
	for (size_t i = 0; environ[i];) {
		char name[128];
		size_t n = strcspn(environ[i], "=");

		if (strncmp(environ[i], "GRPC_", 5) || n >= sizeof(name)) {
			i++;
			continue;
		}
		memcpy(name, environ[i], n);
		name[n] = '\0';
		unsetenv(name);
		i = 0;
	}
}

static void raise_limit(int resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(resource, &limit);
}

static void prepare_process(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	/* The transport's own. */
	sigaddset(&signals, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	clear_grpc_environment();
	/* Two fds a connection: the default of 1024 is kept for programs that use select(2). */
	raise_limit(RLIMIT_NOFILE);
	/* What devices pin is counted for this process's user; tenants have quotas of ours. */
	raise_limit(RLIMIT_MEMLOCK);
}

static int start_sinks(struct process *process)
{
	int r = sink_new("stderr", SINK_TEXT, LOG_RING, &process->log);

	if (r < 0) {
		complain_at("stderr", 0, 0, "", strerror(-r));
		return r;
	}
	r = sink_new(process->options.audit, SINK_JSON, AUDIT_RING, &process->audit);
	if (r < 0)
		complain_at("--audit", 0, 0, process->options.audit, strerror(-r));
	return r;
}

static int start_broker(struct process *process)
{
	struct transport_config config;
	struct broker_config broker = {
		.host_ops = transport_host_ops(),
		.shim = process->shim,
		.policy = process->policy,
		.policy_path = process->options.policy,
		.fault_timeout_us = process->options.fault_timeout_ms * UINT64_C(1000),
	};
	int r;

	grpc_log = process->log;
	gpr_set_log_function(grpc_logs);
	gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
	grpc_init();
	process->grpc = true;
	transport_config_init(&config);
	config.listeners = &process->listeners;
	config.audit = process->audit;
	config.log = process->log;
	config.log_levels = getenv("JOURNAL_STREAM") != NULL;
	config.workers = process->options.workers;
	config.keepalive_seconds = process->options.keepalive_seconds;
	broker.keeper = process->kept.keeper;
	r = transport_new(&config, &process->transport);
	if (r == 0) {
		broker.host = process->transport;
		r = broker_new(&broker, &process->broker);
	}
	if (r == 0)
		process->policy = NULL;
	else
		complain(strerror(r < 0 ? -r : EINVAL));
	return r ?: kept_restore(&process->kept, &process->options, process->broker, process->log);
}

/* In the reverse order of building. */
static void tear_down(struct process *process)
{
	broker_free(process->broker);
	kept_deinit(&process->kept);
	transport_free(process->transport);
	if (process->grpc)
		grpc_shutdown();
	gpr_set_log_function(NULL);
	sink_free(process->audit);
	sink_free(process->log);
	listeners_deinit(&process->listeners);
	shim_free(process->shim);
	policy_free(process->policy);
	options_deinit(&process->options);
}

/* What could not be ended in order goes with the process; nobody waits for it. */
static void __attribute__((noreturn)) give_up(struct process *process)
{
	listeners_unlink(&process->listeners);
	sink_free(process->audit);
	sink_free(process->log);
	_exit(1);
}

static int serve(struct process *process)
{
	/*
	 * The registry first: one that a newer release wrote is refused before anything else.  The
	 * sockets' locks tell that no other broker is there whose work would be swept away.
	 */
	if (kept_open(&process->kept, &process->options) || open_sockets(process) ||
	    start_sinks(process) ||
	    kept_connect_keeper(&process->kept, &process->options, shim_is_iommufd(process),
				process->log) ||
	    sweep_shim(process) || start_broker(process))
		return 1;
	if (transport_run(process->transport, process->broker) < 0)
		give_up(process);
	return 0;
}

int main(int argc, char **argv)
{
	struct process process = {0};
	char problem[512] = "";
	int r, status = 1;

	r = options_parse(argc, argv, &process.options, problem, sizeof(problem));
	if (r) {
		complain(r < 0 ? strerror(-r) : problem);
		options_deinit(&process.options);
		return r < 0 ? 1 : 2;
	}
	switch (process.options.action) {
	case OPTIONS_HELP:
		fputs(options_help, stdout);
		status = 0;
		break;
	case OPTIONS_VERSION:
		puts("ioasidd " IOASID_VERSION);
		status = 0;
		break;
	case OPTIONS_CHECK:
		status = check_configuration(&process) ? 1 : 0;
		break;
	case OPTIONS_SERVE:
		prepare_process();
		if (!load_policy(&process) && !load_shim(&process))
			status = serve(&process);
		break;
	}
	tear_down(&process);
	return status;
}
