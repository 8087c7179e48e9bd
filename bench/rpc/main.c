/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_rpc: P1, P5, P6 and P8, and what each stage of a request's path costs.
 *
 * Each round of P1 measures echo, every pair, echo again; a pair's ratio is against the mean
 * of the two echoes beside it, and the median over the rounds is printed.
 */
#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS_MAX 32

struct settings {
	const char *ioasidd;
	double seconds; /* of one run */
	double idle_seconds;
	unsigned rounds;
	bool audit;
	bool p1, stages, p5, p6, p8;
	unsigned long objects; /* P5 */
	const char *beside;    /* P8: neighbours whose name holds this */
};

static const struct workload *const pairs[] = {
	&workload_alloc_free,
	&workload_attach_detach,
	&workload_map_unmap,
};
/* Each does all that the one before does, and one stage more. */
static const struct {
	const struct workload *workload;
	const char *adds;
} stages[] = {
	{&workload_unknown, "identity, method table, error details"},
	{&workload_health, "a message each way, without the broker"},
	{&workload_status, "broker: session, arena, unpack, charge, audit"},
	{&workload_get, "look up one object"},
	{&workload_negotiate, "policy and ranking of formats"},
	{&workload_alloc_free, "journal, shim, publish"},
};
#define N(array) (sizeof(array) / sizeof((array)[0]))

static void run_p1(struct client *echo, struct client *broker, const struct settings *settings,
		   unsigned n_lanes, double goal)
{
	double ratios[N(pairs)][ROUNDS_MAX], rates[N(pairs)][ROUNDS_MAX],
		cpus[N(pairs)][ROUNDS_MAX];
	double echo_rates[ROUNDS_MAX], echo_cpus[ROUNDS_MAX], echo_cpu;

	for (unsigned round = 0; round < settings->rounds; round++) {
		struct result before, after, pair;

		before = client_run(echo, &workload_echo, n_lanes, settings->seconds, 0);
		for (size_t i = 0; i < N(pairs); i++) {
			pair = client_run(broker, pairs[i], n_lanes, settings->seconds, 0);
			after = client_run(echo, &workload_echo, n_lanes, settings->seconds, 0);
			rates[i][round] = pair.rate;
			cpus[i][round] = pair.cpu_us;
			ratios[i][round] = pair.rate * 2 / (before.rate + after.rate);
			before = after;
		}
		echo_rates[round] = before.rate;
		echo_cpus[round] = before.cpu_us;
	}
	echo_cpu = median(echo_cpus, settings->rounds);
	printf("P1  %2u outstanding: empty echo %.0f calls/s, %.1f us of CPU each\n", n_lanes,
	       median(echo_rates, settings->rounds), echo_cpu);
	for (size_t i = 0; i < N(pairs); i++) {
		double middle = median(ratios[i], settings->rounds);
		double cpu = median(cpus[i], settings->rounds);

		printf("      %-14s %7.0f calls/s  ratio %.2f  (%.2f to %.2f; goal >= %.2f)  "
		       "%5.1f us of CPU (echo / this = %.2f)\n",
		       pairs[i]->name, median(rates[i], settings->rounds), middle, ratios[i][0],
		       ratios[i][settings->rounds - 1], goal, cpu, echo_cpu / cpu);
	}
}

struct stage_times {
	double wall_us[ROUNDS_MAX];
	double cpu_us[ROUNDS_MAX];
};

static void stage_run(struct client *client, const struct workload *workload, unsigned n_lanes,
		      const struct settings *settings, unsigned round, struct stage_times *times)
{
	struct result result = client_run(client, workload, n_lanes, settings->seconds, 0);

	times->wall_us[round] = 1e6 / result.rate;
	times->cpu_us[round] = result.cpu_us;
}

static void stage_print(const char *name, const char *adds, struct stage_times times[2], unsigned n)
{
	printf("      %-14s %6.1f %6.1f    %6.1f %6.1f   %s\n", name, median(times[0].wall_us, n),
	       median(times[1].wall_us, n), median(times[0].cpu_us, n), median(times[1].cpu_us, n),
	       adds);
}

static void run_stages(struct client *echo, struct client *broker, const struct settings *settings)
{
	static struct stage_times echo_times[2], times[N(stages)][2];
	static const unsigned lanes[] = {1, 64};

	for (unsigned round = 0; round < settings->rounds; round++) {
		for (size_t k = 0; k < 2; k++) {
			stage_run(echo, &workload_echo, lanes[k], settings, round, &echo_times[k]);
			for (size_t i = 0; i < N(stages); i++)
				stage_run(broker, stages[i].workload, lanes[k], settings, round,
					  &times[i][k]);
		}
	}
	printf("Stages, microseconds a call: wall at 1 and 64 outstanding, server's CPU at 1 and "
	       "64\n");
	stage_print("empty echo", "", echo_times, settings->rounds);
	for (size_t i = 0; i < N(stages); i++)
		stage_print(stages[i].workload->name, stages[i].adds, times[i], settings->rounds);
}

