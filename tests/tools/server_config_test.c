/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"
#include "tools/server_config.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD "[server]\nname = s1\nkeystore = keys\n"

static struct chv_server_config config;
static struct chv_why why;

static enum chv_err parse(const char *text)
{
    memset(&config, 0x5a, sizeof config);
    why.text[0] = '\0';
    return chv_server_config_parse(text, "/etc/x/c.conf", &config, &why);
}

/* Member by member: there is padding between them. */
static bool same(const struct chv_server_config *a, const struct chv_server_config *b)
{
    const struct chv_server_limits *la = &a->limits, *lb = &b->limits;
    return strcmp(a->name, b->name) == 0 && strcmp(a->keystore, b->keystore) == 0 &&
           strcmp(a->passphrase_file, b->passphrase_file) == 0 && a->pin_hold == b->pin_hold &&
           a->epoch_count == b->epoch_count && memcmp(a->epochs, b->epochs, sizeof a->epochs) == 0 &&
           a->listen_count == b->listen_count && memcmp(a->listen, b->listen, sizeof a->listen) == 0 &&
           strcmp(a->backend, b->backend) == 0 && strcmp(a->module, b->module) == 0 && a->suites == b->suites &&
           a->workers == b->workers && strcmp(a->user, b->user) == 0 && strcmp(a->state, b->state) == 0 &&
           a->max_lifetime == b->max_lifetime && a->backlog == b->backlog && la->connections == lb->connections &&
           la->rate == lb->rate && la->burst == lb->burst && la->keeper_queue == lb->keeper_queue &&
           la->memory == lb->memory && la->loop.handshake_seconds == lb->loop.handshake_seconds &&
           la->loop.idle_seconds == lb->loop.idle_seconds && la->loop.stall_seconds == lb->loop.stall_seconds &&
           a->tickets == b->tickets && strcmp(a->ticket_audience, b->ticket_audience) == 0 &&
           a->log_level == b->log_level && a->log_target == b->log_target;
}

static void good(const char *section, const char *line)
{
    char text[1024];
    snprintf(text, sizeof text, HEAD "%s\n%s\n", section, line);
    CU_ASSERT_EQUAL(parse(text), CHV_OK);
    if (why.text[0] != '\0')
        fprintf(stderr, "%s: %s\n", line, why.text);
}

