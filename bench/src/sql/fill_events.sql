-- Events number $1 to $2 of a table that has been in use: like event 0, which the service made, with
-- 9 units confirmed and 1 held, and so at version 11. With their creation as their first change.
WITH made AS (
    INSERT INTO events (event_id, display_name, series_display_name, venue_display_name, state, max_quantity,
                        hold_ttl_default, hold_ttl_max, max_extensions, capacity, held, confirmed, version, waiting,
                        definition_version, create_time, update_time)
    SELECT 'bench-' || n, t.display_name, t.series_display_name, t.venue_display_name, t.state, t.max_quantity,
           t.hold_ttl_default, t.hold_ttl_max, t.max_extensions, t.capacity, 1, 9, 11, 0, t.definition_version,
           t.create_time, t.update_time
      FROM generate_series($1::integer, $2::integer) AS n, events AS t
     WHERE t.event_id = 'bench-0'
    RETURNING event_id
)
INSERT INTO changes (event_id, version, kind, change_time, event)
SELECT made.event_id, 1, t.kind, t.change_time, jsonb_set(t.event, '{id}', to_jsonb(made.event_id))
  FROM made, changes AS t
 WHERE t.event_id = 'bench-0' AND t.version = 1
