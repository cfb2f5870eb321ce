/* SPDX-License-Identifier: Apache-2.0 */
/* The allow-list: what is taken and what is refused, with its line; look-up; every mangled file is refused or harmless. */
#include "config.h"

#include "net/allowlist.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct chv_why why;

/* A key that begins with these two bytes. */
static struct chv_identity key_of(enum chv_curve curve, unsigned n)
{
    struct chv_identity id = {.curve = curve};
    for (size_t i = 0; i < chv_dh_public_len(curve); i++)
        id.public_key[i] = (uint8_t)(7 * i + n);
    if (curve == CHV_CURVE_P256)
        id.public_key[0] = 4;
    id.public_key[1] = (uint8_t)n;
    id.public_key[2] = (uint8_t)(n >> 8);
    return id;
}

static const char *text_of(enum chv_curve curve, unsigned n)
{
    static char text[4][CHV_IDENTITY_TEXT_MAX];
    static unsigned turn;
    const struct chv_identity id = key_of(curve, n);
    char *out = text[turn++ % 4];
    chv_identity_format(&id, out);
    return out;
}

static enum chv_err parse(const char *text, struct chv_allowlist **list)
{
    why.text[0] = '\0';
    *list = NULL;
    return chv_allowlist_parse(text, strlen(text), "keys", list, &why);
}

static void test_what_is_taken(void)
{
    char text[2048];
    struct chv_allowlist *list;
    struct chv_credential rights;
    snprintf(text, sizeof text,
             "# a comment\n"
             "\n"
             "  \t \n"
             "%s cam1 message\n"
             "\t%s  cam2\tfiles:ro,message   expires=2027-01-31 in the hall\n"
             "%s door@x files:rw expires=2027-01-31T12:00:00Z\n"
             "%s cam1 message its=comment?  no",
             text_of(CHV_CURVE_25519, 1), text_of(CHV_CURVE_P256, 2), text_of(CHV_CURVE_25519, 3), "#");
    CU_ASSERT_EQUAL_FATAL(parse(text, &list), CHV_OK);
    CU_ASSERT_EQUAL(chv_allowlist_count(list), 3);

    struct chv_identity id = key_of(CHV_CURVE_P256, 2);
    const struct chv_allowed *entry = chv_allowlist_find(list, &id);
    CU_ASSERT_PTR_NOT_NULL_FATAL(entry);
    CU_ASSERT_STRING_EQUAL(entry->id, "cam2");
    CU_ASSERT_EQUAL(entry->line, 5);
    CU_ASSERT_EQUAL(entry->not_after, 1801439999); /* date -d '2027-01-31 23:59:59 UTC' +%s */
    chv_allowed_rights(entry, &rights);
    CU_ASSERT_EQUAL(rights.profile, CHV_PROFILE_KEY);
    CU_ASSERT_STRING_EQUAL(rights.id, "cam2");
    CU_ASSERT_EQUAL(rights.scope_count, 2);
    CU_ASSERT(chv_credential_has_scope(&rights, "message") && chv_credential_has_scope(&rights, "files:ro"));
    CU_ASSERT_EQUAL(rights.epoch, 0);

    id = key_of(CHV_CURVE_25519, 3);
    entry = chv_allowlist_find(list, &id);
    CU_ASSERT_PTR_NOT_NULL_FATAL(entry);
    CU_ASSERT_EQUAL(entry->not_after, 1801396800);
    id = key_of(CHV_CURVE_25519, 1);
    entry = chv_allowlist_find(list, &id);
    CU_ASSERT_PTR_NOT_NULL_FATAL(entry);
    CU_ASSERT_EQUAL(entry->not_after, 0);

    id.public_key[31] ^= 1;
    CU_ASSERT_PTR_NULL(chv_allowlist_find(list, &id));
    id = key_of(CHV_CURVE_25519, 1);
    id.curve = CHV_CURVE_P256;
    CU_ASSERT_PTR_NULL(chv_allowlist_find(list, &id));
    CU_ASSERT_PTR_NULL(chv_allowlist_find(NULL, &id));
    CU_ASSERT_EQUAL(chv_allowlist_count(NULL), 0);

    CU_ASSERT_PTR_EQUAL(chv_allowlist_ref(list), list);
    chv_allowlist_unref(list);
    CU_ASSERT_EQUAL(chv_allowlist_count(list), 3); /* one owner is left */
    chv_allowlist_unref(list);
    chv_allowlist_unref(NULL);
    CU_ASSERT_EQUAL(parse("", &list), CHV_OK);
    CU_ASSERT_EQUAL(chv_allowlist_count(list), 0);
    chv_allowlist_unref(list);
}