/* A quiet client makes a call, rests a millisecond, makes the next. */
static void run_p8(const char *socket, const struct settings *settings)
{
	struct client client;
	struct result alone, beside;
	double seconds = settings->seconds < 3 ? 3 : settings->seconds;

	client_open(&client, socket, 0);
	alone = client_run(&client, &workload_alloc_free, 1, seconds, 1000);
	printf("P8  quiet client alone: p50 %.0f us, p99 %.0f us%s\n", alone.p50_us, alone.p99_us,
	       neighbour_uid() == getuid() ? "; NOT ROOT: neighbours are the same tenant" : "");
	for (size_t i = 0; neighbours[i].name; i++) {
		if (!strstr(neighbours[i].name, settings->beside))
			continue;
		neighbour_start(i);
		usleep(300000);
		beside = client_run(&client, &workload_alloc_free, 1, seconds, 1000);
		neighbour_stop(i);
		printf("      beside %-22s p50 %6.0f us, p99 %6.0f us, ratio %5.1f (goal <= 5)\n",
		       neighbours[i].name, beside.p50_us, beside.p99_us,
		       beside.p99_us / alone.p99_us);
		usleep(500000);
	}
	client_close(&client);
}

static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"Usage: bench_rpc --ioasidd PATH [--seconds S] [--rounds N] [--idle-seconds S]\n"
		"                 [--no-audit] [--only p1|stages|p5|p6|p8] [--objects N] [--beside "
		"WORD]\n");
	exit(status);
}

static struct settings parse(int argc, char **argv)
{
	struct settings settings = {
		.seconds = 1,
		.idle_seconds = 30,
		.rounds = 5,
		.audit = true,
		.p1 = true,
		.stages = true,
		.p5 = true,
		.p6 = true,
		.objects = 1000000,
		.p8 = true,
		.beside = "",
	};

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(argv[i], "--help"))
			usage(0);
		if (!strcmp(argv[i], "--no-audit")) {
			settings.audit = false;
			continue;
		}
		if (!value)
			usage(2);
		i++;
		if (!strcmp(argv[i - 1], "--ioasidd"))
			settings.ioasidd = value;
		else if (!strcmp(argv[i - 1], "--seconds"))
			settings.seconds = strtod(value, NULL);
		else if (!strcmp(argv[i - 1], "--idle-seconds"))
			settings.idle_seconds = strtod(value, NULL);
		else if (!strcmp(argv[i - 1], "--rounds"))
			settings.rounds = strtoul(value, NULL, 10);
		else if (!strcmp(argv[i - 1], "--objects"))
			settings.objects = strtoul(value, NULL, 10);
		else if (!strcmp(argv[i - 1], "--beside"))
			settings.beside = value;
		else if (!strcmp(argv[i - 1], "--only")) {
			settings.p1 = !strcmp(value, "p1");
			settings.stages = !strcmp(value, "stages");
			settings.p5 = !strcmp(value, "p5");
			settings.p6 = !strcmp(value, "p6");
			settings.p8 = !strcmp(value, "p8");
		} else {
			usage(2);
		}
	}
	if (!settings.ioasidd || !settings.rounds || settings.rounds > ROUNDS_MAX ||
	    settings.seconds <= 0 || settings.idle_seconds < 1)
		usage(2);
	return settings;
}

int main(int argc, char **argv)
{
	struct settings settings = parse(argc, argv);
	char folder[] = "/tmp/ioasid-bench-XXXXXX";
	struct server echo_server = {0}, broker_server = {0};
	struct client echo, broker;
	char command[128];

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(folder) || chmod(folder, 0711) < 0)
		die("cannot make a folder");
	server_start_echo(&echo_server, folder);
	server_start_ioasidd(&broker_server, folder, settings.ioasidd, settings.audit);
	if (settings.p8)
		neighbours_prepare(broker_server.socket);
	if (settings.p6)
		idle_report(broker_server.pid, settings.idle_seconds);

	grpc_init();
	if (settings.p1 || settings.stages) {
		client_open(&echo, echo_server.socket, echo_server.pid);
		client_open(&broker, broker_server.socket, broker_server.pid);
		/* A second of warmth for both. */
		client_run(&echo, &workload_echo, 64, 0.5, 0);
		client_run(&broker, &workload_alloc_free, 64, 0.5, 0);
		if (settings.p1) {
			run_p1(&echo, &broker, &settings, 1, 0.9);
			run_p1(&echo, &broker, &settings, 64, 0.75);
		}
		if (settings.stages)
			run_stages(&echo, &broker, &settings);
		client_close(&echo);
		client_close(&broker);
	}
	if (settings.p8)
		run_p8(broker_server.socket, &settings);
	if (settings.p5)
		restart_report(&broker_server, folder, settings.ioasidd, settings.audit,
			       settings.objects);
	grpc_shutdown();
	server_stop(&echo_server);
	server_stop(&broker_server);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command) != 0;
}
