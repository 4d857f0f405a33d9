-- Reads a session for a use. Once each refresh interval, records the use and extends a sliding session.
-- ARGV: prefix, id, refresh interval (ms).
-- Returns the session as `read` does, or false.
local id = ARGV[2]
local fields = read(id)
if not fields then
    return false
end
local lifetime, used, last = tonumber(fields[6]), tonumber(fields[8]), tonumber(fields[9])
if now - used >= math.min(tonumber(ARGV[3]), lifetime / 4) then
    redis.call('HSET', session_key(id), 'use_ms', now)
    if fields[5] == 'sliding' then
        expire(id, fields[1], fields[3], math.min(now + lifetime, last))
    end
    return read(id)
end
return fields
