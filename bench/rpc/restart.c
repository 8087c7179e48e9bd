/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P5: how long a start takes that finds a million objects in the registry, and what they cost.
 *
 * Half of them are IOASIDs, half mappings of children from their parent (memory would need a
 * keeper).  The broker is killed, and the time from the start of the next one to its first
 * answer is measured.
 */
#include "bench.h"

#include "ioasid.pb-c.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BROKER(x) "/ioasid.v1.Broker/" x
#define PAGE	  4096
#define ENTRIES	  1000

static uint64_t n_allocated;

static size_t request_alloc(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	Ioasid__V1__AllocRequest request = IOASID__V1__ALLOC_REQUEST__INIT;

	request.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	n_allocated++;
	*ret_path = BROKER("Alloc");
	return protobuf_c_message_pack(&request.base, bytes);
}

static const struct workload workload_alloc = {
	.name = "Alloc",
	.request = request_alloc,
	.period = 1,
};

static uint64_t alloc(struct client *client, uint64_t parent)
{
	Ioasid__V1__AllocRequest request = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__AllocResponse *response;
	uint64_t id;

	request.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	request.parent = parent;
	response = (Ioasid__V1__AllocResponse *)client_call(
		client, BROKER("Alloc"), &request.base, &ioasid__v1__alloc_response__descriptor);
	id = response->ioasid;
	ioasid__v1__alloc_response__free_unpacked(response, NULL);
	n_allocated++;
	return id;
}

/* ENTRIES mappings of one page each, with holes between them. */
static void map(struct client *client, uint64_t ioasid, uint64_t first)
{
	static Ioasid__V1__MapEntry entries[ENTRIES], *pointers[ENTRIES];
	Ioasid__V1__MapRequest request = IOASID__V1__MAP_REQUEST__INIT;

	for (unsigned i = 0; i < ENTRIES; i++) {
		ioasid__v1__map_entry__init(&entries[i]);
		entries[i].iova = (first + i) * 2 * PAGE;
		entries[i].length = PAGE;
		entries[i].from_parent = true;
		entries[i].parent_address = (first + i) * PAGE;
		entries[i].read = true;
		pointers[i] = &entries[i];
	}
	request.ioasid = ioasid;
	request.entries = pointers;
	request.n_entries = ENTRIES;
	client_call(client, BROKER("Map"), &request.base, NULL);
}

static uint64_t fill(struct client *client, uint64_t n)
{
	uint64_t parent = alloc(client, 0), child = 0, n_mappings = 0;

	for (; n_mappings < n / 2; n_mappings += ENTRIES) {
		/* Some thousand mappings a table. */
		if (n_mappings % (20 * ENTRIES) == 0)
			child = alloc(client, parent);
		map(client, child, 16 + n_mappings % (20 * ENTRIES));
	}
	while (n_allocated + n_mappings < n)
		client_run(client, &workload_alloc, 64, 0.25, 0);
	return n_allocated + n_mappings;
}

static uint64_t rss_kib(pid_t pid)
{
	char path[64], line[256];
	unsigned long long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static uint64_t log_bytes(const struct server *server)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "%s/log", server->registry);
	return stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

void restart_report(struct server *server, const char *folder, const char *path, bool audit,
		    uint64_t n)
{
	uint64_t began, before = rss_kib(server->pid), rss, log, objects;
	struct client client;
	double seconds;

	client_open(&client, server->socket, server->pid);
	objects = fill(&client, n);
	rss = rss_kib(server->pid) - before;
	log = log_bytes(server);
	kill(server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	unlink(server->socket);
	client_close(&client);
	began = now_ns();
	server_start_ioasidd(server, folder, path, audit);
	client_open(&client, server->socket, server->pid);
	client_call(&client, BROKER("GetStatus"),
		    &(ProtobufCMessage){&ioasid__v1__get_status_request__descriptor, 0, NULL},
		    NULL);
	seconds = (double)(now_ns() - began) / 1e9;
	client_close(&client);
	printf("P5  start with %llu objects: %.2f s to the first answer (goal < 5)\n",
	       (unsigned long long)objects, seconds);
	printf("      bytes an object: %.0f in ioasidd as it was filled, %.0f as it was restored, "
	       "%.0f of log\n",
	       1024.0 * (double)rss / (double)objects,
	       1024.0 * (double)(rss_kib(server->pid) - before) / (double)objects,
	       (double)log / (double)objects);
}
