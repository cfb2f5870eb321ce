/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "keystore/file.h"

/* "chaveiro-bundle 1 passphrase 512\n", then so many bytes of the envelope that holds the content key, then chunks. */
static const char bundle_magic[] = "chaveiro-bundle ";
static const char bundle_passphrase[] = "passphrase", bundle_cms[] = "cms";

enum {
    BUNDLE_VERSION = 1,
    BUNDLE_LINE_MAX = 64,
    BUNDLE_ENVELOPE_MAX = 64 << 10,
    BUNDLE_CHUNK_MAX = 32 << 10, /* plaintext */
    BUNDLE_SEALED_MAX = BUNDLE_CHUNK_MAX + CHV_AEAD_TAG_LEN,
    BUNDLE_HASH_LEN = 32,
    BUNDLE_AD_LEN = BUNDLE_HASH_LEN + 8 + 1
};

/* What both sides have: the content key at work, and which chunk is next. */
struct bundle_chunks {
    struct chv_crypto crypto;
    struct chv_aead *aead;
    uint8_t head[BUNDLE_HASH_LEN]; /* of everything before the chunks */
    uint64_t index;
    uint8_t *plain; /* BUNDLE_CHUNK_MAX, secure */
    size_t len;
};

struct chv_bundle_writer {
    struct bundle_chunks chunks;
    char path[PATH_MAX], part[PATH_MAX];
    FILE *out;
    uint64_t clients, wanted;
    bool finished;
};

struct chv_bundle_reader {
    struct bundle_chunks chunks;
    char path[PATH_MAX];
    FILE *in;
    size_t at; /* in the chunk */
    bool last; /* the chunk is the last one */
    uint64_t clients, wanted;
};

static void bundle_put_u64(uint8_t *out, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        out[i] = (uint8_t)v;
}

/* The content key is fresh for each bundle, so the chunk's number is nonce enough (SP 800-38D, 8.2.1). */
static void bundle_position(const struct bundle_chunks *c, bool last, uint8_t nonce[CHV_AEAD_NONCE_LEN],
                            uint8_t ad[BUNDLE_AD_LEN])
{
    memset(nonce, 0, CHV_AEAD_NONCE_LEN);
    bundle_put_u64(nonce + CHV_AEAD_NONCE_LEN - 8, c->index);
    memcpy(ad, c->head, BUNDLE_HASH_LEN);
    bundle_put_u64(ad + BUNDLE_HASH_LEN, c->index);
    ad[BUNDLE_AD_LEN - 1] = last ? 1 : 0;
}

static enum chv_err bundle_chunks_open(struct bundle_chunks *c, struct chv_why *why)
{
    enum chv_err err = chv_backend_open("openssl", &c->crypto, why);
    c->plain = chv_secure_alloc(BUNDLE_CHUNK_MAX);
    return err == CHV_OK && c->plain == NULL ? CHV_ERR_MEMORY : err;
}

static enum chv_err bundle_chunks_key(struct bundle_chunks *c, const char *line, const char *envelope, size_t len,
                                      const uint8_t *key)
{
    const struct chv_part parts[] = {{(const uint8_t *)line, strlen(line)}, {(const uint8_t *)envelope, len}};
    enum chv_err err = chv_crypto_hash(&c->crypto, CHV_HASH_SHA256, parts, 2, c->head);
    return err == CHV_OK ? chv_crypto_aead_new(&c->crypto, CHV_AEAD_AES256GCM, key, &c->aead) : err;
}

static void bundle_chunks_close(struct bundle_chunks *c)
{
    if (c->aead != NULL)
        chv_crypto_aead_free(&c->crypto, c->aead);
    chv_backend_close(&c->crypto);
    chv_secure_free(c->plain, BUNDLE_CHUNK_MAX);
}

bool chv_bundle_is(const char *path)
{
    char start[sizeof bundle_magic] = "";
    FILE *in = fopen(path, "re");
    bool is = in != NULL && fread(start, 1, sizeof start - 1, in) == sizeof start - 1 &&
              memcmp(start, bundle_magic, sizeof start - 1) == 0;
    if (in != NULL)
        (void)fclose(in);
    return is;
}

