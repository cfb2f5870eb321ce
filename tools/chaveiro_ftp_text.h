/* SPDX-License-Identifier: Apache-2.0 */
/* chaveiro ftp: the texts of the protocol, without connections: paths, addresses, times, listings. */
#ifndef CHV_TOOLS_CHAVEIRO_FTP_TEXT_H
#define CHV_TOOLS_CHAVEIRO_FTP_TEXT_H

#include "services/files_wire.h"

#include <sys/socket.h>

enum {
    FTP_QUOTED_MAX = 2 * CHV_FILES_PATH_MAX + 4, /* "/path" with its quotes */
    FTP_TIME_SIZE = 32,
    FTP_FACTS_MAX = 160,
    FTP_LINE_OUT_MAX = FTP_FACTS_MAX + CHV_FILES_PATH_MAX + CHV_FILES_NAME_MAX + 8 /* a line of a listing */
};

/*
 * Where `arg`, as an FTP client writes it, leads from the folder `cwd` (a checked path, "": the root): "." and ".." and
 * empty parts are resolved here, and ".." ends at the root. NULL and the path in `out`, or what is wrong with it.
 */
const char *ftp_path_resolve(const char *cwd, const char *arg, char out[CHV_FILES_PATH_MAX + 1]);
/* "\"/a \"\"b\"\"\"": as RFC 959, appendix II, has it. */
void ftp_path_quote(const char *path, char out[FTP_QUOTED_MAX]);
/* Whether the last part has what a shell would expand. */
bool ftp_path_is_pattern(const char *path);

/* RFC 959, 4.1.2: "h1,h2,h3,h4,p1,p2". */
bool ftp_port_parse(const char *text, struct sockaddr_storage *address);
/* RFC 2428, 2: "|1|132.235.1.2|6275|". False also for another protocol number; *other is then set. */
bool ftp_eprt_parse(const char *text, struct sockaddr_storage *address, bool *other);
/* The same host; ports are not looked at. A mapped address is the IPv4 one. */
bool ftp_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
bool ftp_is_loopback(const struct sockaddr_storage *address);

/* RFC 3659, 2.3, UTC: "20260301120000", with ".123" if it is not a whole second. */
void ftp_time_format(uint64_t ns, char out[FTP_TIME_SIZE]);
bool ftp_time_parse(const char *text, size_t len, uint64_t *ns);

/* Bits of the facts of RFC 3659, 7.5, in the order of ftp_facts. */
extern const char *const ftp_facts[];
enum { FTP_FACTS = 4, FTP_FACTS_ALL = (1 << FTP_FACTS) - 1 };
/* "type=file;size=3;..." and a space. Returns its length. */
size_t ftp_facts_format(const struct chv_files_meta *meta, unsigned facts, char out[FTP_FACTS_MAX]);
/* Names of facts with ';' between, of OPTS MLST; unknown ones are left out. */
unsigned ftp_facts_parse(const char *text);
/* As ls -l has it, in UTC; `now`: seconds since 1970. Returns its length, without CR LF. */
size_t ftp_list_format(const struct chv_files_entry *entry, uint64_t now, char out[FTP_LINE_OUT_MAX]);

/* The reply to an FTP client for an answer of the server that is an error; `naming`: the command makes a name. */
unsigned ftp_code_of(unsigned code, bool naming);

/* Like an HTTP request's first line: a browser is made to speak to this port. */
bool ftp_is_http(const char *line);

#endif
