/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin: makes a server's keystore and hands out access keys. */
#include "tools/keyadmin.h"

enum { INIT = 1, ADD = 2, SHOW = 4, CHECK = 8, DERIVE = 16 };

static const struct chv_cli_command keyadmin_commands[] = {
    {"init", "", "make a server: keystore, master secret, configuration file",
     "Makes DIR/server.keys with the master secret of epoch 1 and DIR/chaveirod.conf, a commented\n"
     "configuration.  Nothing that is there already is overwritten, and a failure leaves nothing.\n"
     "\n"
     "Examples:\n"
     "  keyadmin init --name gate.example --listen 0.0.0.0:7040 --address gate.example:7040\n"
     "  keyadmin init --dir /etc/chaveiro --passphrase-file /root/pass\n",
     0, 0, keyadmin_init},
    {"client add", "ID --out FILE", "derive a client's access key and write its keystore",
     "The access key is derived from the server's master secret and the whole credential: id, scopes,\n"
     "expiry, epoch and serial.  The server keeps nothing, and the same credential again gives the same\n"
     "key.  A relative expiry is rounded up to the end of a UTC day.  Two passphrases are asked for: the\n"
     "server keystore's, and a new one for the client's.\n"
     "\n"
     "Examples:\n"
     "  keyadmin client add cam1 --out cam1.key\n"
     "  keyadmin client add cam2 --scope message --scope files:ro --expires 2027-01-31 --out cam2.key\n",
     1, 1, keyadmin_client_add},
    {"client show", "FILE", "what a client's keystore holds",
     "Prints the credential, the server and the key check value; never a key.\n"
     "\n"
     "Example:\n"
     "  keyadmin client show cam1.key\n",
     1, 1, keyadmin_client_show},
    {"check", "FILE", "kind of a keystore, its keys and their check values",
     "Two keystores with equal check values hold equal keys; a check value says nothing else about one.\n"
     "\n"
     "Example:\n"
     "  keyadmin check server.keys\n",
     1, 1, keyadmin_check},
    {"derive", "--explain ID", "show how a client's access key comes about",
     "Prints every input of the derivation but the master secret: the credential's fields and bytes, the\n"
     "info, the formula and the key check value.  Takes the options of 'client add'.  Never prints a key.\n"
     "\n"
     "Example:\n"
     "  keyadmin derive --explain cam1 --scope message --expires 2027-01-31\n",
     1, 1, keyadmin_derive},
};

static const struct chv_cli_option keyadmin_options[] = {
    {"dir", 0, "DIR", "folder to make the server in; made if missing (default: .)", INIT, false},
    {"name", 0, "SERVER", "server name: whom clients mean to talk to (default: host name)", INIT, false},
    {"listen", 0, "ADDR", "where the server listens (default: " CHV_DEFAULT_LISTEN ")", INIT, false},
    {"address", 0, "ADDR",
     "what clients connect to: HOST:PORT, [IPv6]:PORT, unix:/PATH\n(default: where the server listens)", INIT | ADD,
     false},
    {"config", 'c', "FILE",
     "the server's configuration\n(default: ./chaveirod.conf, then " SYSCONFDIR "/chaveiro/chaveirod.conf)",
     ADD | DERIVE, false},
    {"keystore", 0, "URI", "the server's keystore: a path or file:PATH", INIT | ADD | DERIVE, false},
    {"scope", 0, "S", "a right, may be given again: message, files:ro, files:rw, tunnel:NAME\n(default: message)",
     ADD | DERIVE, true},
    {"expires", 0, "WHEN", "90d, 12h, 2w, 2027-01-31, 2027-01-31T12:00:00Z, never (default: 90d)", ADD | DERIVE, false},
    {"serial", 0, "N", "which credential of this id it is, from 1 (default: 1)", ADD | DERIVE, false},
    {"epoch", 0, "N", "which master secret (default: the newest)", ADD | DERIVE, false},
    {"out", 'o', "FILE", "the client's keystore to write; must not exist", ADD, false},
    {"explain", 0, NULL, "print the derivation (the only thing 'derive' does)", DERIVE, false},
    {"passphrase-file", 0, "FILE",
     "passphrase from FILE, '-': a line of standard input\n(default: systemd credential " CHV_SECRET_CREDENTIAL
     ", else asked for)",
     CHV_CLI_ALL, false},
    {"client-passphrase-file", 0, "FILE", "the same for the client's new keystore (default: asked for)", ADD, false},
    {"scrypt-cost", 0, "N",
     "cost of the passphrase of a new keystore: a power of two,\n16384 to 1048576 (default: 131072)", INIT | ADD,
     false},
    {"json", 0, NULL, "print the result as JSON", CHV_CLI_ALL, false},
};

static const struct chv_cli keyadmin_cli = {
    .name = "keyadmin",
    .summary = "Make a chaveiro server's keystore and hand out access keys to its clients.",
    .text = "Examples:\n"
            "  keyadmin init --name gate.example\n"
            "  keyadmin client add cam1 --out cam1.key\n"
            "  chaveirod -c chaveirod.conf &\n"
            "  chaveiro -k cam1.key send 'ola'\n"
            "\n"
            "'keyadmin COMMAND --help' says more about a command.\n",
    .commands = keyadmin_commands,
    .command_count = sizeof keyadmin_commands / sizeof keyadmin_commands[0],
    .options = keyadmin_options,
    .option_count = sizeof keyadmin_options / sizeof keyadmin_options[0],
};

int main(int argc, char **argv)
{
    return chv_cli_main(&keyadmin_cli, argc, argv);
}
