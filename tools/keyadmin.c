/* SPDX-License-Identifier: Apache-2.0 */
/* keyadmin: makes a server's keystore and hands out access keys. */
#include "tools/keyadmin.h"

enum { INIT = 1, ADD = 2, SHOW = 4, CHECK = 8, DERIVE = 16, TOKEN_LIST = 32, TOKEN_INIT = 64, TOKEN_CHECK = 128 };
enum { ID_NEW = 256, ID_SHOW = 512, ID_PRINT = 1024, RESTORE = 2048, ID_READ = ID_SHOW | ID_PRINT };
enum { EPOCH_NEW = 4096, EPOCH_LIST = 8192, EPOCH_STATUS = 16384, EPOCH_RETIRE = 32768 };
enum { EPOCHS = EPOCH_NEW | EPOCH_LIST | EPOCH_STATUS | EPOCH_RETIRE };
enum { LIST = 1 << 16, REISSUE = 1 << 17, REVOKE = 1 << 18, SUSPEND = 1 << 19, RESUME = 1 << 20, REMOVE = 1 << 21 };
enum { SCOPES = 1 << 22, AUDIT_LIST = 1 << 23, AUDIT_VERIFY = 1 << 24, AUDIT_SEAL = 1 << 25 };
enum { UNPACK = 1 << 26, BUNDLE_LIST = 1 << 27 };
enum { RECEIPT_NEW = 1 << 28, RECEIPT_KEY = 1 << 29, RECEIPT_VERIFY = 1 << 30 };
/* beyond an int */
#define PUSH_STATUS (UINT64_C(1) << 31)
#define PUSH_CANCEL (UINT64_C(1) << 32)
#define PUSH (UINT64_C(1) << 33)
#define REGISTRY_NEW (UINT64_C(1) << 34)
#define SET_KEY (UINT64_C(1) << 35)
#define TICKET_KEYS (UINT64_C(1) << 36)
#define PUSHES (PUSH_STATUS | PUSH_CANCEL | PUSH)
enum {
    TOKEN_MADE = INIT | TOKEN_INIT,
    STATE = REVOKE | SUSPEND | RESUME | REMOVE,
    AUDIT_KEY = AUDIT_VERIFY | AUDIT_SEAL,
    GIVEN = ADD | REISSUE | SCOPES, /* what writes a client's keystore */
    REGISTRY = GIVEN | SHOW | LIST | STATE | AUDIT_LIST | AUDIT_KEY,
    SERVER = GIVEN | DERIVE | ID_NEW | RESTORE | AUDIT_KEY | RECEIPT_NEW | RECEIPT_KEY, /* what opens a server's */
    PIN_GIVEN = INIT | SHOW | CHECK | TOKEN_CHECK | ID_READ | SERVER | EPOCH_NEW | EPOCH_LIST | EPOCH_RETIRE
};

