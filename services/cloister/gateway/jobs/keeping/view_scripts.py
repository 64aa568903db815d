"""What Redis tells of jobs in one step, in Lua, and of which models there are. Keys and rules: `scripts.py`."""

from __future__ import annotations

from typing import Final

from cloister.gateway.jobs.keeping.kept_scripts import KEPT
from cloister.gateway.jobs.keeping.queue_scripts import WAITING
from cloister.gateway.jobs.keeping.scripts import COMMON, ROOM

MAX_PAGE_BYTES: Final = 1 << 16
SHORT_BYTES: Final = 2048
"""Of a response that costs less as part of the answer of a script, though Lua hashes all of it, than by itself."""

# ARGV: 1 most bytes of responses, 2 whether they are wanted, then ids. Ends early when those of the jobs before have so
# many bytes; which are not short are fetched afterwards, by `Shelf.answers`. -> what was dropped; of each: header, end,
# attempts, whether somebody holds it, length of the response, the response if it is short.
READ: Final = (
    COMMON
    + WAITING
    + f"local max_short = {SHORT_BYTES}\n"
    + """
local room, out = tonumber(ARGV[1]), {}
for at = 3, #ARGV do
    local record, answer = job(ARGV[at]), K .. ':answer:' .. ARGV[at]
    local header, wrong = field(record, 'h', max_header)
    local ended = header and field(record, 't', max_header)
    local size = 0
    if ended and ARGV[2] == '1' then
        size = redis.pcall('STRLEN', answer)
        if type(size) ~= 'number' or size > max_value then size = 0 end
    end
    if size > room and #out > 0 then break end
    room = room - size
    if wrong then count('junk') end
    local entry = header and not ended and field(record, 'x', 64)
    put(out, header)
    put(out, ended)
    put(out, header and not ended and field(record, 'n', 20) or nil)
    put(out, entry and holder(entry) and '1')
    put(out, size)
    put(out, size > 0 and size <= max_short and redis.call('GET', answer))
end
return {told(), table.concat(out)}
"""
)

# ARGV: 1 tenant. -> how many bytes are kept of its jobs that have ended.
KEPT_BYTES: Final = ROOM + COMMON + WAITING + KEPT + "return kept_bytes(ARGV[1])\n"

# ARGV: 1 where to go on, or $, 2 most pages. -> whether ends were missed, where to go on, ids as one text.
FOLLOW: Final = (
    COMMON
    + f"""
local feed, after, missed, out = K .. ':feed', ARGV[1], 0, {{}}
local last, added, kept = '0-0', 0, 0
if redis.call('TYPE', feed).ok == 'stream' then
    local about = redis.call('XINFO', 'STREAM', feed)
    for part = 1, #about, 2 do
        if about[part] == 'last-generated-id' then last = about[part + 1] end
        if about[part] == 'entries-added' then added = about[part + 1] end
        if about[part] == 'length' then kept = about[part + 1] end
    end
end
if after == '$' then return {{0, last, ''}} end
if after == '0-0' then
    if added > kept then missed = 1 end
elseif last == '0-0' or #redis.call('XRANGE', feed, after, after) == 0 then
    missed = 1
end
if missed == 0 and last ~= '0-0' then
    for _, each in ipairs(redis.call('XRANGE', feed, '(' .. after, '+', 'COUNT', ARGV[2])) do
        local ids = each[2][2] or ''
        if #ids <= {MAX_PAGE_BYTES} then out[#out + 1] = ids end
        after = each[1]
    end
end
return {{missed, after, table.concat(out)}}
"""
)

# -> jobs that have not ended, bytes of their requests, held, ms that the oldest waits (of the first 256 tenants), dead
# letters.
COUNT: Final = (
    COMMON
    + WAITING
    + """
local function size(command, key)
    local found = redis.pcall(command, key)
    return type(found) == 'number' and found or 0
end
local function first(priority, tenant)
    local found = redis.pcall('ZRANGE', waits(priority, tenant), 0, 0, 'WITHSCORES')
    return not found.err and tonumber(found[2] or '') or nil
end
local bytes = redis.pcall('HGET', K .. ':use', 'bytes')
local about, oldest = redis.pcall('XPENDING', taken, group), 0
local held = not about.err and about[1] or 0
for _, tenant in ipairs(typed(turns, 'zset') and redis.call('ZRANGE', turns, 0, 255) or {}) do
    for _, priority in ipairs({'high', 'normal', 'low'}) do
        local place = first(priority, tenant)
        if place then oldest = math.max(oldest, now_ms() - math.floor(place / 4096)) end
    end
end
return {
    size('ZCARD', K .. ':live'), tonumber(type(bytes) == 'string' and bytes or '0') or 0, held, oldest,
    size('XLEN', K .. ':dead'),
}
"""
)

# ARGV: 1 where to go on, 2 most. -> id, header and end of each dead letter.
DEAD: Final = (
    COMMON
    + """
local out = {}
if redis.call('TYPE', K .. ':dead').ok == 'stream' then
    for _, each in ipairs(redis.call('XRANGE', K .. ':dead', ARGV[1], '+', 'COUNT', ARGV[2])) do
        local whole = #each[2] == 4 and #each[2][2] <= max_header and #each[2][4] <= max_header
        put(out, each[1])
        put(out, whole and each[2][2])
        put(out, whole and each[2][4])
    end
end
return table.concat(out)
"""
)

# Take away what is left of a model that has no jobs. -> 1 if nothing is left.
RETIRE: Final = (
    ROOM
    + COMMON
    + WAITING
    + """
for _, key in ipairs({taken, K .. ':dead'}) do
    if typed(key, 'stream') and redis.call('XLEN', key) > 0 then return 0 end
end
if typed(K .. ':live', 'zset') then return 0 end
redis.call('DEL', K .. ':feed', K .. ':use', K .. ':dead', turns, later, taken, news)
return 1
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
