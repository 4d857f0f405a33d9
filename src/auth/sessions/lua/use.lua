-- Reads a session because it is used: notes so, and lets a sliding one begin anew, once each `pause`.
-- KEYS: the session.
-- ARGV: id, pause (ms), prefix of users' sessions.
-- Returns the session as `read` does, or false.
local kept = read(KEYS[1])
if not kept then
    return false
end
local lifetime, used, last = tonumber(kept[6]), tonumber(kept[8]), tonumber(kept[9])
if now - used >= math.min(tonumber(ARGV[2]), lifetime / 4) then
    redis.call('HSET', KEYS[1], 'use_ms', now)
    if kept[5] == 'sliding' then
        lapse(KEYS[1], ARGV[3] .. kept[1], ARGV[1], math.min(now + lifetime, last))
    end
    return read(KEYS[1])
end
return kept
