/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BENCH_RPC_H
#define IOASID_BENCH_RPC_H

/*
 * What the RPC bench is made of.
 *
 *   servers.c    starts and stops the two servers that are compared: ioasidd, and an empty
 *                echo on the same core library
 *   echo.c       that echo server
 *   client.c     a closed loop of calls: so many lanes, each with one call outstanding
 *   workloads.c  what a lane calls: pairs of methods that undo each other
 *   neighbour.c  hostile processes for P8
 *   idle.c       P6
 *   restart.c    P5
 *   report.c     medians and percentiles
 *
 * Every figure is a ratio between two runs of the same minute on the same machine; rates are
 * printed beside it to be looked at, not to be compared between machines.
 *
 * Threads: one, as the client; each server and neighbour is a process.
 */

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- restart.c ---- */

struct server;
/* P5: fills the server with n objects, kills it, starts another one in its place. */
void restart_report(struct server *server, const char *folder, const char *path, bool audit,
		    uint64_t n);

/* ---- report.c ---- */

/* Latencies in nanoseconds. */
struct samples {
	uint32_t *ns;
	size_t n;
	size_t capacity;
};
void samples_add(struct samples *samples, uint64_t ns);
/* Sorts; p from 0 to 1. */
double samples_percentile_us(struct samples *samples, double p);
void samples_free(struct samples *samples);
double median(double *values, size_t n);
uint64_t now_ns(void);
void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

/* ---- servers.c ---- */

struct server {
	char registry[256]; /* ioasidd only; "": none */
	pid_t pid;
	char socket[96];
};

/* folder: of this run, for sockets, policy and logs. */
void server_start_echo(struct server *server, const char *folder);
void server_start_ioasidd(struct server *server, const char *folder, const char *path, bool audit);
void server_stop(struct server *server);
/* uid of hostile neighbours: another tenant when we are root, else our own. */
uid_t neighbour_uid(void);

/* ---- client.c ---- */

struct client {
	pid_t server;
	grpc_completion_queue *cq;
	grpc_channel *channel;
	char socket[96];
};

/* server: whose CPU time client_run() counts; 0: nobody's. */
void client_open(struct client *client, const char *socket, pid_t server);
void client_close(struct client *client);
/* One call; dies unless it is OK.  The answer is unpacked unless descriptor is NULL. */
ProtobufCMessage *client_call(struct client *client, const char *path,
			      const ProtobufCMessage *request,
			      const ProtobufCMessageDescriptor *answer);

/* A new memfd, for reading and writing, in the connection's lease; its id. */
uint64_t client_register_memory(struct client *client, size_t size);

struct lane {
	unsigned index;
	unsigned step;
	uint64_t ioasid; /* what the workload keeps between its steps */
	uint64_t memory;
};

struct workload {
	const char *name;
	/* Before the first call of a lane; may make calls of its own. */
	void (*prepare)(struct client *client, struct lane *lane, unsigned n_lanes);
	/* Packs the next request into bytes[1024]; returns its size, and the method. */
	size_t (*request)(struct lane *lane, const char **ret_path, uint8_t *bytes);
	/* NULL: nothing to learn from an answer. */
	void (*answer)(struct lane *lane, const uint8_t *bytes, size_t size);
	void (*finish)(struct client *client, struct lane *lane, unsigned n_lanes);
	/* Status that every call must end with. */
	grpc_status_code status;
	/* Calls until everything is as before: a lane ends only there. */
	unsigned period;
};

struct result {
	double rate;   /* calls a second */
	double cpu_us; /* CPU time of the server's threads for a call */
	double p50_us;
	double p99_us;
};

/* pause_us: rest of a lane between calls. */
struct result client_run(struct client *client, const struct workload *workload, unsigned n_lanes,
			 double seconds, unsigned pause_us);

/* ---- workloads.c ---- */

extern const struct workload workload_echo;
extern const struct workload workload_unknown;
extern const struct workload workload_health;
extern const struct workload workload_status;
extern const struct workload workload_get;
extern const struct workload workload_negotiate;
extern const struct workload workload_alloc_free;
extern const struct workload workload_attach_detach;
extern const struct workload workload_map_unmap;
extern const struct workload workload_big;

/* ---- echo.c, neighbour.c, idle.c ---- */

/* Serves until it is killed. */
void __attribute__((noreturn)) echo_serve(const char *socket);

/* NULL name: the end of the list. */
struct neighbour {
	const char *name;
	void (*run)(const char *socket);
};
extern const struct neighbour neighbours[];
/* Forks them all, asleep; before grpc_init(), whose threads a fork would not take along. */
void neighbours_prepare(const char *socket);
void neighbour_start(size_t index);
void neighbour_stop(size_t index);

void idle_report(pid_t pid, double seconds);
/* CPU time of all threads that live, nanoseconds. */
uint64_t process_cpu_ns(pid_t pid);

#endif
