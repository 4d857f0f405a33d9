-- Opens a session; where its user has too many, those that would lapse first go for it.
-- KEYS: the session, its user's sessions.
-- ARGV: id, user_id, roles, created_by, description, kind, lifetime (ms), longest life (ms), most of a
-- user, prefix of sessions, channel.
-- Returns the ids of those that went, and the session as `read` does.
local id, kind, lifetime, longest, most = ARGV[1], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local last = now + lifetime
if kind == 'sliding' then
    last = now + longest
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local gone = {}
local excess = redis.call('ZCARD', KEYS[2]) + 1 - most
if excess > 0 then
    gone = redis.call('ZRANGE', KEYS[2], 0, excess - 1)
    for _, other in ipairs(gone) do
        redis.call('DEL', ARGV[10] .. other)
        redis.call('ZREM', KEYS[2], other)
    end
    redis.call('PUBLISH', ARGV[11], table.concat(gone, ' '))
end

redis.call('HSET', KEYS[1], 'user_id', ARGV[2], 'roles', ARGV[3], 'created_by', ARGV[4], 'description', ARGV[5],
    'kind', kind, 'lifetime_ms', lifetime, 'create_ms', now, 'use_ms', now, 'end_ms', last)
lapse(KEYS[1], KEYS[2], id, math.min(now + lifetime, last))
return { gone, read(KEYS[1]) }
