-- ARGV: prefix.
-- Returns Redis's time in milliseconds.
return now
