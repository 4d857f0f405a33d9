-- Reads a session without using it.
-- KEYS: the session.
-- Returns the session as `read` does, or false.
return read(KEYS[1])
