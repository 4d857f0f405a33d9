-- Opens a session. If its user has too many, it replaces those that would expire first.
-- KEYS: the session, its user's sessions.
-- ARGV: id, user_id, roles, created_by, description, kind, lifetime (ms), maximum lifetime (ms), maximum of a
-- user, prefix of sessions, channel.
-- Returns the ids of the replaced sessions, and the session as `read` does.
local id, kind, lifetime, max_lifetime, max_sessions = ARGV[1], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local last = now + lifetime
if kind == 'sliding' then
    last = now + max_lifetime
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local replaced = {}
local excess = redis.call('ZCARD', KEYS[2]) + 1 - max_sessions
if excess > 0 then
    replaced = redis.call('ZRANGE', KEYS[2], 0, excess - 1)
    for _, other in ipairs(replaced) do
        redis.call('DEL', ARGV[10] .. other)
        redis.call('ZREM', KEYS[2], other)
    end
    redis.call('PUBLISH', ARGV[11], table.concat(replaced, ' '))
end

redis.call('HSET', KEYS[1], 'user_id', ARGV[2], 'roles', ARGV[3], 'created_by', ARGV[4], 'description', ARGV[5],
    'kind', kind, 'lifetime_ms', lifetime, 'create_ms', now, 'use_ms', now, 'end_ms', last)
expire(KEYS[1], KEYS[2], id, math.min(now + lifetime, last))
return { replaced, read(KEYS[1]) }
