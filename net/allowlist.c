/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/allowlist.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct chv_allowlist {
    atomic_uint owners;
    char *text; /* cut into words in place */
    size_t count, room;
    struct chv_allowed *entries; /* in chv_identity_compare's order */
};

struct parse {
    struct chv_allowlist *list;
    const char *file;
    unsigned line;
    struct chv_why *why;
};

static enum chv_err bad(const struct parse *p, const char *format, ...) CHV_PRINTF(2, 3);
static enum chv_err bad(const struct parse *p, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return chv_fail(p->why, CHV_ERR_CONFIG, "%s:%u: %s", p->file, p->line, text);
}

/* The next word of the line, cut off; NULL at its end. */
static char *next_word(char **rest)
{
    char *word = *rest + strspn(*rest, " \t");
    if (*word == '\0')
        return NULL;
    char *end = word + strcspn(word, " \t");
    *rest = *end == '\0' ? end : end + 1;
    *end = '\0';
    return word;
}

/* --- dates -------------------------------------------------------------------------------------------------------- */

static bool digits(const char *text, size_t n, int *value)
{
    *value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *value = *value * 10 + (text[i] - '0');
    }
    return true;
}

/* A day that the calendar has not comes back as another one. */
static bool parse_date(const char *text, uint64_t *seconds)
{
    struct tm tm = {.tm_hour = 23, .tm_min = 59, .tm_sec = 59}, back;
    size_t len = strnlen(text, 21);
    bool whole_day = len == 10;
    if ((!whole_day && len != 20) || !digits(text, 4, &tm.tm_year) || text[4] != '-' ||
        !digits(text + 5, 2, &tm.tm_mon) || text[7] != '-' || !digits(text + 8, 2, &tm.tm_mday))
        return false;
    if (!whole_day &&
        (text[10] != 'T' || !digits(text + 11, 2, &tm.tm_hour) || text[13] != ':' ||
         !digits(text + 14, 2, &tm.tm_min) || text[16] != ':' || !digits(text + 17, 2, &tm.tm_sec) || text[19] != 'Z'))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    const struct tm wanted = tm;
    time_t t = timegm(&tm);
    if (t <= 0 || gmtime_r(&t, &back) == NULL || back.tm_year != wanted.tm_year || back.tm_mon != wanted.tm_mon ||
        back.tm_mday != wanted.tm_mday || back.tm_hour != wanted.tm_hour || back.tm_min != wanted.tm_min ||
        back.tm_sec != wanted.tm_sec)
        return false;
    *seconds = (uint64_t)t;
    return true;
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

/* Words of a list of scopes, one after the other; false at its end. `scope` has CHV_SCOPE_MAX + 2 bytes. */
static bool next_scope(const char **list, char scope[CHV_SCOPE_MAX + 2])
{
    if (**list == '\0')
        return false;
    size_t n = strcspn(*list, ",");
    size_t kept = n < CHV_SCOPE_MAX + 1 ? n : CHV_SCOPE_MAX + 1; /* too long stays too long */
    memcpy(scope, *list, kept);
    scope[kept] = '\0';
    *list += n;
    if (**list == ',')
        (*list)++;
    return true;
}

static enum chv_err check_scopes(const struct parse *p, const char *scopes)
{
    struct chv_credential c = {.scope_count = 0};
    char scope[CHV_SCOPE_MAX + 2];
    const size_t len = strlen(scopes);
    if (len > 0 && scopes[len - 1] == ',')
        return bad(p, "a scope is missing behind the last comma");
    for (const char *rest = scopes; next_scope(&rest, scope);) {
        if (!chv_scope_valid(scope))
            return bad(p, "'%.40s' is no scope: a-z, 0-9, . _ : / -, 1 to %d in all, with commas between them", scope,
                       CHV_SCOPE_MAX);
        if (chv_credential_has_scope(&c, scope))
            return bad(p, "scope '%s' stands there twice", scope);
        if (chv_credential_add_scope(&c, scope) != CHV_OK)
            return bad(p, "more than %d scopes", CHV_SCOPES_MAX);
    }
    return CHV_OK;
}

/* What stands behind the scopes: options are words with '=', the first other word begins the comment. */
static enum chv_err parse_options(const struct parse *p, char *rest, struct chv_allowed *entry)
{
    static const char expires[] = "expires=";
    for (char *word = next_word(&rest); word != NULL && strchr(word, '=') != NULL; word = next_word(&rest)) {
        if (strncmp(word, expires, sizeof expires - 1) != 0)
            return bad(p, "unknown option '%.60s': there is expires=DATE", word);
        if (entry->not_after != 0)
            return bad(p, "expires= stands there twice");
        if (!parse_date(word + sizeof expires - 1, &entry->not_after))
            return bad(p, "'%.60s' is no date: write expires=2027-01-31 or expires=2027-01-31T12:00:00Z", word);
    }
    return CHV_OK;
}

static enum chv_err parse_entry(const struct parse *p, char *line, struct chv_allowed *entry)
{
    char *rest = line;
    const char *curve = next_word(&rest), *key = next_word(&rest);
    entry->id = next_word(&rest);
    entry->scopes = next_word(&rest);
    entry->line = p->line;
    if (chv_identity_curve_find(curve, &entry->identity.curve) != CHV_OK)
        return bad(p, "'%.40s' is no kind of key: x25519 or p256", curve);
    if (entry->scopes == NULL)
        return bad(p, "a line is: %s BASE64 ID SCOPE[,SCOPE...] [expires=DATE] [comment]", curve);
    if (chv_identity_parse(curve, key, &entry->identity) != CHV_OK)
        return bad(p, "the %s key is none: 'keyadmin identity show' prints the line", curve);
    if (!chv_client_id_valid(entry->id))
        return bad(p, "'%.80s' is no client id: letters, digits, . _ @ : -, first one alphanumeric, 1 to %d in all",
                   entry->id, CHV_CLIENT_ID_MAX);
    enum chv_err err = check_scopes(p, entry->scopes);
    return err == CHV_OK ? parse_options(p, rest, entry) : err;
}

static enum chv_err add_entry(struct parse *p, char *line)
{
    struct chv_allowlist *list = p->list;
    struct chv_allowed entry;
    memset(&entry, 0, sizeof entry);
    enum chv_err err = parse_entry(p, line, &entry);
    if (err != CHV_OK)
        return err;
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 64 : 2 * list->room;
        struct chv_allowed *entries = reallocarray(list->entries, room, sizeof *entries);
        if (entries == NULL)
            return chv_fail(p->why, CHV_ERR_MEMORY, "%s: out of memory", p->file);
        list->entries = entries;
        list->room = room;
    }
    list->entries[list->count++] = entry;
    return CHV_OK;
}

