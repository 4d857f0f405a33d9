-- Events whose counters are wrong, and why: what VerifyEvent looks at, for all events at once. Of the
-- peers' events only counters and rows, since the peers write no changes.
WITH rows AS (
    SELECT event_id,
           sum(quantity) FILTER (WHERE state = 'HELD') AS held,
           sum(quantity) FILTER (WHERE state = 'CONFIRMED') AS confirmed
      FROM reservations GROUP BY event_id
), history AS (
    SELECT event_id, max(version) AS newest, min(version) AS oldest, count(*) AS changes FROM changes GROUP BY event_id
), twice AS (
    SELECT event_id, count(*) AS users
      FROM (SELECT event_id, user_id FROM reservations WHERE live GROUP BY event_id, user_id HAVING count(*) > 1) AS u
     GROUP BY event_id
), judged AS (
    SELECT e.event_id, e.event_id LIKE 'bench-%' AS ours, e.version,
           e.held = COALESCE(r.held, 0) AND e.confirmed = COALESCE(r.confirmed, 0) AS counted,
           e.held::bigint + e.confirmed <= e.capacity AS fits,
           h.newest = e.version AND h.oldest = 1 AND h.changes = e.version AS told,
           t.users IS NULL AS single
      FROM events AS e
      LEFT JOIN rows AS r USING (event_id)
      LEFT JOIN history AS h USING (event_id)
      LEFT JOIN twice AS t USING (event_id)
)
SELECT event_id || ':' || CASE WHEN counted THEN '' ELSE ' its counters are not its rows' END
                       || CASE WHEN fits THEN '' ELSE ' oversold' END
                       || CASE WHEN single THEN '' ELSE ' a user is booked twice' END
                       || CASE WHEN NOT ours OR told THEN '' ELSE ' its history has gaps' END
  FROM judged
 WHERE NOT (counted AND fits AND single AND (NOT ours OR COALESCE(told, false)))
 ORDER BY event_id LIMIT 20
