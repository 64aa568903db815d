"""What Redis does in one step with the jobs of one model, in Lua: jobs come in, are taken, and go back.

    K = <cluster>:jobs:{<model>}   the key that scripts are called with; all others are made from it, in its slot
    K:high K:normal K:low          streams of ids of jobs that may be taken, by priority; one consumer group
    K:job:<id>                     hash: h header, q request, x its entry, n attempts; t end; p proof, i detour of a row
    K:answer:<id>                  the response, for as long as it is kept
    K:key:<name>                   the id of the job that a tenant's key stands for
    K:row:<name>                   ids of a row's jobs that have not ended; only the first is in a stream
    K:live                         ids of jobs that have not ended, with a space and their row if any, by not_after
    K:use                          how many jobs and bytes each tenant has there
    K:feed                         ids of jobs that ended, a page for each call
    K:dead                         headers and ends of dead letters

A value is looked at by its length before it is read, and whatever has another type or is too long is dropped, so that
no one record stops a queue. What a value says is for gateways to check; scripts read headers only as arguments, which
gateways have checked, or to find what to delete. Times come from the gateway that calls; Redis's own clock moves
nothing but lives of keys, how long an entry was held, and the ids of streams.

What scripts answer is packed: fields one after the other, each after its length, because a client in Python spends
longer on the elements of an answer than on its bytes.
"""

from __future__ import annotations

from typing import Final

MAX_HEADER_BYTES: Final = 8192
MAX_VALUE_BYTES: Final = 130 << 20
"""Of a request or a response: more than a message between gateway and worker may have."""
LARGE_BYTES: Final = 4 << 20
"""A request or a response that is longer is not among what a script answers, and asked for by itself (VALUE)."""

# Begins a script that may run when Redis is full, because it makes room or hardly takes any.
ROOM: Final = "#!lua flags=allow-oom\n"

COMMON: Final = f"""
local K, group, free = KEYS[1], 'gateways', '-'
local max_header, max_value, max_large = {MAX_HEADER_BYTES}, {MAX_VALUE_BYTES}, {LARGE_BYTES}
local dropped = {{missing = 0, doubled = 0, junk = 0}}
local function count(why) dropped[why] = dropped[why] + 1 end
local function told() return dropped.missing .. ' ' .. dropped.doubled .. ' ' .. dropped.junk end
local function put(out, value)
    value = value and tostring(value) or ''
    out[#out + 1] = struct.pack('>I4', #value)
    out[#out + 1] = value
end
local function typed(key, kind)
    local found = redis.call('TYPE', key).ok
    if found == kind then return true end
    if found ~= 'none' then
        redis.call('DEL', key)
        count('junk')
    end
    return false
end
local function field(key, name, most)
    local size = redis.pcall('HSTRLEN', key, name)
    if type(size) ~= 'number' then return nil, true end
    if size == 0 then return nil, false end
    if size > most then return nil, true end
    return redis.call('HGET', key, name), false
end
local function text(key, most)
    local size = redis.pcall('STRLEN', key)
    if type(size) ~= 'number' or size == 0 or size > most then return nil end
    return redis.call('GET', key)
end
local function parsed(sealed)
    local whole, fields = pcall(cjson.decode, string.sub(sealed, 33))
    if whole and type(fields) == 'table' and #fields == 13 then return fields end
    return nil
end
local function job(id) return K .. ':job:' .. id end
"""

# Of ids that are the last of their rows, what is kept. ARGV: names of rows.
# -> what was dropped; id and header of each.
TAILS: Final = (
    COMMON
    + """
local out = {}
for at = 1, #ARGV do
    local row, id = K .. ':row:' .. ARGV[at], false
    if typed(row, 'list') then id = redis.call('LINDEX', row, -1) end
    if id and not (#id == 32 and string.match(id, '^%x+$')) then
        redis.call('DEL', row)
        count('junk')
        id = false
    end
    put(out, id)
    put(out, id and field(job(id), 'h', max_header))
end
return {told(), table.concat(out)}
"""
)