/* --- writing -------------------------------------------------------------------------------------------------------
 */

static enum chv_err bundle_io(const char *path, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_IO, "%s: %s", path, strerror(errno));
}

static enum chv_err bundle_begin_file(struct chv_bundle_writer *w, struct chv_why *why)
{
    struct stat st = {0}, named = {0};
    int fd = open(w->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return bundle_io(w->part, why);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return chv_fail(why, CHV_ERR_BUSY, "%s: another program is writing it", w->part);
    }
    /* it may have been finished and renamed between the two calls */
    bool ours = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && stat(w->part, &named) == 0 && st.st_ino == named.st_ino &&
                st.st_dev == named.st_dev;
    if (!ours || ftruncate(fd, 0) != 0 || fchmod(fd, 0600) != 0 || (w->out = fdopen(fd, "w")) == NULL) {
        enum chv_err err =
            ours ? bundle_io(w->part, why) : chv_fail(why, CHV_ERR_BUSY, "%s: another program is writing it", w->part);
        close(fd);
        return err;
    }
    return CHV_OK;
}

/* The content key under a passphrase or a certificate. */
static enum chv_err bundle_envelope(struct chv_bundle_writer *w, const struct chv_bundle_seal *seal, const uint8_t *key,
                                    char **text, size_t *len, struct chv_why *why)
{
    const struct chv_file_cost cost = {.n = seal->scrypt_n != 0 ? seal->scrypt_n : CHV_FILE_N_DEFAULT,
                                       .r = CHV_FILE_R_DEFAULT,
                                       .p = CHV_FILE_P_DEFAULT};
    char prompt[CHV_LABEL_MAX + PATH_MAX];
    if (seal->recipient != NULL)
        return chv_cms_seal(seal->recipient, key, CHV_KEY_LEN, text, len, why);
    char *passphrase = chv_secure_alloc(CHV_FILE_PASSPHRASE_MAX);
    size_t passphrase_len = 0;
    if (passphrase == NULL)
        return CHV_ERR_MEMORY;
    (void)snprintf(prompt, sizeof prompt, "New passphrase of bundle %s", w->path);
    enum chv_err err =
        seal->secret(seal->secret_arg, prompt, 1, passphrase, CHV_FILE_PASSPHRASE_MAX, &passphrase_len, why);
    if (err == CHV_OK)
        err = chv_file_envelope_seal(&w->chunks.crypto, NULL, &cost, passphrase, passphrase_len, key, CHV_KEY_LEN,
                                     w->path, text, len, why);
    chv_secure_free(passphrase, CHV_FILE_PASSPHRASE_MAX);
    return err;
}

static enum chv_err bundle_flush(struct chv_bundle_writer *w, bool last, struct chv_why *why)
{
    struct bundle_chunks *c = &w->chunks;
    uint8_t nonce[CHV_AEAD_NONCE_LEN], ad[BUNDLE_AD_LEN], sealed[4 + BUNDLE_SEALED_MAX];
    const size_t len = c->len + CHV_AEAD_TAG_LEN;
    bundle_position(c, last, nonce, ad);
    for (int i = 0; i < 4; i++)
        sealed[i] = (uint8_t)(len >> (24 - 8 * i));
    enum chv_err err = chv_crypto_aead_seal(&c->crypto, c->aead, nonce, ad, sizeof ad, c->plain, c->len, sealed + 4);
    if (err != CHV_OK)
        return chv_fail(why, err, "%s: cannot be encrypted", w->path);
    c->index++;
    chv_wipe(c->plain, c->len);
    c->len = 0;
    return fwrite(sealed, 1, 4 + len, w->out) == 4 + len ? CHV_OK : bundle_io(w->part, why);
}

/* Chunk 0: what goes for all. */
static enum chv_err bundle_put_meta(struct chv_bundle_writer *w, const struct chv_bundle_meta *meta,
                                    struct chv_why *why)
{
    json_t *o = json_pack("{s:s,s:s,s:I,s:I}", "server", meta->server, "address", meta->address, "created",
                          (json_int_t)meta->created, "clients", (json_int_t)meta->clients);
    if (meta->server_key[0] != '\0')
        (void)json_object_set_new(o, "server_key", json_string(meta->server_key));
    w->chunks.len = o == NULL ? 0 : json_dumpb(o, (char *)w->chunks.plain, BUNDLE_CHUNK_MAX, JSON_COMPACT);
    json_decref(o);
    if (w->chunks.len == 0 || w->chunks.len > BUNDLE_CHUNK_MAX)
        return CHV_ERR_MEMORY;
    return bundle_flush(w, false, why);
}

