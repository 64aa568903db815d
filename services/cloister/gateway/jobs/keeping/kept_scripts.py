"""What lies there of a tenant's jobs that have ended, counted in Lua. Keys and rules are those of `scripts.py`.

    K:kept:<tenant>    hash: bytes by the minute of Redis's clock in which they go; `sum` of them, as of minute `at`

Each end counts as RECORD_BYTES until it is known no longer, and its answer as its size until it goes. What goes after
two hours is counted by the hour. The sum is made anew every minute from what has not gone, so that a count which was
lost or changed puts itself right.
"""

from __future__ import annotations

from typing import Final

RECORD_BYTES: Final = 1024
"""About what Redis needs for a job that has ended, beside its answer."""

# Goes after WAITING, which has the clock.
KEPT: Final = f"""
local record_bytes, more = {RECORD_BYTES}, {{}}
local function kept_by(tenant) return K .. ':kept:' .. tenant end
local function minute(life_ms)
    local at = math.ceil((now_ms() + life_ms) / 60000)
    return life_ms > 7200000 and math.ceil(at / 60) * 60 or at
end
local function kept_anew(key, now)
    local sum, gone, all = 0, {{}}, redis.call('HGETALL', key)
    for at = 1, #all, 2 do
        local goes = tonumber(all[at])
        if goes and goes > now then
            sum = sum + math.max(0, tonumber(all[at + 1]) or 0)
        elseif goes then
            gone[#gone + 1] = all[at]
        end
    end
    for at = 1, #gone, 1000 do redis.call('HDEL', key, unpack(gone, at, math.min(at + 999, #gone))) end
    if sum > 0 then
        redis.call('HSET', key, 'sum', string.format('%.0f', sum), 'at', now)
    else
        redis.call('DEL', key)
    end
    return sum
end
local function kept_bytes(tenant)
    local key, now = kept_by(tenant), math.floor(now_ms() / 60000)
    local length = redis.pcall('HLEN', key)
    if length == 0 then return 0 end
    if type(length) ~= 'number' or length > 4096 then
        redis.call('DEL', key)
        count('junk')
        return 0
    end
    local sum = tonumber((field(key, 'sum', 20)) or '')
    if sum and field(key, 'at', 20) == string.format('%.0f', now) then return sum end
    return kept_anew(key, now)
end
local function keeps(tenant, goes, size)
    more[tenant] = more[tenant] or {{}}
    more[tenant][goes] = (more[tenant][goes] or 0) + size
end
local function count_kept()
    for tenant, by_minute in pairs(more) do
        local key, sum, latest = kept_by(tenant), 0, 0
        typed(key, 'hash')
        for goes, size in pairs(by_minute) do
            local left = redis.pcall('HINCRBY', key, string.format('%.0f', goes), string.format('%.0f', size))
            if type(left) ~= 'number' or left <= 0 then redis.call('HDEL', key, string.format('%.0f', goes)) end
            sum, latest = sum + size, math.max(latest, goes)
        end
        local left = redis.pcall('HINCRBY', key, 'sum', string.format('%.0f', sum))
        if type(left) ~= 'number' or left <= 0 then redis.call('HDEL', key, 'sum', 'at') end
        local life_ms = string.format('%.0f', latest * 60000 - now_ms())
        redis.call('PEXPIRE', key, life_ms, 'NX')
        redis.call('PEXPIRE', key, life_ms, 'GT')
    end
end
local function kept_no_more(tenant, told_of)
    local record, answer, size = string.match(told_of or '', '^(%d+) (%d+) (%d+)$')
    local now = math.floor(now_ms() / 60000)
    if record and tonumber(record) > now then keeps(tenant, tonumber(record), -record_bytes) end
    if answer and tonumber(answer) > now then keeps(tenant, tonumber(answer), -tonumber(size)) end
end
"""
