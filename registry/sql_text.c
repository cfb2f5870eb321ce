/* SPDX-License-Identifier: Apache-2.0 */
/* The statements, in the SQL that SQLite (3.35 and later) and PostgreSQL share. */
#include "registry/sql.h"

#define CLIENT_COLUMNS                                                                                                 \
    "id, status, profile, flags, minimum_epoch, minimum_serial, confirmed_epoch, confirmed_serial, latest_epoch, "     \
    "latest_serial, not_after, scopes, identity_curve, identity, reason, created, last_seen, changed"

/* The epoch that a client uses, as struct chv_registry_filter has it. */
#define EPOCH_IN_USE "CASE WHEN confirmed_epoch > 0 THEN confirmed_epoch ELSE latest_epoch END"

static const char *const texts[CHV_SQL_COUNT] = {
    [CHV_SQL_VERSION] = "SELECT COALESCE(MAX(version), 0) FROM migrations",
    [CHV_SQL_MIGRATED] = "INSERT INTO migrations (version, applied) VALUES ($1, $2)",
    [CHV_SQL_META_GET] = "SELECT generation, audit_n, audit_hash FROM meta WHERE one = 1",
    [CHV_SQL_META_PUT] = "UPDATE meta SET generation = $1, audit_n = $2, audit_hash = $3 WHERE one = 1",
    [CHV_SQL_CLIENT_GET] = "SELECT " CLIENT_COLUMNS " FROM clients WHERE id = $1",
    [CHV_SQL_CLIENT_BY_KEY] = "SELECT " CLIENT_COLUMNS " FROM clients WHERE identity = $1 AND identity_curve = $2",
    /* a status that is none is listed whatever is asked for: it has to be noticed */
    [CHV_SQL_CLIENT_LIST] =
        "SELECT " CLIENT_COLUMNS " FROM clients WHERE id > $1"
        " AND (status IN ($2, $3, $4, $5) OR status NOT IN (1, 2, 3, 4))"
        " AND ($6 = 0 OR (not_after > 0 AND not_after < $6))"
        " AND ($7 = 0 OR $7 = " EPOCH_IN_USE ")"
        " AND ($8 = 0 OR status <> 1 OR flags % 4 >= 2 OR flags % 32 >= 16 OR minimum_epoch > 1 OR minimum_serial > 1)"
        " ORDER BY id LIMIT $9",
    /* nothing that must only grow goes back, whatever a caller made of an older copy */
    [CHV_SQL_CLIENT_PUT] =
        "INSERT INTO clients (" CLIENT_COLUMNS ")"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"
        " ON CONFLICT (id) DO UPDATE SET status = excluded.status, profile = excluded.profile, flags = excluded.flags,"
        " minimum_epoch = excluded.minimum_epoch, minimum_serial = excluded.minimum_serial,"
        " confirmed_epoch = excluded.confirmed_epoch, confirmed_serial = excluded.confirmed_serial,"
        " latest_epoch = excluded.latest_epoch, latest_serial = excluded.latest_serial,"
        " not_after = excluded.not_after, scopes = excluded.scopes, identity_curve = excluded.identity_curve,"
        " identity = excluded.identity, reason = excluded.reason, changed = excluded.changed"
        " WHERE (excluded.latest_epoch, excluded.latest_serial) >= (clients.latest_epoch, clients.latest_serial)"
        " AND excluded.latest_serial >= clients.latest_serial"
        " AND (excluded.confirmed_epoch, excluded.confirmed_serial) >="
        " (clients.confirmed_epoch, clients.confirmed_serial)"
        " AND (excluded.minimum_epoch, excluded.minimum_serial) >= (clients.minimum_epoch, clients.minimum_serial)",
    [CHV_SQL_CHANGED] = "SELECT id, changed FROM clients WHERE (changed, id) > ($1, $2) ORDER BY changed, id LIMIT $3",
    [CHV_SQL_TOUCH] = "UPDATE clients SET last_seen = CASE WHEN last_seen < $2 THEN $2 ELSE last_seen END WHERE id = $1"
                      " RETURNING CASE WHEN (confirmed_epoch, confirmed_serial) < ($3, $4) THEN 1 ELSE 0 END",
    [CHV_SQL_EPOCH_GET] = "SELECT epoch, status, created, ended, check_value FROM epochs WHERE epoch = $1",
    [CHV_SQL_EPOCH_LIST] = "SELECT epoch, status, created, ended, check_value FROM epochs ORDER BY epoch",
    [CHV_SQL_EPOCH_PUT] = "INSERT INTO epochs (epoch, status, created, ended, check_value) VALUES ($1, $2, $3, $4, $5)"
                          " ON CONFLICT (epoch) DO UPDATE SET status = excluded.status, created = excluded.created,"
                          " ended = excluded.ended, check_value = excluded.check_value",
    [CHV_SQL_EPOCH_USAGE] = "SELECT " EPOCH_IN_USE " AS used, COUNT(*) FROM clients WHERE status IN (1, 2)"
                            " AND latest_epoch > 0 GROUP BY 1 ORDER BY 1",
    [CHV_SQL_AUDIT_PUT] =
        "INSERT INTO audit (n, time, actor, action, id, details, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    [CHV_SQL_AUDIT_LIST] =
        "SELECT n, time, actor, action, id, details, hash FROM audit WHERE n >= $1 ORDER BY n LIMIT $2",
    [CHV_SQL_SEAL_GET] = "SELECT n, hash, epoch, time, mac FROM seal WHERE one = 1",
    [CHV_SQL_SEAL_PUT] = "INSERT INTO seal (one, n, hash, epoch, time, mac) VALUES (1, $1, $2, $3, $4, $5)"
                         " ON CONFLICT (one) DO UPDATE SET n = excluded.n, hash = excluded.hash,"
                         " epoch = excluded.epoch, time = excluded.time, mac = excluded.mac",
};

const char *chv_sql_text(const struct chv_sql_driver *driver, enum chv_sql_statement statement)
{
    return statement == CHV_SQL_HAS_SCHEMA ? driver->has_schema : texts[statement];
}
