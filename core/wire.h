/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every size and layout on the wire (doc/protocol.md, sections 4 and 5).
 *
 *   hello    u16 length | "CHV" | u8 version | u8 profile | u8 suite | u8 kind | u8 0 | u16 length | credential
 *                        |<----------------------------- Noise prologue ------------------------------>| Noise message 1
 *   reply    u16 length | u8 0 | Noise message 2
 *   refusal  u16 length | u8 1 | u16 code
 *   record   u16 length | AEAD(u8 type | body)
 */
#ifndef CHV_CORE_WIRE_H
#define CHV_CORE_WIRE_H

#include <chaveiro/session.h>

enum chv_hello_kind { CHV_HELLO_NOTHING = 0, CHV_HELLO_CREDENTIAL = 1, CHV_HELLO_TICKET = 2 };
enum chv_reply_status { CHV_REPLY_ACCEPTED = 0, CHV_REPLY_REFUSED = 1 };

enum {
    CHV_WIRE_VERSION = 1,
    CHV_FRAME_LENGTH_LEN = 2,
    CHV_HELLO_FIXED_LEN = 3 + 5 + 2, /* "CHV", five bytes, length of what follows */
    CHV_HELLO_BODY_MAX = CHV_HELLO_FRAME_MAX - CHV_FRAME_LENGTH_LEN,
    CHV_REPLY_BODY_MAX = CHV_REPLY_FRAME_MAX - CHV_FRAME_LENGTH_LEN,
    CHV_REPLY_STATUS_LEN = 1,
    CHV_REFUSAL_BODY_LEN = CHV_REPLY_STATUS_LEN + 2,
    CHV_REPLY_PAYLOAD_LEN = CHV_LINEAGE_LEN + 8 + 2, /* lineage, server time, idle seconds */
    CHV_REPLY_PAYLOAD_MAX = 64,                      /* a client ignores what it does not know behind these */
    CHV_RECORD_TYPE_LEN = 1,
    CHV_RECORD_FRAME_MIN = CHV_FRAME_LENGTH_LEN + CHV_RECORD_TYPE_LEN + CHV_AEAD_TAG_LEN,
    CHV_PADDED_CREDENTIAL_LEN = CHV_CREDENTIAL_MAX /* key+psk: message 1's payload, zeros behind the credential */
};

_Static_assert(CHV_RECORD_HEAD == CHV_FRAME_LENGTH_LEN + CHV_RECORD_TYPE_LEN, "head of a record");
_Static_assert(CHV_RECORD_TAIL - CHV_AEAD_TAG_LEN == 0, "tail of a record");
_Static_assert(CHV_RECORD_BODY_MAX + CHV_RECORD_TYPE_LEN + CHV_AEAD_TAG_LEN == UINT16_MAX, "u16 carries a record");
_Static_assert(CHV_RECORD_FRAME_MAX == CHV_FRAME_LENGTH_LEN + UINT16_MAX, "longest record on the wire");
/* The longest hellos: psk with a whole credential, and key+psk on P-256 (e; s and tag; padded credential and tag). */
_Static_assert(CHV_HELLO_FIXED_LEN + CHV_CREDENTIAL_MAX + CHV_DH_PUBLIC_MAX + CHV_AEAD_TAG_LEN <= CHV_HELLO_BODY_MAX,
               "psk hello fits");
_Static_assert(CHV_HELLO_FIXED_LEN + 2 * CHV_DH_PUBLIC_MAX + CHV_AEAD_TAG_LEN + CHV_PADDED_CREDENTIAL_LEN +
                       CHV_AEAD_TAG_LEN <=
                   CHV_HELLO_BODY_MAX,
               "key+psk hello fits");
_Static_assert(CHV_HELLO_FIXED_LEN + CHV_TICKET_MAX + CHV_DH_PUBLIC_MAX + CHV_AEAD_TAG_LEN <= CHV_HELLO_BODY_MAX,
               "resumption hello fits");
_Static_assert(CHV_REPLY_STATUS_LEN + CHV_DH_PUBLIC_MAX + CHV_REPLY_PAYLOAD_MAX + CHV_AEAD_TAG_LEN <=
                   CHV_REPLY_BODY_MAX,
               "reply fits");

/* A parsed hello; pointers are into the body that was parsed. */
struct chv_hello {
    enum chv_profile profile;
    enum chv_suite suite;
    enum chv_hello_kind kind;
    const uint8_t *bytes; /* credential or ticket */
    size_t bytes_len;
    const uint8_t *prologue;
    size_t prologue_len;
    uint8_t *message1;
    size_t message1_len;
};

/* What is served, as masks: chaveiro/session.h, struct chv_session_config. */
struct chv_served {
    unsigned profiles;
    unsigned suites;
};

/*
 * Checks in the order of doc/protocol.md section 4: form, version, what is served, profile against kind.
 * Returns 0, or the code of the refusal with *note set (static text for the log).  Does not parse the credential.
 */
unsigned chv_hello_parse(uint8_t *body, size_t len, const struct chv_served *served, struct chv_hello *hello,
                         const char **note);
/* Writes the prologue to `out` (room for CHV_HELLO_FIXED_LEN + bytes_len) and returns its length. */
size_t chv_hello_write_prologue(uint8_t *out, enum chv_profile profile, enum chv_suite suite, enum chv_hello_kind kind,
                                const uint8_t *bytes, size_t bytes_len);

/* Whether `code` is one of enum chv_refusal. */
bool chv_refusal_known(unsigned code);

void chv_put_u16(uint8_t out[2], uint16_t v);
uint16_t chv_get_u16(const uint8_t in[2]);

/* What a suite is made of. */
struct chv_suite_parts {
    const char *name;
    enum chv_curve curve;
    enum chv_aead_alg aead;
    enum chv_hash hash;
};
/* NULL for a number that is no suite. */
const struct chv_suite_parts *chv_suite_parts(enum chv_suite suite);
/* "NNpsk2", "IK", "IKpsk2"; NULL for a number that is no profile. */
const char *chv_profile_pattern(enum chv_profile profile);

#endif
