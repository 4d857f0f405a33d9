-- Revokes a session and publishes its id.
-- KEYS: the session.
-- ARGV: id, required user and roles ('': any), prefix of users' sessions, channel.
-- Returns the number of revoked sessions.
local user, roles = unpack(redis.call('HMGET', KEYS[1], 'user_id', 'roles'))
if not user or (ARGV[2] ~= '' and ARGV[2] ~= user) or (ARGV[3] ~= '' and ARGV[3] ~= roles) then
    return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', ARGV[4] .. user, ARGV[1])
redis.call('PUBLISH', ARGV[5], ARGV[1])
return 1
