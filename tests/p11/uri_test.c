/* SPDX-License-Identifier: Apache-2.0 */
/* URIs and PIN files: what is taken, and each refusal by its reason. */
#include "tests/harness.h"
#include "tests/support/tokens.h"

#include "p11/error.h"
#include "p11/pin.h"
#include "p11/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_taken(void)
{
    struct chv_p11_uri uri;
    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse("pkcs11:token=my%20token;object=cam1;serial=0123?module-path=/lib/x.so&"
                                            "pin-source=file:/etc/pin&chaveiro-init=a%3D%27b%27&chaveiro-derive=hkdf&"
                                            "chaveiro-session-copy=yes&chaveiro-final-try=no&chaveiro-objects=77",
                                            &uri, NULL),
                          CHV_OK);
    CU_ASSERT_STRING_EQUAL(uri.module_path, "/lib/x.so");
    CU_ASSERT_STRING_EQUAL(uri.pin_file, "/etc/pin");
    CU_ASSERT_STRING_EQUAL(uri.object, "cam1");
    CU_ASSERT_STRING_EQUAL(uri.init_args, "a='b'");
    CU_ASSERT_STRING_EQUAL(uri.derive, "hkdf");
    CU_ASSERT(uri.session_copy && !uri.final_try);
    CU_ASSERT_EQUAL(uri.objects, 77);

    CK_TOKEN_INFO info;
    memset(&info, ' ', sizeof info);
    memcpy(info.label, "my token", 8);
    memcpy(info.serialNumber, "0123", 4);
    CU_ASSERT(chv_p11_uri_matches(&uri, 7, &info));
    memcpy(info.serialNumber, "0124", 4);
    CU_ASSERT(!chv_p11_uri_matches(&uri, 7, &info));
    memcpy(info.serialNumber, "0123", 4);
    memcpy(info.label, "my tokens", 9);
    CU_ASSERT(!chv_p11_uri_matches(&uri, 7, &info));
    char text[128];
    chv_p11_uri_describe(&uri, text, sizeof text);
    CU_ASSERT_PTR_NULL(strchr(text, '?'));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "token=my%20token"));
    chv_p11_uri_free(&uri);

    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse("pkcs11:slot-id=7?pin-source=file:///etc/pin", &uri, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(uri.pin_file, "/etc/pin");
    CU_ASSERT(uri.module_path == NULL && uri.init_args == NULL && uri.object[0] == '\0' && uri.derive[0] == '\0');
    CU_ASSERT(chv_p11_uri_matches(&uri, 7, &info));
    CU_ASSERT(!chv_p11_uri_matches(&uri, 8, &info));
    chv_p11_uri_free(&uri);

    CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse("pkcs11:model=m?pin-source=/etc/pin", &uri, NULL), CHV_OK);
    CU_ASSERT_STRING_EQUAL(uri.pin_file, "/etc/pin");
    chv_p11_uri_free(&uri);
}

