-- Reads the sessions of a user.
-- ARGV: prefix, user_id.
-- Returns pairs of an id and a session as `read` returns it.
local found = {}
for _, id in ipairs(redis.call('ZRANGE', user_key(ARGV[2]), 0, -1)) do
    local fields = read(id)
    if fields then
        found[#found + 1] = { id, fields }
    end
end
return found
