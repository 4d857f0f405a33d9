-- Before each script: the time, which is Redis's own and nobody else's, and what they share.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What is kept of a session, with the time it has left; false if there is none. A session always has
-- an end: what has none was not made by these scripts.
local function read(key)
    local left = redis.call('PTTL', key)
    if left < 0 then
        return false
    end
    local kept = redis.call('HMGET', key, 'user_id', 'roles', 'created_by', 'description', 'kind', 'lifetime_ms',
        'create_ms', 'use_ms', 'end_ms', 'expire_ms')
    kept[11] = tostring(left)
    kept[12] = string.format('%.0f', now)
    return kept
end

-- Lets a session lapse at this time, and what is kept of its user's sessions with the last of them.
local function lapse(key, index, id, at)
    redis.call('HSET', key, 'expire_ms', at)
    redis.call('PEXPIREAT', key, at)
    redis.call('ZADD', index, at, id)
    local latest = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
    redis.call('PEXPIREAT', index, latest[2])
end
