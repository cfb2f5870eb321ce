/* SPDX-License-Identifier: Apache-2.0 */
#include "services/files_digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct chv_files_digest {
    EVP_MD_CTX *ctx;
};

enum chv_err chv_files_digest_new(struct chv_files_digest **digest)
{
    struct chv_files_digest *made = calloc(1, sizeof *made);
    if (made == NULL)
        return CHV_ERR_MEMORY;
    made->ctx = EVP_MD_CTX_new();
    if (made->ctx == NULL || EVP_DigestInit_ex(made->ctx, EVP_sha256(), NULL) != 1) {
        enum chv_err err = made->ctx == NULL ? CHV_ERR_MEMORY : CHV_ERR_UNSUPPORTED;
        chv_files_digest_free(made);
        return err;
    }
    *digest = made;
    return CHV_OK;
}

void chv_files_digest_free(struct chv_files_digest *digest)
{
    if (digest != NULL)
        EVP_MD_CTX_free(digest->ctx);
    free(digest);
}

enum chv_err chv_files_digest_add(struct chv_files_digest *digest, const void *data, size_t len)
{
    return EVP_DigestUpdate(digest->ctx, data, len) == 1 ? CHV_OK : CHV_ERR_UNSUPPORTED;
}

enum chv_err chv_files_digest_finish(struct chv_files_digest *digest, uint8_t out[static CHV_FILES_DIGEST_LEN])
{
    unsigned len = CHV_FILES_DIGEST_LEN;
    return EVP_DigestFinal_ex(digest->ctx, out, &len) == 1 ? CHV_OK : CHV_ERR_UNSUPPORTED;
}

enum chv_err chv_files_digest_reset(struct chv_files_digest *digest)
{
    return EVP_DigestInit_ex(digest->ctx, NULL, NULL) == 1 ? CHV_OK : CHV_ERR_UNSUPPORTED;
}

enum chv_err chv_files_digest_peek(const struct chv_files_digest *digest, uint8_t out[static CHV_FILES_DIGEST_LEN])
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    if (copy == NULL)
        return CHV_ERR_MEMORY;
    unsigned len = CHV_FILES_DIGEST_LEN;
    enum chv_err err = EVP_MD_CTX_copy_ex(copy, digest->ctx) == 1 && EVP_DigestFinal_ex(copy, out, &len) == 1
                           ? CHV_OK
                           : CHV_ERR_UNSUPPORTED;
    EVP_MD_CTX_free(copy);
    return err;
}
