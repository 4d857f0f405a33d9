-- Revokes the sessions of a user, and tells all servers, in one step.
-- KEYS: the user's sessions.
-- ARGV: their roles ('': whatever they are), prefix of sessions, channel.
-- Returns how many there were.
local gone = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local key = ARGV[2] .. id
    if ARGV[1] == '' or redis.call('HGET', key, 'roles') == ARGV[1] then
        redis.call('ZREM', KEYS[1], id)
        if redis.call('DEL', key) == 1 then
            gone[#gone + 1] = id
        end
    end
end
if #gone > 0 then
    redis.call('PUBLISH', ARGV[3], table.concat(gone, ' '))
end
return #gone
