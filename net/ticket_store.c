/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/ticket_store.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "net/ticket_list.h"

/* In locked memory as a whole. */
struct chv_ticket_store {
    struct chv_ticket_list memory; /* by CLOCK_BOOTTIME */
    struct chv_ticket_list disk;   /* as it was read, by the time of day; empty between calls */
    struct chv_ticket_file *file;  /* NULL: none */
    unsigned wanted;
    chv_ticket_warn_fn warn;
    void *warn_arg;
    struct chv_why warned; /* the last one */
};

/* --- a list --------------------------------------------------------------------------------------------------------
 */

static void drop(struct chv_ticket_list *list, size_t i)
{
    const size_t last = --list->count;
    if (i != last)
        list->entries[i] = list->entries[last];
    chv_wipe(&list->entries[last], sizeof list->entries[last]);
}

void chv_ticket_list_expire(struct chv_ticket_list *list, uint64_t now)
{
    for (size_t i = 0; i < list->count;)
        if (now < list->entries[i].from || now >= list->entries[i].until)
            drop(list, i);
        else
            i++;
}

void chv_ticket_list_add(struct chv_ticket_list *list, const struct chv_ticket_entry *entry)
{
    if (list->count == CHV_TICKET_STORE_MAX) {
        size_t first = 0;
        for (size_t i = 1; i < list->count; i++)
            if (list->entries[i].until < list->entries[first].until)
                first = i;
        if (entry->until <= list->entries[first].until)
            return;
        drop(list, first);
    }
    list->entries[list->count++] = *entry;
}

bool chv_ticket_list_take(struct chv_ticket_list *list, struct chv_ticket_entry *entry)
{
    size_t longest = 0;
    if (list->count == 0)
        return false;
    for (size_t i = 1; i < list->count; i++)
        if (list->entries[i].until > list->entries[longest].until)
            longest = i;
    *entry = list->entries[longest];
    drop(list, longest);
    return true;
}

void chv_ticket_list_clear(struct chv_ticket_list *list)
{
    chv_wipe(list->entries, list->count * sizeof list->entries[0]);
    list->count = 0;
}

/* --- the store -----------------------------------------------------------------------------------------------------
 */

static uint64_t seconds(clockid_t clock)
{
    struct timespec t = {.tv_sec = 0};
    if (clock_gettime(clock, &t) != 0 || t.tv_sec < 0)
        return 0;
    return (uint64_t)t.tv_sec;
}

struct chv_ticket_now chv_ticket_now(void)
{
    return (struct chv_ticket_now){.boot = seconds(CLOCK_BOOTTIME), .wall = seconds(CLOCK_REALTIME)};
}

/* Not twice the same in a row. */
static void tell(struct chv_ticket_store *store, const struct chv_why *why)
{
    if (why->text[0] == '\0' || strcmp(why->text, store->warned.text) == 0)
        return;
    store->warned = *why;
    if (store->warn != NULL)
        store->warn(store->warn_arg, why->text);
}

enum chv_err chv_ticket_store_open(const char *file, chv_ticket_warn_fn warn, void *arg,
                                   struct chv_ticket_store **store, struct chv_why *why)
{
    enum chv_err err = CHV_OK;
    struct chv_ticket_store *s = chv_secure_alloc(sizeof *s);
    if (s == NULL)
        return chv_fail(why, CHV_ERR_MEMORY, "no memory for tickets");
    s->wanted = CHV_TICKET_STORE_WANTED;
    s->warn = warn;
    s->warn_arg = arg;
    if (file != NULL)
        err = chv_ticket_file_open(file, &s->file, why);
    if (err != CHV_OK) {
        chv_ticket_store_close(s);
        return err;
    }
    *store = s;
    return CHV_OK;
}

void chv_ticket_store_close(struct chv_ticket_store *store)
{
    if (store == NULL)
        return;
    chv_ticket_file_close(store->file);
    chv_secure_free(store, sizeof *store);
}

void chv_ticket_store_bind(struct chv_ticket_store *store, const uint8_t binding[static CHV_KEY_LEN])
{
    if (memcmp(store->memory.binding, binding, CHV_KEY_LEN) == 0)
        return;
    chv_ticket_list_clear(&store->memory);
    memcpy(store->memory.binding, binding, CHV_KEY_LEN);
}

void chv_ticket_store_want(struct chv_ticket_store *store, unsigned count)
{
    store->wanted = count < CHV_TICKET_STORE_MAX ? count : CHV_TICKET_STORE_MAX;
}

