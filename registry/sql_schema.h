/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables, for both dialects: NUMBER is a 64-bit integer, STRING a text compared byte by byte, KEYED what ends a table
 * that is found by its key.  A version that was released is never edited: a change is a new script behind it.
 */
#ifndef CHV_REGISTRY_SQL_SCHEMA_H
#define CHV_REGISTRY_SQL_SCHEMA_H

#define CHV_SQL_CREATE(NUMBER, KEYED)                                                                                  \
    "CREATE TABLE migrations (version " NUMBER " PRIMARY KEY NOT NULL, applied " NUMBER " NOT NULL)" KEYED ";"

#define CHV_SQL_SCHEMA_1(NUMBER, STRING, KEYED)                                                                        \
    "CREATE TABLE meta (one " NUMBER " PRIMARY KEY NOT NULL, generation " NUMBER " NOT NULL, audit_n " NUMBER          \
    " NOT NULL, audit_hash " STRING " NOT NULL)" KEYED ";"                                                             \
    "INSERT INTO meta (one, generation, audit_n, audit_hash) VALUES (1, 0, 0,"                                         \
    " '0000000000000000000000000000000000000000000000000000000000000000');"                                            \
    "CREATE TABLE clients (id " STRING " PRIMARY KEY NOT NULL, status " NUMBER " NOT NULL, profile " NUMBER            \
    " NOT NULL, flags " NUMBER " NOT NULL, minimum_epoch " NUMBER " NOT NULL, minimum_serial " NUMBER                  \
    " NOT NULL, confirmed_epoch " NUMBER " NOT NULL, confirmed_serial " NUMBER " NOT NULL, latest_epoch " NUMBER       \
    " NOT NULL, latest_serial " NUMBER " NOT NULL, not_after " NUMBER " NOT NULL, scopes " STRING                      \
    " NOT NULL, identity_curve " NUMBER " NOT NULL, identity " STRING " UNIQUE, reason " STRING                        \
    " NOT NULL, created " NUMBER " NOT NULL, last_seen " NUMBER " NOT NULL, changed " NUMBER " NOT NULL)" KEYED ";"    \
    "CREATE INDEX clients_changed ON clients (changed, id);"                                                           \
    "CREATE TABLE epochs (epoch " NUMBER " PRIMARY KEY NOT NULL, status " NUMBER " NOT NULL, created " NUMBER          \
    " NOT NULL, ended " NUMBER " NOT NULL, check_value " STRING ")" KEYED ";"                                          \
    "CREATE TABLE audit (n " NUMBER " PRIMARY KEY NOT NULL, time " NUMBER " NOT NULL, actor " STRING                   \
    " NOT NULL, action " STRING " NOT NULL, id " STRING " NOT NULL, details " STRING " NOT NULL, hash " STRING         \
    " NOT NULL)" KEYED ";"                                                                                             \
    "CREATE TABLE seal (one " NUMBER " PRIMARY KEY NOT NULL, n " NUMBER " NOT NULL, hash " STRING                      \
    " NOT NULL, epoch " NUMBER " NOT NULL, time " NUMBER " NOT NULL, mac " STRING " NOT NULL)" KEYED ";"

#endif