static void test_what_is_refused(void)
{
    static const struct {
        const char *line; /* %s: a key */
        const char *said;
    } bad[] = {
        {"%s", "a line is"},
        {"%s cam1", "a line is"},
        {"ssh-ed25519 AAAA cam1 message", "'ssh-ed25519' is no kind of key"},
        {"x25519", "a line is"},
        {"x25519 AAAA cam1 message", "the x25519 key is none"},
        {"%sA cam1 message", "the x25519 key is none"},
        {"%s -cam1 message", "'-cam1' is no client id"},
        {"%s cam1 Message", "'Message' is no scope"},
        {"%s cam1 message,", "behind the last comma"},
        {"%s cam1 ,message", "'' is no scope"},
        {"%s cam1 message,,files:ro", "'' is no scope"},
        {"%s cam1 files:ro,message,files:ro", "'files:ro' stands there twice"},
        {"%s cam1 abcdefghijklmnopqrstuvwxyz0123456", "is no scope"},
        {"%s cam1 message expire=2027-01-31", "unknown option 'expire=2027-01-31'"},
        {"%s cam1 message expires=2027-01-31 expires=2027-01-31", "stands there twice"},
        {"%s cam1 message expires=", "is no date"},
        {"%s cam1 message expires=tomorrow", "is no date"},
        {"%s cam1 message expires=2027-02-29", "is no date"},
        {"%s cam1 message expires=2027-13-01", "is no date"},
        {"%s cam1 message expires=2027-1-31", "is no date"},
        {"%s cam1 message expires=2027-01-31T24:00:01Z", "is no date"},
        {"%s cam1 message expires=2027-01-31T12:00:00", "is no date"},
        {"%s cam1 message expires=1969-12-31", "is no date"},
        {"%s cam1 message\r", "control character (0x0d)"},
        {"%s cam1 message \x1b[31m", "control character (0x1b)"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char line[512], text[1024];
        struct chv_allowlist *list;
        const char *key = strstr(bad[i].line, "%s");
        snprintf(line, sizeof line, "%s%s", key != NULL ? text_of(CHV_CURVE_25519, 9) : "",
                 key != NULL ? key + 2 : bad[i].line);
        snprintf(text, sizeof text, "# first\n%s cam0 message\n%s\n", text_of(CHV_CURVE_25519, 8), line);
        CU_ASSERT_EQUAL(parse(text, &list), CHV_ERR_CONFIG);
        CU_ASSERT_PTR_NULL(list);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "keys:3: "));
        if (strstr(why.text, bad[i].said) == NULL)
            CU_FAIL_FATAL("another text");
    }
}

