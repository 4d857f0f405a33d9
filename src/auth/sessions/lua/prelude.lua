-- The prelude of each script: Redis's time, which is the only clock for sessions, and shared functions.
-- ARGV[1] is the prefix of every key in each script.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local prefix = ARGV[1]

local function session_key(id)
    return prefix .. 'session:' .. id
end

-- The sessions of a user, and those that a principal created.
local function user_key(user_id)
    return prefix .. 'sessions-of:' .. user_id
end

local function creator_key(created_by)
    return prefix .. 'sessions-by:' .. created_by
end

-- The fields of a session and its remaining time; false if there is none. These scripts always set an expiry: a
-- key without one is not theirs.
local function read(id)
    local left = redis.call('PTTL', session_key(id))
    if left < 0 then
        return false
    end
    local fields = redis.call('HMGET', session_key(id), 'user_id', 'roles', 'created_by', 'description', 'kind',
        'lifetime_ms', 'create_ms', 'use_ms', 'end_ms', 'expire_ms', 'signature')
    fields[12] = tostring(left)
    fields[13] = string.format('%.0f', now)
    return fields
end

-- Sets the expire time of a session; each list of sessions expires with the last of them.
local function expire(id, user_id, created_by, at)
    redis.call('HSET', session_key(id), 'expire_ms', at)
    redis.call('PEXPIREAT', session_key(id), at)
    for _, list in ipairs({ user_key(user_id), creator_key(created_by) }) do
        redis.call('ZADD', list, at, id)
        local latest = redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')
        redis.call('PEXPIREAT', list, latest[2])
    end
end

-- Whether a session has no other roles than these ('*': any).
local function is_within(id, roles)
    if roles == '*' then
        return true
    end
    for role in string.gmatch(redis.call('HGET', session_key(id), 'roles') or '*', '%S+') do
        if not string.find(' ' .. roles .. ' ', ' ' .. role .. ' ', 1, true) then
            return false
        end
    end
    return true
end

-- Deletes a session, also from its lists; returns whether there was one.
local function delete(id)
    local user_id, created_by = unpack(redis.call('HMGET', session_key(id), 'user_id', 'created_by'))
    if user_id then
        redis.call('ZREM', user_key(user_id), id)
    end
    if created_by then
        redis.call('ZREM', creator_key(created_by), id)
    end
    return redis.call('DEL', session_key(id)) == 1
end

local function publish(ids)
    if #ids > 0 then
        redis.call('PUBLISH', prefix .. 'revoked', table.concat(ids, ' '))
    end
end