static enum chv_err parse_line(struct parse *p, char *line, size_t len)
{
    if (len > CHV_ALLOWLIST_LINE_MAX)
        return bad(p, "longer than %d bytes", CHV_ALLOWLIST_LINE_MAX);
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
            return bad(p, "a control character (0x%02x) in column %zu", (unsigned)(unsigned char)line[i], i + 1);
    const char *first = line + strspn(line, " \t");
    return *first == '\0' || *first == '#' ? CHV_OK : add_entry(p, line);
}

static int compare(const void *a, const void *b)
{
    const struct chv_allowed *x = a, *y = b;
    int order = chv_identity_compare(&x->identity, &y->identity);
    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

static enum chv_err parse_all(struct parse *p, size_t len)
{
    char *text = p->list->text, *end = text + len;
    while (text < end) {
        char *newline = memchr(text, '\n', (size_t)(end - text));
        char *stop = newline != NULL ? newline : end;
        *stop = '\0';
        p->line++;
        enum chv_err err = parse_line(p, text, (size_t)(stop - text));
        if (err != CHV_OK)
            return err;
        text = stop + 1;
    }
    struct chv_allowlist *list = p->list;
    if (list->count > 1)
        qsort(list->entries, list->count, sizeof *list->entries, compare);
    for (size_t i = 1; i < list->count; i++)
        if (chv_identity_compare(&list->entries[i - 1].identity, &list->entries[i].identity) == 0) {
            p->line = list->entries[i].line;
            return bad(p, "the key of '%s' stands in line %u already", list->entries[i].id, list->entries[i - 1].line);
        }
    return CHV_OK;
}

enum chv_err chv_allowlist_parse(const char *text, size_t len, const char *file, struct chv_allowlist **list,
                                 struct chv_why *why)
{
    if (len > CHV_ALLOWLIST_TEXT_MAX)
        return chv_fail(why, CHV_ERR_CONFIG, "%s: longer than %d MiB", file, CHV_ALLOWLIST_TEXT_MAX >> 20);
    struct chv_allowlist *made = calloc(1, sizeof *made);
    if (made != NULL)
        made->text = malloc(len + 1);
    if (made == NULL || made->text == NULL) {
        free(made);
        return chv_fail(why, CHV_ERR_MEMORY, "%s: out of memory", file);
    }
    atomic_init(&made->owners, 1);
    if (len > 0)
        memcpy(made->text, text, len);
    made->text[len] = '\0';
    struct parse p = {.list = made, .file = file, .why = why};
    enum chv_err err = parse_all(&p, len);
    if (err != CHV_OK) {
        chv_allowlist_unref(made);
        return err;
    }
    *list = made;
    return CHV_OK;
}

struct chv_allowlist *chv_allowlist_ref(struct chv_allowlist *list)
{
    if (list != NULL)
        atomic_fetch_add(&list->owners, 1);
    return list;
}

void chv_allowlist_unref(struct chv_allowlist *list)
{
    if (list == NULL || atomic_fetch_sub(&list->owners, 1) > 1)
        return;
    free(list->entries);
    free(list->text);
    free(list);
}

/* --- using -------------------------------------------------------------------------------------------------------- */

size_t chv_allowlist_count(const struct chv_allowlist *list)
{
    return list != NULL ? list->count : 0;
}

static int compare_key(const void *key, const void *entry)
{
    return chv_identity_compare(key, &((const struct chv_allowed *)entry)->identity);
}

const struct chv_allowed *chv_allowlist_find(const struct chv_allowlist *list, const struct chv_identity *identity)
{
    if (list == NULL || list->count == 0)
        return NULL;
    return bsearch(identity, list->entries, list->count, sizeof *list->entries, compare_key);
}

void chv_allowed_rights(const struct chv_allowed *entry, struct chv_credential *rights)
{
    char scope[CHV_SCOPE_MAX + 2];
    memset(rights, 0, sizeof *rights);
    rights->profile = CHV_PROFILE_KEY;
    rights->not_after = entry->not_after;
    (void)snprintf(rights->id, sizeof rights->id, "%s", entry->id);
    for (const char *rest = entry->scopes; next_scope(&rest, scope);) {
        enum chv_err err = chv_credential_add_scope(rights, scope);
        (void)err; /* the parser has tried it */
    }
}

void chv_allowed_narrow(const struct chv_allowed *entry, struct chv_credential *credential)
{
    struct chv_credential rights;
    size_t kept = 0;
    chv_allowed_rights(entry, &rights);
    for (size_t i = 0; i < credential->scope_count; i++)
        if (chv_credential_has_scope(&rights, credential->scopes[i])) {
            if (kept != i)
                memcpy(credential->scopes[kept], credential->scopes[i], sizeof credential->scopes[i]);
            kept++;
        }
    credential->scope_count = kept;
    if (rights.not_after != 0 && (credential->not_after == 0 || rights.not_after < credential->not_after))
        credential->not_after = rights.not_after;
}
