-- Reads a session for a use. Once each refresh interval, records the use and extends a sliding session.
-- KEYS: the session.
-- ARGV: id, refresh interval (ms), prefix of users' sessions.
-- Returns the session as `read` does, or false.
local fields = read(KEYS[1])
if not fields then
    return false
end
local lifetime, used, last = tonumber(fields[6]), tonumber(fields[8]), tonumber(fields[9])
if now - used >= math.min(tonumber(ARGV[2]), lifetime / 4) then
    redis.call('HSET', KEYS[1], 'use_ms', now)
    if fields[5] == 'sliding' then
        expire(KEYS[1], ARGV[3] .. fields[1], ARGV[1], math.min(now + lifetime, last))
    end
    return read(KEYS[1])
end
return fields