static void test_twice_and_too_long(void)
{
    struct chv_allowlist *list;
    char text[8192];
    snprintf(text, sizeof text, "%s cam1 message\n%s cam2 message\n%s cam3 message\n", text_of(CHV_CURVE_25519, 5),
             text_of(CHV_CURVE_25519, 4), text_of(CHV_CURVE_25519, 5));
    CU_ASSERT_EQUAL(parse(text, &list), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "keys:3: the key of 'cam3' stands in line 1 already"));

    int n = snprintf(text, sizeof text, "%s cam1 message ", text_of(CHV_CURVE_25519, 5));
    memset(text + n, 'x', CHV_ALLOWLIST_LINE_MAX - (size_t)n);
    text[CHV_ALLOWLIST_LINE_MAX] = '\0';
    CU_ASSERT_EQUAL(parse(text, &list), CHV_OK);
    chv_allowlist_unref(list);
    text[CHV_ALLOWLIST_LINE_MAX] = 'x';
    text[CHV_ALLOWLIST_LINE_MAX + 1] = '\0';
    CU_ASSERT_EQUAL(parse(text, &list), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "keys:1: longer than"));

    memcpy(text, "#\0#\n", 4);
    CU_ASSERT_EQUAL(chv_allowlist_parse(text, 4, "keys", &list, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(chv_allowlist_parse(text, (size_t)CHV_ALLOWLIST_TEXT_MAX + 1, "keys", &list, &why), CHV_ERR_CONFIG);
}

static void test_narrow(void)
{
    struct chv_allowlist *list;
    char text[512];
    snprintf(text, sizeof text, "%s cam1 files:ro,message expires=2027-01-31\n", text_of(CHV_CURVE_25519, 1));
    CU_ASSERT_EQUAL_FATAL(parse(text, &list), CHV_OK);
    const struct chv_identity id = key_of(CHV_CURVE_25519, 1);
    const struct chv_allowed *entry = chv_allowlist_find(list, &id);
    CU_ASSERT_PTR_NOT_NULL_FATAL(entry);
    struct chv_credential c = {.profile = CHV_PROFILE_KEY_PSK, .epoch = 1, .serial = 1};
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "message"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "tunnel:a"), CHV_OK);
    CU_ASSERT_EQUAL(chv_credential_add_scope(&c, "files:rw"), CHV_OK);
    chv_allowed_narrow(entry, &c);
    CU_ASSERT_EQUAL(c.scope_count, 1);
    CU_ASSERT_STRING_EQUAL(c.scopes[0], "message");
    CU_ASSERT_EQUAL(c.not_after, 1801439999);
    c.not_after = 5;
    chv_allowed_narrow(entry, &c);
    CU_ASSERT_EQUAL(c.not_after, 5);
    CU_ASSERT_EQUAL(c.epoch, 1);
    chv_allowlist_unref(list);
}

/* 3000 of either curve in any order are found, and nobody else. */
static void test_many(void)
{
    enum { MANY = 3000 };
    const size_t size = (size_t)2 * MANY * 160;
    char *text = malloc(size), *at = text;
    struct chv_allowlist *list;
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned curve = 0; curve < CHV_CURVE_COUNT; curve++)
            at += snprintf(at, size - (size_t)(at - text), "%s cam%u message\n",
                           text_of((enum chv_curve)curve, i * 7919 % MANY), i);
    CU_ASSERT_EQUAL_FATAL(parse(text, &list), CHV_OK);
    CU_ASSERT_EQUAL(chv_allowlist_count(list), 2 * MANY);
    unsigned found = 0;
    for (unsigned i = 0; i < 2 * MANY; i++)
        for (unsigned curve = 0; curve < CHV_CURVE_COUNT; curve++) {
            const struct chv_identity id = key_of((enum chv_curve)curve, i);
            found += chv_allowlist_find(list, &id) != NULL;
        }
    CU_ASSERT_EQUAL(found, 2 * MANY);
    chv_allowlist_unref(list);
    free(text);
}

