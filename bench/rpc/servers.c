/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the servers that are compared, in a folder of this run. */
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOSTILE_UID 65533

uid_t neighbour_uid(void)
{
	return getuid() == 0 ? HOSTILE_UID : getuid();
}

static void server_await(struct server *server)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strncpy(address.sun_path, server->socket, sizeof(address.sun_path) - 1);
	for (int i = 0; i < 500; i++) {
		struct timespec pause = {.tv_nsec = 20000000};
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int r = connect(fd, (struct sockaddr *)&address, sizeof(address));

		close(fd);
		if (r == 0)
			return;
		if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
			die("the server for %s ended at once", server->socket);
		nanosleep(&pause, NULL);
	}
	die("%s: no server", server->socket);
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "w");
	if (!file || fputs(text, file) < 0 || fclose(file))
		die("cannot write %s", path);
}

/* The server forks nothing and dies with us. */
static pid_t fork_server(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

void server_start_echo(struct server *server, const char *folder)
{
	snprintf(server->socket, sizeof(server->socket), "%s/echo.sock", folder);
	server->pid = fork_server();
	if (server->pid == 0)
		echo_serve(server->socket);
	server_await(server);
}

/* Two tenants without limits: the bench, and its hostile neighbour. */
static void write_policy(const char *folder)
{
	char text[1024];
	char other[128] = "";

	if (neighbour_uid() != getuid())
		snprintf(other, sizeof(other),
			 ",\n    {\"socket\": \"tenants\", \"uid\": %u, \"role\": \"tenant\", "
			 "\"tenant\": \"hostile\"}",
			 neighbour_uid());
	snprintf(text, sizeof(text),
		 "{\n  \"version\": 1,\n  \"host\": {\"limits\": {\"ioasids\": 4000000,\n"
		 "    \"ioasids_kernel\": 4000000, \"map_entries\": 8000000,\n"
		 "    \"broker_bytes\": \"8G\"}},\n  \"tenants\": {\n"
		 "    \"bench\": {\"devices\": [{\"any\": true}]},\n"
		 "    \"hostile\": {\"devices\": [{\"any\": true}]}\n  },\n"
		 "  \"identities\": [\n"
		 "    {\"socket\": \"tenants\", \"uid\": %u, \"role\": \"tenant\", "
		 "\"tenant\": \"bench\"}%s\n  ]\n}\n",
		 getuid(), other);
	write_file(folder, "policy.json", text);
	write_file(folder, "topology.json",
		   "{\n  \"version\": 1,\n  \"iommus\": [\n"
		   "    {\"name\": \"dmar0\", \"formats\": [\"x86_64-4l\"], \"output_bits\": 48,\n"
		   "     \"snoop_control\": true, \"pasid_bits\": 20, \"reserved\": []}\n  ],\n"
		   "  \"devices\": [\n"
		   "    {\"address\": \"0000:01:00.0\", \"vendor_device\": \"8086:10fb\",\n"
		   "     \"class\": \"020000\", \"iommu\": \"dmar0\", \"group\": 1},\n"
		   "    {\"address\": \"0000:02:00.0\", \"vendor_device\": \"8086:10fb\",\n"
		   "     \"class\": \"020000\", \"iommu\": \"dmar0\", \"group\": 2}\n  ]\n}\n");
}

/* On a tmpfs, where one belongs; goes with the server. */
static void registry_folder(const char *folder, struct server *server, char *ret, size_t size)
{
	snprintf(server->registry, sizeof(server->registry), "/dev/shm/ioasid-bench-%d",
		 (int)getpid());
	if (access("/dev/shm", W_OK))
		snprintf(server->registry, sizeof(server->registry), "%.200s/registry", folder);
	snprintf(ret, size, "%s", server->registry);
}

static void remove_registry(const struct server *server)
{
	static const char *const names[] = {"lock", "log", "log.new"};
	char path[300];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", server->registry, names[i]);
		unlink(path);
	}
	rmdir(server->registry);
}

void server_start_ioasidd(struct server *server, const char *folder, const char *path, bool audit)
{
	char policy[256], topology[256], listener[256], records[256], log[256], registry[256];
	int fd;

	write_policy(folder);
	registry_folder(folder, server, registry, sizeof(registry));
	snprintf(server->socket, sizeof(server->socket), "%s/tenants.sock", folder);
	snprintf(policy, sizeof(policy), "%s/policy.json", folder);
	snprintf(topology, sizeof(topology), "%s/topology.json", folder);
	snprintf(listener, sizeof(listener), "tenants=%s:0666", server->socket);
	snprintf(records, sizeof(records), "%s/audit", folder);
	snprintf(log, sizeof(log), "%s/log", folder);
	server->pid = fork_server();
	if (server->pid == 0) {
		fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, STDERR_FILENO);
		execl(path, path, "--shim", "soft", "--policy", policy, "--topology", topology,
		      "--listen", listener, "--audit", audit ? records : "none", "--registry",
		      registry, (char *)NULL);
		die("cannot run %s", path);
	}
	server_await(server);
}

void server_stop(struct server *server)
{
	int status;

	kill(server->pid, SIGTERM);
	waitpid(server->pid, &status, 0);
	unlink(server->socket);
	if (server->registry[0])
		remove_registry(server);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		fprintf(stderr, "the server ended with status %d\n", WEXITSTATUS(status));
	else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTERM)
		fprintf(stderr, "the server was killed by signal %d\n", WTERMSIG(status));
}