static enum chv_err bundle_start(struct chv_bundle_writer *w, const struct chv_bundle_seal *seal,
                                 const struct chv_bundle_meta *meta, struct chv_why *why)
{
    char line[BUNDLE_LINE_MAX];
    char *text = NULL;
    size_t len = 0;
    uint8_t *key = chv_secure_alloc(CHV_KEY_LEN);
    enum chv_err err = key == NULL ? CHV_ERR_MEMORY : bundle_chunks_open(&w->chunks, why);
    if (err == CHV_OK)
        err = chv_crypto_random(&w->chunks.crypto, key, CHV_KEY_LEN);
    if (err == CHV_OK)
        err = bundle_envelope(w, seal, key, &text, &len, why);
    if (err == CHV_OK)
        err = bundle_begin_file(w, why);
    if (err == CHV_OK) {
        (void)snprintf(line, sizeof line, "%s%d %s %zu\n", bundle_magic, BUNDLE_VERSION,
                       seal->recipient != NULL ? bundle_cms : bundle_passphrase, len);
        err = bundle_chunks_key(&w->chunks, line, text, len, key);
    }
    if (err == CHV_OK && (fputs(line, w->out) == EOF || fwrite(text, 1, len, w->out) != len))
        err = bundle_io(w->part, why);
    if (err == CHV_OK)
        err = bundle_put_meta(w, meta, why);
    free(text);
    chv_secure_free(key, CHV_KEY_LEN);
    return err;
}

enum chv_err chv_bundle_create(const char *path, const struct chv_bundle_seal *seal, const struct chv_bundle_meta *meta,
                               struct chv_bundle_writer **writer, struct chv_why *why)
{
    struct chv_bundle_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return CHV_ERR_MEMORY;
    w->wanted = meta->clients;
    enum chv_err err = CHV_OK;
    if (snprintf(w->path, sizeof w->path, "%s", path) >= PATH_MAX ||
        snprintf(w->part, sizeof w->part, "%s.part", path) >= PATH_MAX)
        err = chv_fail(why, CHV_ERR_ARGUMENT, "the bundle's name is too long");
    if (err == CHV_OK)
        err = bundle_start(w, seal, meta, why);
    if (err == CHV_OK)
        *writer = w;
    else
        chv_bundle_discard(w);
    return err;
}

enum chv_err chv_bundle_put(struct chv_bundle_writer *w, const uint8_t *credential, size_t len,
                            const uint8_t key[CHV_SECRET_LEN], struct chv_why *why)
{
    struct bundle_chunks *c = &w->chunks;
    enum chv_err err = CHV_OK;
    if (len > CHV_CREDENTIAL_MAX)
        return CHV_ERR_ARGUMENT;
    if (c->len + 2 + len + CHV_SECRET_LEN > BUNDLE_CHUNK_MAX)
        err = bundle_flush(w, false, why);
    if (err != CHV_OK)
        return err;
    c->plain[c->len++] = (uint8_t)(len >> 8);
    c->plain[c->len++] = (uint8_t)len;
    memcpy(c->plain + c->len, credential, len);
    memcpy(c->plain + c->len + len, key, CHV_SECRET_LEN);
    c->len += len + CHV_SECRET_LEN;
    w->clients++;
    return CHV_OK;
}

static enum chv_err bundle_sync_folder(const char *path, struct chv_why *why)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        (void)snprintf(folder, sizeof folder, ".");
    else
        slash[slash == folder] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum chv_err err = fd < 0 || fsync(fd) != 0 ? bundle_io(folder, why) : CHV_OK;
    if (fd >= 0)
        close(fd);
    return err;
}

