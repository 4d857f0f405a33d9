-- Reads a session without recording a use.
-- KEYS: the session.
-- Returns the session as `read` does, or false.
return read(KEYS[1])
