/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that become requests to the server: folders, what is known of files, transfers. */
#include "tools/chaveiro_ftp.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- requests to the server --------------------------------------------------------------------------------------- */

static void on_no_answer(struct ftp_client *client)
{
    ftp_client_leave(client, "The server does not answer");
}

void ftp_ask(struct ftp_client *client, void (*answered)(struct ftp_client *client, const struct chv_files_answer *a))
{
    struct chv_files_client *files = ftp_session_files(client);
    enum chv_err err = files != NULL ? chv_files_client_ask(files, &client->request) : CHV_ERR_STATE;
    if (err != CHV_OK && err != CHV_ERR_IO) { /* the end of the connection says more */
        ftp_client_leave(client, "The server cannot be asked: %s", chv_err_text(err));
        return;
    }
    client->answered = answered;
    ftp_timer(client, client->door->link->timeout, on_no_answer);
}

void ftp_reply_failed(struct ftp_client *client, const struct chv_files_answer *answer, bool naming)
{
    ftp_reply(client, ftp_code_of(answer->code, naming), "%s", answer->text[0] != '\0' ? answer->text : "Refused");
}

bool ftp_resolve(struct ftp_client *client, const char *arg, char out[CHV_FILES_PATH_MAX + 1])
{
    const char *wrong = ftp_path_resolve(client->cwd, arg, out);
    if (wrong == NULL)
        return true;
    ftp_reply(client, 553, "%s", wrong);
    ftp_done(client);
    return false;
}

/* True if it was a success; else the command is done. */
static bool settled(struct ftp_client *client, const struct chv_files_answer *answer, bool naming)
{
    client->answered = NULL;
    if (answer->code < 300)
        return true;
    ftp_reply_failed(client, answer, naming);
    ftp_done(client);
    return false;
}

static void ask_for(struct ftp_client *client, enum chv_files_op op, const char *arg,
                    void (*answered)(struct ftp_client *client, const struct chv_files_answer *answer))
{
    char path[CHV_FILES_PATH_MAX + 1];
    if (!ftp_resolve(client, arg, path))
        return;
    client->request = (struct chv_files_request){.op = op};
    memcpy(client->request.path, path, sizeof path);
    ftp_ask(client, answered);
}

/* --- folders ------------------------------------------------------------------------------------------------------ */

static void reply_path(struct ftp_client *client, unsigned code, const char *path, const char *what)
{
    char quoted[FTP_QUOTED_MAX];
    ftp_path_quote(path, quoted);
    ftp_reply(client, code, "%s%s", quoted, what);
    ftp_done(client);
}

void ftp_cmd_pwd(struct ftp_client *client, const char *arg)
{
    (void)arg;
    reply_path(client, 257, client->cwd, " is the current folder");
}

static void on_cwd(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (!settled(client, answer, false))
        return;
    if (!answer->has_meta || answer->meta.type != CHV_FILES_FOLDER) {
        ftp_reply_done(client, 550, "is no folder");
        return;
    }
    memcpy(client->cwd, client->request.path, sizeof client->cwd);
    ftp_reply_done(client, 250, "OK");
}

void ftp_cmd_cwd(struct ftp_client *client, const char *arg)
{
    ask_for(client, CHV_FILES_STAT, arg, on_cwd);
}

void ftp_cmd_cdup(struct ftp_client *client, const char *arg)
{
    (void)arg;
    ask_for(client, CHV_FILES_STAT, "..", on_cwd);
}

static void on_changed(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (settled(client, answer, false))
        ftp_reply_done(client, 250, "OK");
}

static void on_named(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (settled(client, answer, true))
        ftp_reply_done(client, 250, "OK");
}

static void on_made(struct ftp_client *client, const struct chv_files_answer *answer)
{
    /* 550, not 553: RFC 959's sequence for MKD, and what clients take for "exists already". */
    if (settled(client, answer, false))
        reply_path(client, 257, client->request.path, " is made");
}

void ftp_cmd_mkd(struct ftp_client *client, const char *arg)
{
    ask_for(client, CHV_FILES_MKDIR, arg, on_made);
}

void ftp_cmd_rmd(struct ftp_client *client, const char *arg)
{
    ask_for(client, CHV_FILES_RMDIR, arg, on_changed);
}

void ftp_cmd_dele(struct ftp_client *client, const char *arg)
{
    ask_for(client, CHV_FILES_RM, arg, on_changed);
}

static void on_from(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (!settled(client, answer, false))
        return;
    memcpy(client->from, client->request.path, sizeof client->from);
    client->has_from = true;
    ftp_reply_done(client, 350, "To which name? RNTO");
}

