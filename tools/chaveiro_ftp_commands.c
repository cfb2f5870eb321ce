/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of RFC 959, 2389, 2428, 3659 and draft-somers-ftp-mfxx (MFMT). */
#include "tools/chaveiro_ftp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum {
    UNKNOWN_MAX = 10,      /* commands that are none, in a row */
    WRONG_MAX = 3,         /* passwords of one connection */
    WRONG_DELAY_MS = 1000, /* before it is said, doubled with every WRONG_STEP of them in a row, of all connections */
    WRONG_STEP = 4,
    WRONG_DOUBLE_MAX = 5,
    PORT_MIN = 1024 /* RFC 2577, 3: a well-known port is no client's */
};

enum { OPEN = 1, ARGUMENT = 2, NONE = 4, KEEP_REST = 8, URGENT = 16 };

struct command {
    const char *name;
    unsigned flags; /* OPEN: without a password. ARGUMENT: it needs one. NONE: it has none */
    void (*run)(struct ftp_client *client, const char *arg);
};

void ftp_reply_done(struct ftp_client *client, unsigned code, const char *text)
{
    ftp_reply(client, code, "%s", text);
    ftp_done(client);
}

/* --- who comes in ------------------------------------------------------------------------------------------------- */

static void cmd_user(struct ftp_client *client, const char *arg)
{
    (void)arg; /* the password alone tells */
    if (client->logged_in) {
        ftp_reply_done(client, 530, "Logged in already");
        return;
    }
    client->user = true;
    ftp_reply_done(client, 331, "Password, please");
}

static bool password_right(const struct ftp_door *door, const char *given)
{
    char padded[CHV_PASSPHRASE_MAX] = {0};
    const size_t len = strlen(given);
    memcpy(padded, given, len < sizeof padded ? len : sizeof padded);
    const bool right = chv_equal(padded, door->password, sizeof padded) && len == door->password_len;
    chv_wipe(padded, sizeof padded);
    return right;
}

static void on_wrong(struct ftp_client *client)
{
    if (client->wrong < WRONG_MAX) {
        ftp_reply_done(client, 530, "Wrong password");
        return;
    }
    ftp_reply(client, 530, "Wrong password");
    ftp_client_leave(client, "Too many wrong passwords");
}

static void cmd_pass(struct ftp_client *client, const char *arg)
{
    struct ftp_door *door = client->door;
    if (client->logged_in || !client->user) {
        ftp_reply_done(client, 503, client->logged_in ? "Logged in already" : "USER comes first");
        return;
    }
    client->user = false;
    if (!password_right(door, arg)) {
        unsigned doubled = door->wrong / WRONG_STEP;
        client->wrong++;
        door->wrong += door->wrong < UINT32_MAX;
        (void)chv_cli_fail(0, "%s: wrong password", client->peer_text);
        ftp_timer(client, (uint64_t)WRONG_DELAY_MS << (doubled < WRONG_DOUBLE_MAX ? doubled : WRONG_DOUBLE_MAX),
                  on_wrong);
        return;
    }
    door->wrong = 0;
    client->wrong = 0;
    (void)uv_timer_stop(&client->timer); /* the session has its own */
    ftp_session_open(client);
}

void ftp_session_ready(struct ftp_client *client)
{
    if (!client->logged_in) {
        client->logged_in = true;
        ftp_reply(client, 230, "Logged in");
    }
    ftp_done(client);
}

static void cmd_quit(struct ftp_client *client, const char *arg)
{
    (void)arg;
    ftp_reply(client, 221, "Bye");
    ftp_client_close(client);
}

/* --- what the door is --------------------------------------------------------------------------------------------- */

static void cmd_noop(struct ftp_client *client, const char *arg)
{
    (void)arg;
    ftp_reply_done(client, 200, "OK");
}

static void cmd_syst(struct ftp_client *client, const char *arg)
{
    (void)arg;
    ftp_reply_done(client, 215, "UNIX Type: L8");
}

static void cmd_feat(struct ftp_client *client, const char *arg)
{
    char text[FTP_REPLY_MAX], facts[FTP_FACTS_MAX] = "";
    size_t len = 0;
    (void)arg;
    for (unsigned i = 0; i < FTP_FACTS; i++)
        len += (size_t)snprintf(facts + len, sizeof facts - len, "%s%s;", ftp_facts[i],
                                (client->facts & 1U << i) != 0 ? "*" : "");
    int n =
        snprintf(text, sizeof text,
                 "211-Features:\r\n EPRT\r\n EPSV\r\n MDTM\r\n MFMT\r\n MLST %s\r\n REST STREAM\r\n SIZE\r\n TVFS\r\n"
                 " UTF8\r\n211 End\r\n",
                 facts);
    ftp_reply_bytes(client, text, (size_t)n);
    ftp_done(client);
}

