"""What Redis does in one step with jobs that end or have ended, in Lua. Keys and rules are those of `scripts.py`."""

from __future__ import annotations

from typing import Final

from cloister.gateway.jobs.keeping.kept_scripts import KEPT
from cloister.gateway.jobs.keeping.queue_scripts import WAITING
from cloister.gateway.jobs.keeping.scripts import COMMON, ROOM

FEED_PAGES: Final = 4096
DEAD_LETTERS: Final = 10_000
TENANT_LETTERS: Final = 1000
"""Of one tenant: more would push out everybody's."""
DEAD_MS: Final = 7 * 86_400_000

_LEAVING: Final = """
local live = K .. ':live'
local function release(id, proof)
    local priority, tenant = routed(id)
    if not priority then return end
    redis.call('HSET', job(id), 'p', proof)
    queue(id, priority, tenant)
end
local function row_of(name) return K .. ':row:' .. name end
local function after(name, id)
    local at = redis.call('LPOS', row_of(name), id)
    local next = at and redis.call('LINDEX', row_of(name), at + 1)
    return next and #next == 32 and next or ''
end
local function leave(name, id, proof, detour)
    local row = row_of(name)
    if not typed(row, 'list') then return end
    if redis.call('LINDEX', row, 0) == id then
        redis.call('LPOP', row)
        local next = redis.call('LINDEX', row, 0)
        if next and #next == 32 then release(next, proof) end
        return
    end
    local next = after(name, id)
    redis.call('LREM', row, 1, id)
    if next ~= '' and detour ~= '' then redis.pcall('HSET', job(next), 'i', detour) end
end
"""

# ARGV: 1 whether a job that is not there is kept all the same; then of each job: header, end, response, entry or
# nothing, the end that is not to be believed if it is there, state, ms to keep the record, ms to keep the response; and
# of one in a row its proof, its detour that is there, the next, and the next's detour.
# -> of each: what became of it, and the end that was there.
SETTLE: Final = (
    ROOM
    + COMMON
    + WAITING
    + KEPT
    + _LEAVING
    + f"""
local most_pages, most_letters, most_own, letters_ms = {FEED_PAGES}, {DEAD_LETTERS}, {TENANT_LETTERS}, {DEAD_MS}
"""
    + """
local use, acked, less, ended, out = K .. ':use', {}, {}, {}, {}
typed(live, 'zset')
typed(use, 'hash')
local function take(name, size) less[name] = (less[name] or 0) + size end
local function write_off(tenant, header, sealed)
    local dead, own = K .. ':dead', K .. ':letters:' .. tenant
    typed(dead, 'stream')
    typed(own, 'list')
    local entry = redis.call('XADD', dead, 'MAXLEN', '~', most_letters, '*', 'h', header, 't', sealed)
    if redis.call('RPUSH', own, entry) > most_own then redis.pcall('XDEL', dead, redis.call('LPOP', own)) end
    redis.call('PEXPIRE', own, letters_ms)
end
local function changed(id, name, at)
    if not typed(row_of(name), 'list') or redis.call('LINDEX', row_of(name), 0) == id then return false end
    return (field(job(id), 'i', max_header) or '') ~= ARGV[at] or after(name, id) ~= ARGV[at + 1]
end
local function keep(at, about, header, there)
    local id, record, row = about[3], job(about[3]), about[10]
    local state, record_ms, answer_ms = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
    local known, answer, size = minute(tonumber(record_ms)), 0, 0
    keeps(about[2], known, record_bytes)
    if state == 'answered' then
        answer, size = minute(tonumber(answer_ms)), #ARGV[at + 2]
        keeps(about[2], answer, size)
    end
    local counted = string.format('%.0f %.0f %.0f', known, answer, size)
    if there then
        redis.call('HSET', record, 't', ARGV[at + 1], 'k', counted)
    else
        redis.call('HSET', record, 'h', header, 't', ARGV[at + 1], 'k', counted)
    end
    redis.call('HDEL', record, 'q', 'x', 'n', 'p', 'i')
    redis.call('PEXPIRE', record, record_ms)
    if state == 'answered' then redis.call('SET', K .. ':answer:' .. id, ARGV[at + 2], 'PX', answer_ms) end
    if about[9] ~= '' then redis.call('PEXPIRE', K .. ':key:' .. about[9], record_ms) end
    if state == 'dead' then write_off(about[2], header, ARGV[at + 1]) end
    if redis.call('ZREM', live, row == '' and id or id .. ' ' .. row) == 1 then
        take('jobs', 1)
        take('bytes', about[7])
        take('n:' .. about[2], 1)
        take('b:' .. about[2], about[7])
    end
    if row ~= '' then leave(row, id, ARGV[at + 8], ARGV[at + 11]) end
    ended[#ended + 1] = id
end
local function ack(entry)
    if string.match(entry, '^%d+%-%d+$') then acked[#acked + 1] = entry end
end
local function dequeue(about)
    redis.pcall('ZREM', waits(about[4], about[2]), about[3])
    redis.pcall('ZREM', later, about[3])
end
local function settle(at)
    local about = parsed(ARGV[at])
    local record, row = job(about[3]), about[10]
    local header, wrong = field(record, 'h', max_header)
    local held = not wrong and field(record, 't', max_header) or nil
    if wrong then
        redis.call('DEL', record)
        count('junk')
    end
    local entry = ARGV[at + 3]
    if held and held ~= ARGV[at + 4] then
        ack(entry)
        return 'ended', held
    end
    if header and header ~= ARGV[at] then
        ack(entry)
        return 'other'
    end
    if not header and ARGV[1] == '0' then return 'missing' end
    if row ~= '' and changed(about[3], row, at + 9) then return 'moved' end
    local own = field(record, 'x', 64)
    ack(entry)
    if own then ack(own) else dequeue(about) end
    keep(at, about, ARGV[at], header)
    return 'kept'
end
for at = 2, #ARGV, 12 do
    local became, held = settle(at)
    put(out, became)
    put(out, held)
end
if #acked > 0 then
    redis.pcall('XACK', taken, group, unpack(acked))
    redis.pcall('XDEL', taken, unpack(acked))
end
for name, size in pairs(less) do
    local left = redis.pcall('HINCRBY', use, name, string.format('%.0f', -size))
    if type(left) ~= 'number' or left <= 0 then redis.call('HDEL', use, name) end
end
if redis.call('ZCARD', live) == 0 then redis.call('DEL', use) end
count_kept()
if #ended > 0 then
    typed(K .. ':feed', 'stream')
    redis.call('XADD', K .. ':feed', 'MAXLEN', '~', most_pages, '*', 'j', table.concat(ended))
end
return {told(), table.concat(out)}
"""
)