void ftp_cmd_rnfr(struct ftp_client *client, const char *arg)
{
    ask_for(client, CHV_FILES_STAT, arg, on_from);
}

void ftp_cmd_rnto(struct ftp_client *client, const char *arg)
{
    char path[CHV_FILES_PATH_MAX + 1];
    if (!client->has_from) {
        ftp_reply_done(client, 503, "RNFR comes first");
        return;
    }
    client->has_from = false;
    if (!ftp_resolve(client, arg, path))
        return;
    client->request = (struct chv_files_request){.op = CHV_FILES_RENAME};
    memcpy(client->request.path, client->from, sizeof client->from);
    memcpy(client->request.to, path, sizeof path);
    ftp_ask(client, on_named);
}

/* --- what is known of a file -------------------------------------------------------------------------------------- */

static void on_size(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (!settled(client, answer, false))
        return;
    if (!answer->has_meta || answer->meta.type != CHV_FILES_FILE) {
        ftp_reply_done(client, 550, "is no file");
        return;
    }
    ftp_reply(client, 213, "%llu", (unsigned long long)answer->meta.size);
    ftp_done(client);
}

void ftp_cmd_size(struct ftp_client *client, const char *arg)
{
    if (!client->image) /* RFC 3659, 4: the size is that of the transfer, which TYPE A leaves open */
        ftp_reply_done(client, 550, "SIZE needs TYPE I");
    else
        ask_for(client, CHV_FILES_STAT, arg, on_size);
}

static void on_mdtm(struct ftp_client *client, const struct chv_files_answer *answer)
{
    char when[FTP_TIME_SIZE];
    if (!settled(client, answer, false))
        return;
    ftp_time_format(answer->meta.mtime, when);
    ftp_reply_done(client, 213, when);
}

void ftp_cmd_mdtm(struct ftp_client *client, const char *arg)
{
    ask_for(client, CHV_FILES_STAT, arg, on_mdtm);
}

static void on_mfmt(struct ftp_client *client, const struct chv_files_answer *answer)
{
    char when[FTP_TIME_SIZE];
    if (!settled(client, answer, false))
        return;
    ftp_time_format(client->request.mtime, when);
    ftp_reply(client, 213, "Modify=%s; /%s", when, client->request.path);
    ftp_done(client);
}

void ftp_cmd_mfmt(struct ftp_client *client, const char *arg)
{
    const size_t len = strcspn(arg, " ");
    uint64_t mtime;
    char path[CHV_FILES_PATH_MAX + 1];
    if (arg[len] == '\0' || !ftp_time_parse(arg, len, &mtime)) {
        ftp_reply_done(client, 501, "MFMT takes YYYYMMDDHHMMSS and a name");
        return;
    }
    if (!ftp_resolve(client, arg + len + 1, path))
        return;
    client->request = (struct chv_files_request){.op = CHV_FILES_SET, .has_mtime = true, .mtime = mtime};
    memcpy(client->request.path, path, sizeof path);
    ftp_ask(client, on_mfmt);
}

static void on_chmod(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (settled(client, answer, false))
        ftp_reply_done(client, 200, "OK");
}

void ftp_cmd_site(struct ftp_client *client, const char *arg)
{
    static const char chmod_word[] = "CHMOD ";
    char path[CHV_FILES_PATH_MAX + 1];
    if (strncasecmp(arg, chmod_word, strlen(chmod_word)) != 0) {
        ftp_reply_done(client, 504, "There is SITE CHMOD");
        return;
    }
    arg += strlen(chmod_word);
    const size_t len = strspn(arg, "01234567");
    if (len == 0 || len > 4 || arg[len] != ' ') {
        ftp_reply_done(client, 501, "SITE CHMOD takes an octal mode and a name");
        return;
    }
    const unsigned long mode = strtoul(arg, NULL, 8);
    if (mode > CHV_FILES_MODE) {
        ftp_reply_done(client, 501, "Modes are 0 to 0777");
        return;
    }
    if (!ftp_resolve(client, arg + len + 1, path))
        return;
    client->request = (struct chv_files_request){.op = CHV_FILES_SET, .has_mode = true, .mode = (unsigned)mode};
    memcpy(client->request.path, path, sizeof path);
    ftp_ask(client, on_chmod);
}

static void on_mlst(struct ftp_client *client, const struct chv_files_answer *answer)
{
    char text[FTP_REPLY_MAX], facts[FTP_FACTS_MAX];
    if (!settled(client, answer, false))
        return;
    (void)ftp_facts_format(&answer->meta, client->facts, facts);
    int n = snprintf(text, sizeof text, "250-It is\r\n %s/%s\r\n250 End\r\n", facts, client->request.path);
    ftp_reply_bytes(client, text, (size_t)n);
    ftp_done(client);
}

