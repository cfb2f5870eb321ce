/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets for coming back without the keystore, and where a server may send its clients. */
#include "tools/chaveiro.h"

#include <string.h>
#include <sysexits.h>

static void tickets_warn(void *arg, const char *text)
{
    (void)arg;
    (void)chv_cli_fail(EX_OK, "warning: %s", text);
}

enum chv_err chaveiro_open_tickets(struct chaveiro_link *link, struct chv_why *why)
{
    const struct chv_client_config *config = &link->config;
    const char *file = chv_cli_value(link->args, "tickets");
    if (config->redirect_hosts[0] != '\0')
        link->key.redirect_hosts = config->redirect_hosts;
    if (link->key.server[0] == '\0') /* profile key, and nothing else has said it */
        memcpy(link->key.server, config->server_name, sizeof link->key.server);
    if (file == NULL && config->tickets[0] != '\0')
        file = config->tickets;
    if (file == NULL)
        return CHV_OK;
    if (link->key.server[0] == '\0')
        return chv_fail(
            why, CHV_ERR_CONFIG,
            "tickets need the server's name, and in profile key nothing has said it: 'server-name = NAME' in "
            "the configuration file does");
    return chv_ticket_store_open(file, tickets_warn, NULL, &link->key.tickets, why);
}

void chaveiro_keep_tickets(struct chaveiro_link *link, unsigned count)
{
    if (link->key.tickets == NULL && link->key.server[0] != '\0' &&
        chv_ticket_store_open(NULL, tickets_warn, NULL, &link->key.tickets, NULL) != CHV_OK)
        return;
    if (link->key.tickets != NULL)
        chv_ticket_store_want(link->key.tickets, count);
}
