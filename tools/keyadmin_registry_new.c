/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin registry new: no other command but init makes a registry, so that one that was lost is not silently made anew. */
#include "tools/keyadmin_registry.h"

#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static enum chv_err new_make(const struct chv_cli_args *args, const struct chv_server_config *config,
                             struct keyadmin_registry *reg, struct chv_why *why)
{
    enum chv_err err = keyadmin_registry_open(args, config, CHV_REGISTRY_READ, reg, why);
    if (reg->uri[0] == '\0' || keyadmin_registry_revoked(reg->uri) != NULL)
        return chv_fail(why, CHV_ERR_CONFIG,
                        "there is no registry to make: set 'registry = sqlite:FILE' or 'postgresql://...' in the "
                        "configuration, or give --registry");
    if (err == CHV_OK)
        err = chv_fail(why, CHV_ERR_EXISTS, "%s: the registry is there already: it stays", chv_registry_name(reg->r));
    keyadmin_registry_close(reg);
    return err == CHV_ERR_NOT_FOUND ? keyadmin_registry_open(args, config, CHV_REGISTRY_CREATE, reg, why) : err;
}

/* What a server that had a registry has left in its state folder. */
static void new_warn(const struct chv_server_config *config)
{
    char mark[PATH_MAX + sizeof "/" CHV_REGISTRY_MARK_FILE];
    (void)snprintf(mark, sizeof mark, "%s/" CHV_REGISTRY_MARK_FILE, config->state);
    if (config->state[0] != '\0' && access(mark, F_OK) == 0)
        (void)chv_cli_fail(EX_OK,
                           "warning: %s: this server had a registry: put its backup back, or run 'keyadmin epoch new "
                           "--compromised' before you add clients again, else keys that were revoked may fit again",
                           mark);
}

static enum chv_err new_run(const struct chv_cli_args *args, struct keyadmin_server *server,
                            struct keyadmin_registry *reg, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    if (!chv_cli_given(args, "registry") || chv_cli_given(args, "config"))
        err = keyadmin_server_config(args, server, why);
    if (err == CHV_ERR_NOT_FOUND && !chv_cli_given(args, "config"))
        return chv_fail(why, err,
                        "no configuration file that says where the registry is to be; give --config or "
                        "--registry");
    if (err == CHV_OK)
        err = new_make(args, server->config, reg, why);
    if (err == CHV_OK && server->config != NULL && strcmp(reg->uri, server->config->registry) == 0)
        new_warn(server->config);
    return err;
}

int keyadmin_registry_new(const struct chv_cli_args *args)
{
    struct chv_why why = {""};
    struct keyadmin_server server = {.config = NULL};
    struct keyadmin_registry reg = {.r = NULL};
    enum chv_err err = new_run(args, &server, &reg, &why);
    if (err == CHV_OK)
        chv_cli_print(json_pack("{s:s}", "registry", chv_registry_name(reg.r)), chv_cli_given(args, "json"));
    keyadmin_registry_close(&reg);
    keyadmin_server_close(&server);
    return err == CHV_OK ? EX_OK : chv_cli_why(err, &why);
}
