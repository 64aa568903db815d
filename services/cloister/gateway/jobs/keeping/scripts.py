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

# ARGV: 1 q for the request or a for the response, 2 id. -> the value, or nothing.
VALUE: Final = (
    COMMON
    + """
if ARGV[1] == 'a' then return text(K .. ':answer:' .. ARGV[2], max_value) or '' end
return (field(job(ARGV[2]), 'q', max_value)) or ''
"""
)
