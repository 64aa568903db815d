"""What Redis does in one step with jobs that are taken, held and given back, in Lua. Keys and rules: `scripts.py`."""

from __future__ import annotations

from typing import Final

from cloister.gateway.jobs.keeping.kept_scripts import KEPT
from cloister.gateway.jobs.keeping.queue_scripts import WAITING
from cloister.gateway.jobs.keeping.scripts import COMMON, ROOM

# A record with nothing in it but header and request is *fresh*: nobody has taken it, and no other of its row has ended.
_GIVING: Final = """
local me, left, room, out, given = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), {}, {}
local function drop(entry, why)
    done_with(entry)
    count(why)
end
local function looked_at(id)
    if #id ~= 32 then return nil, 'junk' end
    local record = job(id)
    local header, wrong = field(record, 'h', max_header)
    local size = not wrong and redis.call('HSTRLEN', record, 'q') or 0
    if wrong or size > max_value then
        redis.call('DEL', record)
        return nil, 'junk'
    end
    if not header then return nil, 'missing' end
    return header, nil, size, redis.call('HLEN', record) == 2
end
local function fits(size) return left > 0 and (size <= room or #out == 0) end
local function attempt(record)
    local attempts = redis.pcall('HINCRBY', record, 'n', 1)
    if type(attempts) == 'number' and attempts > 0 then return attempts end
    redis.call('HSET', record, 'n', 1)
    return 1
end
local function give(entry, id, header, size, fresh)
    local record = job(id)
    put(out, entry)
    put(out, id)
    put(out, header)
    put(out, size <= max_large and redis.call('HGET', record, 'q'))
    if fresh then
        redis.call('HSET', record, 'x', entry, 'n', 1)
        put(out, 1)
    else
        redis.call('HSET', record, 'x', entry)
        put(out, attempt(record))
    end
    for _, name in ipairs({'t', 'i', 'p'}) do put(out, not fresh and field(record, name, max_header) or nil) end
    left, room, given[id] = left - 1, room - size, true
end
local function give_entry(entry, fields)
    local id = fields[2] or ''
    local header, why, size = looked_at(id)
    if why then return drop(entry, why) end
    local own = field(job(id), 'x', 64)
    if own and own ~= entry then return drop(entry, 'doubled') end
    if fits(size) then return give(entry, id, header, size) end
    done_with(entry)
    put_back(id)
end
"""

# ARGV: 1 consumer, 2 most jobs, 3 most bytes, 4 most bytes that are kept of a tenant's ended jobs, 0 for no bound; then
# priorities in the order in which they are looked at. Each tenant has the same part of what is taken, round after
# round, as long as it has jobs; who has more kept than it may has none taken.
# -> what was dropped; the last news, and ms until something that was put off may be taken, if nothing was; entry, id,
# header, request unless it is large, attempt, end, detour, proof of each job.
CLAIM: Final = (
    ROOM
    + COMMON
    + WAITING
    + KEPT
    + _GIVING
    + """
local most_kept, added, serving = tonumber(ARGV[4]), 0, last_turn()
local function read(most)
    local function unread()
        return redis.pcall('XREADGROUP', 'GROUP', group, me, 'COUNT', most, 'STREAMS', taken, '>')
    end
    local found = unread()
    if found and found.err then
        typed(taken, 'stream')
        redis.call('XGROUP', 'CREATE', taken, group, '0', 'MKSTREAM')
        found = unread()
    end
    return found and found[1] and found[1][2] or {}
end
local function take(id)
    local header, why, size, fresh = looked_at(id)
    local entry = header and not fresh and field(job(id), 'x', 64)
    if entry and (given[id] or holder(entry)) then why = 'doubled' end
    if why then
        count(why)
        return true
    end
    if not fits(size) then
        left = 0
        return false
    end
    added = added + 1
    give(redis.call('XADD', taken, '*', 'j', id), id, header, size, fresh)
    return true
end
local function take_from(key, most)
    local found, gone = redis.pcall('ZRANGE', key, 0, math.min(most, left) - 1), {}
    if found.err then
        typed(key, 'zset')
        return 0
    end
    for _, id in ipairs(found) do
        if not take(id) then break end
        gone[#gone + 1] = id
    end
    if #gone > 0 then redis.call('ZREM', key, unpack(gone)) end
    return #gone
end
local function served(tenant, most)
    if most_kept > 0 and kept_bytes(tenant) >= most_kept then return 0, true end
    local got = 0
    for at = 5, #ARGV do
        if got < most and left > 0 then got = got + take_from(waits(ARGV[at], tenant), most - got) end
    end
    return got, got > 0 or left == 0
end
local function due()
    if not typed(later, 'zset') then return end
    for _, id in ipairs(redis.call('ZRANGE', later, '-inf', now_ms(), 'BYSCORE', 'LIMIT', 0, 128)) do
        redis.call('ZREM', later, id)
        if #id == 32 then put_back(id) end
    end
end
due()
for _, each in ipairs(read(math.min(left, 128))) do give_entry(each[1], each[2]) end
local barred = 0
while left > 0 do
    local waiting = redis.call('ZCARD', turns)
    if barred >= waiting then break end
    local part = math.max(1, math.floor(left / waiting))
    for _ = 1, waiting do
        local tenant = left > 0 and redis.call('ZRANGE', turns, 0, 0)[1]
        if not tenant then break end
        local got, stays = served(tenant, part)
        serving = serving + 1
        if got > 0 then barred = 0 elseif stays then barred = barred + 1 end
        if stays then redis.call('ZADD', turns, serving, tenant) else redis.call('ZREM', turns, tenant) end
    end
end
if added > 0 then read(added) end
local mark, wait_ms = '0-0', ''
if #out == 0 then
    local about = redis.pcall('XINFO', 'STREAM', news)
    for part = 1, #about, 2 do if about[part] == 'last-generated-id' then mark = about[part + 1] end end
    local first = typed(later, 'zset') and score(later, 0)
    if first then wait_ms = string.format(' %.0f', math.min(3600000, math.max(1, first - now_ms()))) end
end
return {told(), mark .. wait_ms, table.concat(out)}
"""
)

