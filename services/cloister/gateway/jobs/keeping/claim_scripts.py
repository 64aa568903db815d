"""What Redis does in one step with jobs that are taken, held and given back, in Lua. Keys and rules: `scripts.py`."""

from __future__ import annotations

from typing import Final

from cloister.gateway.jobs.keeping.scripts import COMMON, ROOM

_GIVING: Final = """
local left, room = tonumber(ARGV[2]), tonumber(ARGV[3])
local me, out = ARGV[1], {}
local function ready(stream)
    local key = K .. ':' .. stream
    if not typed(key, 'stream') then return false end
    local held = redis.pcall('XPENDING', key, group)
    if held.err then redis.pcall('XGROUP', 'CREATE', key, group, '0') end
    return true
end
local function let_go(stream, entry)
    redis.call('XCLAIM', K .. ':' .. stream, group, free, 0, entry, 'JUSTID')
end
local function drop(stream, entry, why)
    redis.call('XACK', K .. ':' .. stream, group, entry)
    redis.call('XDEL', K .. ':' .. stream, entry)
    count(why)
end
local function attempt(record)
    local attempts = redis.pcall('HINCRBY', record, 'n', 1)
    if type(attempts) == 'number' and attempts > 0 then return attempts end
    redis.call('HSET', record, 'n', 1)
    return 1
end
local function give(stream, entry, fields)
    if left <= 0 then return let_go(stream, entry) end
    local id = fields[2] or ''
    if #id ~= 32 then return drop(stream, entry, 'junk') end
    local record = job(id)
    local header, wrong = field(record, 'h', max_header)
    local size = not wrong and redis.call('HSTRLEN', record, 'q') or 0
    if wrong or size > max_value then
        redis.call('DEL', record)
        return drop(stream, entry, 'junk')
    end
    if not header then return drop(stream, entry, 'missing') end
    if field(record, 'x', 64) ~= stream .. ':' .. entry then return drop(stream, entry, 'doubled') end
    if size > room and #out > 0 then
        left = 0
        return let_go(stream, entry)
    end
    put(out, stream .. ':' .. entry)
    put(out, id)
    put(out, header)
    put(out, size <= max_large and redis.call('HGET', record, 'q'))
    put(out, attempt(record))
    for _, name in ipairs({'t', 'i', 'p'}) do put(out, (field(record, name, max_header))) end
    left, room = left - 1, room - size
end
"""

# ARGV: 1 consumer, 2 most jobs, 3 most bytes, then streams in the order in which they are looked at. Entries that were
# let go come before new ones. -> what was dropped; the last id of each stream; entry, id, header, request unless it is
# large, attempt, end, detour, proof of each job.
CLAIM: Final = (
    ROOM
    + COMMON
    + _GIVING
    + """
local function freed(stream)
    local ids = {}
    local held = redis.call('XPENDING', K .. ':' .. stream, group, '-', '+', math.min(left, 32), free)
    for _, each in ipairs(held) do ids[#ids + 1] = each[1] end
    if #ids == 0 then return {} end
    return redis.call('XCLAIM', K .. ':' .. stream, group, me, 0, unpack(ids))
end
local function fresh(stream)
    local key = K .. ':' .. stream
    local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', math.min(left, 32), 'STREAMS', key, '>')
    return read and read[1] and read[1][2] or {}
end
local ends = {}
for at = 4, #ARGV do
    local stream = ARGV[at]
    if ready(stream) then
        for _, source in ipairs({freed, fresh}) do
            while left > 0 do
                local entries = source(stream)
                if #entries == 0 then break end
                for _, each in ipairs(entries) do give(stream, each[1], each[2]) end
            end
        end
    end
end
if #out == 0 then
    for at = 4, #ARGV do
        local last, about = '0-0', redis.pcall('XINFO', 'STREAM', K .. ':' .. ARGV[at])
        for part = 1, #about, 2 do if about[part] == 'last-generated-id' then last = about[part + 1] end end
        ends[#ends + 1] = last
    end
end
return {told(), table.concat(ends, ' '), table.concat(out)}
"""
)

# ARGV: 1 consumer, 2 most jobs, 3 most bytes, 4 ms without a sign of the holder, then stream and where to go on, in
# turn. -> what was dropped; where to go on in each; jobs as in CLAIM.
RECLAIM: Final = (
    ROOM
    + COMMON
    + _GIVING
    + """
local ends = {}
for at = 5, #ARGV, 2 do
    local stream, next = ARGV[at], ARGV[at + 1]
    if left > 0 and ready(stream) then
        local found = redis.call('XAUTOCLAIM', K .. ':' .. stream, group, me, ARGV[4], next, 'COUNT', left)
        next = found[1]
        for _, each in ipairs(found[2]) do give(stream, each[1], each[2]) end
    end
    ends[#ends + 1] = next
end
return {told(), table.concat(ends, ' '), table.concat(out)}
"""
)

_HOLDING: Final = """
local me = ARGV[1]
local function held(stream, entry)
    local found = redis.pcall('XPENDING', K .. ':' .. stream, group, entry, entry, 1)
    return not found.err and found[1] ~= nil and found[1][2] == me
end
local function pass(stream, entry, to)
    redis.call('XCLAIM', K .. ':' .. stream, group, to, 0, entry, 'JUSTID')
end
"""

# ARGV: 1 consumer, then stream:entry of each that it goes on holding. -> how many of its other entries were let go.
RECOVER: Final = (
    ROOM
    + COMMON
    + _HOLDING
    + """
local freed, kept = 0, {}
for at = 2, #ARGV do kept[ARGV[at]] = true end
for _, stream in ipairs({'high', 'normal', 'low'}) do
    local key, from = K .. ':' .. stream, '-'
    while true do
        local found = redis.pcall('XPENDING', key, group, from, '+', 128, me)
        if found.err or #found == 0 then break end
        for _, each in ipairs(found) do
            if not kept[stream .. ':' .. each[1]] then
                pass(stream, each[1], free)
                freed = freed + 1
            end
        end
        from = '(' .. found[#found][1]
    end
end
return freed
"""
)

# ARGV: 1 consumer, then stream and entry, in turn: of those that it still holds.
RENEW: Final = (
    ROOM
    + COMMON
    + _HOLDING
    + "for at = 2, #ARGV, 2 do if held(ARGV[at], ARGV[at + 1]) then pass(ARGV[at], ARGV[at + 1], me) end end\n"
)

# ARGV: 1 consumer, 2 what to add to the attempts, then stream, entry and id of the job, in turn.
GIVE_BACK: Final = (
    ROOM
    + COMMON
    + _HOLDING
    + """
for at = 3, #ARGV, 3 do
    if held(ARGV[at], ARGV[at + 1]) then
        pass(ARGV[at], ARGV[at + 1], free)
        redis.pcall('HINCRBY', job(ARGV[at + 2]), 'n', ARGV[2])
    end
end
"""
)

# ARGV: stream and entry, in turn: entries that are not believed.
DROP: Final = (
    ROOM
    + COMMON
    + """
for at = 1, #ARGV, 2 do
    redis.pcall('XACK', K .. ':' .. ARGV[at], group, ARGV[at + 1])
    redis.pcall('XDEL', K .. ':' .. ARGV[at], ARGV[at + 1])
end
"""
)
