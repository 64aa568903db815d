"""What Redis does in one step for the replicas, in Lua.

Each script first sees that this is the Redis process and the replication history that the session began under, so one
that was restarted, failed over, or made to follow another server loses the session. A script that writes to the stream
also sees that this session's last number is the one in Redis: a Redis whose content was set back, or flushed, loses it
too. No value longer than a record can be is handed out, and none of another type.

Keys are made from a prefix, so Redis Cluster is not supported.
"""

from __future__ import annotations

from typing import Final

LOST: Final = "LOST"
# A quote of the largest size that is appraised, and all that is kept with it.
MAX_RECORD_BYTES: Final = 128 << 10
STREAM_ENTRIES: Final = 65_536
HEAD_TTL_MS: Final = 60_000

# ARGV[1] prefix, ARGV[2] run, ARGV[3] session.
_COMMON: Final = f"""
local p, run, session = ARGV[1], ARGV[2], ARGV[3]
local function present()
    local process = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    return process .. ':' .. history
end
local function bounded(key)
    if redis.call('TYPE', key).ok ~= 'string' then return false end
    if redis.call('STRLEN', key) > {MAX_RECORD_BYTES} then return '' end
    return redis.call('GET', key)
end
local function append(entry)
    return redis.call('XADD', p .. 'stream', 'MAXLEN', '~', {STREAM_ENTRIES}, '*', 'e', entry)
end
"""
_FOLLOWING: Final = (
    _COMMON
    + """
if present() ~= run or redis.call('EXISTS', p .. 'head:' .. session) == 0 then
    return redis.error_reply('LOST the session')
end
"""
)
# ARGV[4] the number of this entry, ARGV[5] the entry, ARGV[6] an entry that says nothing.
_WRITING: Final = (
    _COMMON
    + f"""
local head = p .. 'head:' .. session
if present() ~= run or tonumber(redis.call('GET', head) or '0') ~= ARGV[4] - 1 then
    return redis.error_reply('LOST the session')
end
redis.call('SET', head, ARGV[4], 'PX', {HEAD_TTL_MS})
"""
)
_QUOTA: Final = """
local function drop(peer, id)
    redis.call('DEL', p .. 'challenge:' .. id)
    redis.call('ZREM', p .. 'held', peer .. ':' .. id)
    redis.call('ZREM', p .. 'held:' .. peer, id)
    local left = redis.call('ZCARD', p .. 'held:' .. peer)
    if left == 0 then redis.call('ZREM', p .. 'peers', peer) else redis.call('ZADD', p .. 'peers', left, peer) end
end
local function oldest(peer)
    return redis.call('ZRANGE', p .. 'held:' .. peer, 0, 0)[1]
end
"""