static void test_refused(void)
{
    static const struct {
        const char *uri, *reason;
    } cases[] = {
        {"", "begin with 'pkcs11:'"},
        {"file:x", "begin with 'pkcs11:'"},
        {"PKCS11:token=x", "begin with 'pkcs11:'"},
        {"pkcs11:", "names no token"},
        {"pkcs11:?module-path=/x", "names no token"},
        {"pkcs11:object=x", "names no token"},
        {"pkcs11:token=", "'token' is empty"},
        {"pkcs11:token=%00", "zero byte"},
        {"pkcs11:token", "not name=value"},
        {"pkcs11:=x", "not name=value"},
        {"pkcs11:token=x;", "behind the last ';'"},
        {"pkcs11:token=x;;serial=1", "not name=value"},
        {"pkcs11:token=x?module-path=/x&", "behind the last '&'"},
        {"pkcs11:token=x;token=y", "'token' stands twice"},
        {"pkcs11:token=x?pin-source=/a&pin-source=/b", "'pin-source' stands twice"},
        {"pkcs11:token=x;tokn=y", "'tokn' is not known before"},
        {"pkcs11:token=x?tokn=y", "'tokn' is not known behind"},
        {"pkcs11:token=x?token=y", "'token' is not known behind"},
        {"pkcs11:token=x;pin-source=/y", "'pin-source' is not known before"},
        {"pkcs11:token=123456789012345678901234567890123", "'token' has 33 bytes"},
        {"pkcs11:serial=12345678901234567", "'serial' has 17 bytes"},
        {"pkcs11:model=%31%32%33%34%35%36%37%38%39%30%31%32%33%34%35%36%37", "'model' has 17 bytes"},
        {"pkcs11:token=x;object=12345678901234567890123456789012345678901234567890123456789012345",
         "'object' has 65 bytes"},
        {"pkcs11:token=x?pin-value=1234", "process lists"},
        {"pkcs11:token=x?pin-source=/x&pin-value=1234", "'pin-value' is refused"},
        {"pkcs11:token=x?pin-source=%7Ccat%20/etc/pin", "command"},
        {"pkcs11:token=x?pin-source=|cat", "command"},
        {"pkcs11:token=x?pin-source=pin.txt", "file:/ABSOLUTE/PATH"},
        {"pkcs11:token=x?pin-source=file:pin.txt", "file:/ABSOLUTE/PATH"},
        {"pkcs11:token=x?pin-source=file://host/pin", "file:/ABSOLUTE/PATH"},
        {"pkcs11:token=x?module-path=x.so", "absolute"},
        {"pkcs11:token=x?module-name=softhsm", "'module-name' is refused"},
        {"pkcs11:token=x;id=%01", "'id' is refused"},
        {"pkcs11:token=x;type=private", "'type' is refused"},
        {"pkcs11:token=x;library-manufacturer=y", "'library-manufacturer' is refused"},
        {"pkcs11:token=x?chaveiro-derive=scrypt", "hmac, hkdf or sp800-108"},
        {"pkcs11:token=x?chaveiro-session-copy=may", "yes or no"},
        {"pkcs11:token=x?chaveiro-final-try=1", "yes or no"},
        {"pkcs11:token=x?chaveiro-objects=0", "a number from 1"},
        {"pkcs11:token=x?chaveiro-objects=1k", "a number from 1"},
        {"pkcs11:token=x?chaveiro-objects=1234567890", "chaveiro-objects"},
        {"pkcs11:token=a b", "white space"},
        {"pkcs11:token=\xc3\xa9", "non-ASCII"},
        {"pkcs11:token=%zz", "PKCS #11 URI"},
        {"pkcs11:slot-id=x", "PKCS #11 URI"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chv_p11_uri uri;
        struct chv_why why = {""};
        CU_ASSERT_EQUAL(chv_p11_uri_parse(cases[i].uri, &uri, &why), CHV_ERR_CONFIG);
        if (strstr(why.text, cases[i].reason) == NULL) {
            (void)fprintf(stderr, "%s: %s\n", cases[i].uri, why.text);
            CU_FAIL("another reason");
        }
        CU_ASSERT_PTR_NULL(strstr(why.text, "1234 "));
        CU_ASSERT(uri.parsed == NULL && uri.text == NULL);
    }
    char longest[CHV_P11_URI_MAX + 64];
    struct chv_p11_uri uri;
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "pkcs11:token=a?module-path=/", 28);
    longest[sizeof longest - 1] = '\0';
    CU_ASSERT_EQUAL(chv_p11_uri_parse(longest, &uri, NULL), CHV_ERR_CONFIG);
}

static enum chv_err read_pin(const char *content, mode_t mode, char out[CHV_P11_PIN_MAX + 1], size_t *len,
                             struct chv_why *why)
{
    char *path = test_tokens_path("pin");
    (void)unlink(path);
    test_write_private(path, content);
    (void)chmod(path, mode);
    why->text[0] = '\0';
    enum chv_err err = chv_p11_pin_read(path, out, len, NULL, why);
    free(path);
    return err;
}

