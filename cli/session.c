/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection of one run of ioasidctl.  It is made by the first command that needs it;
 * each run of the program, or each shell, has one.  It is never made a second time here: the
 * connection lease would be another one.  A restart of the broker is libioasid's to mend.
 */
#include "session.h"
#include "doc.h"
#include "value.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct cli_session {
	struct ioasid_client *client;
	char **leases;
	size_t n_leases;
	struct session_memory *memories;
	size_t n_memories;
};

static struct cli_session *session_of(struct cli *cli)
{
	if (!cli->session)
		cli->session = cli_alloc(sizeof(*cli->session));
	return cli->session;
}

/* ---- failures ---- */

static enum cli_exit exit_of(const struct ioasid_error *error)
{
	if (ioasid_error_is_denied(error))
		return CLI_DENIED;
	if (ioasid_error_is_no_server(error))
		return CLI_NO_SERVER;
	if (ioasid_error_is_quota(error))
		return CLI_QUOTA;
	if (ioasid_error_is_not_found(error))
		return CLI_NOT_FOUND;
	return CLI_FAILED;
}

int session_fail(struct cli *cli, const struct ioasid_error *error)
{
	static const char *const kinds[] = {
		[IOASID_VIOLATION_QUOTA] = "quota",
		[IOASID_VIOLATION_PRECONDITION] = "precondition",
		[IOASID_VIOLATION_FIELD] = "field",
	};
	enum cli_exit code;

	if (cli->error)
		return cli->error_exit;
	code = exit_of(error);
	cli_fail(cli, code, ioasid_code_name(error->code), error->reason, "%s", error->message);
	for (size_t i = 0; i < error->n_violations; i++) {
		const struct ioasid_violation *v = &error->violations[i];
		const char *kind =
			(size_t)v->kind < sizeof(kinds) / sizeof(kinds[0]) ? kinds[v->kind] : NULL;

		cli_violation(cli, kind ?: "other", v->type, v->subject, v->description);
	}
	for (size_t i = 0; i < error->n_metadata; i++)
		cli_metadata(cli, error->metadata[i].key, error->metadata[i].value);
	if (error->retry_delay_ms >= 0)
		doc_put_u64(cli->error, "retry_after_ms", error->retry_delay_ms);
	return code;
}

/* ---- leases ---- */

static size_t lease_index(const struct cli_session *s, const char *name)
{
	size_t i = 0;

	while (i < s->n_leases && strcmp(s->leases[i], name))
		i++;
	return i;
}

void session_lease_held(struct cli *cli, const char *name)
{
	struct cli_session *s = session_of(cli);
	char **more;

	if (lease_index(s, name) < s->n_leases)
		return;
	more = cli_grow(s->leases, (s->n_leases + 1) * sizeof(*more));
	s->leases = more;
	more[s->n_leases++] = cli_strdup(name);
}

bool session_lease_is_held(struct cli *cli, const char *name)
{
	const struct cli_session *s = session_of(cli);

	return lease_index(s, name) < s->n_leases;
}

static void memory_deinit(struct session_memory *m)
{
	if (m->size)
		munmap(m->bytes, m->size);
	if (m->fd >= 0)
		close(m->fd);
	free(m->lease);
}

void session_lease_gone(struct cli *cli, const char *name)
{
	struct cli_session *s = session_of(cli);
	size_t i = lease_index(s, name);

	if (i < s->n_leases) {
		free(s->leases[i]);
		s->leases[i] = s->leases[--s->n_leases];
	}
	for (i = 0; i < s->n_memories;) {
		if (strcmp(s->memories[i].lease, name)) {
			i++;
			continue;
		}
		memory_deinit(&s->memories[i]);
		s->memories[i] = s->memories[--s->n_memories];
	}
}

int session_secret_read(struct cli *cli, const char *path,
			uint8_t ret_secret[IOASID_LEASE_SECRET_SIZE])
{
	char text[2 * IOASID_LEASE_SECRET_SIZE + 16];
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t n = 0;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return cli_errno(cli, errno, "cannot read the lease's secret from %s", path);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	text[strcspn(text, "\r\n")] = 0;
	if (value_hex(text, &bytes, &n) < 0 || n != IOASID_LEASE_SECRET_SIZE) {
		explicit_bzero(text, sizeof(text));
		return cli_usage(
			cli,
			"%s: expected the secret of a lease, %d hexadecimal digits on one line",
			path, 2 * IOASID_LEASE_SECRET_SIZE);
	}
	memcpy(ret_secret, bytes, IOASID_LEASE_SECRET_SIZE);
	explicit_bzero(bytes, n);
	explicit_bzero(text, sizeof(text));
	return CLI_OK;
}

int session_secret_write(struct cli *cli, const char *path,
			 const uint8_t secret[IOASID_LEASE_SECRET_SIZE])
{
	_cleanup_free_ char *temporary = cli_printf("%s.%d", path, getpid());
	char text[2 * IOASID_LEASE_SECRET_SIZE + 2];
	int fd, r = 0;

	for (size_t i = 0; i < IOASID_LEASE_SECRET_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", secret[i]);
	strcat(text, "\n");
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return cli_errno(cli, errno, "cannot make %s", temporary);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd) < 0)
		r = errno ?: EIO;
	close(fd);
	explicit_bzero(text, sizeof(text));
	if (!r && rename(temporary, path) < 0)
		r = errno;
	if (!r)
		return CLI_OK;
	unlink(temporary);
	return cli_errno(cli, r, "cannot write the lease's secret to %s", path);
}

