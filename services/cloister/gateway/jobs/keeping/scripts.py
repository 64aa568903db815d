"""What the scripts have in common that Redis runs on the jobs of one model, in Lua, and which keys there are.

    K = <cluster>:jobs:{<model>}   the key that scripts are called with; all others are made from it, in its slot
    K:wait:<priority>:<tenant>     ids of jobs that may be taken, by their coming
    K:turns                        tenants that have some of those, the next one first
    K:later                        ids of jobs that are put off, by when they may be taken
    K:taken                        stream of ids of jobs that runners hold, in one consumer group
    K:news                         stream of one entry, a new one whenever there is something to take
    K:job:<id>                     hash: h header, q request, x its entry in K:taken, n attempts; p proof, i detour of a
                                   row; t end, k what is counted of it
    K:answer:<id>                  the response, for as long as it is kept
    K:key:<name>                   the id of the job that a tenant's key stands for
    K:row:<name>                   ids of a row's jobs that have not ended; only the first is in a stream
    K:live                         ids of jobs that have not ended, with a space and their row if any, by not_after
    K:use                          how many jobs and bytes each tenant has there, and all together
    K:kept:<tenant>                how much lies there of its jobs that have ended (`kept_scripts`)
    K:feed                         ids of jobs that ended, a page for each call
    K:dead                         headers and ends of dead letters
    K:letters:<tenant>             which of those are its

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
local K, group = KEYS[1], 'gateways'
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

# ARGV: 1 q for the request or a for the response, 2 id. -> the value, or nothing.
VALUE: Final = (
    COMMON
    + """
if ARGV[1] == 'a' then return text(K .. ':answer:' .. ARGV[2], max_value) or '' end
return (field(job(ARGV[2]), 'q', max_value)) or ''
"""
)
