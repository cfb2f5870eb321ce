/* SPDX-License-Identifier: Apache-2.0 */
/* What another process does to a token:  token_tool reinit|relabel|setpin MODULE LABEL [NEW_LABEL | OLD NEW] */
#include "tests/support/tokens.h"

#include "p11/module.h"
#include "p11/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static CK_SLOT_ID find(struct chv_p11_module *m, const char *label)
{
    CK_SLOT_ID slots[64];
    CK_ULONG n = 64;
    CK_TOKEN_INFO info;
    if (m->fn->C_GetSlotList(CK_TRUE, slots, &n) != CKR_OK)
        exit(EXIT_FAILURE);
    for (CK_ULONG i = 0; i < n; i++)
        if (m->fn->C_GetTokenInfo(slots[i], &info) == CKR_OK && memcmp(info.label, label, strlen(label)) == 0 &&
            info.label[strlen(label)] == ' ')
            return slots[i];
    exit(EXIT_FAILURE);
}

static CK_RV reinit(struct chv_p11_module *m, const char *label, const char *new_label)
{
    CK_UTF8CHAR padded[33], so_pin[] = TEST_SO_PIN, pin[] = TEST_PIN;
    CK_SESSION_HANDLE session;
    CK_SLOT_ID slot = find(m, label);
    (void)snprintf((char *)padded, sizeof padded, "%-32s", new_label);
    CK_RV rv = m->fn->C_InitToken(slot, so_pin, sizeof so_pin - 1, padded);
    if (rv == CKR_OK)
        rv = m->fn->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
    if (rv == CKR_OK)
        rv = m->fn->C_Login(session, CKU_SO, so_pin, sizeof so_pin - 1);
    return rv != CKR_OK ? rv : m->fn->C_InitPIN(session, pin, sizeof pin - 1);
}

static CK_RV set_pin(struct chv_p11_module *m, const char *label, char *old_pin, char *new_pin)
{
    CK_SESSION_HANDLE session;
    CK_RV rv = m->fn->C_OpenSession(find(m, label), CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
    if (rv == CKR_OK)
        rv = m->fn->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)old_pin, strlen(old_pin));
    return rv != CKR_OK ? rv
                        : m->fn->C_SetPIN(session, (CK_UTF8CHAR_PTR)old_pin, strlen(old_pin), (CK_UTF8CHAR_PTR)new_pin,
                                          strlen(new_pin));
}

int main(int argc, char **argv)
{
    struct chv_p11_module *m;
    struct chv_why why = {""};
    if (argc < 4 || chv_p11_module_load(argv[2], NULL, &m, &why) != CHV_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        return EXIT_FAILURE;
    }
    CK_RV rv = argc == 6 ? set_pin(m, argv[3], argv[4], argv[5]) : reinit(m, argv[3], argc == 5 ? argv[4] : argv[3]);
    if (rv != CKR_OK)
        (void)fprintf(stderr, "%s: 0x%lx\n", argv[1], rv);
    chv_p11_module_unload(m);
    return rv == CKR_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