/*
 * The run before this one has closed its connection, but the broker may not have noticed
 * yet: for two seconds a lease that is held is asked for again.
 */
#define ADOPT_TRIES    100
#define ADOPT_PAUSE_MS 20

static int adopt_given(struct cli *cli, struct ioasid_client *client)
{
	_cleanup_error_ struct ioasid_error *error = NULL;

	if (ioasid_lease_adopt_given(client, NULL, &error) < 0)
		return session_fail(cli, error);
	session_lease_held(cli, cli->given->lease);
	return CLI_OK;
}

int session_lease_adopt(struct cli *cli, struct ioasid_client *client, const char *name)
{
	const struct timespec pause = {.tv_nsec = ADOPT_PAUSE_MS * 1000000L};
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	struct ioasid_scope scope = session_scope_without_lease(cli);
	int r;

	if (cli->given && !strcmp(cli->given->lease, name))
		return adopt_given(cli, client);
	if (!cli->secret_file)
		return cli_usage(cli,
				 "--lease %s: expected --secret-file (or IOASID_LEASE_SECRET_FILE) "
				 "with the secret that `lease open` gave",
				 name);
	r = session_secret_read(cli, cli->secret_file, secret);
	if (r)
		return r;
	scope.key = NULL;
	for (int i = 0;; i++) {
		_cleanup_error_ struct ioasid_error *error = NULL;

		if (ioasid_lease_adopt(client, &scope, name, secret, &error) >= 0) {
			session_lease_held(cli, name);
			break;
		}
		if (i >= ADOPT_TRIES ||
		    (strcmp(error->reason, "WRONG_STATE") && strcmp(error->reason, "BUSY"))) {
			r = session_fail(cli, error);
			break;
		}
		nanosleep(&pause, NULL);
	}
	explicit_bzero(secret, sizeof(secret));
	return r;
}

/* ---- the connection ---- */

struct ioasid_scope session_scope(const struct cli *cli)
{
	struct ioasid_scope scope = {
		.lease = cli->command->flags & CLI_NO_LEASE ? "" : cli->lease ?: "",
		.tenant = cli->tenant ?: "",
		.key = cli->key,
	};

	if (cli->timeout_ms)
		scope.timeout_ms =
			cli->timeout_ms < UINT32_MAX ? (uint32_t)cli->timeout_ms : UINT32_MAX - 1;
	return scope;
}

struct ioasid_scope session_scope_without_lease(const struct cli *cli)
{
	struct ioasid_scope scope = session_scope(cli);

	scope.lease = "";
	return scope;
}

int session_client(struct cli *cli, struct ioasid_client **ret_client)
{
	_cleanup_error_ struct ioasid_error *error = NULL;
	struct cli_session *s = session_of(cli);

	if (cli->given_error && !cli->lease && !(cli->command->flags & CLI_NO_LEASE))
		return session_fail(cli, cli->given_error);
	if (!s->client && ioasid_connect(cli->socket, NULL, &s->client, &error) < 0)
		return session_fail(cli, error);
	if (cli->lease && *cli->lease && !(cli->command->flags & CLI_NO_LEASE) &&
	    lease_index(s, cli->lease) == s->n_leases) {
		int r = session_lease_adopt(cli, s->client, cli->lease);

		if (r)
			return r;
	}
	*ret_client = s->client;
	return CLI_OK;
}

int session_begin(struct cli *cli, struct session_call *ret_call)
{
	struct ioasid_client *client;
	int r = session_client(cli, &client);

	if (r)
		return r;
	*ret_call = (struct session_call){.client = client, .scope = session_scope(cli)};
	return CLI_OK;
}

/* ---- memory ---- */

void session_memory_keep(struct cli *cli, uint64_t id, int fd, void *bytes, size_t size)
{
	struct cli_session *s = session_of(cli);
	struct session_memory *more = cli_grow(s->memories, (s->n_memories + 1) * sizeof(*more));

	s->memories = more;
	more[s->n_memories++] = (struct session_memory){
		.lease = cli_strdup(cli->lease ?: ""),
		.id = id,
		.fd = fd,
		.bytes = bytes,
		.size = size,
	};
}

struct session_memory *session_memory_find(struct cli *cli, uint64_t id)
{
	struct cli_session *s = session_of(cli);
	const char *lease = cli->lease ?: "";

	for (size_t i = 0; i < s->n_memories; i++)
		if (s->memories[i].id == id && !strcmp(s->memories[i].lease, lease))
			return &s->memories[i];
	cli_fail(cli, CLI_NOT_FOUND, "NOT_FOUND", "LOCAL",
		 "memory %llu was not registered by this process: only inside one `ioasidctl "
		 "shell` can its bytes be read or written by the CPU",
		 (unsigned long long)id);
	return NULL;
}

void session_memory_drop(struct cli *cli, uint64_t id)
{
	struct cli_session *s = session_of(cli);
	const char *lease = cli->lease ?: "";

	for (size_t i = 0; i < s->n_memories; i++)
		if (s->memories[i].id == id && !strcmp(s->memories[i].lease, lease)) {
			memory_deinit(&s->memories[i]);
			s->memories[i] = s->memories[--s->n_memories];
			return;
		}
}

void session_close(struct cli *cli)
{
	struct cli_session *s = cli->session;

	if (!s)
		return;
	ioasid_client_unref(s->client);
	for (size_t i = 0; i < s->n_leases; i++)
		free(s->leases[i]);
	for (size_t i = 0; i < s->n_memories; i++)
		memory_deinit(&s->memories[i]);
	free(s->leases);
	free(s->memories);
	free(s);
	cli->session = NULL;
}
