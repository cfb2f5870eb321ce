/* SPDX-License-Identifier: Apache-2.0 */
/* What keyadmin's commands about pushes share. */
#ifndef CHV_TOOLS_KEYADMIN_PUSH_H
#define CHV_TOOLS_KEYADMIN_PUSH_H

#include "services/push_outbox.h"
#include "tools/keyadmin_registry.h"

/* The configuration, and its outbox, opened; both go to keyadmin_push_close, also after a failure. */
enum chv_err keyadmin_push_open(const struct chv_cli_args *args, struct keyadmin_server *server,
                                struct chv_push_outbox *outbox, struct chv_why *why) CHV_MUST_CHECK;
void keyadmin_push_close(struct keyadmin_server *server, struct chv_push_outbox *outbox);
/* The text of an errno, for the people of the server. */
const char *keyadmin_push_error(int failed);

/* Clients, in the order of their ids once they are complete; none twice. */
struct keyadmin_targets {
    char (*ids)[CHV_CLIENT_ID_MAX + 1];
    size_t count, room;
};

enum chv_err keyadmin_targets_add(struct keyadmin_targets *targets, const char *id, struct chv_why *why) CHV_MUST_CHECK;
void keyadmin_targets_sort(struct keyadmin_targets *targets);
void keyadmin_targets_free(struct keyadmin_targets *targets);
/* Those of --to and --to-scope: who has no right to pushes is refused, or left out of a scope with a warning. */
enum chv_err keyadmin_targets_find(const struct chv_cli_args *args, const struct chv_server_config *config,
                                   struct keyadmin_targets *targets, struct chv_why *why) CHV_MUST_CHECK;
/* Whoever has a folder in the outbox. */
enum chv_err keyadmin_targets_all(const struct chv_push_outbox *outbox, struct keyadmin_targets *targets,
                                  struct chv_why *why) CHV_MUST_CHECK;

#endif
