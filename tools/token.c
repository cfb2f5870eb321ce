/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tools/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/memory.h"
#include "p11/module.h"
#include "p11/pin.h"
#include "p11/provision.h"
#include "tools/secret.h"

static const char token_scheme[] = "pkcs11:";

/* Random bytes of a PIN that a machine keeps: 32 characters, 192 bits. */
enum { TOKEN_PIN_BYTES = 24 };

static const char *const token_softhsm[] = {
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
};

bool chv_token_uri_is(const char *uri)
{
    return strncmp(uri, token_scheme, sizeof token_scheme - 1) == 0;
}

/* --- URIs ----------------------------------------------------------------------------------------------------------
 */

/* RFC 7512, 2.3: what may stand in a query attribute as it is; '/' among it. */
static bool token_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~/:@+,=", c) != NULL);
}

/* Appends `?` or `&`, the name and the value. */
static bool token_add(char out[CHV_TOKEN_URI_SIZE], const char *name, const char *value)
{
    size_t n = strlen(out);
    n += (size_t)snprintf(out + n, CHV_TOKEN_URI_SIZE - n, "%c%s", strchr(out, '?') != NULL ? '&' : '?', name);
    for (; *value != '\0' && n + 4 < CHV_TOKEN_URI_SIZE; value++) {
        if (token_plain(*value))
            out[n++] = *value;
        else
            n += (size_t)snprintf(out + n, CHV_TOKEN_URI_SIZE - n, "%%%02X", (unsigned)(unsigned char)*value);
        out[n] = '\0';
    }
    return *value == '\0' && n < CHV_TOKEN_URI_SIZE;
}

static bool token_has(const char *uri, const char *name)
{
    const char *query = strchr(uri, '?');
    for (size_t len = strlen(name); query != NULL; query = strchr(query + 1, '&'))
        if (strncmp(query + 1, name, len) == 0)
            return true;
    return false;
}

enum chv_err chv_token_uri(const char *uri, const char *module, const char *pin_file, char out[CHV_TOKEN_URI_SIZE],
                           struct chv_why *why)
{
    if (!chv_token_uri_is(uri) && module != NULL)
        return chv_fail(why, CHV_ERR_ARGUMENT, "--module is for tokens: '%.200s' is none (pkcs11:token=NAME is)", uri);
    if (snprintf(out, CHV_TOKEN_URI_SIZE, "%s", uri) >= CHV_TOKEN_URI_SIZE)
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%.60s...': the name of the keystore is too long", uri);
    if (module != NULL && token_has(uri, "module-path="))
        return chv_fail(why, CHV_ERR_ARGUMENT, "the URI has a module-path already: leave --module out");
    if (pin_file != NULL && token_has(uri, "pin-source="))
        return chv_fail(why, CHV_ERR_ARGUMENT, "the URI has a pin-source already: leave --pin-file out");
    if ((module != NULL && !token_add(out, "module-path=", module)) ||
        (pin_file != NULL && !token_add(out, "pin-source=file:", pin_file)))
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%.60s...': the name of the keystore is too long", uri);
    return CHV_OK;
}

enum chv_err chv_token_uri_default(const char *uri, const char *module, char out[CHV_TOKEN_URI_SIZE],
                                   struct chv_why *why)
{
    bool add = module != NULL && module[0] != '\0' && chv_token_uri_is(uri) && !token_has(uri, "module-path=");
    return chv_token_uri(uri, add ? module : NULL, NULL, out, why);
}

/* --- finding -------------------------------------------------------------------------------------------------------
 */