static const struct chv_cli_command keyadmin_commands[] = {
    {"init", "", "make a server: keystore, master secret, configuration file",
     "Makes DIR/server.keys with the master secret of epoch 1, DIR/registry.db, an empty registry, the folder\n"
     "DIR/state for the server's marks, and DIR/chaveirod.conf, a commented configuration.  Nothing that\n"
     "is there already is overwritten, and a failure leaves nothing but a token that was made, with its\n"
     "PINs: init uses it when it is run again.\n"
     "\n"
     "With --keystore pkcs11:token=NAME the master is made in that token, which it never leaves.  Where\n"
     "there is no token of that name, SoftHSM (or the module of --module) makes one, and its long random\n"
     "PINs go into files of mode 0600 in DIR: NAME.pin, which the server reads, and NAME.so-pin.\n"
     "\n"
     "With --backup-to the master is made in this program's memory, encrypted to that certificate (RSA or\n"
     "EC) and imported: a master that was once outside, but one that can be brought back.\n"
     "\n"
     "Examples:\n"
     "  keyadmin init --name gate.example --listen 0.0.0.0:7040 --address gate.example:7040\n"
     "  keyadmin init --dir " SYSCONFDIR "/chaveiro --passphrase-file server.pass\n"
     "  keyadmin init --keystore pkcs11:token=chaveiro\n"
     "  keyadmin init --keystore pkcs11:token=chaveiro --backup-to recovery.pem --backup-out /media/usb/gate.cms\n"
     "  keyadmin init --keystore 'pkcs11:token=hsm1' --module /usr/lib/vendor/p11.so --pin-file /etc/hsm.pin\n",
     0, 0, keyadmin_init},
    {"client add", "{ID {--out FILE | --to URI} | --from FILE --out BUNDLE}",
     "derive a client's access key and write its keystore",
     "The access key is derived from the server's master secret and the whole credential: id, scopes,\n"
     "expiry, epoch and serial.  The server keeps nothing, and the same credential again gives the same\n"
     "key.  A relative expiry is rounded up to the end of a UTC day.  Two passphrases are asked for: the\n"
     "server keystore's, and a new one for the client's.\n"
     "\n"
     "--to puts the key into the client's own token instead (which 'keyadmin token init' can make): it\n"
     "cannot be read back from there, and the client computes with it in the token.\n"
     "\n"
     "--profile key+psk binds the credential to the client's identity key as well.  --profile key makes no\n"
     "credential: only the client's key pair, and the line that lets it in by the server's allowed-keys.\n"
     "\n"
     "--from makes a whole batch from a list, with one passphrase or for one certificate (--recipient), in\n"
     "one file out of which 'bundle unpack' takes each client's keystore.  The list: a header line\n"
     "id,scopes,expires,profile,identity (or its beginning) and a line for each client, its scopes separated by\n"
     "spaces.  Clients of profile key+psk have their public key, or its PEM file, under identity.\n"
     "\n"
     "A client whose only key is of an epoch that is not served any more is given the next one.\n"
     "\n"
     "Examples:\n"
     "  keyadmin client add --from cameras.csv --out cameras.bundle\n"
     "  keyadmin client add cam1 --out cam1.key\n"
     "  keyadmin client add cam3 --to pkcs11:token=cam3\n"
     "  keyadmin client add cam4 --profile key+psk --identity cam4.pub --out cam4.key\n"
     "  keyadmin client add cam2 --scope message --scope files:ro --expires 2027-01-31 --out cam2.key\n",
     0, 1, keyadmin_client_add},
    {"client show", "KEYSTORE|ID", "what a client's keystore holds, or the registry about a client",
     "Of a keystore the credential, the server and the key check value; never a key.  What is neither a\n"
     "file here nor a URI is a client's id, as is everything with --registry.\n"
     "\n"
     "Examples:\n"
     "  keyadmin client show cam1.key\n"
     "  keyadmin client show cam1 -c chaveirod.conf\n",
     1, 1, keyadmin_client_show},
    {"check", "KEYSTORE", "kind of a keystore, its keys and their check values",
     "Two keystores with equal check values hold equal keys; a check value says nothing else about one.\n"
     "\n"
     "Example:\n"
     "  keyadmin check server.keys\n"
     "  keyadmin check 'pkcs11:token=chaveiro?pin-source=file:" SYSCONFDIR "/chaveiro/chaveiro.pin'\n",
     1, 1, keyadmin_check},
    {"derive", "--explain ID", "show how a client's access key comes about",
     "Prints every input of the derivation but the master secret: the credential's fields and bytes, the\n"
     "info, the formula and the key check value.  Takes the options of 'client add'.  Never prints a key.\n"
     "\n"
     "Example:\n"
     "  keyadmin derive --explain cam1 --scope message --expires 2027-01-31\n",
     1, 1, keyadmin_derive},
    {"token list", "", "the tokens of a PKCS #11 module",
     "Without --module those of all modules that p11-kit knows.\n"
     "\n"
     "Example:\n"
     "  keyadmin token list --module /usr/lib/softhsm/libsofthsm2.so\n",
     0, 0, keyadmin_token_list},
    {"token init", "URI", "make a token, for a client's key or for 'keyadmin init'",
     "SoftHSM makes it, or the first free slot of --module.  Its long random PINs go into files of mode\n"
     "0600 in this folder, NAME.pin and NAME.so-pin; a file that is named and there is read instead.  A\n"
     "token that is there is left as it is.  Prints the URI to use.\n"
     "\n"
     "Example:\n"
     "  keyadmin token init pkcs11:token=cam3\n",
     1, 1, keyadmin_token_init},
    {"token check", "URI", "try out what a token can do",
     "Mechanisms, published known answers, ways to derive, attempts to get a key out, sessions, suites as a\n"
     "backend, speed, and what it all means here.  The token holds afterwards what it held before.\n"
     "\n"
     "Example:\n"
     "  keyadmin token check 'pkcs11:token=chaveiro?pin-source=file:" SYSCONFDIR "/chaveiro/chaveiro.pin'\n",
     1, 1, keyadmin_token_check},
    {"identity new", "{--out FILE | --to URI | --server}", "make a static Diffie-Hellman key pair",
     "For profiles key and key+psk.  --out makes FILE (PKCS #8, mode 0600, with a passphrase only if\n"
     "--passphrase-file is given) and FILE.pub, both PEM text that openssl(1) reads; the private key stays\n"
     "with its owner, and is used for as long as it is there.  --to makes it in a token, which it never\n"
     "leaves.  --server makes the one of a server that has none yet.  Nothing is overwritten.\n"
     "\n"
     "Examples:\n"
     "  keyadmin identity new --out cam1\n"
     "  keyadmin identity new --curve p256 --to pkcs11:token=cam1\n"
     "  keyadmin identity new --server -c chaveirod.conf\n",
     0, 0, keyadmin_identity_new},
    {"identity show", "KEY [ID]", "the line that lets a key in, for the server's allow-list",
     "KEY is a PEM file, private or public, a keystore or a token.  ID is the client's; without it the\n"
     "file's name.  The line may be appended to the file that allowed-keys names in chaveirod.conf.\n"
     "\n"
     "Examples:\n"
     "  keyadmin identity show cam1.pub >> allowed_keys\n"
     "  keyadmin identity show pkcs11:token=cam1 cam1 --scope message --expires 2027-01-31\n"
     "  keyadmin identity show --pem pkcs11:token=chaveiro > server.pub\n",
     1, 2, keyadmin_identity_show},
    {"identity fingerprint", "KEY", "the fingerprint of an identity key, to compare by telephone",
     "The digest that a credential of profile key+psk carries, and that the server's log shows.\n"
     "\n"
     "Example:\n"
     "  keyadmin identity fingerprint server.pub\n",
     1, 1, keyadmin_identity_fingerprint},
    {"restore", "--from FILE --key KEY.pem", "bring a master secret back from its backup",
     "Opens a backup that 'init --backup-to' made with the private key of its certificate, and imports the\n"
     "master into the configuration's keystore, or that of --keystore: a file is made if it is missing, a\n"
     "token must be there ('keyadmin token init').  The server's name and the key check value must be those\n"
     "of the configuration.  A master that is there stays; after a failure everything is as it was.\n"
     "\n"
     "Examples:\n"
     "  keyadmin restore --from gate.cms --key recovery.key\n"
     "  keyadmin restore --from gate.cms --key recovery.key --keystore pkcs11:token=new --module /usr/lib/hsm.so\n",
     0, 0, keyadmin_restore},
    {"epoch new", "", "make the master secret of the next epoch, and serve it",
     "Makes master:N+1 in the server's keystore and puts N+1 into 'epochs' (and 'key-check') of the\n"
     "configuration, whose comments and other lines stay.  After a reload (SIGHUP) the server hands clients\n"
     "of older epochs their new key when they come; the old one works until its epoch is retired.  One that\n"
     "was cut off half-way is taken up again.  With --keystore the lines to write are printed instead.\n"
     "\n"
     "--backup-to: as 'init' does, the master is made in this program's memory, encrypted to that certificate\n"
     "(RSA or EC) in master-N.cms or --backup-out, and imported.  Without it the new master is in no backup.\n"
     "\n"
     "--compromised: an old master leaked.  All older epochs leave 'epochs' at once and nobody is handed a\n"
     "key: whoever has the master could take it.  Every client is provisioned anew.\n"
     "\n"
     "Examples:\n"
     "  keyadmin epoch new && systemctl reload chaveirod\n"
     "  keyadmin epoch new -c server/chaveirod.conf --backup-to recovery.pem --backup-out master-2.cms\n",
     0, 0, keyadmin_epoch_new},
    {"epoch list", "", "the master secrets of the keystore, and which are served",
     "SUCCESSOR is the epoch whose keys clients of older ones are handed.\n"
     "\n"
     "Example:\n"
     "  keyadmin epoch list\n",
     0, 0, keyadmin_epoch_list},
    {"epoch status", "", "how many clients use each epoch that is served",
     "Counts in the registry, by the newest key that each client was seen with.  Opens no keystore.  Epochs\n"
     "that are not served any more stand there too if clients use them.  STRANDED: of those who have no newer\n"
     "key, and have to be provisioned anew ('client reissue', 'client add --from').\n"
     "\n"
     "Example:\n"
     "  keyadmin epoch status\n",
     0, 0, keyadmin_epoch_status},
    {"epoch retire", "N", "serve an old epoch no longer",
     "Takes N out of 'epochs'.  Refused while clients have no newer key, and where nobody counts them, unless\n"
     "--force is given.  --destroy destroys the master too, after a confirmation: then nothing brings back the\n"
     "keys of that epoch.\n"
     "\n"
     "Examples:\n"
     "  keyadmin epoch retire 1 && systemctl reload chaveirod\n"
     "  keyadmin epoch retire 1 --force --destroy --yes\n",
     1, 1, keyadmin_epoch_retire},
    {"client list", "", "the clients of the registry",
     "All but removed ones.  KEY is the newest credential, EPOCH.SERIAL; 'pending': it was numbered, and is not\n"
     "known to have been written out; 'stranded': no key of that epoch is taken, see 'client reissue'.  Without a "
     "registry the clients that are denied.\n"
     "\n"
     "Examples:\n"
     "  keyadmin client list --expiring 30d\n"
     "  keyadmin client list --status revoked --json\n"
     "  keyadmin client list --stranded\n",
     0, 0, keyadmin_client_list},
    {"client reissue", "ID {--out FILE | --to URI}", "give a client its next credential",
     "With the next serial, the scopes that it has (or --scope) and a new expiry.  The old one works until the\n"
     "new one was used for the first time.  FILE may be the client's keystore itself: the new key is put\n"
     "beside the old one, which the client takes out once it has used the new one.  --leaked: it is refused from now "
     "on, and no new key is handed to\n"
     "its owner in band.  Cut off before the keystore was written, the same command writes the same one.\n"
     "\n"
     "Examples:\n"
     "  keyadmin client reissue cam1 --out cam1.new.key\n"
     "  keyadmin client reissue cam1 --out cam1.key\n"
     "  keyadmin client reissue cam1 --leaked --out cam1.new.key\n",
     1, 1, keyadmin_client_reissue},
    {"client revoke", "ID", "refuse a client for good",
     "At once: its sessions are cut.  'client remove' and 'client add' would give it a new key.  Without a\n"
     "registry it becomes a line of the file of denied clients.\n"
     "\n"
     "Example:\n"
     "  keyadmin client revoke cam1 --reason 'stolen in June'\n",
     1, 1, keyadmin_client_revoke},
    {"client suspend", "ID", "refuse a client until 'client resume'",
     "At once: its sessions are cut.\n"
     "\n"
     "Example:\n"
     "  keyadmin client suspend cam1 --reason 'in repair'\n",
     1, 1, keyadmin_client_suspend},
    {"client resume", "ID", "let a suspended client in again",
     "A revoked one stays revoked.\n"
     "\n"
     "Example:\n"
     "  keyadmin client resume cam1\n",
     1, 1, keyadmin_client_resume},
    {"client remove", "ID", "take a client out of the registry",
     "What stays is a tombstone with its serials: if the id is added again they go on, and no old key fits.\n"
     "\n"
     "Example:\n"
     "  keyadmin client remove cam1\n",
     1, 1, keyadmin_client_remove},
    {"client set-scopes", "ID SCOPE...", "change what a client may do",
     "Fewer scopes count at once.  More than its credential has need a new one: with --out or --to it is made,\n"
     "as by 'client reissue'.\n"
     "\n"
     "Examples:\n"
     "  keyadmin client set-scopes cam1 files:ro\n"
     "  keyadmin client set-scopes cam1 files:ro message --out cam1.new.key\n",
     2, 1 + CHV_SCOPES_MAX, keyadmin_client_set_scopes},
    {"audit list", "", "what was done to the registry, and by whom",
     "Every row carries the hash of the one before it.\n"
     "\n"
     "Example:\n"
     "  keyadmin audit list --id cam1\n",
     0, 0, keyadmin_audit_list},
    {"audit verify", "", "whether the audit trail is whole",
     "Walks the chain and checks its seal with the master secret's key; names the first row that is wrong.\n"
     "A seal by the master of an epoch that is not in the configuration's epochs is not believed.\n"
     "\n"
     "Example:\n"
     "  keyadmin audit verify -c chaveirod.conf\n",
     0, 0, keyadmin_audit_verify},
    {"audit seal", "", "seal the audit trail as it is now",
     "Commands that open the server's keystore do so at their end; this one is for what others did since.\n"
     "\n"
     "--anew takes the trail as it stands, without a look at the seal that is there: by a master that was given up\n"
     "or destroyed.  Read the rows before; a row tells that it was done.\n"
     "\n"
     "Examples:\n"
     "  keyadmin audit seal -c chaveirod.conf\n"
     "  keyadmin audit seal --anew -c chaveirod.conf\n",
     0, 0, keyadmin_audit_seal},
    {"bundle unpack", "ID --from BUNDLE {--out FILE | --to URI}", "make a client's keystore out of a bundle",
     "The bundle's passphrase, or with --key the private key of its certificate; then the new keystore's.\n"
     "Needs no server: whoever has the bundle hands out its keys.\n"
     "\n"
     "Examples:\n"
     "  keyadmin bundle unpack cam1 --from cameras.bundle --out cam1.key\n"
     "  keyadmin bundle unpack cam1 --from cameras.bundle --key site.pem --to pkcs11:token=cam1\n",
     1, 1, keyadmin_bundle_unpack},
    {"bundle list", "BUNDLE", "which clients are in a bundle",
     "Reads it to its end, which shows that it is whole.\n"
     "\n"
     "Example:\n"
     "  keyadmin bundle list cameras.bundle\n",
     1, 1, keyadmin_bundle_list},
    {"receipt new-key", "", "make the key that signs receipts of stored files",
     "A P-256 key that can do nothing else, in the server's keystore: in a token it never leaves it.  Its public\n"
     "half goes to receipt.pub beside the configuration, as PEM text, for those who check receipts.  Then\n"
     "'receipts = on' in section [files] of the configuration, and a restart.  Nothing is overwritten.\n"
     "\n"
     "--out makes it in a file instead, PEM text in clear like an SSH host key, and FILE.pub: 'receipt-key = FILE'.\n"
     "\n"
     "--replace destroys the key that is there, such as one that leaked, and makes another; receipt.pub becomes\n"
     "receipt-until-TIME.pub, which checks the receipts that were signed before.  Then restart the server.\n"
     "\n"
     "Example:\n"
     "  keyadmin receipt new-key -c chaveirod.conf\n"
     "  keyadmin receipt new-key --out receipt.key\n",
     0, 0, keyadmin_receipt_new_key},
    {"receipt public-key", "", "print the public half of that key as PEM text",
     "Example:\n"
     "  keyadmin receipt public-key -c chaveirod.conf > receipt.pub\n",
     0, 0, keyadmin_receipt_public_key},
    {"receipt verify", "FILE", "whether a receipt is the server's, and what it says",
     "FILE and its signature FILE.sig are what 'chaveiro put --receipt FILE' wrote.  Needs no server and no\n"
     "keystore.  Exit code 0: the server signed it, and --content is the file that it is about; 65: not so.\n"
     "openssl(1) checks the signature too: openssl dgst -sha256 -verify receipt.pub -signature FILE.sig FILE\n"
     "\n"
     "Example:\n"
     "  keyadmin receipt verify img.receipt --key receipt.pub --content img.jpg\n",
     1, 1, keyadmin_receipt_verify},
    {"push status", "[ID...]", "what waits for clients, and what they got",
     "Of each client; with ID also every entry that waits, and why a client refused it when it was offered.\n"
     "\n"
     "Examples:\n"
     "  keyadmin push status\n"
     "  keyadmin push status cam1 --json\n",
     0, SIZE_MAX, keyadmin_push_status},
    {"push cancel", "ENTRY", "take back what waits for clients",
     "For all clients, or those of --to.  What is on its way to a client at this moment still arrives.\n"
     "\n"
     "Example:\n"
     "  keyadmin push cancel 18f0c3a1b2d4e5f60123456789abcdef --to cam1\n",
     1, 1, keyadmin_push_cancel},
    {"push", "FILE... {--to ID | --to-scope SCOPE}", "put files into clients' outboxes",
     "Clients that run 'chaveiro watch' get them at once, others when they do.  Each file keeps its name, mode\n"
     "and time, and waits until the client has confirmed that it is stored.  Printed is a line for each file\n"
     "and client, once that is on the disk: what was printed is queued, whatever happens next.  The same file\n"
     "is not queued for a client for which it already waits, so a command that was cut off can be run again.\n"
     "\n"
     "Examples:\n"
     "  keyadmin push firmware.bin --to cam1 --to cam2\n"
     "  keyadmin push settings.json --to-scope push\n",
     1, SIZE_MAX, keyadmin_push},
    {"registry new", "", "make the registry that the configuration names",
     "An empty one, in a file or in a PostgreSQL database that is there.  'init' makes the first one itself;\n"
     "this is for another 'registry' in the configuration.  One that is there is refused.\n"
     "\n"
     "A registry that was lost is put back from its backup instead: a new one has forgotten who was revoked\n"
     "and which serials were given out.  Without a backup 'epoch new --compromised' comes before anybody is\n"
     "added again.\n"
     "\n"
     "Examples:\n"
     "  keyadmin registry new -c chaveirod.conf\n"
     "  keyadmin registry new --registry 'postgresql://keys@db.example/chaveiro?sslmode=verify-full'\n",
     0, 0, keyadmin_registry_new},
    {"client set-key", "ID --identity KEY", "give a client of profile key another public key",
     "At once: sessions with the old key are cut, and only the new one is let in.  KEY is a PEM file, or\n"
     "x25519 BASE64.  A key that stands in the file of allowed-keys is changed there.\n"
     "\n"
     "Example:\n"
     "  keyadmin client set-key cam4 --identity cam4.new.pub\n",
     1, 1, keyadmin_client_set_key},
    {"ticket-keys", "--days N --out FILE", "make the ticket keys of a data side that has no keystore",
     "For chaveirod --data-only: the keys of tickets with which the server sends its clients on to a data\n"
     "port, for N days from today (or --from), of the newest epoch that is served.  Whoever has them can\n"
     "come in on the data side in those days with any rights, and read what clients do there; nothing else\n"
     "follows from them, neither the master nor the handshake port's tickets.  The audit trail has a row.\n"
     "\n"
     "Examples:\n"
     "  keyadmin ticket-keys --days 30 --out ticket.keys\n"
     "  keyadmin ticket-keys --days 30 --out ticket.keys --force && systemctl reload chaveirod-data\n"
     "  keyadmin ticket-keys --days 7 --from 2027-01-25 --keystore pkcs11:token=chaveiro --out week4.keys\n",
     0, 0, keyadmin_ticket_keys},
};

