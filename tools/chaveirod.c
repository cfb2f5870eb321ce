/* SPDX-License-Identifier: Apache-2.0 */
/* chaveirod: the server. */
#include "net/supervisor.h"
#include "services/files.h"
#include "services/push.h"
#include "services/message.h"
#include "services/tunnel.h"
#include "tools/chaveirod_check.h"
#include "tools/cli.h"
#include "tools/secret.h"
#include "tools/server_config.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const char default_config[] = SYSCONFDIR "/chaveiro/chaveirod.conf";

static const struct chv_service *const services[] = {&chv_service_message, &chv_service_files, &chv_service_push,
                                                     &chv_service_tunnel, NULL};

static const char *config_file(const struct chv_cli_args *args)
{
    const char *file = chv_cli_value(args, "config");
    return file != NULL ? file : default_config;
}

static enum chv_err apply_listen(const struct chv_cli_args *args, struct chv_server_config *config, struct chv_why *why)
{
    const char *addresses[CHV_CLI_REPEATS];
    size_t count = 0;
    for (size_t i = 0; i < args->repeat_count; i++) /* only --listen repeats */
        addresses[count++] = args->repeats[i];
    return count > 0 ? chv_server_config_listen(config, addresses, count, why) : CHV_OK;
}

/* The file, and what the command line says instead: at the start, and again at each SIGHUP. */
static enum chv_err load(void *arg, struct chv_server_config *config, struct chv_why *why)
{
    const struct chv_cli_args *args = arg;
    const char *backend = chv_cli_value(args, "backend");
    enum chv_err err = chv_cli_given(args, "data-only") ? chv_server_config_load_data(config_file(args), config, why)
                                                        : chv_server_config_load(config_file(args), config, why);
    if (err == CHV_OK && backend != NULL)
        err = chv_server_config_backend(config, backend, why);
    if (err == CHV_OK)
        err = apply_listen(args, config, why);
    if (err == CHV_OK)
        err = chv_server_config_complete(config, why);
    if (err == CHV_OK && chv_cli_given(args, "verbose"))
        config->log_level = CHV_LOG_DEBUG;
    return err;
}

/* A data side has no keystore: nothing that opens one. */
static enum chv_err check_data_only(const struct chv_cli_args *args, struct chv_why *why)
{
    static const char *const none[] = {"listen", "passphrase-file", "pin-file", "pin-fd"};
    for (size_t i = 0; i < sizeof none / sizeof none[0] && chv_cli_given(args, "data-only"); i++)
        if (chv_cli_given(args, none[i]))
            return chv_fail(why, CHV_ERR_ARGUMENT, "--%s does not go with --data-only: %s", none[i],
                            i == 0 ? "clients come in by 'data' of the file" : "there is no keystore to open");
    return CHV_OK;
}

/* Of the passphrase or PIN: the command line, else the file, else a systemd credential or a person. */
static enum chv_err secret_source(const struct chv_cli_args *args, const struct chv_server_config *config,
                                  struct chv_secret_source *secret, struct chv_why *why)
{
    struct chv_secret_options given = {.passphrase_file = chv_cli_value(args, "passphrase-file"),
                                       .pin_file = chv_cli_value(args, "pin-file"),
                                       .pin_fd = chv_cli_value(args, "pin-fd")};
    bool from_file = given.passphrase_file == NULL && given.pin_file == NULL && given.pin_fd == NULL &&
                     config->passphrase_file[0] != '\0';
    if (from_file)
        given.passphrase_file = config->passphrase_file;
    enum chv_err err = chv_secret_for(config->keystore, &given, secret, why);
    if (err == CHV_OK && from_file)
        secret->option = "passphrase-file =";
    return err;
}

/* Whether a keeper that is started again finds the secret again: also by the URI of a token. */
static bool repeatable(const struct chv_server_config *config, const struct chv_secret_source *secret)
{
    return strstr(config->keystore, "pin-source=") != NULL || chv_secret_repeatable(secret);
}