enum chv_err chv_bundle_finish(struct chv_bundle_writer *w, bool replace, struct chv_why *why)
{
    if (w->clients != w->wanted)
        return chv_fail(why, CHV_ERR_STATE, "%s: %" PRIu64 " clients instead of %" PRIu64, w->path, w->clients,
                        w->wanted);
    enum chv_err err = bundle_flush(w, true, why);
    if (err == CHV_OK && (fflush(w->out) != 0 || fsync(fileno(w->out)) != 0))
        err = bundle_io(w->part, why);
    if (err == CHV_OK && replace && rename(w->part, w->path) != 0)
        err = bundle_io(w->path, why);
    if (err == CHV_OK && !replace && link(w->part, w->path) != 0)
        err = errno == EEXIST
                  ? chv_fail(why, CHV_ERR_EXISTS, "%s: is there already and will not be overwritten", w->path)
                  : bundle_io(w->path, why);
    if (err == CHV_OK && !replace)
        (void)unlink(w->part);
    w->finished = err == CHV_OK;
    return err == CHV_OK ? bundle_sync_folder(w->path, why) : err;
}

void chv_bundle_discard(struct chv_bundle_writer *w)
{
    if (w == NULL)
        return;
    if (w->out != NULL && !w->finished)
        (void)unlink(w->part);
    if (w->out != NULL)
        (void)fclose(w->out);
    bundle_chunks_close(&w->chunks);
    free(w);
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

static enum chv_err bundle_damaged(const struct chv_bundle_reader *r, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_STORE_DAMAGED, "%s: is damaged, or was changed: part %" PRIu64 " of it does not open",
                    r->path, r->chunks.index);
}

static enum chv_err bundle_truncated(const struct chv_bundle_reader *r, struct chv_why *why)
{
    return chv_fail(why, CHV_ERR_STORE_TRUNCATED, "%s: is cut off: it ends before its end mark", r->path);
}

static enum chv_err bundle_unwrap(struct chv_bundle_reader *r, const struct chv_bundle_open *how, bool cms,
                                  const char *text, size_t len, uint8_t *key, struct chv_why *why)
{
    struct chv_file_envelope env = {0};
    char prompt[CHV_LABEL_MAX + PATH_MAX];
    uint8_t *plain = NULL;
    size_t plain_len = CHV_KEY_LEN, secret_len = 0;
    if (cms) {
        if (how->key == NULL)
            return chv_fail(why, CHV_ERR_NO_SECRET,
                            "%s: is encrypted to a certificate: give its private key by --key FILE", r->path);
        enum chv_err err = chv_cms_open_text(r->path, text, len, how->key, how->key_secret, key, &plain_len, why);
        return err == CHV_OK && plain_len != CHV_KEY_LEN ? bundle_damaged(r, why) : err;
    }
    enum chv_err err = chv_file_envelope_parse(&env, &r->chunks.crypto, r->path, text, len, why);
    if (err != CHV_OK)
        return err;
    char *passphrase = chv_secure_alloc(CHV_FILE_PASSPHRASE_MAX);
    (void)snprintf(prompt, sizeof prompt, "Passphrase of bundle %s", r->path);
    err = passphrase == NULL
              ? CHV_ERR_MEMORY
              : how->secret(how->secret_arg, prompt, 0, passphrase, CHV_FILE_PASSPHRASE_MAX, &secret_len, why);
    if (err == CHV_OK)
        err = chv_file_envelope_open(&env, &r->chunks.crypto, NULL, passphrase, secret_len, r->path, &plain, &plain_len,
                                     why);
    if (err == CHV_OK && plain_len != CHV_KEY_LEN)
        err = bundle_damaged(r, why);
    if (err == CHV_OK)
        memcpy(key, plain, CHV_KEY_LEN);
    chv_secure_free(passphrase, CHV_FILE_PASSPHRASE_MAX);
    chv_secure_free(plain, env.sealed_len);
    chv_file_envelope_free(&env);
    return err;
}