static void test_pin_files(void)
{
    char out[CHV_P11_PIN_MAX + 1], longest[CHV_P11_PIN_MAX + 3];
    size_t len = 0;
    struct chv_why why = {""};
    CU_ASSERT_EQUAL(read_pin("s3cret\n", 0600, out, &len, &why), CHV_OK);
    CU_ASSERT(len == 6 && strcmp(out, "s3cret") == 0);
    CU_ASSERT_EQUAL(read_pin("s3cret\r\n", 0400, out, &len, &why), CHV_OK);
    CU_ASSERT(len == 6 && strcmp(out, "s3cret") == 0);
    CU_ASSERT_EQUAL(read_pin(" s3 cret ", 0600, out, &len, &why), CHV_OK);
    CU_ASSERT_STRING_EQUAL(out, " s3 cret ");
    memset(longest, 'p', sizeof longest);
    longest[CHV_P11_PIN_MAX + 1] = '\0';
    CU_ASSERT_EQUAL(read_pin(longest, 0600, out, &len, &why), CHV_ERR_CONFIG);
    longest[CHV_P11_PIN_MAX] = '\n';
    CU_ASSERT_EQUAL(read_pin(longest, 0600, out, &len, &why), CHV_OK);
    CU_ASSERT_EQUAL(len, CHV_P11_PIN_MAX);

    len = 99;
    memcpy(out, "before", 7);
    CU_ASSERT_EQUAL(read_pin("two\nlines\n", 0600, out, &len, &why), CHV_ERR_CONFIG);
    CU_ASSERT_PTR_NULL(strstr(why.text, "lines\n"));
    CU_ASSERT_EQUAL(read_pin("", 0600, out, &len, &why), CHV_ERR_NO_SECRET);
    CU_ASSERT_EQUAL(read_pin("\n", 0600, out, &len, &why), CHV_ERR_NO_SECRET);
    static const mode_t open_modes[] = {0640, 0604, 0660, 0601, 0644};
    for (size_t i = 0; i < sizeof open_modes / sizeof open_modes[0]; i++) {
        CU_ASSERT_EQUAL(read_pin("s3cret", open_modes[i], out, &len, &why), CHV_ERR_STORE_MODE);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "others can use it"));
        CU_ASSERT_PTR_NULL(strstr(why.text, "s3cret"));
    }
    char *path = test_tokens_path("nothing"), *fifo = test_tokens_path("fifo");
    CU_ASSERT_EQUAL(chv_p11_pin_read(path, out, &len, NULL, &why), CHV_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(mkfifo(fifo, 0600), 0);
    CU_ASSERT_EQUAL(chv_p11_pin_read(fifo, out, &len, NULL, &why), CHV_ERR_CONFIG);
    CU_ASSERT_EQUAL(chv_p11_pin_read(test_tokens_folder(), out, &len, NULL, &why), CHV_ERR_CONFIG);
    CU_ASSERT(len == 99 && strcmp(out, "before") == 0); /* outputs are set on success only */
    free(path);
    free(fifo);
}

/* SoftHSM gives three answers for all that is wrong with its files: the error says which configuration it reads. */
static void test_softhsm_files(void)
{
    static const char where[] = "/usr/lib/softhsm/libsofthsm2.so";
    struct chv_why why = {""};
    const char *old = getenv("SOFTHSM2_CONF");
    char *kept = old != NULL ? strdup(old) : NULL;
    CU_ASSERT_EQUAL(setenv("SOFTHSM2_CONF", "/nowhere/softhsm2.conf", 1), 0);
    CU_ASSERT_EQUAL(chv_p11_fail(&why, where, "C_Initialize", CHV_P11_NO_MECHANISM, CKR_GENERAL_ERROR),
                    CHV_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(why.text, "CKR_GENERAL_ERROR (0x5): SoftHSM reads SOFTHSM2_CONF=/nowhere/softhsm2.conf"));
    (void)chv_p11_fail(&why, where, "C_InitToken", CHV_P11_NO_MECHANISM, CKR_DEVICE_ERROR);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "is the disk full"));
    (void)chv_p11_fail(&why, where, "C_Login", CHV_P11_NO_MECHANISM, CKR_PIN_LOCKED);
    CU_ASSERT_PTR_NULL(strstr(why.text, "SOFTHSM2_CONF"));
    (void)chv_p11_fail(&why, "/usr/lib/hsm.so", "C_InitToken", CHV_P11_NO_MECHANISM, CKR_DEVICE_ERROR);
    CU_ASSERT_PTR_NULL(strstr(why.text, "SOFTHSM2_CONF"));
    CU_ASSERT_EQUAL(unsetenv("SOFTHSM2_CONF"), 0);
    (void)chv_p11_fail(&why, where, "C_Initialize", CHV_P11_NO_MECHANISM, CKR_GENERAL_ERROR);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "SOFTHSM2_CONF is not set"));
    if (kept != NULL)
        CU_ASSERT_EQUAL(setenv("SOFTHSM2_CONF", kept, 1), 0);
    free(kept);
}

