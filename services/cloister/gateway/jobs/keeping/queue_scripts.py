"""How jobs that may be taken wait, in Lua: each tenant's by itself, so that claims take turns. Keys: `scripts.py`.

A tenant's jobs of one priority are a sorted set; a place in it is the time of coming by Redis's clock, in 4096ths of a
millisecond, and no two have the same. Whoever has some is in `turns`, and who was served goes to the end of it.
"""

from __future__ import annotations

from typing import Final

# Goes after COMMON.
WAITING: Final = """
local turns, later, taken, news = K .. ':turns', K .. ':later', K .. ':taken', K .. ':news'
local places, fronts, turned, woken, clock = {}, {}, {}, false, nil
local function now_ms()
    if not clock then
        local time = redis.call('TIME')
        clock = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    return clock
end
local function waits(priority, tenant) return K .. ':wait:' .. priority .. ':' .. tenant end
local function score(key, at) return tonumber(redis.call('ZRANGE', key, at, at, 'WITHSCORES')[2] or '') end
local function last_turn()
    local last = typed(turns, 'zset') and score(turns, -1) or 0
    return last < 4503599627370496 and last or 0
end
local function ready(tenant)
    if not turned[tenant] then
        turned[tenant] = true
        redis.call('ZADD', turns, 'NX', last_turn() + 1, tenant)
    end
    if not woken then
        woken = true
        typed(news, 'stream')
        redis.call('XADD', news, 'MAXLEN', 1, '*', 'j', '')
    end
end
local function queue(id, priority, tenant)
    local key = waits(priority, tenant)
    if not places[key] then
        typed(key, 'zset')
        places[key] = math.max(now_ms() * 4096, (score(key, -1) or 0) + 1)
    end
    redis.call('ZADD', key, places[key], id)
    places[key] = places[key] + 1
    ready(tenant)
end
local function routed(id)
    local header = field(job(id), 'h', max_header)
    local about = header and parsed(header)
    if not about or type(about[2]) ~= 'string' then return nil end
    local known = about[4] == 'high' or about[4] == 'normal' or about[4] == 'low'
    if known then return about[4], about[2] end
    return nil
end
local function put_back(id)
    local priority, tenant = routed(id)
    if not priority then return end
    local key = waits(priority, tenant)
    if not fronts[key] then
        typed(key, 'zset')
        fronts[key] = (score(key, 0) or now_ms() * 4096) - 1048576
    end
    redis.call('HDEL', job(id), 'x')
    redis.call('ZADD', key, fronts[key], id)
    fronts[key] = fronts[key] + 1
    ready(tenant)
end
local function done_with(entry)
    redis.pcall('XACK', taken, group, entry)
    redis.pcall('XDEL', taken, entry)
end
local function holder(entry)
    local found = redis.pcall('XPENDING', taken, group, entry, entry, 1)
    return not found.err and found[1] and found[1][2] or nil
end
"""