/* An absolute name of a file that need not be there; its folder must. */
static enum chv_err token_absolute(const char *path, char out[PATH_MAX], struct chv_why *why)
{
    char folder[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    int n = slash == NULL   ? snprintf(folder, sizeof folder, ".")
            : slash == path ? snprintf(folder, sizeof folder, "/")
                            : snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    if (n >= PATH_MAX || name[0] == '\0')
        return chv_fail(why, CHV_ERR_ARGUMENT, "'%.200s' is no name of a PIN file", path);
    if (realpath(folder, real) == NULL)
        return chv_fail(why, CHV_ERR_IO, "%s: %s", folder, strerror(errno));
    if (snprintf(out, PATH_MAX, "%s/%s", real[1] != '\0' ? real : "", name) >= PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", path);
    return CHV_OK;
}

/* Whether the module has the token of this URI. */
static enum chv_err token_look(const char *uri, bool *there, struct chv_why *why)
{
    struct chv_p11_uri parsed;
    struct chv_p11_module *module = NULL;
    struct chv_p11_token *token = NULL;
    *there = false;
    enum chv_err err = chv_p11_uri_parse(uri, &parsed, why);
    if (err != CHV_OK)
        return err;
    /* by itself, to tell a missing module from a missing token */
    err = chv_p11_module_load(parsed.module_path, parsed.init_args, &module, why);
    if (err == CHV_OK) {
        err = chv_p11_token_open(&parsed, &token, why);
        *there = err == CHV_OK;
        if (err == CHV_ERR_NOT_FOUND)
            err = CHV_OK;
        chv_p11_token_close(token);
        chv_p11_module_unload(module);
    }
    chv_p11_uri_free(&parsed);
    return err;
}

static const char *token_find_softhsm(void)
{
    for (size_t i = 0; i < sizeof token_softhsm / sizeof token_softhsm[0]; i++)
        if (access(token_softhsm[i], R_OK) == 0)
            return token_softhsm[i];
    return NULL;
}

/* The module of the token, or of the one to be made: what is said, else SoftHSM, else whatever the host has. */
static enum chv_err token_choose(const struct chv_token_wish *wish, struct chv_token_plan *plan, bool *there,
                                 struct chv_why *why)
{
    const char *softhsm = token_find_softhsm();
    const char *module = wish->module;
    bool said = module != NULL || token_has(wish->uri, "module-path=");
    if (!said)
        module = softhsm;
    enum chv_err err = chv_token_uri(wish->uri, module, NULL, plan->uri, why);
    if (err == CHV_OK)
        err = token_look(plan->uri, there, why);
    if (err == CHV_OK && !*there && !said && softhsm != NULL) {
        bool elsewhere = false;
        if (token_look(wish->uri, &elsewhere, NULL) == CHV_OK && elsewhere) {
            *there = true;
            return chv_token_uri(wish->uri, NULL, NULL, plan->uri, why);
        }
    }
    if (err == CHV_OK && !*there && !said && softhsm == NULL)
        return chv_fail(why, CHV_ERR_NOT_FOUND,
                        "no token matches %.100s, and there is no SoftHSM to make one: install softhsm2 or give "
                        "--module PATH",
                        wish->uri);
    return err;
}

/* The files of the PINs: as said, else named by the token, in the folder. */
static enum chv_err token_file(const struct chv_token_wish *wish, const char *label, const char *said,
                               const char *ending, char out[PATH_MAX], struct chv_why *why)
{
    char path[PATH_MAX];
    if (said == NULL &&
        strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != strlen(label))
        label = "token";
    int n = said != NULL ? snprintf(path, sizeof path, "%s", said)
                         : snprintf(path, sizeof path, "%s/%s%s", wish->folder, label, ending);
    if (n >= PATH_MAX)
        return chv_fail(why, CHV_ERR_ARGUMENT, "%s: the name is too long", wish->folder);
    return token_absolute(path, out, why);
}

/* pin-source of the URI, else --pin-file, else the file that a token made here has. */
static enum chv_err token_pin_file(const struct chv_token_wish *wish, const struct chv_p11_uri *uri, const char *label,
                                   bool there, struct chv_token_plan *plan, struct chv_why *why)
{
    char with_pin[CHV_TOKEN_URI_SIZE];
    if (uri->pin_file != NULL) {
        if (wish->pin_file != NULL || wish->ask)
            return chv_fail(why, CHV_ERR_ARGUMENT, "the URI has a pin-source: leave --pin-file and --ask-pin out");
        (void)snprintf(plan->pin_file, PATH_MAX, "%s", uri->pin_file);
        return CHV_OK;
    }
    if (wish->ask || wish->pin_fd)
        return CHV_OK;
    enum chv_err err = token_file(wish, label, wish->pin_file, ".pin", plan->pin_file, why);
    if (err == CHV_OK && there && wish->pin_file == NULL && access(plan->pin_file, F_OK) != 0) {
        plan->pin_file[0] = '\0'; /* somebody else's token: its PIN is asked for */
        return CHV_OK;
    }
    if (err == CHV_OK)
        err = chv_token_uri(plan->uri, NULL, plan->pin_file, with_pin, why);
    if (err == CHV_OK)
        memcpy(plan->uri, with_pin, sizeof with_pin);
    return err;
}

/* A file that is there is read, if it was named; a default one must not be there. */
static enum chv_err token_new_file(const char *path, bool named, bool *make, struct chv_why *why)
{
    if (path[0] == '\0')
        return CHV_OK;
    *make = access(path, F_OK) != 0;
    if (!*make && !named)
        return chv_fail(why, CHV_ERR_EXISTS,
                        "%s is there already, but the token is not: give --pin-file or --so-pin-file to use it", path);
    return CHV_OK;
}

enum chv_err chv_token_plan(const struct chv_token_wish *wish, struct chv_token_plan *plan, struct chv_why *why)
{
    struct chv_p11_uri uri;
    char label[33] = "token";
    bool there = false;
    *plan = (struct chv_token_plan){.made = false};
    if (wish->ask && (wish->pin_file != NULL || wish->so_pin_file != NULL))
        return chv_fail(why, CHV_ERR_ARGUMENT, "give --ask-pin or PIN files, not both");
    enum chv_err err = chv_p11_uri_parse(wish->uri, &uri, why);
    if (err != CHV_OK)
        return err;
    bool labelled = chv_p11_uri_label(&uri, label);
    bool named = uri.pin_file != NULL || wish->pin_file != NULL;
    err = token_choose(wish, plan, &there, why);
    if (err == CHV_OK && !there && !labelled)
        err = chv_fail(why, CHV_ERR_NOT_FOUND, "no token matches %.200s: to make one, name it by its label alone",
                       wish->uri);
    if (err == CHV_OK)
        err = token_pin_file(wish, &uri, label, there, plan, why);
    chv_p11_uri_free(&uri);
    if (err != CHV_OK || there)
        return err;
    if (wish->pin_fd)
        return chv_fail(why, CHV_ERR_ARGUMENT,
                        "no token matches %.200s: the PIN of a new one is asked for (--ask-pin) or in "
                        "a file (--pin-file)",
                        wish->uri);
    memcpy(plan->label, label, sizeof label);
    err = token_new_file(plan->pin_file, named, &plan->pin_new, why);
    if (err == CHV_OK && !wish->ask)
        err = token_file(wish, label, wish->so_pin_file, ".so-pin", plan->so_pin_file, why);
    if (err == CHV_OK)
        err = token_new_file(plan->so_pin_file, wish->so_pin_file != NULL, &plan->so_pin_new, why);
    return err;
}

/* --- making --------------------------------------------------------------------------------------------------------
 */

static enum chv_err token_write(const char *path, const char *pin, struct chv_why *why)
{
    char line[CHV_P11_PIN_MAX + 2];
    int len = snprintf(line, sizeof line, "%s\n", pin);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    enum chv_err err = CHV_OK;
    if (fd < 0) {
        chv_wipe(line, sizeof line);
        return chv_fail(why, errno == EEXIST ? CHV_ERR_EXISTS : CHV_ERR_IO, "PIN file %s: %s", path, strerror(errno));
    }
    if (fchmod(fd, 0600) != 0 || write(fd, line, (size_t)len) != len || fsync(fd) != 0)
        err = chv_fail(why, CHV_ERR_IO, "PIN file %s: %s", path, strerror(errno));
    chv_wipe(line, sizeof line);
    (void)close(fd);
    if (err != CHV_OK)
        (void)unlink(path);
    return err;
}

/* A PIN from `path`, made there first if `make`, or asked for if "". */
static enum chv_err token_pin(const char *path, bool make, const char *prompt, char pin[CHV_P11_PIN_MAX + 1],
                              bool *written, struct chv_why *why)
{
    struct chv_secret_source source = {
        .kind = CHV_SECRET_PROMPT, .option = "--pin-file and --so-pin-file", .noun = "PIN"};
    uint8_t random[TOKEN_PIN_BYTES];
    size_t len = 0;
    enum chv_err err = CHV_OK;
    _Static_assert(CHV_BASE64_SIZE(TOKEN_PIN_BYTES) <= CHV_P11_PIN_MAX, "a PIN fits");
    if (make) {
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
            return chv_fail(why, CHV_ERR_UNAVAILABLE, "no random bytes: %s", strerror(errno));
        chv_base64_encode(random, sizeof random, pin);
        chv_wipe(random, sizeof random);
        err = token_write(path, pin, why);
        *written = err == CHV_OK;
        return err;
    }
    if (path[0] != '\0')
        return chv_p11_pin_read(path, pin, &len, NULL, why);
    err = chv_secret_get(&source, prompt, 1, pin, CHV_P11_PIN_MAX, &len, why);
    pin[len] = '\0';
    return err;
}

static void token_unwrite(struct chv_token_plan *plan)
{
    if (plan->pin_written)
        (void)unlink(plan->pin_file);
    if (plan->so_pin_written)
        (void)unlink(plan->so_pin_file);
    plan->pin_written = plan->so_pin_written = false;
}

/* The token has got its PINs, or may have: they are not lost, and the error says where they are. */
static enum chv_err token_left(struct chv_token_plan *plan, enum chv_err err, struct chv_why *why)
{
    struct chv_why seen = {""};
    struct chv_why first;
    bool there = false, known = err == CHV_ERR_EXISTS || token_look(plan->uri, &there, &seen) == CHV_OK;
    const bool both = plan->pin_written && plan->so_pin_written;
    if (known && !there) {
        token_unwrite(plan);
        return err;
    }
    if (why == NULL)
        return err;
    first = *why;
    return chv_fail(why, err, "%s; token \"%s\" %s%s%s%s%s: remove it with the module's own tool", first.text,
                    plan->label, known ? "was begun and stays" : "may have been begun",
                    both || plan->pin_written || plan->so_pin_written ? ", what was made for it is in " : "",
                    plan->so_pin_written ? plan->so_pin_file : "", both ? " and " : "",
                    plan->pin_written ? plan->pin_file : "");
}

enum chv_err chv_token_make(struct chv_token_plan *plan, struct chv_why *why)
{
    char pin[CHV_P11_PIN_MAX + 1] = "", so_pin[CHV_P11_PIN_MAX + 1] = "", prompt[96];
    struct chv_p11_uri uri;
    if (plan->label[0] == '\0')
        return CHV_OK;
    enum chv_err err = chv_p11_uri_parse(plan->uri, &uri, why);
    if (err != CHV_OK)
        return err;
    (void)snprintf(prompt, sizeof prompt, "New PIN of the security officer of token %s", plan->label);
    err = token_pin(plan->so_pin_file, plan->so_pin_new, prompt, so_pin, &plan->so_pin_written, why);
    (void)snprintf(prompt, sizeof prompt, "New PIN of token %s", plan->label);
    if (err == CHV_OK)
        err = token_pin(plan->pin_file, plan->pin_new, prompt, pin, &plan->pin_written, why);
    if (err == CHV_OK) {
        err = chv_p11_token_init(uri.module_path, uri.init_args, plan->label, so_pin, pin, why);
        plan->made = err == CHV_OK;
        err = plan->made ? CHV_OK : token_left(plan, err, why);
    } else {
        token_unwrite(plan);
    }
    chv_wipe(pin, sizeof pin);
    chv_wipe(so_pin, sizeof so_pin);
    chv_p11_uri_free(&uri);
    return err;
}
