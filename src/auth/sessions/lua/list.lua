-- Reads the sessions of a user.
-- KEYS: the user's sessions.
-- ARGV: prefix of sessions.
-- Returns pairs of id and session, this as `read` returns it.
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local kept = read(ARGV[1] .. id)
    if kept then
        found[#found + 1] = { id, kept }
    end
end
return found