static void cmd_opts(struct ftp_client *client, const char *arg)
{
    if (strcasecmp(arg, "UTF8 ON") == 0 || strcasecmp(arg, "UTF8") == 0) {
        ftp_reply_done(client, 200, "Names are always UTF-8");
    } else if (strncasecmp(arg, "MLST", 4) == 0 && (arg[4] == ' ' || arg[4] == '\0')) {
        char facts[FTP_FACTS_MAX] = "";
        size_t len = 0;
        client->facts = ftp_facts_parse(arg[4] == ' ' ? arg + 5 : "");
        for (unsigned i = 0; i < FTP_FACTS; i++)
            if ((client->facts & 1U << i) != 0)
                len += (size_t)snprintf(facts + len, sizeof facts - len, "%s;", ftp_facts[i]);
        ftp_reply(client, 200, "MLST OPTS %s", facts);
        ftp_done(client);
    } else {
        ftp_reply_done(client, 501, "There are UTF8 ON and MLST");
    }
}

static void cmd_stat(struct ftp_client *client, const char *arg)
{
    char text[FTP_REPLY_MAX];
    const struct ftp_transfer *t = &client->transfer;
    if (arg[0] != '\0') {
        ftp_reply(client, 504, "Of a name there are MLST and LIST");
    } else {
        int n = snprintf(text, sizeof text, "211-chaveiro, files over a secure channel\r\n %s, TYPE %s\r\n",
                         client->logged_in ? "Logged in" : "Not logged in", client->image ? "I" : "A");
        if (t->kind != FTP_NONE)
            n += snprintf(text + n, sizeof text - (size_t)n, " A transfer: %llu bytes so far\r\n",
                          (unsigned long long)t->count);
        n += snprintf(text + n, sizeof text - (size_t)n, "211 End\r\n");
        ftp_reply_bytes(client, text, (size_t)n);
    }
    if (t->kind == FTP_NONE)
        ftp_done(client);
}

static void cmd_abor(struct ftp_client *client, const char *arg)
{
    (void)arg;
    if (client->transfer.kind != FTP_NONE) {
        ftp_transfer_abort(client);
    } else {
        ftp_data_close(client, false);
        ftp_reply_done(client, 226, "There is no transfer");
    }
}

/* --- parameters --------------------------------------------------------------------------------------------------- */

static void cmd_type(struct ftp_client *client, const char *arg)
{
    const bool image = strcasecmp(arg, "I") == 0 || strcasecmp(arg, "L 8") == 0;
    if (!image && strcasecmp(arg, "A") != 0 && strcasecmp(arg, "A N") != 0) {
        ftp_reply_done(client, 504, "There are TYPE I and TYPE A");
        return;
    }
    client->image = image;
    ftp_reply_done(client, 200, image ? "Image" : "ASCII: files go as they are, listings have CR LF");
}

static void cmd_mode(struct ftp_client *client, const char *arg)
{
    ftp_reply_done(client, strcasecmp(arg, "S") == 0 ? 200 : 504, "There is MODE S");
}

static void cmd_stru(struct ftp_client *client, const char *arg)
{
    ftp_reply_done(client, strcasecmp(arg, "F") == 0 ? 200 : 504, "There is STRU F");
}

static bool parse_number(const char *text, uint64_t *number)
{
    char *end;
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 18)
        return false;
    *number = strtoull(text, &end, 10);
    return *end == '\0';
}

static void cmd_allo(struct ftp_client *client, const char *arg)
{
    client->has_announced = parse_number(arg, &client->announced);
    if (client->has_announced)
        ftp_reply_done(client, 200, "OK: the server looks after its space");
    else
        ftp_reply_done(client, 501, "ALLO takes a number of bytes");
}

static void cmd_rest(struct ftp_client *client, const char *arg)
{
    uint64_t offset;
    if (!parse_number(arg, &offset)) {
        ftp_reply_done(client, 501, "REST takes a number of bytes");
        return;
    }
    client->rest = offset;
    ftp_reply(client, 350, "From byte %llu", (unsigned long long)offset);
    ftp_done(client);
}

/* --- data connections --------------------------------------------------------------------------------------------- */