static const struct chv_cli_option keyadmin_options[] = {
    {"dir", 0, "DIR", "folder to make the server in; made if missing (default: .)", INIT, false},
    {"name", 0, "SERVER",
     "server name: whom clients mean to talk to (default: host name;\nof ticket keys: the server's)",
     INIT | TICKET_KEYS, false},
    {"listen", 0, "ADDR", "where the server listens (default: " CHV_DEFAULT_LISTEN ")", INIT, false},
    {"address", 0, "ADDR",
     "what clients connect to: HOST:PORT, [IPv6]:PORT, unix:/PATH\n(default: where the server listens)", INIT | GIVEN,
     false},
    {"config", 'c', "FILE",
     "the server's configuration\n(default: ./chaveirod.conf, then " SYSCONFDIR "/chaveiro/chaveirod.conf)",
     SERVER | REGISTRY | EPOCHS | RECEIPT_VERIFY | PUSHES | REGISTRY_NEW | SET_KEY | TICKET_KEYS, false},
    {"keystore", 0, "URI", "the server's keystore: a path, file:PATH or pkcs11:token=NAME",
     INIT | SERVER | EPOCH_NEW | TICKET_KEYS, false},
    {"days", 0, "N", "for how many days, 1 to 92", TICKET_KEYS, false},
    {"module", 0, "PATH", "the token's PKCS #11 module (default: all that p11-kit knows;\nto make a token: SoftHSM)",
     INIT | SHOW | CHECK | TOKEN_LIST | TOKEN_INIT | TOKEN_CHECK | ID_READ | SERVER | EPOCHS | UNPACK | TICKET_KEYS,
     false},
    {"pin-file", 0, "FILE",
     "the token's PIN, in a file that nobody else can read;\na new token's is made there if it is missing",
     PIN_GIVEN | TOKEN_INIT | TICKET_KEYS, false},
    {"pin-fd", 0, "N", "the token's PIN is the first line of descriptor N", PIN_GIVEN | TICKET_KEYS, false},
    {"so-pin-file", 0, "FILE", "likewise the PIN of a new token's security officer", TOKEN_MADE, false},
    {"ask-pin", 0, NULL, "ask for the PINs of a new token; nothing is written", TOKEN_MADE, false},
    {"scope", 0, "S", "a right, may be given again: message, files:ro, files:rw, push,\ntunnel:NAME (default: message)",
     ADD | DERIVE | ID_SHOW | REISSUE | LIST, CHV_CLI_ALL},
    {"expires", 0, "WHEN",
     "90d, 12h, 2w, 2027-01-31, 2027-01-31T12:00:00Z, never\n(default: 90d; of an identity key: never)",
     ADD | DERIVE | ID_SHOW | REISSUE | SCOPES, false},
    {"serial", 0, "N", "which credential of this id it is, from 1 (default: 1, or the next)", ADD | DERIVE, false},
    {"epoch", 0, "N", "which master secret (default: the newest; of a list: all)",
     ADD | DERIVE | REISSUE | LIST | TICKET_KEYS, false},
    {"out", 'o', "FILE", "the client's keystore, the private key, or the ticket keys, to write;\nmust not exist",
     GIVEN | UNPACK | ID_NEW | RECEIPT_NEW | TICKET_KEYS, false},
    {"to", 0, "URI|ID",
     "the client's token to write to: pkcs11:token=NAME; of a push:\nwhom it is for, may be given again",
     GIVEN | UNPACK | ID_NEW | PUSH | PUSH_CANCEL, PUSH | PUSH_CANCEL},
    {"to-scope", 0, "S", "every client of the registry that has this right (and push)", PUSH, false},
    {"profile", 0, "NAME",
     "psk (default); key: an identity key instead of a credential;\nkey+psk: both, bound together", ADD | DERIVE,
     false},
    {"identity", 0, "KEY",
     "the client's public identity key: a PEM file, or x25519 BASE64\n(default: a key pair is made in the client's "
     "keystore)",
     ADD | DERIVE | REISSUE | SET_KEY, false},
    {"server", 0, NULL, "into the keystore of the server that -c or --keystore names", ID_NEW, false},
    {"curve", 0, "NAME", "of an identity key: x25519 (default) or p256", INIT | ID_NEW, false},
    {"pem", 0, NULL, "print the public key as PEM text instead", ID_SHOW, false},
    {"backup-to", 0, "CERT", "certificate (PEM or DER) to which a backup of the master is encrypted", INIT | EPOCH_NEW,
     false},
    {"backup-out", 0, "FILE", "where the backup goes (default: master-N.cms; init: in DIR)", INIT | EPOCH_NEW, false},
    {"from", 0, "FILE",
     "the backup, the list of clients, the bundle; of ticket keys: the\nfirst day, 2027-01-31 (default: today)",
     RESTORE | ADD | UNPACK | TICKET_KEYS, false},
    {"recipient", 0, "CERT", "certificate (PEM or DER) to which a bundle is encrypted, instead of a passphrase", ADD,
     false},
    {"key", 0, "KEY",
     "private key of the certificate that it was encrypted to (PEM);\nof a receipt: the server's public key (default: "
     "receipt.pub beside the\nconfiguration)",
     RESTORE | UNPACK | BUNDLE_LIST | RECEIPT_VERIFY, false},
    {"replace", 0, NULL, "destroy the key for receipts that is there, and make another", RECEIPT_NEW, false},
    {"anew", 0, NULL, "without a look at the seal that is there", AUDIT_SEAL, false},
    {"content", 0, "FILE", "compare with the file that the receipt is about", RECEIPT_VERIFY, false},
    {"key-passphrase-file", 0, "FILE", "passphrase of that key, if it has one, from FILE or '-'\n(default: asked for)",
     RESTORE | UNPACK | BUNDLE_LIST, false},
    {"compromised", 0, NULL, "old masters leaked: serve the new epoch only", EPOCH_NEW, false},
    {"force", 0, NULL,
     "also where clients are cut off, or nobody knows; of ticket keys:\nin place of a file that is there",
     EPOCH_RETIRE | TICKET_KEYS, false},
    {"destroy", 0, NULL, "destroy the master too", EPOCH_RETIRE, false},
    {"yes", 0, NULL, "--destroy without asking", EPOCH_RETIRE, false},
    {"explain", 0, NULL, "print the derivation (the only thing 'derive' does)", DERIVE, false},
    {"passphrase-file", 0, "FILE",
     "passphrase from FILE, '-': a line of standard input\n(default: systemd credential " CHV_SECRET_CREDENTIAL
     ", for a PIN\n" CHV_SECRET_PIN_CREDENTIAL ", else asked for)",
     PIN_GIVEN | UNPACK | BUNDLE_LIST | TICKET_KEYS, false},
    {"client-passphrase-file", 0, "FILE",
     "the same for the client's new keystore, or the PIN of its\ntoken (default: asked for)", GIVEN | UNPACK, false},
    {"scrypt-cost", 0, "N",
     "cost of the passphrase of a new keystore: a power of two,\n16384 to 1048576 (default: 131072)",
     INIT | GIVEN | UNPACK | RESTORE, false},
    {"registry", 0, "URI",
     "the registry: sqlite:FILE, postgresql://..., revoked:FILE, none\n(default: the configuration's)",
     REGISTRY | PUSH | REGISTRY_NEW | SET_KEY | TICKET_KEYS, false},
    {"status", 0, "STATUS", "only those that are active, suspended, revoked or removed; all", LIST, false},
    {"expiring", 0, "WHEN", "only those that expire by then: 30d, 2027-01-31", LIST, false},
    {"stranded", 0, NULL, "only those that have no key of an epoch that is served", LIST, false},
    {"reason", 0, "TEXT", "why, for 'client show' and 'client list'", REVOKE | SUSPEND, false},
    {"leaked", 0, NULL, "the old key is in wrong hands: refuse it from now on", REISSUE, false},
    {"id", 0, "ID", "only rows about this client", AUDIT_LIST, false},
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
            "Exit codes: 0 done, 64 usage, 65 keystore damaged, 66 a file, token or passphrase is missing,\n"
            "69 token or registry not available, 70 not possible as things are, or a wrong answer of a token,\n"
            "71 out of memory, 73 it is there already, 74 input or output, 75 in use, 76 a list or a row of the\n"
            "registry is malformed, 77 wrong passphrase or PIN, 78 configuration.\n"
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
