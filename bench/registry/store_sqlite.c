/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite: WAL and synchronous=OFF, statements prepared once. */

#include "bench.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

struct sqlite {
	sqlite3 *db;
	sqlite3_stmt *begin, *commit, *put, *del;
};

static sqlite3_stmt *prepare(sqlite3 *db, const char *text)
{
	sqlite3_stmt *statement;

	must(!sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL), text);
	return statement;
}

static void run(sqlite3_stmt *statement)
{
	must(sqlite3_step(statement) == SQLITE_DONE, "sqlite3_step");
	sqlite3_reset(statement);
}

static void *open_store(const char *folder)
{
	struct sqlite *s = calloc(1, sizeof(*s));
	char path[300];

	snprintf(path, sizeof(path), "%s/db", folder);
	must(s && !sqlite3_open(path, &s->db), "sqlite3_open");
	must(!sqlite3_exec(
		     s->db,
		     "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
		     "PRAGMA locking_mode=EXCLUSIVE;"
		     "CREATE TABLE IF NOT EXISTS r(lease INT, kind INT, a INT, b INT, body BLOB,"
		     " PRIMARY KEY(lease, kind, a, b)) WITHOUT ROWID",
		     NULL, NULL, NULL),
	     "sqlite3_exec");
	s->begin = prepare(s->db, "BEGIN IMMEDIATE");
	s->commit = prepare(s->db, "COMMIT");
	s->put = prepare(s->db, "INSERT OR REPLACE INTO r VALUES(?,?,?,?,?)");
	s->del = prepare(s->db, "DELETE FROM r WHERE lease=? AND kind=? AND a=? AND b=?");
	return s;
}

static void apply(void *store, const struct record *records, size_t n)
{
	struct sqlite *s = store;
	uint8_t body[1024];

	run(s->begin);
	for (size_t i = 0; i < n; i++) {
		sqlite3_stmt *statement = records[i].message ? s->put : s->del;

		sqlite3_bind_int64(statement, 1, (sqlite3_int64)records[i].lease);
		sqlite3_bind_int(statement, 2, (int)records[i].kind);
		sqlite3_bind_int64(statement, 3, (sqlite3_int64)records[i].a);
		sqlite3_bind_int64(statement, 4, (sqlite3_int64)records[i].b);
		if (records[i].message) {
			const size_t size = protobuf_c_message_pack(records[i].message, body);

			sqlite3_bind_blob(statement, 5, body, (int)size, SQLITE_STATIC);
		}
		run(statement);
	}
	run(s->commit);
}

static void close_store(void *store)
{
	struct sqlite *s = store;

	sqlite3_finalize(s->begin);
	sqlite3_finalize(s->commit);
	sqlite3_finalize(s->put);
	sqlite3_finalize(s->del);
	sqlite3_close(s->db);
	free(s);
}

static size_t load(const char *folder)
{
	struct sqlite *s = open_store(folder);
	sqlite3_stmt *all = prepare(s->db, "SELECT kind, body FROM r");
	size_t n = 0;

	while (sqlite3_step(all) == SQLITE_ROW) {
		object_unpack((enum kind)sqlite3_column_int(all, 0), sqlite3_column_blob(all, 1),
			      (size_t)sqlite3_column_bytes(all, 1));
		n++;
	}
	sqlite3_finalize(all);
	close_store(s);
	return n;
}

static uint64_t bytes(const char *folder)
{
	return file_bytes(folder, "db") + file_bytes(folder, "db-wal");
}

const struct store store_sqlite = {"SQLite", open_store, apply, close_store, load, bytes};
