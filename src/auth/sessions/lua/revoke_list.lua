-- Revokes the sessions of a list and publishes their ids.
-- ARGV: prefix, the list without the prefix, the only roles that they may have ('*': any), maximum (0: all).
-- Returns the number of revoked sessions, and how many are left in the list.
local list, revoked = prefix .. ARGV[2], {}
for _, id in ipairs(redis.call('ZRANGE', list, 0, tonumber(ARGV[4]) - 1)) do
    if is_within(id, ARGV[3]) then
        redis.call('ZREM', list, id)
        if delete(id) then
            revoked[#revoked + 1] = id
        end
    end
end
publish(revoked)
return { #revoked, redis.call('ZCARD', list) }