/* Every byte of a good file changed in turn, and the file cut at every place: refused, or the entries stay whole. */
static void test_mangled(void)
{
    static const char with[] = {'\0', '\n', ' ', '#', '=', ',', 'A', '/', '\x7f', '\xff'};
    char good[512], text[512];
    snprintf(good, sizeof good, "%s cam1 message,files:ro expires=2027-01-31 hall\n%s cam2 message\n",
             text_of(CHV_CURVE_25519, 1), text_of(CHV_CURVE_P256, 2));
    const size_t len = strlen(good);
    for (size_t i = 0; i < len; i++)
        for (size_t k = 0; k <= sizeof with; k++) {
            struct chv_allowlist *list = NULL;
            memcpy(text, good, len);
            size_t n = k == sizeof with ? i : len; /* cut */
            if (k < sizeof with)
                text[i] = with[k];
            if (chv_allowlist_parse(text, n, "keys", &list, &why) != CHV_OK) {
                CU_ASSERT_PTR_NULL(list);
                continue;
            }
            CU_ASSERT(chv_allowlist_count(list) <= 2);
            const struct chv_identity ids[] = {key_of(CHV_CURVE_25519, 1), key_of(CHV_CURVE_P256, 2)};
            for (size_t j = 0; j < 2; j++) {
                struct chv_credential rights;
                const struct chv_allowed *entry = chv_allowlist_find(list, &ids[j]);
                if (entry == NULL)
                    continue;
                chv_allowed_rights(entry, &rights);
                CU_ASSERT(chv_client_id_valid(rights.id) && rights.scope_count >= 1);
            }
            chv_allowlist_unref(list);
        }
}

static void test_files(void)
{
    char folder[256], file[300], text[256];
    const char *temp = getenv("TMPDIR");
    struct chv_allowlist *list = NULL, *there = NULL;
    int fd = -1;
    const struct chv_identity id = key_of(CHV_CURVE_25519, 1);
    snprintf(folder, sizeof folder, "%s/chv-allowlist.XXXXXX", temp != NULL ? temp : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/keys", folder);
    int n = snprintf(text, sizeof text, "%s cam1 message\n", text_of(CHV_CURVE_25519, 1));
    CU_ASSERT_EQUAL(chv_allowlist_load(file, &list, &fd, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(chv_allowlist_load(folder, &list, &fd, &why), CHV_ERR_CONFIG);

    int out = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_EQUAL(write(out, text, (size_t)n), n);
    CU_ASSERT_EQUAL(chv_allowlist_load(file, &list, &fd, &why), CHV_OK);
    CU_ASSERT_PTR_NOT_NULL(chv_allowlist_find(list, &id));
    CU_ASSERT_EQUAL(write(fd, "x", 1), -1); /* sealed */
    CU_ASSERT_EQUAL(ftruncate(fd, 0), -1);
    CU_ASSERT_EQUAL(chv_allowlist_receive(fd, "passed", &there, &why), CHV_OK);
    CU_ASSERT_PTR_NOT_NULL(chv_allowlist_find(there, &id));
    chv_allowlist_unref(there);
    chv_allowlist_unref(list);
    close(fd);

    /* what is not sealed could go away under the reader */
    fd = memfd_create("open", MFD_CLOEXEC);
    CU_ASSERT_EQUAL(chv_allowlist_receive(fd, "passed", &there, &why), CHV_ERR_MALFORMED);
    close(fd);
    CU_ASSERT_EQUAL(chv_allowlist_receive(out, "passed", &there, &why), CHV_ERR_MALFORMED);

    static const mode_t bad[] = {0620, 0602, 0666};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CU_ASSERT_EQUAL(fchmod(out, bad[i]), 0);
        CU_ASSERT_EQUAL(chv_allowlist_load(file, &list, NULL, &why), CHV_ERR_STORE_MODE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "others can write it"));
    }
    CU_ASSERT_EQUAL(fchmod(out, 0644), 0);
    CU_ASSERT_EQUAL(chv_allowlist_load(file, &list, NULL, &why), CHV_OK);
    chv_allowlist_unref(list);
    if (geteuid() == 0) {
        CU_ASSERT_EQUAL(fchown(out, 12345, 12345), 0);
        CU_ASSERT_EQUAL(chv_allowlist_load(file, &list, NULL, &why), CHV_ERR_STORE_MODE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "belongs to user 12345"));
    }
    close(out);
    unlink(file);
    rmdir(folder);
}

TEST_MAIN("net: allow-list", {"what is taken", test_what_is_taken}, {"what is refused", test_what_is_refused},
          {"twice, too long", test_twice_and_too_long}, {"narrow", test_narrow}, {"many", test_many},
          {"mangled", test_mangled}, {"files", test_files})