void ftp_cmd_mlst(struct ftp_client *client, const char *arg)
{
    ask_for(client, CHV_FILES_STAT, arg, on_mlst);
}

/* --- transfers ---------------------------------------------------------------------------------------------------- */

static void begin(struct ftp_client *client, enum ftp_kind kind, enum chv_files_op op, const char *arg)
{
    char path[CHV_FILES_PATH_MAX + 1];
    if (!ftp_resolve(client, arg, path))
        return;
    if (client->data == NULL) {
        ftp_reply_done(client, 425, "PASV, EPSV, PORT or EPRT comes first");
        return;
    }
    client->request = (struct chv_files_request){.op = op};
    memcpy(client->request.path, path, sizeof path);
    ftp_transfer_begin(client, kind);
}

void ftp_cmd_retr(struct ftp_client *client, const char *arg)
{
    begin(client, FTP_RETR, CHV_FILES_GET, arg);
}

void ftp_cmd_stor(struct ftp_client *client, const char *arg)
{
    if (client->rest != 0) {
        ftp_data_close(client, false);
        ftp_reply_done(client, 554, "A file is stored from its start: nothing unfinished is kept under its name");
    } else {
        begin(client, FTP_STOR, CHV_FILES_PUT, arg);
    }
}

/* "-la" and the like are for ls(1), which is not here. */
static const char *skip_options(const char *arg)
{
    while (arg[0] == '-') {
        arg += strcspn(arg, " ");
        arg += strspn(arg, " ");
    }
    return arg;
}

/* Of a file its name as it was given, of a folder names with that in front: RFC 1123, 4.1.2.7. */
static void on_nlst(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (!settled(client, answer, false))
        return;
    client->transfer.single = answer->meta.type != CHV_FILES_FOLDER;
    client->request.op = CHV_FILES_LS;
    ftp_transfer_begin(client, FTP_NLST);
}

/* A pattern in the last part: of its folder, what fits. */
static void list(struct ftp_client *client, enum ftp_kind kind, const char *arg)
{
    struct ftp_transfer *t = &client->transfer;
    char folder[FTP_LINE_MAX];
    const char *name = chv_files_path_name(arg);
    const bool pattern = ftp_path_is_pattern(arg);
    const size_t len = pattern ? (size_t)(name - arg) : strlen(arg);
    *t = (struct ftp_transfer){.kind = FTP_NONE};
    memcpy(folder, arg, len);
    folder[len] = '\0';
    if (len > CHV_FILES_PATH_MAX || strlen(name) > CHV_FILES_NAME_MAX) {
        ftp_data_close(client, false);
        ftp_reply_done(client, 553, "The name is too long");
        return;
    }
    if (pattern)
        (void)snprintf(t->pattern, sizeof t->pattern, "%.*s", CHV_FILES_NAME_MAX, name);
    else
        (void)snprintf(t->argument, sizeof t->argument, "%.*s", CHV_FILES_PATH_MAX, arg);
    (void)snprintf(t->prefix, sizeof t->prefix, "%.*s%s", CHV_FILES_PATH_MAX, folder,
                   len > 0 && folder[len - 1] != '/' ? "/" : "");
    if (kind == FTP_NLST && len > 0 && !pattern && client->data != NULL)
        ask_for(client, CHV_FILES_STAT, arg, on_nlst);
    else
        begin(client, kind, CHV_FILES_LS, folder);
}

void ftp_cmd_list(struct ftp_client *client, const char *arg)
{
    list(client, FTP_LIST, skip_options(arg));
}

void ftp_cmd_nlst(struct ftp_client *client, const char *arg)
{
    list(client, FTP_NLST, skip_options(arg));
}

static void on_mlsd(struct ftp_client *client, const struct chv_files_answer *answer)
{
    if (!settled(client, answer, false))
        return;
    if (answer->meta.type != CHV_FILES_FOLDER) { /* RFC 3659, 7.2 */
        ftp_reply_done(client, 501, "MLSD is for folders: MLST");
        return;
    }
    client->request.op = CHV_FILES_LS;
    client->transfer = (struct ftp_transfer){.kind = FTP_NONE};
    ftp_transfer_begin(client, FTP_MLSD);
}

void ftp_cmd_mlsd(struct ftp_client *client, const char *arg)
{
    if (client->data == NULL)
        ftp_reply_done(client, 425, "PASV, EPSV, PORT or EPRT comes first");
    else
        ask_for(client, CHV_FILES_STAT, arg, on_mlsd);
}
