"""What Redis does in one step with jobs that come in, in Lua. Keys and rules are those of `scripts.py`."""

from __future__ import annotations

from typing import Final

from cloister.gateway.jobs.keeping.kept_scripts import KEPT
from cloister.gateway.jobs.keeping.queue_scripts import WAITING
from cloister.gateway.jobs.keeping.scripts import COMMON

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

# ARGV: 1-4 most jobs, bytes, jobs of a tenant, its bytes, 5 most bytes that are kept of its ended jobs; then header and
# request of each job.
# -> what was dropped; of each job what became of it, and the header that was there.
SUBMIT: Final = (
    COMMON
    + WAITING
    + KEPT
    + """
local live, use = K .. ':live', K .. ':use'
typed(live, 'zset')
typed(use, 'hash')
local jobs, most = redis.call('ZCARD', live), {}
for at = 1, 5 do most[at] = tonumber(ARGV[at]) end
local used, kept = {}, {}
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
    kept[tenant] = kept[tenant] or kept_bytes(tenant)
    if kept[tenant] >= most[5] then return 'filled' end
    return nil
end
local function add(name, size)
    local held = usage(name)
    held[1], held[2] = held[1] + size, held[2] + size
end
local function keep(told_of, header, request)
    local id, size, row = told_of[3], told_of[7], told_of[10]
    local first = true
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
    redis.call('DEL', job(id), K .. ':answer:' .. id)
    redis.call('HSET', job(id), 'h', header, 'q', request)
    if first then queue(id, told_of[4], told_of[2]) end
    if told_of[9] ~= '' then redis.call('SET', K .. ':key:' .. told_of[9], id) end
    jobs = jobs + 1
    add('jobs', 1)
    add('bytes', size)
    add('n:' .. told_of[2], 1)
    add('b:' .. told_of[2], size)
    return 'kept'
end
local out = {}
for at = 6, #ARGV, 2 do
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