/* An error that names file, line and every one of the words; the output stays as it was. */
static void bad(const char *text, int line, const char *word1, const char *word2)
{
    char where[64];
    const struct chv_server_config *const before = &config;
    CU_ASSERT_EQUAL(parse(text), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(before->name[0], 0x5a);
    snprintf(where, sizeof where, line > 0 ? "/etc/x/c.conf:%d: " : "/etc/x/c.conf: ", line);
    CU_ASSERT_PTR_EQUAL(strstr(why.text, where), why.text);
    if (strstr(why.text, word1) == NULL || strstr(why.text, word2) == NULL) {
        CU_FAIL("error text");
        fprintf(stderr, "no '%s' or '%s' in '%s'\n", word1, word2, why.text);
    }
}

static void bad_value(const char *section, const char *line, const char *allowed)
{
    char text[9000];
    snprintf(text, sizeof text, HEAD "%s\n%s\n", section, line);
    bad(text, 5, "is not allowed; allowed: ", allowed);
}

static void test_defaults(void)
{
    struct chv_server_config wanted;
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    chv_server_config_defaults(&wanted);
    snprintf(wanted.name, sizeof wanted.name, "%s", "s1");
    snprintf(wanted.keystore, sizeof wanted.keystore, "%s", "file:/etc/x/keys");
    CU_ASSERT_TRUE(same(&config, &wanted));
}

static void test_names_and_paths(void)
{
    CU_ASSERT_EQUAL(parse("[server]\nname=a.b-c_D9\nkeystore = file:/abs/keys\npassphrase-file = pass\nstate = st\n"),
                    CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.name, "a.b-c_D9");
    CU_ASSERT_STRING_EQUAL(config.keystore, "file:/abs/keys");
    CU_ASSERT_STRING_EQUAL(config.passphrase_file, "/etc/x/pass");
    CU_ASSERT_STRING_EQUAL(config.state, "/etc/x/st");
    CU_ASSERT_EQUAL(parse("[server]\nname=s\nkeystore = file:sub/keys\nstate = /var/s ; comment\n"), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.keystore, "file:/etc/x/sub/keys");
    CU_ASSERT_STRING_EQUAL(config.state, "/var/s");
    CU_ASSERT_EQUAL(parse("[server]\nname=s\nkeystore = pkcs11:token=T\n"), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.keystore, "pkcs11:token=T");
}

static void test_lists(void)
{
    good("", "epochs = 3, 1 2");
    CU_ASSERT_EQUAL(config.epoch_count, 3);
    CU_ASSERT(config.epochs[0] == 1 && config.epochs[1] == 2 && config.epochs[2] == 3);
    good("", "listen = 127.0.0.1:0, [::1]:7040, unix:/run/s, host.example:65535");
    CU_ASSERT_EQUAL(config.listen_count, 4);
    CU_ASSERT_STRING_EQUAL(config.listen[0], "127.0.0.1:0");
    CU_ASSERT_STRING_EQUAL(config.listen[1], "[::1]:7040");
    CU_ASSERT_STRING_EQUAL(config.listen[2], "unix:/run/s");
    good("", "key-check = 2:00112233445566778899aabbccddeeff, 1:FFEEDDCCBBAA99887766554433221100");
    CU_ASSERT_EQUAL(config.check_count, 2);
    CU_ASSERT(config.checks[0].epoch == 2 && config.checks[0].value[1] == 0x11 && config.checks[0].value[15] == 0xff);
    CU_ASSERT(config.checks[1].epoch == 1 && config.checks[1].value[0] == 0xff);
    bad_value("", "key-check = 00112233445566778899aabbccddeeff", "EPOCH:VALUE");
    bad_value("", "key-check = 0:00112233445566778899aabbccddeeff", "EPOCH:VALUE");
    bad_value("", "key-check = 1:00112233", "EPOCH:VALUE");
    bad_value("", "key-check = 1:00112233445566778899aabbccddeeff00", "EPOCH:VALUE");
    bad_value("", "key-check = 1:00112233445566778899aabbccddeefg", "EPOCH:VALUE");
    bad_value("", "key-check = 1:00112233445566778899aabbccddeeff, 1:00112233445566778899aabbccddeeff", "EPOCH:VALUE");
    good("", "suites = p256-aesgcm-sha256, x25519-aesgcm-sha256");
    CU_ASSERT_EQUAL(config.suites,
                    CHV_SUITE_BIT(CHV_SUITE_P256_AESGCM_SHA256) | CHV_SUITE_BIT(CHV_SUITE_X25519_AESGCM_SHA256));
}

static void test_server_keys(void)
{
    good("", "pin-hold = yes");
    CU_ASSERT_TRUE(config.pin_hold);
    good("", "pin-hold = no");
    CU_ASSERT_FALSE(config.pin_hold);
    good("", "backend = openssl");
    CU_ASSERT_STRING_EQUAL(config.backend, "openssl");
    good("", "workers = 3");
    CU_ASSERT_EQUAL(config.workers, 3);
    good("", "user = root");
    CU_ASSERT_STRING_EQUAL(config.user, "root");
    good("", "max-lifetime = 12h");
    CU_ASSERT_EQUAL(config.max_lifetime, 12 * 3600);
    good("", "max-lifetime = 0");
    CU_ASSERT_EQUAL(config.max_lifetime, 0);
    good("", "backlog = 5");
    CU_ASSERT_EQUAL(config.backlog, 5);
}

static void test_module(void)
{
    static const char uri[] = "pkcs11:token=T?pin-source=file:/p", own[] = "pkcs11:token=T?module-path=/own.so";
    good("[pkcs11]", "module = /usr/lib/m.so");
    CU_ASSERT_STRING_EQUAL(config.module, "/usr/lib/m.so");
    CU_ASSERT_EQUAL(chv_server_config_complete(&config, &why), CHV_OK); /* no token at all */
    CU_ASSERT_STRING_EQUAL(config.keystore, "file:/etc/x/keys");
    CU_ASSERT_STRING_EQUAL(config.backend, "openssl");
    snprintf(config.keystore, sizeof config.keystore, "%s", uri);
    snprintf(config.backend, sizeof config.backend, "%s", own);
    CU_ASSERT_EQUAL(chv_server_config_complete(&config, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.keystore, "pkcs11:token=T?pin-source=file:/p&module-path=/usr/lib/m.so");
    CU_ASSERT_STRING_EQUAL(config.backend, own);
    CU_ASSERT_EQUAL(chv_server_config_complete(&config, &why), CHV_OK); /* once is enough */
    CU_ASSERT_STRING_EQUAL(config.keystore, "pkcs11:token=T?pin-source=file:/p&module-path=/usr/lib/m.so");
    CU_ASSERT_EQUAL(chv_server_config_backend(&config, "pkcs11:token=B", &why), CHV_OK); /* --backend */
    CU_ASSERT_EQUAL(chv_server_config_complete(&config, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.backend, "pkcs11:token=B?module-path=/usr/lib/m.so");
    snprintf(config.backend, sizeof config.backend, "pkcs11:token=%02000d", 1);
    snprintf(config.module, sizeof config.module, "/%0100d", 1);
    CU_ASSERT_EQUAL(chv_server_config_complete(&config, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    snprintf(config.keystore, sizeof config.keystore, "%s", uri);
    CU_ASSERT_EQUAL(chv_server_config_complete(&config, &why), CHV_OK); /* no module said: p11-kit's */
    CU_ASSERT_STRING_EQUAL(config.keystore, uri);
}

static void test_limits_and_log(void)
{
    good("[limits]", "client-connections = 3");
    CU_ASSERT_EQUAL(config.limits.client_connections, 3);
    good("[limits]", "connections = 17");
    CU_ASSERT_EQUAL(config.limits.connections, 17);
    good("[limits]", "handshake-timeout = 2m");
    CU_ASSERT_EQUAL(config.limits.loop.handshake_seconds, 120);
    good("[limits]", "idle-timeout = 0");
    CU_ASSERT_EQUAL(config.limits.loop.idle_seconds, 0);
    good("[limits]", "stall-timeout = 7");
    CU_ASSERT_EQUAL(config.limits.loop.stall_seconds, 7);
    good("[limits]", "memory = 2G");
    CU_ASSERT_EQUAL(config.limits.memory, (size_t)2 << 30);
    good("[limits]", "rate = 0");
    CU_ASSERT_EQUAL(config.limits.rate, 0);
    good("[limits]", "burst = 9");
    CU_ASSERT_EQUAL(config.limits.burst, 9);
    good("[limits]", "keeper-queue = 8");
    CU_ASSERT_EQUAL(config.limits.keeper_queue, 8);
    good("[log]", "level = debug");
    CU_ASSERT_EQUAL(config.log_level, CHV_LOG_DEBUG);
    good("[log]", "target = syslog");
    CU_ASSERT_EQUAL(config.log_target, CHV_LOG_SYSLOG);
}

static void test_bad_values(void)
{
    static const struct {
        const char *section, *line, *allowed;
    } cases[] = {
        {"", "passphrase-file =", "a file name"},
        {"", "pin-hold = maybe", "yes or no"},
        {"", "epochs = 0", "numbers from 1"},
        {"", "epochs = 1, 1", "different"},
        {"", "epochs = 1, x", "numbers"},
        {"", "epochs =", "numbers"},
        {"", "epochs = 4294967296", "numbers"},
        {"", "epochs = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "up to 16"},
        {"", "update = 2", "yes or no"},
        {"", "update-to = 0", "one of the epochs"},
        {"", "listen = 127.0.0.1", "HOST:PORT"},
        {"", "listen = 127.0.0.1:65536", "HOST:PORT"},
        {"", "listen = :80", "HOST:PORT"},
        {"", "listen = ::1:80", "[V6]:PORT"},
        {"", "listen = []:80", "[V6]:PORT"},
        {"", "listen = unix:relative", "unix:/PATH"},
        {"", "listen = unix:/", "unix:/PATH"},
        {"", "listen = a:1, a:1", "HOST:PORT"},
        {"", "listen =", "HOST:PORT"},
        {"", "backend = gnutls", "openssl"},
        {"", "suites = x25519", "p256-aesgcm-sha256"},
        {"", "suites =", "p256-aesgcm-sha256"},
        {"", "workers = 65", "64"},
        {"", "workers = -1", "64"},
        {"", "user = no such user", "user of this system"},
        {"", "state =", "a folder"},
        {"", "max-lifetime = 90x", "90d"},
        {"", "max-lifetime = 90 d", "90d"},
        {"", "max-lifetime = 99999999999999999999d", "90d"},
        {"", "max-lifetime = 400000000000000000d", "90d"},
        {"", "backlog = 0", "65535"},
        {"[limits]", "connections = 0", "10000000"},
        {"[limits]", "client-connections = 0", "10000000"},
        {"[limits]", "connections = 5k", "10000000"},
        {"[limits]", "handshake-timeout = 0", "1s to 1h"},
        {"[limits]", "handshake-timeout = 2h", "1s to 1h"},
        {"[limits]", "idle-timeout = 19h", "65535s"},
        {"[limits]", "stall-timeout = 0", "1s to 1h"},
        {"[limits]", "memory = 1K", "1M"},
        {"[limits]", "memory = 64MB", "1M"},
        {"[limits]", "rate = fast", "no limit"},
        {"[limits]", "burst = 0", "1 to"},
        {"[limits]", "keeper-queue = 0", "1 to"},
        {"[pkcs11]", "module = lib/m.so", "an absolute path"},
        {"[files]", "home = /srv/files", "/%i behind it"},
        {"[files]", "home = /srv/%i/files", "/%i behind it"},
        {"[files]", "home = /srv/%i/%i", "/%i behind it"},
        {"[files]", "home = /%i", "/%i behind it"},
        {"[files]", "max-size = all", "500M"},
        {"[files]", "quota = 9T", "500M"},
        {"[files]", "quota = 9999999999G", "500M"},
        {"[files]", "durability = sometimes", "file, batch or none"},
        {"[files]", "part-keep = ever", "7d"},
        {"[files]", "receipts = yes", "on or off"},
        {"[log]", "level = loud", "debug"},
        {"[log]", "target = file", "syslog"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        bad_value(cases[i].section, cases[i].line, cases[i].allowed);
    bad("[server]\nname = two words\n", 2, "allowed: 1 to 64", "name");
    bad("[server]\nname = 12345678901234567890123456789012345678901234567890123456789012345\n", 2, "1 to 64", "name");
    bad("[server]\nkeystore =\n", 2, "allowed: a file name", "keystore");
}

static void test_bad_form(void)
{
    bad(HEAD "frob = 1\n", 4, "unknown key 'frob' in [server]", "max-lifetime");
    bad(HEAD "[limits]\nname = x\n", 5, "unknown key 'name' in [limits]", "keeper-queue");
    bad(HEAD "\n[extra]\n", 5, "unknown section [extra]", "[limits]");
    bad("[extra]\nx = 1\n" HEAD, 1, "unknown section [extra]", "[log]");
    bad(HEAD "[limits\nrate = 1\n", 4, "not a section", "[log]");
    bad(HEAD "[limits] rate = 1\n", 4, "text behind section [limits]", "");
    bad(HEAD "name = s1\n", 4, "'name' is given twice", "[server]");
    bad(HEAD "[log]\nlevel = info\n[limits]\n[log]\nlevel = info\n", 8, "'level' is given twice", "[log]");
    bad(HEAD "just words\n", 4, "not a 'key = value' line", "");
    bad(HEAD "  indented words\n", 4, "not a 'key = value' line", "");
    bad("name = s1\n", 1, "before the first section", "name");
    bad("", 0, "no 'name'", "[server]");
    bad("[server]\nname = s\n", 0, "no 'keystore'", "keyadmin init");
    bad(HEAD "epochs = 0\nworkers = 99\n", 4, "epochs", ""); /* the first one is told */
    char text[9000] = HEAD "# ";
    memset(text + strlen(text), 'x', sizeof text - strlen(text) - 1);
    bad(text, 4, "longer than", "bytes");
    CU_ASSERT_EQUAL(parse("# c\n; c\n\n" HEAD "\n[limits]\n[log]\n"), CHV_OK);
}

static void test_profiles(void)
{
    const unsigned psk = CHV_PROFILE_BIT(CHV_PROFILE_PSK), key = CHV_PROFILE_BIT(CHV_PROFILE_KEY),
                   both = CHV_PROFILE_BIT(CHV_PROFILE_KEY_PSK);
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT_EQUAL(config.profiles, psk);
    CU_ASSERT_FALSE(chv_server_wants_identity(&config));
    CU_ASSERT_EQUAL(parse(HEAD "profiles = key+psk\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.profiles, both);
    CU_ASSERT_STRING_EQUAL(config.allowed_keys, "");
    CU_ASSERT_TRUE(chv_server_wants_identity(&config));
    CU_ASSERT_EQUAL(parse(HEAD "profiles = psk, key,key+psk\nallowed-keys = keys\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.profiles, psk | key | both);
    CU_ASSERT_STRING_EQUAL(config.allowed_keys, "/etc/x/keys");
    bad(HEAD "profiles = psk, psk\n", 4, "profiles", "psk, key, key+psk");
    bad(HEAD "profiles = tls\n", 4, "profiles", "psk, key, key+psk");
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.registry, "revoked:/etc/x/revoked");
    CU_ASSERT_EQUAL(parse(HEAD "registry = none\n"), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.registry, "revoked:/etc/x/revoked");
    CU_ASSERT_EQUAL(parse(HEAD "registry = sqlite:r.db\n"), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.registry, "sqlite:/etc/x/r.db");
    CU_ASSERT_EQUAL(parse(HEAD "registry = revoked:/var/denied\n"), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.registry, "revoked:/var/denied");
    CU_ASSERT_EQUAL(parse(HEAD "registry = postgresql://db/chaveiro\n"), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.registry, "postgresql://db/chaveiro");
    bad(HEAD "registry = mysql:x\n", 4, "registry", "postgresql");
    bad(HEAD "registry = sqlite:\n", 4, "registry", "sqlite");
    bad(HEAD "profiles = key\n", 0, "profile key", "allowed-keys");
    bad(HEAD "allowed-keys = keys\n", 0, "allowed-keys", "key+psk");
}

/* Whether the registry must be there, and what becomes of a client that comes twice. */
static void test_registry_policy(void)
{
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT_TRUE(config.registry_required);
    CU_ASSERT_EQUAL(config.on_duplicate, CHV_DUPLICATE_ALLOW);
    CU_ASSERT_EQUAL(parse(HEAD "registry = sqlite:r\nregistry-required = no\nstate = s\n"), CHV_OK);
    CU_ASSERT_FALSE(config.registry_required);
    CU_ASSERT_EQUAL(parse(HEAD "registry = sqlite:r\nprofiles = key\n"), CHV_OK);
    CU_ASSERT_EQUAL(parse(HEAD "on-duplicate = reject\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.on_duplicate, CHV_DUPLICATE_REJECT);
    CU_ASSERT_EQUAL(parse(HEAD "on-duplicate = replace\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.on_duplicate, CHV_DUPLICATE_REPLACE);
    bad(HEAD "on-duplicate = kill\n", 4, "on-duplicate", "replace");
    bad(HEAD "registry-required = no\n", 0, "registry-required = no", "'registry'");
    bad(HEAD "registry = sqlite:r\nregistry-required = no\n", 0, "registry-required = no", "'state'");
}

/* Which key clients of older epochs are handed. */
static void test_update(void)
{
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT_EQUAL(chv_server_successor(&config), 1);
    CU_ASSERT_EQUAL(parse(HEAD "epochs = 3, 10, 2\n"), CHV_OK);
    CU_ASSERT_EQUAL(chv_server_successor(&config), 10);
    CU_ASSERT_EQUAL(parse(HEAD "epochs = 3, 10, 2\nupdate-to = 3\n"), CHV_OK);
    CU_ASSERT_EQUAL(chv_server_successor(&config), 3);
    CU_ASSERT_EQUAL(parse(HEAD "update-to = 3\nepochs = 3, 10, 2\nupdate = no\n"), CHV_OK);
    CU_ASSERT_EQUAL(chv_server_successor(&config), 0);
    bad(HEAD "update-to = 2\n", 0, "update-to = 2", "none of the epochs");
}

static void test_files(void)
{
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.files.home, "");
    CU_ASSERT_EQUAL(config.files.durability, CHV_DURABILITY_BATCH);
    CU_ASSERT_EQUAL(config.files.part_keep, 7 * 86400);
    CU_ASSERT_FALSE(config.files.receipts);
    CU_ASSERT_EQUAL(
        parse(HEAD "[files]\nhome = /srv/c/%i\nmax-size = 5G\nquota = 100M\ndurability = none\npart-keep = 12h\n"),
        CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.files.home, "/srv/c");
    CU_ASSERT_EQUAL(config.files.max_size, UINT64_C(5) << 30);
    CU_ASSERT_EQUAL(config.files.quota, 100 << 20);
    CU_ASSERT_EQUAL(config.files.durability, CHV_DURABILITY_NONE);
    CU_ASSERT_EQUAL(config.files.part_keep, 12 * 3600);
    CU_ASSERT_EQUAL(parse(HEAD "[files]\nhome = /srv/c/%i\nreceipts = on\n"), CHV_OK);
    CU_ASSERT_TRUE(config.files.receipts);
    CU_ASSERT_EQUAL(parse(HEAD "[files]\nreceipts = on\n"), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "no 'home'"));
    CU_ASSERT_EQUAL(parse(HEAD "[files]\nhome = homes/%i\n"), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.files.home, "/etc/x/homes");
}

static void test_tickets(void)
{
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT_TRUE(config.tickets);
    CU_ASSERT_STRING_EQUAL(config.ticket_audience, "");
    CU_ASSERT_EQUAL(parse(HEAD "[tickets]\ntickets = off\naudience = fleet-1\n"), CHV_OK);
    CU_ASSERT_FALSE(config.tickets);
    CU_ASSERT_STRING_EQUAL(config.ticket_audience, "fleet-1");
    CU_ASSERT_STRING_EQUAL(config.name, "s1");
    bad_value("[tickets]", "tickets = yes", "on or off");
    bad_value("[tickets]", "audience = a/b", "A-Z a-z 0-9");
    bad_value("[tickets]", "audience = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1 to 64");
}

#define FILES HEAD "[files]\nhome = /srv/c/%i\n"

static void test_shares(void)
{
    CU_ASSERT_EQUAL(parse(FILES "[share \"a\"]\npath = /srv/a\n"), CHV_OK);
    CU_ASSERT_EQUAL(config.files.share_count, 1);
    CU_ASSERT_STRING_EQUAL(config.files.shares[0].name, "a");
    CU_ASSERT_STRING_EQUAL(config.files.shares[0].path, "/srv/a");
    CU_ASSERT_STRING_EQUAL(config.files.shares[0].scope, "");
    CU_ASSERT_FALSE(config.files.shares[0].write);
    CU_ASSERT_EQUAL(parse("[share \"z\"] # the first\nscope = share:z\npath = z\naccess = rw\n" FILES
                          "[share \"a.B-9_\"]\naccess = ro\npath = a\n"),
                    CHV_OK);
    CU_ASSERT_EQUAL(config.files.share_count, 2);
    CU_ASSERT_STRING_EQUAL(config.files.shares[0].path, "/etc/x/z");
    CU_ASSERT_STRING_EQUAL(config.files.shares[0].scope, "share:z");
    CU_ASSERT_TRUE(config.files.shares[0].write);
    CU_ASSERT_STRING_EQUAL(config.files.shares[1].name, "a.B-9_");
    CU_ASSERT_FALSE(config.files.shares[1].write);
    bad(HEAD "[share \"a\"]\npath = /a\n", 0, "[share \"a\"]", "home");
    bad(FILES "[share \"a\"]\naccess = rw\n", 0, "[share \"a\"]", "'path'");
    bad(FILES "[share \"a\"]\n", 0, "[share \"a\"]", "'path'");
    bad(FILES "[share \"a\"]\npath = /a\npath = /b\n", 8, "'path'", "twice");
    bad(FILES "[share \"a\"]\npath = /a\n[share \"a\"]\n", 8, "[share \"a\"]", "twice");
    bad(FILES "[share \"a\"]\nfolder = /a\n", 7, "'folder'", "path, access, scope");
    bad(FILES "[share \"a\"]\naccess = all\n", 7, "access", "ro or rw");
    bad(FILES "[share \"a\"]\nscope = A\n", 7, "scope", "a-z");
    bad(FILES "[share a]\npath = /a\n", 6, "[share a]", "\"NAME\"");
    bad(FILES "[share]\npath = /a\n", 6, "[share]", "\"NAME\"");
    bad(FILES "[share \"a/b\"]\npath = /a\n", 6, "a/b", "\"NAME\"");
    bad(FILES "[share \"..\"]\npath = /a\n", 6, "..", "\"NAME\"");
    bad(FILES "[share \"123456789012345678901234567890123\"]\npath = /a\n", 6, "", "\"NAME\"");
}

static void test_tunnels(void)
{
    CU_ASSERT_EQUAL(parse(HEAD "[tunnel \"db\"]\ntarget = 127.0.0.1:5432\n"), CHV_OK);
    CU_ASSERT_EQUAL_FATAL(config.tunnel_count, 1);
    CU_ASSERT_STRING_EQUAL(config.tunnels[0].name, "db");
    CU_ASSERT_STRING_EQUAL(config.tunnels[0].target, "127.0.0.1:5432");
    CU_ASSERT_EQUAL(config.tunnels[0].connect_seconds, 10);
    CU_ASSERT_EQUAL(config.tunnels[0].idle_seconds, 0);
    CU_ASSERT_EQUAL(config.tunnels[0].connections, 64);
    CU_ASSERT_EQUAL(parse("[tunnel \"a.b-9_\"] ; first\nidle-timeout = 2h\nconnect-timeout = 1m\nconnections = 7\n"
                          "target = unix:/run/x\n" HEAD
                          "[tunnel \"v6\"]\ntarget = [::1]:1\n[tunnel \"1234567890123456789012345\"]\n"
                          "target = host.example:65535\n"),
                    CHV_OK);
    CU_ASSERT_EQUAL_FATAL(config.tunnel_count, 3);
    CU_ASSERT_STRING_EQUAL(config.tunnels[0].target, "unix:/run/x");
    CU_ASSERT_EQUAL(config.tunnels[0].connect_seconds, 60);
    CU_ASSERT_EQUAL(config.tunnels[0].idle_seconds, 7200);
    CU_ASSERT_EQUAL(config.tunnels[0].connections, 7);
    CU_ASSERT_STRING_EQUAL(config.tunnels[1].target, "[::1]:1");
    CU_ASSERT_EQUAL(config.tunnels[1].connections, 64);
    CU_ASSERT_PTR_EQUAL(chv_server_tunnel_named(&config, "v6"), &config.tunnels[1]);
    CU_ASSERT_PTR_NULL(chv_server_tunnel_named(&config, "v"));
    bad(HEAD "[tunnel \"a\"]\n", 0, "[tunnel \"a\"]", "'target'");
    bad(HEAD "[tunnel \"a\"]\ntarget = a:1\ntarget = b:1\n", 6, "'target'", "twice");
    bad(HEAD "[tunnel \"a\"]\ntarget = a:1\n[tunnel \"a\"]\n", 6, "[tunnel \"a\"]", "twice");
    bad(HEAD "[tunnel \"a\"]\nto = a:1\n", 5, "'to'", "target, connect-timeout, idle-timeout, connections");
    bad(HEAD "[tunnel a]\ntarget = a:1\n", 4, "[tunnel a]", "\"NAME\"");
    bad(HEAD "[tunnel]\ntarget = a:1\n", 4, "[tunnel]", "\"NAME\"");
    bad(HEAD "[tunnel \"A\"]\ntarget = a:1\n", 4, "A", "a-z 0-9 . _ -");
    bad(HEAD "[tunnel \"a/b\"]\ntarget = a:1\n", 4, "a/b", "\"NAME\"");
    bad(HEAD "[tunnel \"12345678901234567890123456\"]\ntarget = a:1\n", 4, "", "1 to 25");
}

static void test_tunnel_values(void)
{
    static const char *const targets[] = {"127.0.0.1", ":80",    "a:0",     "a:65536",  "a:port", "::1:80",
                                          "[::1]",     "[]:80",  "unix:",   "unix:run", "a:",     "a:80 b:80",
                                          "unix:/",    "a b:80", "[::1:80", "a]:80"};
    char text[8192], path[200];
    size_t len = 0;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        snprintf(text, sizeof text, "target = %s", targets[i]);
        bad_value("[tunnel \"a\"]", text, "HOST:PORT");
    }
    memset(path, 'x', sizeof path);
    path[108] = '\0'; /* one more than a unix socket's path may have */
    snprintf(text, sizeof text, "target = unix:/%s", path);
    bad_value("[tunnel \"a\"]", text, "unix:/PATH");
    bad_value("[tunnel \"a\"]", "connect-timeout = 0", "1s to 1h");
    bad_value("[tunnel \"a\"]", "idle-timeout = 366d", "365d");
    bad_value("[tunnel \"a\"]", "connections = 0", "1 to");
    len = (size_t)snprintf(text, sizeof text, HEAD);
    for (int i = 0; i <= CHV_TUNNELS_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "[tunnel \"t%d\"]\ntarget = a:1\n", i);
    bad(text, 4 + 2 * CHV_TUNNELS_MAX, "32", "tunnels");
}

/* "#key = value" lines of the template are its defaults. */
static void test_template(void)
{
    static char text[CHV_SERVER_CONFIG_TEXT_MAX];
    const struct chv_server_config_values values = {
        .name = "s1", .keystore = "keys", .listen = NULL, .passphrase_file = NULL};
    struct chv_server_config wanted;
    size_t len = sizeof text, keys = 0;
    CU_ASSERT_EQUAL_FATAL(chv_server_config_template(&values, text, &len), CHV_OK);
    CU_ASSERT_EQUAL(len, strlen(text));
    CU_ASSERT_EQUAL(parse(text), CHV_OK);
    chv_server_config_defaults(&wanted);
    snprintf(wanted.name, sizeof wanted.name, "%s", "s1");
    snprintf(wanted.keystore, sizeof wanted.keystore, "%s", "file:/etc/x/keys");
    CU_ASSERT_TRUE(same(&config, &wanted));
    for (char *at = text; (at = strstr(at, "\n#")) != NULL; at++) {
        if (at[2] == ' ')
            continue;
        at[1] = ' ';
        keys++;
    }
    CU_ASSERT_EQUAL(keys, 28);
    CU_ASSERT_EQUAL(parse(text), CHV_OK);
    if (why.text[0] != '\0')
        fprintf(stderr, "%s\n", why.text);
    CU_ASSERT_TRUE(same(&config, &wanted));
}

static void test_template_values(void)
{
    static char text[CHV_SERVER_CONFIG_TEXT_MAX];
    struct chv_server_config_values values = {
        .name = "s1", .keystore = "k", .listen = "unix:/s", .passphrase_file = "p"};
    size_t len = sizeof text;
    CU_ASSERT_EQUAL(chv_server_config_template(&values, text, &len), CHV_OK);
    CU_ASSERT_EQUAL(parse(text), CHV_OK);
    CU_ASSERT_STRING_EQUAL(config.passphrase_file, "/etc/x/p");
    CU_ASSERT_STRING_EQUAL(config.listen[0], "unix:/s");
    len = 100;
    CU_ASSERT_EQUAL(chv_server_config_template(&values, text, &len), CHV_ERR_SPACE);
    values.name = "two\nlines";
    len = sizeof text;
    CU_ASSERT_EQUAL(chv_server_config_template(&values, text, &len), CHV_ERR_ARGUMENT);
}

static void test_command_line(void)
{
    const char *const addresses[] = {"127.0.0.1:1", "unix:/a"}, *const wrong[] = {"127.0.0.1:1", "here"};
    CU_ASSERT_EQUAL(parse(HEAD), CHV_OK);
    CU_ASSERT_EQUAL(chv_server_config_listen(&config, addresses, 2, &why), CHV_OK);
    CU_ASSERT_EQUAL(config.listen_count, 2);
    CU_ASSERT_STRING_EQUAL(config.listen[1], "unix:/a");
    CU_ASSERT_EQUAL(chv_server_config_listen(&config, wrong, 2, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "'here'"));
    CU_ASSERT_EQUAL(config.listen_count, 2);
    CU_ASSERT_EQUAL(chv_server_config_backend(&config, "none", &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "known are: openssl"));
    CU_ASSERT_EQUAL(chv_server_config_backend(&config, "openssl", &why), CHV_OK);
}

static void test_load(void)
{
    char folder[] = "/tmp/chv-test-XXXXXX", path[64], wanted[64];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/c.conf", folder);
    CU_ASSERT_EQUAL(chv_server_config_load(path, &config, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, path));
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(HEAD, f);
    fclose(f);
    CU_ASSERT_EQUAL(chv_server_config_load(path, &config, &why), CHV_OK);
    snprintf(wanted, sizeof wanted, "file:%s/keys", folder);
    CU_ASSERT_STRING_EQUAL(config.keystore, wanted);

    f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fwrite(HEAD "\0", 1, sizeof HEAD, f);
    fclose(f);
    CU_ASSERT_EQUAL(chv_server_config_load(path, &config, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "NUL"));
    f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    for (int i = 0; i < CHV_SERVER_CONFIG_TEXT_MAX + 1; i++)
        putc('\n', f);
    fclose(f);
    CU_ASSERT_EQUAL(chv_server_config_load(path, &config, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "64 KiB"));
    CU_ASSERT_EQUAL(unlink(path), 0);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
}

TEST_MAIN("server_config", {"defaults", test_defaults}, {"names and paths", test_names_and_paths},
          {"profiles", test_profiles}, {"lists", test_lists}, {"[server]", test_server_keys}, {"[pkcs11]", test_module},
          {"[limits], [log]", test_limits_and_log}, {"bad values", test_bad_values}, {"bad form", test_bad_form},
          {"registry", test_registry_policy}, {"update", test_update}, {"files", test_files}, {"shares", test_shares},
          {"tunnels", test_tunnels}, {"tunnel values", test_tunnel_values}, {"tickets", test_tickets},
          {"template", test_template}, {"template values", test_template_values}, {"command line", test_command_line},
          {"load", test_load})
