/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup of a master secret: made in locked memory here instead of in the keystore, written encrypted to a certificate
 * (tools/cms.h), imported.  Its contents are a JSON Web Key, doc/keystore-format.md, "Backups".
 */
#ifndef CHV_TOOLS_BACKUP_H
#define CHV_TOOLS_BACKUP_H

#include "core/credential.h"
#include "tools/provision.h"
#include "tools/secret.h"

#include <jansson.h>

struct chv_backup; /* in secure memory; the master is in it once it was made or read */

/* What may be shown of it. */
struct chv_backup_info {
    char server[CHV_SERVER_NAME_MAX + 1];
    char address[CHV_ADDRESS_MAX + 1]; /* "": none */
    uint32_t epoch;
    uint8_t check[CHV_CHECK_MASTER_LEN];
};

/*
 * A backup to be: reads the certificate and makes sure that `file` is not there.  Makes nothing.  Errors as
 * chv_cms_recipient_load; CHV_ERR_EXISTS.  `file` is borrowed.
 */
enum chv_err chv_backup_plan(const char *certificate, const char *file, struct chv_backup **backup,
                             struct chv_why *why) CHV_MUST_CHECK;
/*
 * Makes the master and writes the file, mode 0600, whole or not at all, durable before this returns: a master is not put
 * to use before its backup is there.  `address` may be NULL.
 */
enum chv_err chv_backup_make(struct chv_backup *backup, const char *server, const char *address, uint32_t epoch,
                             struct chv_why *why) CHV_MUST_CHECK;
/* Removes the file that chv_backup_make wrote, for a failure later on. */
void chv_backup_unmake(struct chv_backup *backup);

/*
 * Opens a backup with a certificate's private key (tools/cms.h).  CHV_ERR_STORE_FORMAT: its contents are none;
 * CHV_ERR_STORE_DAMAGED: its key check value is not that of its key.
 */
enum chv_err chv_backup_read(const char *file, const char *key, struct chv_secret_source *secret,
                             struct chv_backup **backup, struct chv_why *why) CHV_MUST_CHECK;

/* Of a backup that was made or read. */
const struct chv_backup_info *chv_backup_info(const struct chv_backup *backup);
/* "master:EPOCH". */
void chv_backup_label(const struct chv_backup *backup, char label[CHV_LABEL_MAX + 1]);
/*
 * Puts the master into the keystore and makes sure, by its key check value, that it is what is there now; else it is taken
 * out again.  CHV_ERR_EXISTS if there is a master of that epoch.  The caller commits.
 */
enum chv_err chv_backup_import(const struct chv_backup *backup, struct chv_keystore *ks,
                               struct chv_why *why) CHV_MUST_CHECK;
/* Whether masters of that keystore were backed up when they were made or came out of a backup. */
bool chv_backup_was_made(struct chv_keystore *ks);
/* "backup", "backup_certificate", "backup_fingerprint" of one that was made, for chv_cli_print. */
void chv_backup_describe(const struct chv_backup *backup, json_t *object);

/* Wipes.  NULL is allowed. */
void chv_backup_free(struct chv_backup *backup);

#endif