/* The first line: version, kind and length of the envelope. */
static enum chv_err bundle_line(struct chv_bundle_reader *r, char line[BUNDLE_LINE_MAX], bool *cms, size_t *len,
                                struct chv_why *why)
{
    char again[BUNDLE_LINE_MAX], *end = NULL;
    if (fgets(line, BUNDLE_LINE_MAX, r->in) == NULL || strncmp(line, bundle_magic, sizeof bundle_magic - 1) != 0)
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is no bundle of 'keyadmin client add --from'", r->path);
    if (strtoul(line + sizeof bundle_magic - 1, &end, 10) != BUNDLE_VERSION || *end != ' ')
        return chv_fail(why, CHV_ERR_STORE_FORMAT, "%s: is a bundle of another version, this program knows %d", r->path,
                        BUNDLE_VERSION);
    const char *kind = end + 1;
    *cms = strncmp(kind, bundle_cms, sizeof bundle_cms - 1) == 0;
    *len = strtoul(kind + strcspn(kind, " "), NULL, 10);
    (void)snprintf(again, sizeof again, "%s%d %s %zu\n", bundle_magic, BUNDLE_VERSION,
                   *cms ? bundle_cms : bundle_passphrase, *len);
    if (strcmp(line, again) != 0 || *len == 0 || *len > BUNDLE_ENVELOPE_MAX)
        return chv_fail(why, CHV_ERR_STORE_DAMAGED, "%s: is damaged: its first line is not right", r->path);
    return CHV_OK;
}

/* The next chunk into chunks.plain. */
static enum chv_err bundle_chunk(struct chv_bundle_reader *r, struct chv_why *why)
{
    struct bundle_chunks *c = &r->chunks;
    uint8_t nonce[CHV_AEAD_NONCE_LEN], ad[BUNDLE_AD_LEN], size[4], sealed[BUNDLE_SEALED_MAX];
    if (fread(size, 1, sizeof size, r->in) != sizeof size)
        return ferror(r->in) ? bundle_io(r->path, why) : bundle_truncated(r, why);
    const size_t len = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    if (len < CHV_AEAD_TAG_LEN || len > BUNDLE_SEALED_MAX)
        return bundle_damaged(r, why);
    if (fread(sealed, 1, len, r->in) != len)
        return ferror(r->in) ? bundle_io(r->path, why) : bundle_truncated(r, why);
    enum chv_err err = CHV_ERR_AUTH;
    int byte = fgetc(r->in);
    r->last = byte == EOF; /* only the last chunk opens as the last one */
    if (byte != EOF)
        (void)ungetc(byte, r->in);
    bundle_position(c, r->last, nonce, ad);
    err = chv_crypto_aead_open(&c->crypto, c->aead, nonce, ad, sizeof ad, sealed, len, c->plain);
    if (err == CHV_ERR_AUTH && r->last) { /* right but for its place: it is not the end */
        ad[BUNDLE_AD_LEN - 1] = 0;
        if (chv_crypto_aead_open(&c->crypto, c->aead, nonce, ad, sizeof ad, sealed, len, c->plain) == CHV_OK) {
            chv_wipe(c->plain, BUNDLE_CHUNK_MAX);
            return bundle_truncated(r, why);
        }
    }
    if (err != CHV_OK)
        return bundle_damaged(r, why);
    c->index++;
    c->len = len - CHV_AEAD_TAG_LEN;
    r->at = 0;
    return CHV_OK;
}

static enum chv_err bundle_get_meta(struct chv_bundle_reader *r, struct chv_bundle_meta *meta, struct chv_why *why)
{
    enum chv_err err = bundle_chunk(r, why);
    if (err != CHV_OK)
        return err;
    json_t *o = json_loadb((const char *)r->chunks.plain, r->chunks.len, JSON_REJECT_DUPLICATES, NULL);
    const char *server = json_string_value(json_object_get(o, "server"));
    const char *address = json_string_value(json_object_get(o, "address"));
    const char *server_key = json_string_value(json_object_get(o, "server_key"));
    const json_int_t clients = json_integer_value(json_object_get(o, "clients"));
    const json_int_t created = json_integer_value(json_object_get(o, "created"));
    if (server == NULL || !chv_server_name_valid(server) || address == NULL || strlen(address) > CHV_ADDRESS_MAX ||
        (server_key != NULL && strlen(server_key) >= sizeof meta->server_key) || clients < 0 ||
        clients > CHV_BUNDLE_CLIENTS_MAX || created < 0) {
        err = bundle_damaged(r, why);
    } else {
        *meta = (struct chv_bundle_meta){.created = (uint64_t)created, .clients = (uint64_t)clients};
        (void)snprintf(meta->server, sizeof meta->server, "%s", server);
        (void)snprintf(meta->address, sizeof meta->address, "%s", address);
        (void)snprintf(meta->server_key, sizeof meta->server_key, "%s", server_key != NULL ? server_key : "");
        r->wanted = meta->clients;
        r->at = r->chunks.len;
    }
    json_decref(o);
    return err;
}