static int serve(const struct chv_cli_args *args)
{
    int code = EX_OSERR;
    struct chv_why why = {""};
    /* A copy: the load callback wants an argument that it may not change. */
    struct chv_cli_args ours = *args;
    struct chv_server_config *config = malloc(sizeof *config);
    enum chv_err err = check_data_only(args, &why);
    if (err != CHV_OK) {
        code = chv_cli_why(err, &why);
        goto out;
    }
    err = config != NULL ? load(&ours, config, &why) : CHV_ERR_MEMORY;
    if (err != CHV_OK) {
        (void)chv_cli_why(err, &why);
        code = err == CHV_ERR_MEMORY ? EX_OSERR : EX_CONFIG;
        goto out;
    }
    if (chv_cli_given(args, "check")) {
        const bool given =
            chv_cli_given(args, "passphrase-file") || chv_cli_given(args, "pin-file") || chv_cli_given(args, "pin-fd");
        code = chv_chaveirod_check(config, config_file(args), given) ? EX_OK : EX_CONFIG;
        goto out;
    }
    struct chv_secret_source secret = {.kind = CHV_SECRET_DEFAULT};
    if (!config->data_only)
        err = secret_source(args, config, &secret, &why);
    if (err != CHV_OK) {
        code = chv_cli_why(err, &why);
        goto out;
    }
    char secret_file[PATH_MAX];
    bool in_file = !config->data_only && chv_secret_path(&secret, secret_file);
    const struct chv_supervisor_setup setup = {.parts = {.services = services},
                                               .load = load,
                                               .load_arg = &ours,
                                               .secret = chv_secret_get,
                                               .secret_arg = &secret,
                                               .secret_repeatable = repeatable(config, &secret),
                                               .secret_file = in_file ? secret_file : NULL,
                                               .secret_fd = secret.kind == CHV_SECRET_FD ? secret.fd : -1};
    code = chv_supervisor_run(config, &setup);
out:
    free(config);
    return code;
}

static const struct chv_cli_command commands[] = {
    {"", "", "serve clients",
     "Reads the configuration file that 'keyadmin init' wrote, opens the keystore with its passphrase (from\n"
     "a file, a systemd credential, or asked for), and serves until a signal ends it.  Stays in the\n"
     "foreground and logs to standard error: a line 'listening on ADDRESS' says that clients may come.\n"
     "\n"
     "With --data-only it is the data side of a server with two ports: no keystore, no keeper process, and\n"
     "clients come with tickets that the other side gave them; the file has data, and keys under [tickets].\n"
     "\n"
     "Examples:\n"
     "  chaveirod -c server/chaveirod.conf\n"
     "  chaveirod -c server/chaveirod.conf --listen 127.0.0.1:0 --listen unix:/run/chaveiro/socket\n"
     "  chaveirod -c server/chaveirod.conf --passphrase-file server.pass\n"
     "  chaveirod --data-only -c data/chaveirod.conf\n"
     "  chaveirod -t -c server/chaveirod.conf && kill -HUP \"$(pidof -s chaveirod)\"\n"
     "\n"
     "Files:\n"
     "  " SYSCONFDIR "/chaveiro/chaveirod.conf   read when -c is not given; see chaveirod.conf(5)\n"
     "\n"
     "Signals:\n"
     "  TERM, INT  accept no more, let the clients go, end; the second one ends at once\n"
     "  HUP        read the configuration again; the old one stays if the new one is bad\n"
     "\n"
     "Exit codes: 0 ended by a signal, or -t found nothing; 64 usage, 65 keystore damaged, 66 no keystore,\n"
     "69 an address is in use, 71 the system lacks something, 77 passphrase, 78 configuration.\n",
     0, 0, serve},
};

static const struct chv_cli_option options[] = {
    {"config", 'c', "FILE", "configuration file (default: " SYSCONFDIR "/chaveiro/chaveirod.conf)", CHV_CLI_ALL, false},
    {"listen", 0, "ADDR", "HOST:PORT, [IPv6]:PORT or unix:/PATH instead of the file's; port 0: any;\nrepeatable",
     CHV_CLI_ALL, CHV_CLI_ALL},
    {"backend", 0, "SPEC",
     "who computes the sessions' cryptography, instead of the file's:\nopenssl, or pkcs11:token=NAME for a token",
     CHV_CLI_ALL, false},
    {"passphrase-file", 0, "FILE",
     "the keystore's passphrase from FILE, '-': a line of standard input\n(default: the file's passphrase-file, "
     "systemd "
     "credential\n" CHV_SECRET_CREDENTIAL ", else asked for)",
     CHV_CLI_ALL, false},
    {"pin-file", 0, "FILE",
     "the PIN of the token that the keystore is in, likewise (systemd\ncredential " CHV_SECRET_PIN_CREDENTIAL ")",
     CHV_CLI_ALL, false},
    {"pin-fd", 0, "N", "the PIN is the first line of descriptor N", CHV_CLI_ALL, false},
    {"data-only", 0, NULL, "serve data tickets only, by the keys of a file: no keystore", CHV_CLI_ALL, false},
    {"check", 't', NULL, "check configuration, keystore, registry, keys and folders, and end: 0 or 78", CHV_CLI_ALL,
     false},
    {"verbose", 'v', NULL, "log level debug", CHV_CLI_ALL, false},
};

static const struct chv_cli cli = {
    .name = "chaveirod",
    .summary = "Serve a secure channel to clients that are keyed from one master secret.",
    .text = "",
    .commands = commands,
    .command_count = sizeof commands / sizeof commands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
};

int main(int argc, char **argv)
{
    return chv_cli_main(&cli, argc, argv);
}
