-- Revokes the sessions of a user and publishes their ids.
-- KEYS: the user's sessions.
-- ARGV: required roles ('': any), prefix of sessions, channel.
-- Returns the number of revoked sessions.
local revoked = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local key = ARGV[2] .. id
    if ARGV[1] == '' or redis.call('HGET', key, 'roles') == ARGV[1] then
        redis.call('ZREM', KEYS[1], id)
        if redis.call('DEL', key) == 1 then
            revoked[#revoked + 1] = id
        end
    end
end
if #revoked > 0 then
    redis.call('PUBLISH', ARGV[3], table.concat(revoked, ' '))
end
return #revoked
