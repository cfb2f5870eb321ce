/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/answers.h"

const struct chv_answer_aead chv_answers_aead[CHV_AEAD_COUNT] = {
    [CHV_AEAD_AES256GCM] =
        {
            .source = "McGrew and Viega, GCM, test case 16",
            .key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            .nonce = "cafebabefacedbaddecaf888",
            .ad = "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            .plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            .sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                      "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
                      "76fc6ece0f4e1768cddf8853bb2d551b",
        },
    [CHV_AEAD_CHACHA20POLY1305] =
        {
            .source = "RFC 8439, 2.8.2",
            .key = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            .nonce = "070000004041424344454647",
            .ad = "50515253c0c1c2c3c4c5c6c7",
            .plain = "4c616469657320616e642047656e746c656d656e206f662074686520636c6173"
                     "73206f66202739393a204966204920636f756c64206f6666657220796f75206f"
                     "6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
                     "637265656e20776f756c642062652069742e",
            .sealed = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
                      "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
                      "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
                      "3ff4def08e4b7a9de576d26586cec64b6116"
                      "1ae10b594f09e26a7e902ecbd0600691",
        },
};

const struct chv_answer_dh chv_answers_dh[CHV_CURVE_COUNT] = {
    [CHV_CURVE_25519] =
        {
            .source = "RFC 7748, 6.1",
            .private_key = {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
                            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"},
            .public_key = {"8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
                           "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"},
            .shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        },
    [CHV_CURVE_P256] =
        {
            .source = "RFC 5903, 8.1",
            .private_key = {"c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
                            "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53"},
            .public_key = {"04dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"
                           "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
                           "04d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"
                           "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"},
            .shared = "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
        },
};
