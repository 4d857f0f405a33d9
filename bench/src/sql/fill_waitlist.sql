-- An event $1 without places, for which $2 users wait. Their changes are left out: nothing here reads them.
WITH made AS (
    INSERT INTO events (event_id, display_name, series_display_name, venue_display_name, state, max_quantity,
                        hold_ttl_default, hold_ttl_max, max_extensions, capacity, held, confirmed, version, waiting,
                        definition_version, create_time, update_time)
    SELECT $1, t.display_name, t.series_display_name, t.venue_display_name, t.state, t.max_quantity,
           t.hold_ttl_default, t.hold_ttl_max, t.max_extensions, 0, 0, 0, $2::integer + 1, $2::integer, 1,
           t.create_time, t.update_time
      FROM events AS t WHERE t.event_id = 'concert'
)
INSERT INTO waitlist (event_id, entry_id, user_id, quantity, min_quantity, state, ticket, skips, version, create_time,
                      update_time)
SELECT $1, gen_random_uuid(), 'user-' || n, 1, 1, 'WAITING', n + 1, 0, n + 1, now(), now()
  FROM generate_series(1, $2::integer) AS n
