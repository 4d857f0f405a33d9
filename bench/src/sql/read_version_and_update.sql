-- Read the version, update where it is still the same, else try again: the usual optimistic way.
-- For pgbench, with :first and :last as the numbers of the events to draw from.
--
-- An attempt that lost the race ends here, and pgbench's next turn is the retry, at once and without
-- a limit. Only reservations that are in the table in the end count. What reservd does besides is
-- left out, as in plain_transaction.sql.
\set n random(:first, :last)
\set user random(1, 9223372036854775807)
SELECT capacity - held - confirmed AS available, version AS seen
  FROM events WHERE event_id = 'peer-' || :n::text \gset
\if :available > 0
BEGIN;
WITH won AS (
    UPDATE events SET held = held + 1, version = version + 1
     WHERE event_id = 'peer-' || :n::text AND version = :seen::bigint RETURNING version
) SELECT count(*) AS updated FROM won \gset
\if :updated > 0
INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, extensions, version, create_time, update_time)
VALUES ('peer-' || :n::text, gen_random_uuid(), 'user-' || :user::text, 1, 'HELD', now() + interval '30 days', 0, :seen::bigint + 1, now(), now());
COMMIT;
\else
ROLLBACK;
\endif
\endif
