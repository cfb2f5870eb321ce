/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/keeper_ticket.h"

#include "base/memory.h"
#include "core/hkdf.h"
#include "net/keeper_internal.h"

#include <stdio.h>
#include <string.h>

void chv_ticket_audience(enum chv_ticket_use use, const char *server, const char *fleet, char out[CHV_AUDIENCE_MAX + 1])
{
    if (use == CHV_TICKET_DATA)
        (void)snprintf(out, CHV_AUDIENCE_MAX + 1, "%s/data", server);
    else if (fleet[0] != '\0')
        (void)snprintf(out, CHV_AUDIENCE_MAX + 1, "fleet/%s", fleet);
    else
        (void)snprintf(out, CHV_AUDIENCE_MAX + 1, "%s", server);
}

bool chv_keeper_is_ticket(const void *packet, size_t len)
{
    struct chv_keeper_ticket_request request;
    if (len != sizeof request)
        return false;
    memcpy(&request, packet, sizeof request);
    return request.kind == CHV_KEEPER_TICKET;
}

static bool served(const struct chv_keeper *keeper, const struct chv_keeper_ticket_request *request)
{
    bool epoch = false;
    for (size_t i = 0; i < keeper->epoch_count; i++)
        epoch |= keeper->epochs[i] == request->epoch;
    return epoch && request->zero[0] == 0 && request->zero[1] == 0 && request->use < CHV_TICKET_USES &&
           keeper->tickets[request->use];
}

static enum chv_err derive(struct chv_keeper *keeper, const struct chv_keeper_ticket_request *request,
                           struct chv_keeper_ticket_answer *answer, struct chv_why *why)
{
    char audience[CHV_AUDIENCE_MAX + 1], label[CHV_KEEPER_LABEL_SIZE];
    uint8_t info[CHV_INFO_MAX];
    size_t len;
    enum chv_err err = CHV_OK;
    chv_ticket_audience((enum chv_ticket_use)request->use, keeper->server, keeper->ticket_audience, audience);
    chv_keeper_master(request->epoch, label);
    for (unsigned i = 0; i < CHV_TICKET_PERIODS && err == CHV_OK; i++) {
        err = chv_info_ticket(audience, answer->first_period + i, info, &len);
        if (err == CHV_OK)
            err = chv_keystore_derive(keeper->keystore, label, info, len, answer->keys[i], why);
    }
    return err;
}

void chv_keeper_ticket(struct chv_keeper *keeper, uint64_t now, const void *packet,
                       struct chv_keeper_ticket_answer *answer)
{
    struct chv_keeper_ticket_request request;
    struct chv_why why = {""};
    memcpy(&request, packet, sizeof request);
    *answer = (struct chv_keeper_ticket_answer){.tag = request.tag, .status = CHV_KEEPER_MALFORMED};
    if (chv_keeper_begin(keeper, now) == CHV_ERR_UNAVAILABLE) {
        answer->status = CHV_KEEPER_UNAVAILABLE;
        return;
    }
    if (!served(keeper, &request))
        return;
    answer->first_period = now / CHV_TICKET_PERIOD_SECONDS - 1;
    enum chv_err err = derive(keeper, &request, answer, &why);
    chv_keeper_keystore_says(keeper, now, err, &why);
    answer->status = err == CHV_OK ? CHV_KEEPER_OK : CHV_KEEPER_UNAVAILABLE;
    if (err == CHV_OK)
        return;
    chv_wipe(answer->keys, sizeof answer->keys);
    answer->first_period = 0;
}