# -> {run, id of the hello}. ARGV[4] the entry that says hello.
HELLO: Final = (
    _COMMON
    + f"""
redis.call('SET', p .. 'head:' .. session, 1, 'PX', {HEAD_TTL_MS})
return {{present(), append(ARGV[4])}}
"""
)
# -> nothing.
WRITE: Final = _WRITING + "append(ARGV[5])\n"
# -> entries after ARGV[4], ARGV[5] at most: {id, entry} each.
FOLLOW: Final = (
    _FOLLOWING
    + f"""
local found = {{}}
for _, each in ipairs(redis.call('XRANGE', p .. 'stream', '(' .. ARGV[4], '+', 'COUNT', ARGV[5])) do
    local entry = each[2][2] or ''
    if #entry > {MAX_RECORD_BYTES} then entry = '' end
    found[#found + 1] = {{each[1], entry}}
end
return found
"""
)
# ARGV: 4 id, 5 record, 6 life in ms, 7 peer, 8 most in all, 9 most for one peer. -> nothing.
ISSUE: Final = (
    _FOLLOWING
    + _QUOTA
    + """
local id, peer = ARGV[4], ARGV[7]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ends = now + ARGV[6] * 1000
for _, each in ipairs(redis.call('ZRANGE', p .. 'held', '-inf', now, 'BYSCORE', 'LIMIT', 0, 64)) do
    local at = string.find(each, ':', 1, true)
    drop(string.sub(each, 1, at - 1), string.sub(each, at + 1))
end
if redis.call('ZCARD', p .. 'held:' .. peer) >= tonumber(ARGV[9]) then drop(peer, oldest(peer)) end
if redis.call('ZCARD', p .. 'held') >= tonumber(ARGV[8]) then
    local heaviest = redis.call('ZRANGE', p .. 'peers', 0, 0, 'REV')[1]
    if heaviest then drop(heaviest, oldest(heaviest) or '') end
end
redis.call('SET', p .. 'challenge:' .. id, ARGV[5], 'PX', ARGV[6])
redis.call('ZADD', p .. 'held', ends, peer .. ':' .. id)
redis.call('ZADD', p .. 'held:' .. peer, ends, id)
redis.call('PEXPIRE', p .. 'held:' .. peer, ARGV[6] * 2)
redis.call('ZADD', p .. 'peers', redis.call('ZCARD', p .. 'held:' .. peer), peer)
"""
)
# ARGV: 7 id, 8 peer. -> the record, or nothing.
CONSUME: Final = (
    _WRITING
    + _QUOTA
    + """
local record = bounded(p .. 'challenge:' .. ARGV[7])
drop(ARGV[8], ARGV[7])
if record then append(ARGV[5]) else append(ARGV[6]) end
return record
"""
)
# ARGV: 4 instance, 5 record, 6 life in ms, 7 the record believed to be there. -> the record that is there instead.
PIN: Final = (
    _FOLLOWING
    + """
local key = p .. 'pin:' .. ARGV[4]
local held = bounded(key)
if held == false then
    redis.call('SET', key, ARGV[5], 'PX', ARGV[6])
elseif held == ARGV[7] then
    redis.call('PEXPIRE', key, ARGV[6], 'GT')
else
    return held
end
return false
"""
)
# ARGV: 7 instance, 8 rank, 9 record, 10 life in ms. The record of the highest rank stays; all hear of the change.
PUT: Final = (
    _WRITING
    + """
local key = p .. 'member:' .. ARGV[7]
local held = bounded(key)
if not held or string.sub(held, 1, #ARGV[8]) < ARGV[8] then
    redis.call('SET', key, ARGV[8] .. ARGV[9], 'PX', ARGV[10])
    local time = redis.call('TIME')
    redis.call('ZADD', p .. 'members', time[1] + math.ceil(ARGV[10] / 1000), ARGV[7])
    redis.call('ZREMRANGEBYSCORE', p .. 'members', '-inf', time[1] - 60)
end
append(ARGV[5])
"""
)
# ARGV: 4 digest, 5 life in ms, 6 content, or empty to ask. -> 1 if it is there now.
KEEP: Final = (
    _FOLLOWING
    + """
local key = p .. 'collateral:' .. ARGV[4]
if #ARGV[6] > 0 then redis.call('SET', key, ARGV[6], 'PX', ARGV[5]) return 1 end
return redis.call('PEXPIRE', key, ARGV[5])
"""
)
# ARGV: 4 digest, 5 most bytes. -> the content, or nothing.
COLLATERAL: Final = (
    _FOLLOWING
    + """
local key = p .. 'collateral:' .. ARGV[4]
if redis.call('TYPE', key).ok ~= 'string' or redis.call('STRLEN', key) > tonumber(ARGV[5]) then return false end
return redis.call('GET', key)
"""
)
# -> the instances that there are records of, ARGV[4] at most.
LIST: Final = _FOLLOWING + "return redis.call('ZRANGE', p .. 'members', 0, ARGV[4] - 1)\n"
# -> the records of the instances from ARGV[4] on, in their order.
FETCH: Final = (
    _FOLLOWING
    + """
local found = {}
for at = 4, #ARGV do found[#found + 1] = bounded(p .. 'member:' .. ARGV[at]) or '' end
return found
"""
)

ALL: Final = (HELLO, WRITE, FOLLOW, ISSUE, CONSUME, PIN, PUT, KEEP, COLLATERAL, LIST, FETCH)