/* Locks the file and reads what in it is good and ours; false: there is nothing, and it is not locked. */
static bool enter(struct chv_ticket_store *store, bool make, struct chv_ticket_now now)
{
    struct chv_why why = {""};
    if (store->file == NULL)
        return false;
    enum chv_err err = chv_ticket_file_enter(store->file, make, &store->disk, &why);
    if (err != CHV_ERR_NOT_FOUND)
        tell(store, &why); /* also of a damaged one */
    if (err != CHV_OK)
        return false;
    if (memcmp(store->disk.binding, store->memory.binding, CHV_KEY_LEN) != 0)
        chv_ticket_list_clear(&store->disk);
    memcpy(store->disk.binding, store->memory.binding, CHV_KEY_LEN);
    chv_ticket_list_expire(&store->disk, now.wall);
    return true;
}

static void leave(struct chv_ticket_store *store)
{
    chv_ticket_list_clear(&store->disk);
    chv_ticket_file_leave(store->file);
}

static bool write_disk(struct chv_ticket_store *store, bool *placed)
{
    struct chv_why why = {""};
    enum chv_err err = chv_ticket_file_write(store->file, &store->disk, placed, &why);
    if (err != CHV_OK)
        tell(store, &why);
    return err == CHV_OK;
}

unsigned chv_ticket_store_count(struct chv_ticket_store *store, struct chv_ticket_now now)
{
    chv_ticket_list_expire(&store->memory, now.boot);
    size_t has = store->memory.count;
    if (has == 0 && enter(store, false, now)) {
        has = store->disk.count;
        leave(store);
    }
    return (unsigned)has;
}

unsigned chv_ticket_store_lacks(struct chv_ticket_store *store, struct chv_ticket_now now)
{
    chv_ticket_list_expire(&store->memory, now.boot);
    size_t has = store->memory.count;
    if (has < store->wanted && enter(store, false, now)) {
        has += store->disk.count;
        leave(store);
    }
    if (has >= store->wanted)
        return 0;
    const size_t lacks = store->wanted - has;
    return lacks < CHV_OPEN_TICKETS_MAX ? (unsigned)lacks : CHV_OPEN_TICKETS_MAX;
}

void chv_ticket_store_add(struct chv_ticket_store *store, const uint8_t binding[static CHV_KEY_LEN],
                          struct chv_ticket_now now, const struct chv_grant *grant,
                          const uint8_t secret[static CHV_KEY_LEN])
{
    const uint32_t lifetime = grant->lifetime < CHV_TICKET_LIFETIME_MAX ? grant->lifetime : CHV_TICKET_LIFETIME_MAX;
    struct chv_ticket_entry entry = {.from = now.wall, .until = now.wall + lifetime};
    bool placed = false;
    if (memcmp(store->memory.binding, binding, CHV_KEY_LEN) != 0)
        return;
    entry.ticket_len = (uint16_t)grant->ticket_len;
    memcpy(entry.ticket, grant->ticket, grant->ticket_len);
    memcpy(entry.secret, secret, sizeof entry.secret);
    if (enter(store, true, now)) {
        chv_ticket_list_add(&store->disk, &entry);
        (void)write_disk(store, &placed);
        leave(store);
    }
    if (!placed) {
        entry.from = now.boot;
        entry.until = now.boot + lifetime;
        chv_ticket_list_expire(&store->memory, now.boot);
        chv_ticket_list_add(&store->memory, &entry);
    }
    chv_wipe(&entry, sizeof entry);
}

/* Only what is gone from the file, durably, may be used. */
static bool take_from_file(struct chv_ticket_store *store, struct chv_ticket_now now, struct chv_ticket_entry *entry)
{
    if (!enter(store, false, now))
        return false;
    bool placed, taken = chv_ticket_list_take(&store->disk, entry) && write_disk(store, &placed);
    leave(store);
    return taken;
}

bool chv_ticket_store_take(struct chv_ticket_store *store, struct chv_ticket_now now, struct chv_ticket_use *use)
{
    struct chv_ticket_entry entry;
    memset(use, 0, sizeof *use);
    chv_ticket_list_expire(&store->memory, now.boot);
    bool taken = chv_ticket_list_take(&store->memory, &entry) || take_from_file(store, now, &entry);
    if (taken) {
        memcpy(use->ticket, entry.ticket, entry.ticket_len);
        use->ticket_len = entry.ticket_len;
        memcpy(use->secret, entry.secret, sizeof use->secret);
    }
    chv_wipe(&entry, sizeof entry);
    return taken;
}