# ARGV: name of a row and id of a job in it, in turn. -> of each: its detour, and id, header and detour of the next.
NEXT: Final = (
    COMMON
    + WAITING
    + _LEAVING
    + """
local out = {}
for at = 1, #ARGV, 2 do
    local next = typed(row_of(ARGV[at]), 'list') and after(ARGV[at], ARGV[at + 1]) or ''
    put(out, (field(job(ARGV[at + 1]), 'i', max_header)))
    put(out, next)
    put(out, (field(job(next), 'h', max_header)))
    put(out, (field(job(next), 'i', max_header)))
end
return {told(), table.concat(out)}
"""
)

# Jobs that are not among those that have not ended. ARGV: 1 whether their records go too, then their members of the
# sorted set.
LOSE: Final = (
    ROOM
    + COMMON
    + WAITING
    + _LEAVING
    + """
for at = 2, #ARGV do
    local id, row = string.match(ARGV[at], '^(%x+) ?(%x*)$')
    redis.call('ZREM', live, ARGV[at])
    if id then
        if ARGV[1] == '1' then redis.call('DEL', job(id)) end
        if row ~= '' then leave(row, id, '', '') end
    end
end
if redis.call('ZCARD', live) == 0 then redis.call('DEL', K .. ':use') end
"""
)

# ARGV: 1 tenant, then ids: of its jobs that have ended.
FORGET: Final = (
    ROOM
    + COMMON
    + WAITING
    + KEPT
    + """
for at = 2, #ARGV do
    local record = job(ARGV[at])
    local header = field(record, 'h', max_header)
    local about = header and parsed(header)
    if about and about[2] == ARGV[1] and redis.call('HSTRLEN', record, 't') > 0 then
        kept_no_more(about[2], (field(record, 'k', 64)))
        redis.call('DEL', record, K .. ':answer:' .. ARGV[at])
        local key = about[9] ~= '' and K .. ':key:' .. tostring(about[9])
        if key and text(key, 64) == ARGV[at] then redis.call('DEL', key) end
    end
end
count_kept()
"""
)

# ARGV: 1 Unix time in ms, 2 most. -> members of the sorted set that are due.
OVERDUE: Final = (
    ROOM
    + COMMON
    + """
local out = {}
if typed(K .. ':live', 'zset') then
    for _, member in ipairs(redis.call('ZRANGE', K .. ':live', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
        if #member > 128 or not string.match(member, '^%x+ ?%x*$') then
            redis.call('ZREM', K .. ':live', member)
            count('junk')
        else
            put(out, member)
        end
    end
end
return {told(), table.concat(out)}
"""
)

# ARGV: time and member of the sorted set, in turn: jobs whose time is another than it says.
CORRECT: Final = (
    ROOM + COMMON + "for at = 1, #ARGV, 2 do redis.call('ZADD', K .. ':live', 'XX', ARGV[at], ARGV[at + 1]) end\n"
)

# ARGV: 1 Unix time in ms, dead letters from before it go.
TRIM: Final = (
    ROOM + COMMON + "if typed(K .. ':dead', 'stream') then redis.call('XTRIM', K .. ':dead', 'MINID', ARGV[1]) end\n"
)

# Count what each tenant has that has not ended, where the count of all is not that of the sorted set: jobs were lost,
# or the counts were. -> whether it was so.
RECOUNT: Final = (
    ROOM
    + COMMON
    + """
local live, use, sums = K .. ':live', K .. ':use', {}
typed(use, 'hash')
local jobs = typed(live, 'zset') and redis.call('ZCARD', live) or 0
if (tonumber((field(use, 'jobs', 20)) or '') or 0) == jobs then return 0 end
local function add(name, size) sums[name] = (sums[name] or 0) + size end
local function whose(header)
    local tenant, size = string.match(header, '^%["[^"]*","([^"\\\\]*)","%x+","%l+",%d+,%d+,(%d+),', 33)
    if tenant then return tenant, tonumber(size) end
    local about = parsed(header) or {}
    return type(about[2]) == 'string' and about[2] or nil, tonumber(about[7]) or 0
end
for from = 0, jobs - 1, 1000 do
    for _, member in ipairs(redis.call('ZRANGE', live, from, from + 999)) do
        local header = field(job(string.sub(member, 1, 32)), 'h', max_header)
        local tenant, size = whose(header or '')
        if tenant then
            add('bytes', size)
            add('n:' .. tenant, 1)
            add('b:' .. tenant, size)
        end
    end
end
redis.call('DEL', use)
if jobs > 0 then redis.call('HSET', use, 'jobs', jobs) end
for name, size in pairs(sums) do redis.call('HSET', use, name, string.format('%.0f', size)) end
return 1
"""
)
