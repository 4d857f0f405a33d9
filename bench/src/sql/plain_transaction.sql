-- The plain transaction: lock the event's row, look, insert the reservation, count, commit.
-- For pgbench, with :first and :last as the numbers of the events to draw from.
--
-- It writes the reservation and the counters as reservd does, with the same columns and indexes, and
-- leaves out what reservd also does: no change record (history, feed and idempotency), no check that
-- the user has no reservation yet, no limits.
\set n random(:first, :last)
\set user random(1, 9223372036854775807)
BEGIN;
SELECT capacity - held - confirmed AS available, version + 1 AS version
  FROM events WHERE event_id = 'peer-' || :n::text FOR UPDATE \gset
\if :available > 0
INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, extensions, version, create_time, update_time)
VALUES ('peer-' || :n::text, gen_random_uuid(), 'user-' || :user::text, 1, 'HELD', now() + interval '30 days', 0, :version::bigint, now(), now());
UPDATE events SET held = held + 1, version = :version::bigint WHERE event_id = 'peer-' || :n::text;
\endif
COMMIT;
