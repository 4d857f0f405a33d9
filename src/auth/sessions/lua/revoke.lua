-- Revokes a session and publishes its id.
-- ARGV: prefix, id, required user ('': any), the only roles that it may have ('*': any).
-- Returns the number of revoked sessions.
local id = ARGV[2]
local user_id = redis.call('HGET', session_key(id), 'user_id')
if not user_id or (ARGV[3] ~= '' and ARGV[3] ~= user_id) or not is_within(id, ARGV[4]) then
    return 0
end
delete(id)
publish({ id })
return 1