# ARGV: 1 consumer, 2 most jobs, 3 most bytes, 4 ms without a sign of the holder, 5 where to go on.
# -> what was dropped; where to go on; jobs as in CLAIM.
RECLAIM: Final = (
    ROOM
    + COMMON
    + WAITING
    + _GIVING
    + """
local next = '0-0'
local found = redis.pcall('XAUTOCLAIM', taken, group, me, ARGV[4], ARGV[5], 'COUNT', left)
if found.err then
    typed(taken, 'stream')
else
    next = found[1]
    for _, each in ipairs(found[2]) do give_entry(each[1], each[2]) end
end
return {told(), next, table.concat(out)}
"""
)

# ARGV: 1 consumer, then the entry of each job that it goes on holding. -> how many others it holds no longer.
RECOVER: Final = (
    ROOM
    + COMMON
    + WAITING
    + """
local freed, held, from = 0, {}, '-'
for at = 2, #ARGV do held[ARGV[at]] = true end
while true do
    local found = redis.pcall('XPENDING', taken, group, from, '+', 128, ARGV[1])
    if found.err or #found == 0 then break end
    for _, each in ipairs(found) do
        if not held[each[1]] then
            local entry = redis.call('XRANGE', taken, each[1], each[1])[1]
            done_with(each[1])
            if entry and #(entry[2][2] or '') == 32 then put_back(entry[2][2]) end
            freed = freed + 1
        end
    end
    from = '(' .. found[#found][1]
end
return freed
"""
)

# ARGV: 1 consumer, then entries: those that it still holds.
RENEW: Final = (
    ROOM
    + COMMON
    + WAITING
    + """
for at = 2, #ARGV do
    local entry = ARGV[at]
    if holder(entry) == ARGV[1] then redis.call('XCLAIM', taken, group, ARGV[1], 0, entry, 'JUSTID') end
end
"""
)

# ARGV: 1 consumer, 2 what to add to the attempts, 3 ms until they may be taken again, then entry and id of each job.
GIVE_BACK: Final = (
    ROOM
    + COMMON
    + WAITING
    + """
local pause_ms = tonumber(ARGV[3])
if pause_ms > 0 then typed(later, 'zset') end
for at = 4, #ARGV, 2 do
    local entry, id = ARGV[at], ARGV[at + 1]
    if holder(entry) == ARGV[1] then
        done_with(entry)
        redis.pcall('HINCRBY', job(id), 'n', ARGV[2])
        if pause_ms > 0 then
            redis.pcall('HDEL', job(id), 'x')
            redis.call('ZADD', later, now_ms() + pause_ms, id)
        else
            put_back(id)
        end
    end
end
"""
)

# ARGV: entries that are not believed.
DROP: Final = ROOM + COMMON + WAITING + "for at = 1, #ARGV do done_with(ARGV[at]) end\n"
