/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro: the client. */
#include "services/push_wire.h"
#include "tools/chaveiro.h"

#include <limits.h>

enum {
    PING = 4,
    FTP = 8,
    GET = 16,
    PUT = 32,
    WATCH = 1 << 14,
    SHELL = 1 << 15,
    TUNNEL = 1 << 16
}; /* bits of commands, in the order of the table */

static const struct chv_cli_command chaveiro_commands[] = {
    {"send", "[TEXT...|-]", "send a message and show the answer",
     "The words of TEXT are one message, with a space between them.  '-', or no TEXT when standard input\n"
     "is not a terminal: all of standard input, any bytes, any length.  The answer is printed as the\n"
     "server sent it, and a newline.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key send ola\n"
     "  echo ola | chaveiro -k cam1.key send -\n"
     "  chaveiro -k cam1.key send -- --not-an-option\n",
     0, INT_MAX, chaveiro_send},
    {"chat", "", "send each line, show each answer",
     "Reads lines from the terminal (with editing and history) or from standard input.  Each is one\n"
     "message; its answer is shown before the next is sent.  End of file ends the chat.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key chat\n"
     "  printf 'one\\ntwo\\n' | chaveiro -k cam1.key chat\n",
     0, 0, chaveiro_chat},
    {"ping", "", "connect, measure, show what the server says",
     "Prints the times of the connection and of round trips, the key check value (compare it with\n"
     "'keyadmin client show'), and what the server said: its time, idle limit, suite and profile.\n"
     "\n"
     "Example:\n"
     "  chaveiro -k cam1.key ping -c 5\n",
     0, 0, chaveiro_ping},
    {"ftp", "", "let FTP programs of this machine in",
     "A plain FTP server on the loopback interface: what its clients ask for goes over the channel.  Without\n"
     "--listen it is on 127.0.0.1:2121.  Prints where it listens and, without --password-file, the password\n"
     "that it has made for this run; the user name does not matter.  Ends by SIGTERM or Control-C.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key ftp\n"
     "  chaveiro -k cam1.key ftp --listen '[::1]:2121' --listen unix:/run/user/1000/ftp --password-file ftp.pass\n",
     0, 0, chaveiro_ftp},
    {"get", "REMOTE... [LOCAL]", "fetch files",
     "LOCAL is a file or a folder; without it files come here, under their own names; several need a folder.\n"
     "REMOTE may be a pattern: * ? [...], quoted from the shell; \\ before a character takes its meaning.\n"
     "A file has its name only when all of it has come and its SHA-256 was verified; one of that name is\n"
     "replaced.  What has come of one when the transfer is interrupted is kept for --resume.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key get reports/may.pdf\n"
     "  chaveiro -k cam1.key get 'reports/*.pdf' notes.txt /tmp/\n"
     "  chaveiro -k cam1.key get -r reports\n"
     "  chaveiro -k cam1.key get -a film.mkv\n",
     1, INT_MAX, chaveiro_get},
    {"put", "LOCAL... [REMOTE]", "store files",
     "REMOTE is the name on the server, or a folder there; without it files have their own names there.\n"
     "Several need a folder.  A file of that name is replaced once all of the new one is there and its\n"
     "SHA-256 was verified.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key put may.pdf\n"
     "  chaveiro -k cam1.key put *.pdf reports/\n"
     "  chaveiro -k cam1.key put -rp reports\n",
     1, INT_MAX, chaveiro_put},
    {"ls", "[PATH...]", "list files and folders",
     "Without PATH, and of '/', the client's home.\n"
     "\n"
     "Example:\n"
     "  chaveiro -k cam1.key ls reports\n",
     0, INT_MAX, chaveiro_ls},
    {"stat", "PATH...", "show what is known of files",
     "Example:\n"
     "  chaveiro -k cam1.key stat reports/may.pdf\n",
     1, INT_MAX, chaveiro_stat},
    {"checksum", "PATH...", "show files' SHA-256, computed by the server",
     "Printed as sha256sum(1) does.\n"
     "\n"
     "Example:\n"
     "  chaveiro -k cam1.key checksum reports/may.pdf\n",
     1, INT_MAX, chaveiro_checksum},
    {"df", "", "show the space for files, in bytes",
     "Example:\n"
     "  chaveiro -k cam1.key df\n",
     0, 0, chaveiro_df},
    {"mkdir", "PATH...", "make folders",
     "Example:\n"
     "  chaveiro -k cam1.key mkdir reports reports/2026\n",
     1, INT_MAX, chaveiro_mkdir},
    {"rmdir", "PATH...", "remove empty folders",
     "Example:\n"
     "  chaveiro -k cam1.key rmdir reports/2026 reports\n",
     1, INT_MAX, chaveiro_rmdir},
    {"rm", "PATH...", "remove files",
     "Example:\n"
     "  chaveiro -k cam1.key rm reports/may.pdf\n",
     1, INT_MAX, chaveiro_rm},
    {"mv", "PATH NEW", "give a file or folder another name",
     "What has the name NEW already is not replaced.\n"
     "\n"
     "Example:\n"
     "  chaveiro -k cam1.key mv may.pdf reports/may-2026.pdf\n",
     2, 2, chaveiro_mv},
    {"watch", "DIR", "receive the files that the server pushes, for ever",
     "Each file gets its name in DIR when all of it is there, was verified and is on the disk, exactly once,\n"
     "and the name is printed.  A name that is another file's is refused, and the server offers the file again\n"
     "later.  A lost connection is made anew.  DIR/" CHV_PUSH_STATE " remembers what came: leave it where it is.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key watch /var/lib/cam1/incoming\n"
     "  chaveiro -k cam1.key watch --once incoming\n",
     1, 1, chaveiro_watch},
    {"shell", "", "commands for files, typed or from a file",
     "Get, put, ls, cd and more on one connection, with editing, history and completion of names; 'help' shows all.\n"
     "Control-C ends a transfer.  With --batch, or when standard input is no terminal, the first command that\n"
     "fails ends it, unless '-' stands before it; the exit code is that command's.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key shell\n"
     "  chaveiro -k cam1.key shell -b nightly.txt\n"
     "  printf 'cd reports\\nget *.pdf\\n' | chaveiro -k cam1.key shell\n",
     0, 0, chaveiro_shell},
    {"tunnel", "[NAME]", "let programs of this machine through to what the server can reach",
     "Listens on the loopback interface or a unix socket.  Each connection that comes in goes over a session of its\n"
     "own to the target that the server has for NAME, byte by byte, both directions by themselves.  Without NAME all\n"
     "that the configuration has sections [tunnel \"NAME\"] for; with NAME and no --listen that one.  While the "
     "server\n"
     "is away, connections wait for up to --timeout.  Ends by SIGTERM or Control-C: what is under way may end within\n"
     "--timeout; the second ends it now.\n"
     "\n"
     "Examples:\n"
     "  chaveiro -k cam1.key tunnel db --listen 127.0.0.1:15432\n"
     "  chaveiro -k cam1.key tunnel db --listen '[::1]:15432' --listen unix:/run/user/1000/db\n"
     "  chaveiro --config /etc/cam1/chaveiro.conf tunnel\n",
     0, 1, chaveiro_tunnel},
    {"connect", "NAME", "a tunnel on standard input and output",
     "What comes on standard input goes to the target that the server has for NAME, what the target sends goes to\n"
     "standard output; each direction ends by itself.  An ssh ProxyCommand, for instance.\n"
     "\n"
     "Examples:\n"
     "  ssh -o ProxyCommand='chaveiro -k cam1.key connect ssh' gate.example\n"
     "  printf 'PING\\r\\n' | chaveiro -k cam1.key connect redis\n",
     1, 1, chaveiro_connect},
};

