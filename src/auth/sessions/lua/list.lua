-- Reads the sessions of a user.
-- KEYS: the user's sessions.
-- ARGV: prefix of sessions.
-- Returns pairs of an id and a session as `read` returns it.
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local fields = read(ARGV[1] .. id)
    if fields then
        found[#found + 1] = { id, fields }
    end
end
return found
