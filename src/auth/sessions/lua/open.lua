-- Opens a session. If its user has too many with the same roles, it replaces those of them that would expire first:
-- a creator that may give these roles reaches such sessions, and perhaps no others.
-- ARGV: prefix, id, user_id, roles, created_by, description, kind, lifetime (ms), time of creation and latest time of
-- expiry (ms), signature, maximum of a user.
-- Returns the ids of the replaced sessions, and the session as `read` does.
local _, id, user_id, roles, created_by, description, kind, lifetime, create, last, signature, max = unpack(ARGV)
max = tonumber(max)

redis.call('ZREMRANGEBYSCORE', user_key(user_id), '-inf', now)
redis.call('ZREMRANGEBYSCORE', creator_key(created_by), '-inf', now)
local alike, replaced = {}, {}
if redis.call('ZCARD', user_key(user_id)) >= max then
    for _, other in ipairs(redis.call('ZRANGE', user_key(user_id), 0, -1)) do
        if redis.call('HGET', session_key(other), 'roles') == roles then
            alike[#alike + 1] = other
        end
    end
end
for place = 1, #alike + 1 - max do
    replaced[place] = alike[place]
    delete(alike[place])
end
publish(replaced)

redis.call('HSET', session_key(id), 'user_id', user_id, 'roles', roles, 'created_by', created_by, 'description',
    description, 'kind', kind, 'lifetime_ms', lifetime, 'create_ms', create, 'use_ms', now, 'end_ms', last,
    'signature', signature)
expire(id, user_id, created_by, math.min(now + tonumber(lifetime), tonumber(last)))
return { replaced, read(id) }