static const struct chv_cli_option chaveiro_options[] = {
    {"key", 'k', "KEYSTORE",
     "the client's keystore, made by 'keyadmin client add': a file, or\npkcs11:token=NAME for a token", CHV_CLI_ALL,
     false},
    {"config", 0, "FILE",
     "the client's configuration; see chaveiro(1) (default, without -k\nand --identity: "
     "~/.config/chaveiro/chaveiro.conf)",
     CHV_CLI_ALL, false},
    {"identity", 0, "KEY",
     "profiles key, key+psk: the client's identity key, a PEM file of\n'keyadmin identity new', a keystore or a token "
     "(default: -k's)",
     CHV_CLI_ALL, false},
    {"identity-passphrase-file", 0, "FILE", "its passphrase or PIN, if it is not the keystore's", CHV_CLI_ALL, false},
    {"server-key", 0, "KEY", "the server's public key, which it must prove to have: its\nserver.pub, or x25519 BASE64",
     CHV_CLI_ALL, false},
    {"passphrase-file", 0, "FILE",
     "its passphrase from FILE, '-': a line of standard input\n(default: systemd credential " CHV_SECRET_CREDENTIAL
     ", else asked for)",
     CHV_CLI_ALL, false},
    {"pin-file", 0, "FILE",
     "the PIN of the token that the key is in, likewise (systemd\ncredential " CHV_SECRET_PIN_CREDENTIAL ")",
     CHV_CLI_ALL, false},
    {"pin-fd", 0, "N", "the PIN is the first line of descriptor N", CHV_CLI_ALL, false},
    {"module", 0, "PATH",
     "the PKCS #11 module of the tokens of --key and --backend, where\ntheir URIs have none (default: all that p11-kit "
     "knows)",
     CHV_CLI_ALL, false},
    {"server", 's', "ADDR", "HOST:PORT, [IPv6]:PORT or unix:/PATH (default: what the key says)", CHV_CLI_ALL, false},
    {"suite", 0, "NAME",
     "x25519-aesgcm-sha256 (default), x25519-chachapoly-sha256,\np256-aesgcm-sha256; never changed on the server's "
     "word",
     CHV_CLI_ALL, false},
    {"backend", 0, "SPEC",
     "who computes the session's cryptography: openssl (default),\nor pkcs11:token=NAME for a token", CHV_CLI_ALL,
     false},
    {"timeout", 0, "SPAN", "give up on a connection or an answer after 10s, 500ms, 2m\n(default: 30s)", CHV_CLI_ALL,
     false},
    {"tickets", 0, "FILE",
     "keep tickets in FILE, for connections that come back without the\nkey; whoever can read it can be this client "
     "until they end",
     CHV_CLI_ALL, false},
    {"retries", 0, "N", "attempts more when the server is too busy (429, 503), with\na growing pause (default: 4)",
     CHV_CLI_ALL, false},
    {"receipt", 0, "FILE", "ask for a signed receipt; must not exist.  A folder: each file's\nis in it, PATH.receipt",
     PUT, false},
    {"receipt-key", 0, "KEY",
     "the server's public key that a receipt must be signed by: its\nreceipt.pub, or p256 BASE64 (default: the "
     "configuration's)",
     PUT, false},
    {"recursive", 'r', NULL, "folders too, with all that is in them", GET | PUT, false},
    {"preserve", 'p', NULL, "modes as they are, whatever the umask; get: of folders too, and\ntheir times", GET | PUT,
     false},
    {"resume", 'a', NULL, "go on where an interrupted transfer ended, once what is there was\nverified", GET | PUT,
     false},
    {"fsync", 'f', NULL, "each file is on the disk before it has its name", GET, false},
    {"once", 0, NULL, "end when nothing more waits", WATCH, false},
    {"batch", 'b', "FILE", "commands from FILE, one a line; '-': standard input", SHELL, 0},
    {"count", 'c', "N", "round trips to measure (default: 3)", PING, false},
    {"listen", 0, "ADDR",
     "where programs come in: 127.0.0.1:PORT (0: a free one),\n[::1]:PORT or unix:/PATH; may be given up to 16 times",
     FTP | TUNNEL, FTP | TUNNEL},
    {"password-file", 0, "FILE",
     "their password from FILE, '-': a line of standard input\n(default: one is made and printed)", FTP, 0},
    {"max-clients", 0, "N", "FTP connections at a time (default: 32)", FTP, 0},
    {"connections", 0, "N", "connections through tunnels at a time (default: 512); what comes\nabove waits to be taken",
     TUNNEL, 0},
    {"idle-timeout", 0, "SPAN", "end a connection through which nothing went for so long\n(default: 0, never)", TUNNEL,
     0},
    {"unsafe-listen", 0, NULL, "let --listen be any address, though what is said there is in clear", FTP | TUNNEL, 0},
    {"json", 0, NULL, "print the result as JSON", CHV_CLI_ALL, false},
    {"verbose", 'v', NULL, "tell about the handshake on standard error", CHV_CLI_ALL, false},
};

