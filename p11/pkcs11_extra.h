/* SPDX-License-Identifier: Apache-2.0 */
/* <p11-kit/pkcs11.h>, and what PKCS #11 3.0 has and it lacks. */
#ifndef CHV_P11_PKCS11_EXTRA_H
#define CHV_P11_PKCS11_EXTRA_H

#include <p11-kit/pkcs11.h>

/* PKCS #11 3.0, 2.3.8: X25519 keys. */
#ifndef CKK_EC_MONTGOMERY
#define CKK_EC_MONTGOMERY 0x41UL
#endif
#ifndef CKM_EC_MONTGOMERY_KEY_PAIR_GEN
#define CKM_EC_MONTGOMERY_KEY_PAIR_GEN 0x1056UL
#endif

/* PKCS #11 3.0, 2.62. */
#ifndef CKM_HKDF_DERIVE
#define CKM_HKDF_DERIVE 0x402aUL
#define CKF_HKDF_SALT_NULL 0x1UL
struct chv_p11_hkdf_params {
    CK_BBOOL bExtract;
    CK_BBOOL bExpand;
    CK_MECHANISM_TYPE prfHashMechanism;
    CK_ULONG ulSaltType;
    CK_BYTE_PTR pSalt;
    CK_ULONG ulSaltLen;
    CK_OBJECT_HANDLE hSaltKey;
    CK_BYTE_PTR pInfo;
    CK_ULONG ulInfoLen;
};
#endif

/* PKCS #11 3.0, 2.42. */
#ifndef CKM_SP800_108_COUNTER_KDF
#define CKM_SP800_108_COUNTER_KDF 0x3acUL
#define CK_SP800_108_ITERATION_VARIABLE 0x1UL
#define CK_SP800_108_BYTE_ARRAY 0x4UL
struct chv_p11_prf_data {
    CK_ULONG type;
    void *pValue;
    CK_ULONG ulValueLen;
};
struct chv_p11_counter_format {
    CK_BBOOL bLittleEndian;
    CK_ULONG ulWidthInBits;
};
struct chv_p11_sp800_108_params {
    CK_MECHANISM_TYPE prfType;
    CK_ULONG ulNumberOfDataParams;
    struct chv_p11_prf_data *pDataParams;
    CK_ULONG ulAdditionalDerivedKeys;
    void *pAdditionalDerivedKeys;
};
#endif

/* PKCS #11 3.0, 2.58. */
#ifndef CKK_CHACHA20
#define CKK_CHACHA20 0x33UL
#endif
#ifndef CKM_CHACHA20_POLY1305
#define CKM_CHACHA20_POLY1305 0x4021UL
struct chv_p11_chacha_params {
    CK_BYTE_PTR pNonce;
    CK_ULONG ulNonceLen;
    CK_BYTE_PTR pAAD;
    CK_ULONG ulAADLen;
};
#endif

/* PKCS #11 3.0, 2.14. */
#ifndef CKM_AES_KEY_WRAP_KWP
#define CKM_AES_KEY_WRAP_KWP 0x210bUL
#endif

#ifndef CKM_SHA512_HMAC
#define CKM_SHA512_HMAC 0x271UL
#endif

/* PKCS #11 3.0: two calls overlap that must not. */
#ifndef CKR_OPERATION_CANCEL_FAILED
#define CKR_OPERATION_CANCEL_FAILED 0x202UL
#endif

#endif
