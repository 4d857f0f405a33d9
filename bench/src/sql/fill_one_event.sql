-- An event $1 with $2 confirmed reservations and the change that made each, like the event of the honest callers.
WITH made AS (
    INSERT INTO events (event_id, display_name, series_display_name, venue_display_name, state, max_quantity,
                        hold_ttl_default, hold_ttl_max, max_extensions, capacity, held, confirmed, version, waiting,
                        definition_version, create_time, update_time)
    SELECT $1, t.display_name, t.series_display_name, t.venue_display_name, t.state, t.max_quantity,
           t.hold_ttl_default, t.hold_ttl_max, t.max_extensions, $2::integer, 0, $2::integer, $2::integer + 1, 0, 1,
           t.create_time, t.update_time
      FROM events AS t WHERE t.event_id = 'concert'
), created AS (
    INSERT INTO changes (event_id, version, kind, change_time, event)
    SELECT $1, 1, t.kind, t.change_time, jsonb_set(t.event, '{id}', to_jsonb($1::text))
      FROM changes AS t WHERE t.event_id = 'concert' AND t.version = 1
), rows AS MATERIALIZED (
    SELECT n + 1 AS version, gen_random_uuid() AS reservation_id, 'user-' || n AS user_id
      FROM generate_series(1, $2::integer) AS n
), reserved AS (
    INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, confirm_time, extensions, version,
                              create_time, update_time)
    SELECT $1, reservation_id, user_id, 1, 'CONFIRMED', now(), 0, version, now(), now() FROM rows
)
INSERT INTO changes (event_id, version, kind, change_time, reservation_id, user_id, quantity, state, confirm_time,
                     extensions, create_time)
SELECT $1, version, 'RESERVATION_CONFIRMED', now(), reservation_id, user_id, 1, 'CONFIRMED', now(), 0, now() FROM rows