static const struct chv_cli chaveiro_cli = {
    .name = "chaveiro",
    .summary = "Talk to a chaveiro server over a secure channel.",
    .text = "Examples:\n"
            "  chaveiro -k cam1.key send ola\n"
            "  echo ola | chaveiro -k cam1.key send -\n"
            "  chaveiro -k cam1.key --server 192.0.2.7:7040 chat\n"
            "  chaveiro -k cam1.key ping\n"
            "  chaveiro --identity cam1 --server-key server.pub -s gate.example:7040 send ola\n"
            "  chaveiro -k 'pkcs11:token=cam1?pin-source=file:/etc/cam1.pin' send ola\n"
            "\n"
            "Exit codes: 0 done, 64 usage, 65 data, 66 no such file, key file or passphrase, 69 server not reachable\n"
            "or too busy, 73 a file cannot be stored, 74 input or output, 75 in use, 76 protocol, 77 refused or\n"
            "wrong key, 78 configuration.\n"
            "'chaveiro COMMAND --help' says more about a command.\n",
    .commands = chaveiro_commands,
    .command_count = sizeof chaveiro_commands / sizeof chaveiro_commands[0],
    .options = chaveiro_options,
    .option_count = sizeof chaveiro_options / sizeof chaveiro_options[0],
};

int main(int argc, char **argv)
{
    return chv_cli_main(&chaveiro_cli, argc, argv);
}