static enum chv_err bundle_start_reading(struct chv_bundle_reader *r, const struct chv_bundle_open *how,
                                         struct chv_bundle_meta *meta, struct chv_why *why)
{
    char line[BUNDLE_LINE_MAX];
    bool cms = false;
    size_t len = 0;
    char *text = NULL;
    uint8_t *key = chv_secure_alloc(CHV_KEY_LEN);
    r->in = fopen(r->path, "re");
    if (r->in == NULL) {
        chv_secure_free(key, CHV_KEY_LEN);
        return chv_fail(why, errno == ENOENT ? CHV_ERR_NOT_FOUND : CHV_ERR_IO, "%s: %s", r->path, strerror(errno));
    }
    enum chv_err err = key == NULL ? CHV_ERR_MEMORY : bundle_chunks_open(&r->chunks, why);
    if (err == CHV_OK)
        err = bundle_line(r, line, &cms, &len, why);
    if (err == CHV_OK && (text = malloc(len + 1)) == NULL)
        err = CHV_ERR_MEMORY;
    if (err == CHV_OK && fread(text, 1, len, r->in) != len)
        err = bundle_truncated(r, why);
    if (err == CHV_OK)
        err = bundle_unwrap(r, how, cms, text, len, key, why);
    if (err == CHV_OK)
        err = bundle_chunks_key(&r->chunks, line, text, len, key);
    if (err == CHV_OK)
        err = bundle_get_meta(r, meta, why);
    free(text);
    chv_secure_free(key, CHV_KEY_LEN);
    return err;
}

enum chv_err chv_bundle_read(const char *path, const struct chv_bundle_open *open, struct chv_bundle_meta *meta,
                             struct chv_bundle_reader **reader, struct chv_why *why)
{
    struct chv_bundle_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return CHV_ERR_MEMORY;
    enum chv_err err = snprintf(r->path, sizeof r->path, "%s", path) >= PATH_MAX
                           ? chv_fail(why, CHV_ERR_ARGUMENT, "the bundle's name is too long")
                           : bundle_start_reading(r, open, meta, why);
    if (err == CHV_OK)
        *reader = r;
    else
        chv_bundle_close(r);
    return err;
}

enum chv_err chv_bundle_next(struct chv_bundle_reader *r, struct chv_bundle_entry *entry, bool *end,
                             struct chv_why *why)
{
    struct bundle_chunks *c = &r->chunks;
    *end = false;
    while (r->at == c->len) {
        if (r->last) {
            *end = true;
            return r->clients == r->wanted ? CHV_OK : bundle_damaged(r, why);
        }
        enum chv_err err = bundle_chunk(r, why);
        if (err != CHV_OK)
            return err;
    }
    const uint8_t *at = c->plain + r->at;
    const size_t left = c->len - r->at, len = left < 2 ? 0 : (size_t)at[0] << 8 | at[1];
    if (len == 0 || len > CHV_CREDENTIAL_MAX || left < 2 + len + CHV_SECRET_LEN ||
        chv_credential_parse(at + 2, len, &entry->credential, NULL) != CHV_OK)
        return bundle_damaged(r, why);
    memcpy(entry->bytes, at + 2, len);
    memset(entry->bytes + len, 0, sizeof entry->bytes - len);
    memcpy(entry->key, at + 2 + len, CHV_SECRET_LEN);
    entry->len = len;
    r->at += 2 + len + CHV_SECRET_LEN;
    r->clients++;
    return CHV_OK;
}

void chv_bundle_close(struct chv_bundle_reader *r)
{
    if (r == NULL)
        return;
    if (r->in != NULL)
        (void)fclose(r->in);
    bundle_chunks_close(&r->chunks);
    free(r);
}
