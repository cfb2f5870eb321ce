/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro get, put, ls, stat, df, checksum, mkdir, rmdir, rm, mv: one command, and the connection ends. */
#include "tools/chaveiro_files.h"

#include <stdlib.h>
#include <sysexits.h>

static int transfer(const struct chv_cli_args *args, bool put)
{
    struct chaveiro_transfer t = {.recursive = chv_cli_given(args, "recursive"),
                                  .preserve = chv_cli_given(args, "preserve"),
                                  .resume = chv_cli_given(args, "resume"),
                                  .fsync = chv_cli_given(args, "fsync")};
    struct chaveiro_receipts receipts = {.where = NULL};
    int code = put ? chaveiro_receipts_init(&receipts, args, t.recursive || args->operand_count > 2) : EX_OK;
    if (code != EX_OK)
        return code;
    t.receipts = receipts.where != NULL ? &receipts : NULL;
    struct chaveiro_files *files = malloc(sizeof *files);
    if (files == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    chaveiro_files_init(files, args);
    code = put ? chaveiro_files_put(files, &t, args->operands, args->operand_count, args->operand_count > 1)
               : chaveiro_files_get(files, &t, args->operands, args->operand_count);
    code = chaveiro_files_close(files, code);
    free(files);
    return code;
}

static int simple(const struct chv_cli_args *args, enum chv_files_op op)
{
    struct chaveiro_files *files = malloc(sizeof *files);
    if (files == NULL)
        return chv_cli_why(CHV_ERR_MEMORY, NULL);
    chaveiro_files_init(files, args);
    const int code = chaveiro_files_close(files, chaveiro_files_simple(files, op, args->operands, args->operand_count));
    free(files);
    return code;
}

int chaveiro_get(const struct chv_cli_args *args)
{
    return transfer(args, false);
}

int chaveiro_put(const struct chv_cli_args *args)
{
    return transfer(args, true);
}

int chaveiro_ls(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_LS);
}

int chaveiro_stat(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_STAT);
}

int chaveiro_df(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_DF);
}

int chaveiro_checksum(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_CHECKSUM);
}

int chaveiro_mkdir(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_MKDIR);
}

int chaveiro_rmdir(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_RMDIR);
}

int chaveiro_rm(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_RM);
}

int chaveiro_mv(const struct chv_cli_args *args)
{
    return simple(args, CHV_FILES_RENAME);
}
