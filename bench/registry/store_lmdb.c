/* SPDX-License-Identifier: Apache-2.0 */
/* LMDB: NOSYNC and WRITEMAP, the fastest way it has that survives a kill. */

#include "bench.h"

#include <endian.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>

struct lmdb {
	MDB_env *env;
	MDB_dbi dbi;
};

struct key {
	uint64_t lease, kind, a, b; /* big-endian: in order */
};

static struct key key_of(const struct record *r)
{
	return (struct key){htobe64(r->lease), htobe64(r->kind), htobe64(r->a), htobe64(r->b)};
}

static void *open_store(const char *folder)
{
	struct lmdb *lmdb = calloc(1, sizeof(*lmdb));
	MDB_txn *txn;

	must(lmdb && !mdb_env_create(&lmdb->env), "mdb_env_create");
	must(!mdb_env_set_mapsize(lmdb->env, (size_t)8 << 30), "mdb_env_set_mapsize");
	must(!mdb_env_open(lmdb->env, folder, MDB_NOSYNC | MDB_WRITEMAP, 0600), "mdb_env_open");
	must(!mdb_txn_begin(lmdb->env, NULL, 0, &txn), "mdb_txn_begin");
	must(!mdb_dbi_open(txn, NULL, 0, &lmdb->dbi), "mdb_dbi_open");
	must(!mdb_txn_commit(txn), "mdb_txn_commit");
	return lmdb;
}

static void apply(void *store, const struct record *records, size_t n)
{
	struct lmdb *lmdb = store;
	MDB_txn *txn;

	must(!mdb_txn_begin(lmdb->env, NULL, 0, &txn), "mdb_txn_begin");
	for (size_t i = 0; i < n; i++) {
		struct key k = key_of(&records[i]);
		MDB_val key = {sizeof(k), &k}, value;
		int r;

		if (!records[i].message) {
			r = mdb_del(txn, lmdb->dbi, &key, NULL);
			must(!r || r == MDB_NOTFOUND, "mdb_del");
			continue;
		}
		value.mv_size = protobuf_c_message_get_packed_size(records[i].message);
		must(!mdb_put(txn, lmdb->dbi, &key, &value, MDB_RESERVE), "mdb_put");
		protobuf_c_message_pack(records[i].message, value.mv_data);
	}
	must(!mdb_txn_commit(txn), "mdb_txn_commit");
}

static void close_store(void *store)
{
	struct lmdb *lmdb = store;

	mdb_env_close(lmdb->env);
	free(lmdb);
}

static size_t load(const char *folder)
{
	struct lmdb *lmdb = open_store(folder);
	MDB_cursor *cursor;
	MDB_val key, value;
	MDB_txn *txn;
	size_t n = 0;

	must(!mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn), "mdb_txn_begin");
	must(!mdb_cursor_open(txn, lmdb->dbi, &cursor), "mdb_cursor_open");
	while (!mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
		const struct key *k = key.mv_data;

		object_unpack((enum kind)be64toh(k->kind), value.mv_data, value.mv_size);
		n++;
	}
	mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	close_store(lmdb);
	return n;
}

static uint64_t bytes(const char *folder)
{
	return file_bytes(folder, "data.mdb");
}

const struct store store_lmdb = {"LMDB", open_store, apply, close_store, load, bytes};
