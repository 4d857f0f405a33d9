-- A batch may be written that was decided without reading what its Reserves have to see.

-- As apply_batch_1, and of some new reservations it was only presumed that their users have no live one
-- at the event and that their request_ids are new. Where that is not so, nothing of the event is written.
CREATE FUNCTION apply_batch_2(
    p_events            event_write_1[],
    p_valid_until       timestamptz[], -- until when what was decided for each of p_events holds
    p_known             reservation_write_2[],
    p_new               reservation_write_2[],
    p_changes           change_write_2[],
    p_presumed_events   text[],
    p_presumed_users    text[],
    p_presumed_requests text[]         -- null: without a request_id
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    ours     text[];
    mistaken text[];
BEGIN
    SELECT array_agg(locked.event_id) INTO ours
      FROM (SELECT e.event_id, w.valid_until
              FROM unnest(p_events, p_valid_until)
                       AS w (event_id, seen_version, version, held, confirmed, valid_until)
              JOIN events e ON e.event_id = w.event_id AND e.version = w.seen_version
             ORDER BY e.event_id
               FOR UPDATE OF e SKIP LOCKED) AS locked
     WHERE locked.valid_until IS NULL OR clock_timestamp() < locked.valid_until;

    -- Under the locks: what is not there now can't come any more.
    IF cardinality(p_presumed_events) > 0 THEN
        -- LIMIT keeps a plan that is made on empty tables from beginning with all their rows.
        SELECT array_agg(found.event_id) INTO mistaken
          FROM (SELECT q.event_id
                  FROM unnest(p_presumed_events, p_presumed_users) AS q (event_id, user_id), LATERAL (
                       SELECT FROM reservations r
                        WHERE r.user_id = q.user_id AND r.event_id = q.event_id AND r.live LIMIT 1) AS one
                UNION ALL
                SELECT q.event_id
                  FROM unnest(p_presumed_events, p_presumed_requests) AS q (event_id, request_id), LATERAL (
                       SELECT FROM changes c
                        WHERE c.event_id = q.event_id AND c.request_id = q.request_id LIMIT 1) AS one) AS found;
        IF mistaken IS NOT NULL THEN
            ours := NULLIF(ARRAY(SELECT id FROM unnest(ours) AS id WHERE id <> ALL (mistaken)), '{}');
        END IF;
    END IF;

    IF ours IS NULL THEN
        RETURN '{}';
    END IF;
    IF cardinality(ours) < cardinality(p_events) THEN
        p_events := ARRAY(SELECT w FROM unnest(p_events) AS w WHERE w.event_id = ANY (ours));
        p_known := ARRAY(SELECT w FROM unnest(p_known) AS w WHERE w.event_id = ANY (ours));
        p_new := ARRAY(SELECT w FROM unnest(p_new) AS w WHERE w.event_id = ANY (ours));
        p_changes := ARRAY(SELECT w FROM unnest(p_changes) AS w WHERE w.event_id = ANY (ours));
    END IF;
    IF NOT apply_changes_2(p_events, p_known, p_new, p_changes, NULL) THEN
        RAISE 'an event changed under its lock';
    END IF;
    RETURN ours;
END
$$;