static uint16_t port_of(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)(const void *)address)->sin6_port
                                                : ((const struct sockaddr_in *)(const void *)address)->sin_port);
}

static void cmd_pasv(struct ftp_client *client, const char *arg)
{
    struct sockaddr_storage address;
    uint32_t host;
    (void)arg;
    if (client->epsv_all || client->own.ss_family != AF_INET) {
        ftp_reply_done(client, 522, "EPSV is what there is here");
        return;
    }
    if (!ftp_data_listen(client, AF_INET, &address)) {
        ftp_reply_done(client, 425, "No port could be had");
        return;
    }
    memcpy(&host, &((const struct sockaddr_in *)&address)->sin_addr, sizeof host);
    host = ntohl(host);
    ftp_reply(client, 227, "Entering Passive Mode (%u,%u,%u,%u,%u,%u)", host >> 24, host >> 16 & 255, host >> 8 & 255,
              host & 255, (unsigned)port_of(&address) >> 8, (unsigned)port_of(&address) & 255U);
    ftp_done(client);
}

static void cmd_epsv(struct ftp_client *client, const char *arg)
{
    struct sockaddr_storage address;
    const int family = client->own.ss_family;
    if (strcasecmp(arg, "ALL") == 0) {
        client->epsv_all = true;
        ftp_reply_done(client, 200, "EPSV only");
        return;
    }
    if (arg[0] != '\0' && strcmp(arg, family == AF_INET6 ? "2" : "1") != 0) {
        ftp_reply(client, 522, "Network protocol not supported, use (%d)", family == AF_INET6 ? 2 : 1);
        ftp_done(client);
        return;
    }
    if (!ftp_data_listen(client, family, &address)) {
        ftp_reply_done(client, 425, "No port could be had");
        return;
    }
    ftp_reply(client, 229, "Entering Extended Passive Mode (|||%u|)", (unsigned)port_of(&address));
    ftp_done(client);
}

/* Nobody is connected to but the one who asks, and no well-known service of his (RFC 2577: the bounce attack). */
static void take_port(struct ftp_client *client, const struct sockaddr_storage *address)
{
    if (client->epsv_all) {
        ftp_reply_done(client, 501, "EPSV ALL was said");
    } else if (!ftp_same_host(address, &client->peer)) {
        (void)chv_cli_fail(0, "%s: asked for a data connection to another address: refused", client->peer_text);
        ftp_reply_done(client, 501, "Data connections go to your own address only");
    } else if (port_of(address) < PORT_MIN) {
        ftp_reply_done(client, 501, "Data connections go to ports from 1024 on only");
    } else {
        ftp_data_connect_to(client, address);
        ftp_reply_done(client, 200, "OK");
    }
}

static void cmd_port(struct ftp_client *client, const char *arg)
{
    struct sockaddr_storage address;
    if (ftp_port_parse(arg, &address))
        take_port(client, &address);
    else
        ftp_reply_done(client, 501, "PORT takes h1,h2,h3,h4,p1,p2");
}

