/* SPDX-License-Identifier: Apache-2.0 */
/* Throw-away registries of each kind that can be written. */
#ifndef CHV_TESTS_REGISTRY_SUPPORT_H
#define CHV_TESTS_REGISTRY_SUPPORT_H

#include "tests/harness.h"

#include "registry/registry.h"

/* A folder that is removed at exit, and a path in it (freed at exit). */
const char *test_folder(void);
const char *test_path(const char *name);

const struct chv_crypto *test_crypto(void);

/* A registry that is not there yet: in a fresh file, or in a fresh database of $CHV_TEST_POSTGRES.  Freed at exit. */
const char *fresh_sqlite(void);
/* "sqlite:" and a path in the folder. */
const char *keep_uri(const char *name);
const char *fresh_postgresql(void);
bool have_postgresql(void);

/* A fresh registry's `uri` for each kind that there is here. */
const char *fresh_registry(size_t kind);
#define FOR_EACH_KIND                                                                                                  \
    for (size_t kind_ = 0; kind_ < (have_postgresql() ? 2 : 1); kind_++)                                               \
        for (const char *uri = fresh_registry(kind_); uri != NULL; uri = NULL)

/* What an SQL registry of that URI is asked behind our back; fails the test if it does not work. */
void run_sql(const char *uri, const char *sql);

/* Opens; a failure ends the test. */
struct chv_registry *open_mode(const char *uri, enum chv_registry_mode mode);
enum chv_err try_open(const char *uri, enum chv_registry_mode mode, struct chv_registry **r, struct chv_why *why);

struct chv_registry_client make_client(const char *id, uint32_t epoch, uint32_t serial);
struct chv_audit_row make_audit(const char *action, const char *id);
/* One transaction with this client and an audit row. */
enum chv_err put_client(struct chv_registry *r, const struct chv_registry_client *client, struct chv_why *why);
/* The number of clients, removed ones too. */
size_t count_clients(struct chv_registry *r);
enum chv_err count_client(void *arg, const struct chv_registry_client *client);

/* Ids of a listing, a blank behind each; '!' before one that is malformed. */
struct id_list {
    size_t n;
    char text[4096];
};
/* A chv_registry_client_fn. */
enum chv_err add_id(void *arg, const struct chv_registry_client *client);
/* It came in with that credential at that time, and so did one who is not registered. */
void see_client(struct chv_registry *r, const char *id, uint32_t epoch, uint32_t serial, uint64_t time);

/* A MAC for seals by a key that stands here for the master of `epoch`. */
enum chv_err test_mac(void *arg, uint32_t epoch, const uint8_t *message, size_t len, uint8_t mac[CHV_AUDIT_MAC_LEN],
                      struct chv_why *why);

void write_file(const char *path, const char *text);
/* The whole file as a string; freed by the caller. */
char *read_file(const char *path);

/* `why` contains `part`; says what it has if it does not. */
void check_why(const struct chv_why *why, const char *part);

/* Waits for a child made by fork() and gives its exit code, or 128 + the signal that ended it. */
int wait_child(int pid);

#define OK(call) CU_ASSERT_EQUAL_FATAL((call), CHV_OK)
#define FAILS(call, code) CU_ASSERT_EQUAL((call), CHV_ERR_##code)

#endif
