/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Map and Unmap of 2 MiB in the table of an attached device, through ioasidd: against the two
 * raw calls and two empty echoes by the same client.
 */
#include "guest.h"

#include "ioasid.pb-c.h"

#include <stdio.h>
#include <unistd.h>

#define ECHO	  "/bench.Echo/Echo"
#define BROKER(x) "/ioasid.v1.Broker/" x

static void take(struct client *client, const char *edu, uint64_t *ret_ioasid)
{
	Ioasid__V1__ClaimDeviceRequest claim = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	Ioasid__V1__AllocRequest alloc = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__AttachRequest attach = IOASID__V1__ATTACH_REQUEST__INIT;
	Ioasid__V1__AllocResponse *response;
	char *devices[] = {(char *)edu};

	claim.n_devices = 1;
	claim.devices = devices;
	client_call(client, BROKER("ClaimDevice"), &claim.base, NULL);
	alloc.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	alloc.n_devices = 1;
	alloc.devices = devices;
	response = (Ioasid__V1__AllocResponse *)client_call(
		client, BROKER("Alloc"), &alloc.base, &ioasid__v1__alloc_response__descriptor);
	*ret_ioasid = response->ioasid;
	ioasid__v1__alloc_response__free_unpacked(response, NULL);
	attach.device = (char *)edu;
	attach.ioasid = *ret_ioasid;
	client_call(client, BROKER("Attach"), &attach.base, NULL);
}

static double map_pair_us(struct client *client, uint64_t ioasid, uint64_t memory, uint64_t length)
{
	Ioasid__V1__MapRequest map = IOASID__V1__MAP_REQUEST__INIT;
	Ioasid__V1__MapEntry entry = IOASID__V1__MAP_ENTRY__INIT;
	Ioasid__V1__MapEntry *entries[] = {&entry};
	Ioasid__V1__UnmapRequest unmap = IOASID__V1__UNMAP_REQUEST__INIT;
	Ioasid__V1__UnmapRange range = IOASID__V1__UNMAP_RANGE__INIT;
	Ioasid__V1__UnmapRange *ranges[] = {&range};
	uint64_t start = now_ns();

	entry.iova = range.iova = BASE;
	entry.length = range.length = length;
	entry.memory = memory;
	entry.read = entry.write = true;
	map.ioasid = unmap.ioasid = ioasid;
	map.n_entries = unmap.n_ranges = 1;
	map.entries = entries;
	unmap.ranges = ranges;
	client_call(client, BROKER("Map"), &map.base, NULL);
	client_call(client, BROKER("Unmap"), &unmap.base, NULL);
	return (double)(now_ns() - start) / 1e3;
}

/* Two calls of a method whose request has no bytes. */
static double two_calls_us(struct client *client, const char *method)
{
	Ioasid__V1__GetStatusRequest empty = IOASID__V1__GET_STATUS_REQUEST__INIT;
	uint64_t start = now_ns();

	for (int i = 0; i < 2; i++)
		client_call(client, method, &empty.base, NULL);
	return (double)(now_ns() - start) / 1e3;
}

/* What the server of the turn before does after its answer is not of the next one. */
static void settle(void)
{
	usleep(1000);
}

struct rpc {
	struct client broker, echo;
	const struct raw *raw;
	uint64_t ioasid, memory;
	int fd;
};

static void figure(struct rpc *rpc, uint64_t length, const char *name, double goal)
{
	double ratios[ROUNDS], raws[ROUNDS], echoes[ROUNDS], calls[ROUNDS], statuses[ROUNDS];
	double raw[TURNS], echo[TURNS], call[TURNS], status[TURNS];

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < TURNS; i++) {
			settle();
			echo[i] = two_calls_us(&rpc->echo, ECHO);
			settle();
			call[i] = map_pair_us(&rpc->broker, rpc->ioasid, rpc->memory, length);
			settle();
			status[i] = two_calls_us(&rpc->broker, BROKER("GetStatus"));
			settle();
			raw[i] = raw_pair_us(rpc->raw, rpc->fd, length, 1);
		}
		raws[round] = median(raw, TURNS);
		echoes[round] = median(echo, TURNS);
		statuses[round] = median(status, TURNS);
		calls[round] = median(call, TURNS);
		ratios[round] = calls[round] / (raws[round] + echoes[round]);
	}
	/* GetStatus: what of it is the path of any request, without shim and worker. */
	printf("P7  Map+Unmap %s: raw %.0f us, two echoes %.0f us, by RPC %.0f us; two GetStatus "
	       "%.0f us\n",
	       name, median(raws, ROUNDS), median(echoes, ROUNDS), median(calls, ROUNDS),
	       median(statuses, ROUNDS));
	print_ratio("RPC / (raw + two echoes)", ratios, goal);
}

void rpc_figures(const char *tenants, const char *echo, const char *edu, const struct raw *raw)
{
	struct rpc rpc = {.raw = raw, .fd = memory_new(LARGE)};

	grpc_init();
	client_open(&rpc.echo, echo, 0);
	client_open(&rpc.broker, tenants, 0);
	take(&rpc.broker, edu, &rpc.ioasid);
	rpc.memory = client_register_memory(&rpc.broker, LARGE);
	for (unsigned i = 0; i < TURNS; i++) {
		two_calls_us(&rpc.echo, ECHO);
		map_pair_us(&rpc.broker, rpc.ioasid, rpc.memory, LARGE);
	}
	figure(&rpc, LARGE, "2M", 1.1);
	figure(&rpc, SMALL, "4K", 0);
	client_close(&rpc.broker);
	client_close(&rpc.echo);
	grpc_shutdown();
}