static void cmd_eprt(struct ftp_client *client, const char *arg)
{
    struct sockaddr_storage address;
    bool other;
    if (ftp_eprt_parse(arg, &address, &other))
        take_port(client, &address);
    else if (other)
        ftp_reply_done(client, 522, "Network protocol not supported, use (1,2)");
    else
        ftp_reply_done(client, 501, "EPRT takes |PROTOCOL|ADDRESS|PORT|");
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static void cmd_missing(struct ftp_client *client, const char *arg)
{
    (void)arg;
    ftp_reply_done(client, 502, "Not here");
}

static void cmd_help(struct ftp_client *client, const char *arg);

static const struct command commands[] = {
    {"USER", OPEN | ARGUMENT, cmd_user},
    {"PASS", OPEN, cmd_pass},
    {"QUIT", OPEN, cmd_quit},
    {"NOOP", OPEN, cmd_noop},
    {"SYST", OPEN, cmd_syst},
    {"FEAT", OPEN, cmd_feat},
    {"OPTS", OPEN | ARGUMENT, cmd_opts},
    {"HELP", OPEN, cmd_help},
    {"CLNT", OPEN, cmd_noop},
    {"STAT", URGENT, cmd_stat},
    {"ABOR", URGENT, cmd_abor},
    {"TYPE", ARGUMENT, cmd_type},
    {"MODE", ARGUMENT, cmd_mode},
    {"STRU", ARGUMENT, cmd_stru},
    {"ALLO", ARGUMENT, cmd_allo},
    {"REST", ARGUMENT | KEEP_REST, cmd_rest},
    {"PASV", KEEP_REST, cmd_pasv},
    {"EPSV", KEEP_REST, cmd_epsv},
    {"PORT", ARGUMENT | KEEP_REST, cmd_port},
    {"EPRT", ARGUMENT | KEEP_REST, cmd_eprt},
    {"PWD", 0, ftp_cmd_pwd},
    {"CWD", ARGUMENT, ftp_cmd_cwd},
    {"CDUP", 0, ftp_cmd_cdup},
    {"MKD", ARGUMENT, ftp_cmd_mkd},
    {"RMD", ARGUMENT, ftp_cmd_rmd},
    {"DELE", ARGUMENT, ftp_cmd_dele},
    {"RNFR", ARGUMENT, ftp_cmd_rnfr},
    {"RNTO", ARGUMENT, ftp_cmd_rnto},
    {"SIZE", ARGUMENT, ftp_cmd_size},
    {"MDTM", ARGUMENT, ftp_cmd_mdtm},
    {"MFMT", ARGUMENT, ftp_cmd_mfmt},
    {"SITE", ARGUMENT, ftp_cmd_site},
    {"MLST", 0, ftp_cmd_mlst},
    {"RETR", ARGUMENT, ftp_cmd_retr},
    {"STOR", ARGUMENT, ftp_cmd_stor},
    {"LIST", 0, ftp_cmd_list},
    {"NLST", 0, ftp_cmd_nlst},
    {"MLSD", 0, ftp_cmd_mlsd},
    {"XPWD", 0, ftp_cmd_pwd},
    {"XCWD", ARGUMENT, ftp_cmd_cwd},
    {"XCUP", 0, ftp_cmd_cdup},
    {"XMKD", ARGUMENT, ftp_cmd_mkd},
    {"XRMD", ARGUMENT, ftp_cmd_rmd},
    {"ACCT", OPEN, cmd_missing},
    {"APPE", OPEN, cmd_missing},
    {"AUTH", OPEN, cmd_missing},
    {"PBSZ", OPEN, cmd_missing},
    {"PROT", OPEN, cmd_missing},
    {"REIN", OPEN, cmd_missing},
    {"SMNT", OPEN, cmd_missing},
    {"STOU", OPEN, cmd_missing},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void cmd_help(struct ftp_client *client, const char *arg)
{
    char text[FTP_REPLY_MAX];
    int len = snprintf(text, sizeof text, "214-There are:\r\n");
    (void)arg;
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].run != cmd_missing)
            len += snprintf(text + len, sizeof text - (size_t)len, " %s", commands[i].name);
    len += snprintf(text + len, sizeof text - (size_t)len, "\r\n214 End\r\n");
    ftp_reply_bytes(client, text, (size_t)len);
    ftp_done(client);
}

static const struct command *find_command(const char *line)
{
    const size_t len = strcspn(line, " ");
    for (size_t i = 0; i < COMMANDS; i++)
        if (strlen(commands[i].name) == len && strncasecmp(line, commands[i].name, len) == 0)
            return &commands[i];
    return NULL;
}

bool ftp_command_urgent(const char *line)
{
    const struct command *command = find_command(line);
    return command != NULL && (command->flags & URGENT) != 0;
}

/* What is wrong with the line, before its command looks at it. */
static bool refused(struct ftp_client *client, const struct command *command, const char *arg)
{
    if (command == NULL) {
        if (++client->unknown > UNKNOWN_MAX)
            ftp_client_leave(client, "This is not FTP");
        else
            ftp_reply_done(client, 500, "No such command");
        return true;
    }
    client->unknown = 0;
    if (!client->logged_in && (command->flags & OPEN) == 0)
        ftp_reply_done(client, 530, "USER and PASS come first");
    else if ((command->flags & ARGUMENT) != 0 && arg[0] == '\0')
        ftp_reply_done(client, 501, "An argument is missing");
    else
        return false;
    return true;
}

void ftp_command(struct ftp_client *client, char *line)
{
    const struct command *command = find_command(line);
    const char *arg = line + strcspn(line, " ");
    if (*arg == ' ')
        arg++;
    if (client->busy) { /* in the middle of a transfer: an urgent one */
        command->run(client, arg);
        return;
    }
    client->busy = true;
    (void)uv_timer_stop(&client->timer);
    if (refused(client, command, arg))
        return;
    command->run(client, arg);
    if (!client->closing && (command->flags & KEEP_REST) == 0)
        client->rest = 0;
}