static void test_errors(void)
{
    struct chv_why why = {""};
    CU_ASSERT_EQUAL(chv_p11_fail(&why, "token \"t\"", "C_SignInit", CKM_SHA256_HMAC, CKR_DEVICE_REMOVED),
                    CHV_ERR_UNAVAILABLE);
    CU_ASSERT_STRING_EQUAL(why.text,
                           "token \"t\": C_SignInit with CKM_SHA256_HMAC: CKR_DEVICE_REMOVED (0x32): the token "
                           "was taken out: put it back");
    CU_ASSERT_EQUAL(chv_p11_fail(&why, "t", "C_Login", CHV_P11_NO_MECHANISM, CKR_PIN_INCORRECT), CHV_ERR_PASSPHRASE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "t: C_Login: CKR_PIN_INCORRECT (0xa0): wrong PIN"));
    CU_ASSERT_EQUAL(chv_p11_fail(&why, "t", "C_X", CHV_P11_NO_MECHANISM, CKR_VENDOR_DEFINED | 5), CHV_ERR_CRYPTO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "CKR_VENDOR_DEFINED (0x80000005)"));
    CU_ASSERT_STRING_EQUAL(chv_p11_rv_name(0x7777), "CKR_?");
    CU_ASSERT_STRING_EQUAL(chv_p11_mechanism_name(0x7777), "CKM_?");
    CU_ASSERT_EQUAL(chv_p11_rv_error(CKR_OK), CHV_OK);
    unsigned known = 0;
    for (CK_RV rv = 1; rv < 0x300; rv++) {
        CU_ASSERT_NOT_EQUAL(chv_p11_rv_error(rv), CHV_OK);
        known += strcmp(chv_p11_rv_name(rv), "CKR_?") != 0;
        CU_ASSERT(!chv_p11_rv_session_dead(rv) || chv_p11_rv_lost(rv));
    }
    CU_ASSERT(known >= 80);
    CU_ASSERT(!chv_p11_rv_lost(CKR_PIN_INCORRECT) && !chv_p11_rv_lost(CKR_PIN_LOCKED) && !chv_p11_rv_lost(CKR_OK));
}

static void test_pin_path(void)
{
    char path[20];
    chv_p11_pin_path("pkcs11:token=x?pin-source=file:/etc/a%20pin", path, sizeof path);
    CU_ASSERT_STRING_EQUAL(path, "/etc/a pin");
    static const char *const without[] = {"pkcs11:token=x", "pkcs11:token=x?pin-source=%7Ccat", "openssl",
                                          "file:/etc/pin-source=file:/x",
                                          "pkcs11:token=x?pin-source=file:/longer/than/there/is/room"};
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        chv_p11_pin_path(without[i], path, sizeof path);
        CU_ASSERT_STRING_EQUAL(path, "");
    }
}

/* One without its object. */
static void test_token_only(void)
{
    static const struct {
        const char *with, *without;
    } cases[] = {
        {"pkcs11:token=t", "pkcs11:token=t"},
        {"pkcs11:token=t;object=o", "pkcs11:token=t"},
        {"pkcs11:object=o;token=t", "pkcs11:token=t"},
        {"pkcs11:token=t;object=o;serial=1", "pkcs11:token=t;serial=1"},
        {"pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p",
         "pkcs11:token=t?module-path=/m.so&pin-source=file:/p"},
        {"pkcs11:token=object%3D?pin-source=file:/object=", "pkcs11:token=object%3D?pin-source=file:/object="},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chv_p11_uri uri;
        char out[CHV_P11_URI_MAX + 1];
        CU_ASSERT_EQUAL_FATAL(chv_p11_uri_parse(cases[i].with, &uri, NULL), CHV_OK);
        CU_ASSERT_TRUE(chv_p11_uri_token_only(&uri, out, sizeof out));
        CU_ASSERT_STRING_EQUAL(out, cases[i].without);
        CU_ASSERT_FALSE(chv_p11_uri_token_only(&uri, out, strlen(cases[i].without)));
        chv_p11_uri_free(&uri);
    }
}

TEST_MAIN("p11: URIs, PIN files, errors", {"URIs that are taken", test_taken}, {"URIs that are refused", test_refused},
          {"URIs without object", test_token_only}, {"PIN files", test_pin_files}, {"error texts", test_errors},
          {"files of SoftHSM", test_softhsm_files}, {"path of a PIN file", test_pin_path})