# ARGV: 1-4 most jobs, bytes, jobs of a tenant, its bytes; then header and request of each job.
# -> what was dropped; of each job what became of it, and the header that was there.
SUBMIT: Final = (
    COMMON
    + """
local live, use = K .. ':live', K .. ':use'
typed(live, 'zset')
typed(use, 'hash')
for _, stream in ipairs({'high', 'normal', 'low'}) do typed(K .. ':' .. stream, 'stream') end
local jobs, most = redis.call('ZCARD', live), {}
for at = 1, 4 do most[at] = tonumber(ARGV[at]) end
local used = {}
local function usage(name)
    if not used[name] then used[name] = {tonumber(redis.call('HGET', use, name) or '0') or 0, 0} end
    return used[name]
end
local function there(id, name)
    local header, wrong = field(job(id), 'h', max_header)
    if wrong then
        redis.call('DEL', job(id))
        count('junk')
    end
    if header or name == '' then return header end
    local named = text(K .. ':key:' .. name, 64)
    return named and (field(job(named), 'h', max_header))
end
local function full(tenant, size)
    if jobs + 1 > most[1] or usage('bytes')[1] + size > most[2] then return 'full' end
    if usage('n:' .. tenant)[1] + 1 > most[3] or usage('b:' .. tenant)[1] + size > most[4] then return 'tenant' end
    return nil
end
local function add(name, size)
    local held = usage(name)
    held[1], held[2] = held[1] + size, held[2] + size
end
local function keep(told_of, header, request)
    local id, stream, size, row = told_of[3], told_of[4], told_of[7], told_of[10]
    local first, entry = true, ''
    if row ~= '' then
        row = K .. ':row:' .. row
        typed(row, 'list')
        local tail = redis.call('LINDEX', row, -1) or ''
        if tail ~= told_of[11] then return 'moved' end
        first = tail == ''
    end
    local member = row == '' and id or id .. ' ' .. told_of[10]
    if redis.call('ZADD', live, 'NX', told_of[6], member) == 0 then return 'stale' end
    if row ~= '' then redis.call('RPUSH', row, id) end
    if first then entry = stream .. ':' .. redis.call('XADD', K .. ':' .. stream, '*', 'j', id) end
    redis.call('DEL', job(id), K .. ':answer:' .. id)
    redis.call('HSET', job(id), 'h', header, 'q', request, 'x', entry)
    if told_of[9] ~= '' then redis.call('SET', K .. ':key:' .. told_of[9], id) end
    jobs = jobs + 1
    add('bytes', size)
    add('n:' .. told_of[2], 1)
    add('b:' .. told_of[2], size)
    return 'kept'
end
local out = {}
for at = 5, #ARGV, 2 do
    local told_of = parsed(ARGV[at])
    local header = there(told_of[3], told_of[9])
    put(out, header and 'there' or full(told_of[2], told_of[7]) or keep(told_of, ARGV[at], ARGV[at + 1]))
    put(out, header)
end
for name, held in pairs(used) do
    if held[2] ~= 0 then redis.call('HSET', use, name, string.format('%.0f', held[1])) end
end
return {told(), table.concat(out)}
"""
)

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

# ARGV: 1 q for the request or a for the response, 2 id. -> the value, or nothing.
VALUE: Final = (
    COMMON
    + """
if ARGV[1] == 'a' then return text(K .. ':answer:' .. ARGV[2], max_value) or '' end
return (field(job(ARGV[2]), 'q', max_value)) or ''
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

# ARGV: 1 consumer. -> how many of its entries were let go.
RECOVER: Final = (
    ROOM
    + COMMON
    + _HOLDING
    + """
local freed = 0
for _, stream in ipairs({'high', 'normal', 'low'}) do
    local key, from = K .. ':' .. stream, '-'
    while true do
        local found = redis.pcall('XPENDING', key, group, from, '+', 128, me)
        if found.err or #found == 0 then break end
        for _, each in ipairs(found) do pass(stream, each[1], free) end
        freed, from = freed + #found, '(' .. found[#found][1]
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

# Called with the key of the registry. ARGV: 1 Unix time in ms, 2 name of a model that is about to have jobs.
REGISTER: Final = (
    COMMON
    + """
typed(K, 'zset')
redis.call('ZADD', K, 'GT', ARGV[1], ARGV[2])
if redis.call('ZCARD', K) > 4096 then redis.call('ZREM', K, redis.call('ZRANGE', K, 0, 0)[1]) end
"""
)

# Called with the key of the registry. -> names of models, and when each was last about to have jobs, packed.
MODELS: Final = (
    COMMON
    + """
local out = {}
if typed(K, 'zset') then
    local found = redis.call('ZRANGE', K, 0, 4095, 'WITHSCORES')
    for at = 1, #found, 2 do
        if #found[at] <= 64 then
            put(out, found[at])
            put(out, found[at + 1])
        else
            redis.call('ZREM', K, found[at])
        end
    end
end
return table.concat(out)
"""
)

# Called with the key of the registry. ARGV: 1 name of a model, 2 when it was last about to have jobs, at most.
UNREGISTER: Final = (
    COMMON
    + """
local score = typed(K, 'zset') and redis.call('ZSCORE', K, ARGV[1])
if score and tonumber(score) <= tonumber(ARGV[2]) then redis.call('ZREM', K, ARGV[1]) end
"""
)

# Called with a key of its own. ARGV: 1 what stands for the gateways' shared key. -> what the first gateway wrote there.
MARK: Final = (
    COMMON
    + """
local mark = text(K, 64)
if not mark then
    redis.call('SET', K, ARGV[1])
    mark = ARGV[1]
end
return mark
"""
)
