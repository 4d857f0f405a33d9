-- Ten reservations, confirmed at once but for one that is held, for each of the events number $1 to
-- $2, of $3 reservations in all; with the change that made each. Users are spread evenly over all
-- that the load can draw, so that its users come between them everywhere in the index.
WITH numbered AS (
    SELECT n, j, (n - 1)::bigint * 10 + j - 1 AS number
      FROM generate_series($1::integer, $2::integer) AS n, generate_series(1, 10) AS j
), rows AS MATERIALIZED (
    SELECT 'bench-' || n AS event_id, j + 1 AS version,
           -- As a UUID of version 7, in the order of age.
           (lpad(to_hex(1700000000000 + number), 12, '0') || '7' || substr(md5(number::text), 1, 3)
               || '8' || substr(md5(number::text), 4, 15))::uuid AS reservation_id,
           'user-' || lpad(to_hex(number * (9223372036854775807 / $3::bigint)), 16, '0') AS user_id,
           CASE WHEN j = 10 THEN 'HELD' ELSE 'CONFIRMED' END AS state,
           CASE WHEN j = 10 THEN now() + interval '30 days' END AS expire_time,
           CASE WHEN j < 10 THEN now() END AS confirm_time
      FROM numbered
), reserved AS (
    INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, confirm_time,
                              extensions, version, create_time, update_time)
    SELECT event_id, reservation_id, user_id, 1, state, expire_time, confirm_time, 0, version, now(), now() FROM rows
)
INSERT INTO changes (event_id, version, kind, change_time, reservation_id, user_id, quantity, state, expire_time,
                     confirm_time, extensions, create_time)
SELECT event_id, version, 'RESERVATION_' || state, now(), reservation_id, user_id, 1, state, expire_time, confirm_time, 0, now()
  FROM rows
