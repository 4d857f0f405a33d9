-- The prelude of each script: Redis's time, which is the only clock for sessions, and shared functions.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The fields of a session and its remaining time; false if there is none. These scripts always set an expiry: a
-- key without one is not theirs.
local function read(key)
    local left = redis.call('PTTL', key)
    if left < 0 then
        return false
    end
    local fields = redis.call('HMGET', key, 'user_id', 'roles', 'created_by', 'description', 'kind', 'lifetime_ms',
        'create_ms', 'use_ms', 'end_ms', 'expire_ms')
    fields[11] = tostring(left)
    fields[12] = string.format('%.0f', now)
    return fields
end

-- Sets the expire time of a session; the list of its user's sessions expires with the last of them.
local function expire(key, index, id, at)
    redis.call('HSET', key, 'expire_ms', at)
    redis.call('PEXPIREAT', key, at)
    redis.call('ZADD', index, at, id)
    local latest = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
    redis.call('PEXPIREAT', index, latest[2])
end
