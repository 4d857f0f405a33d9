-- Reads a session without recording a use.
-- ARGV: prefix, id.
-- Returns the session as `read` does, or false.
return read(ARGV[2])
