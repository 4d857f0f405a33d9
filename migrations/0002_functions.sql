-- The functions that write decisions, and that read under a lock. They decide nothing.

-- What a write does to an event's counters, and on which version it was decided.
CREATE TYPE event_write AS (
    event_id     text,
    seen_version bigint,
    valid_until  timestamptz, -- it may only be written before this moment
    version      bigint,
    held         integer,
    confirmed    integer,
    waiting      integer
);

-- The end of everything that is live on an event.
CREATE TYPE end_all AS (
    event_id     text,
    version      bigint,  -- of the event before
    end_time     timestamptz,
    reason       text,
    actor        text,
    reservations integer, -- how many there are: others must not be found
    entries      integer
);

-- Ends every live reservation and waiting entry of an event, with a change each.
CREATE FUNCTION end_all_of_event(p_event_id text, p end_all) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ended integer;
BEGIN
    -- The state is tested again where the row is updated: a condition that only the subquery tested would not be
    -- looked at once more after a wait for the row.
    WITH live AS (
        SELECT reservation_id, p.version + row_number() OVER (ORDER BY reservation_id) AS version
          FROM reservations WHERE event_id = p_event_id AND state IN ('HELD', 'CONFIRMED')
    ), ended AS (
        UPDATE reservations r
           SET state = CASE WHEN r.state = 'HELD' AND r.expire_time <= p.end_time THEN 'EXPIRED' ELSE 'CANCELLED' END,
               expire_time = CASE WHEN r.state = 'HELD' AND r.expire_time <= p.end_time THEN r.expire_time END,
               cancel_reason = CASE WHEN r.state = 'HELD' AND r.expire_time <= p.end_time THEN r.cancel_reason
                                    ELSE COALESCE(p.reason, r.cancel_reason) END,
               version = live.version, update_time = p.end_time
          FROM live
         WHERE r.event_id = p_event_id AND r.reservation_id = live.reservation_id AND r.state IN ('HELD', 'CONFIRMED')
        RETURNING r.*
    )
    INSERT INTO changes (event_id, version, kind, change_time, reservation_id, user_id, quantity, state, expire_time,
                         confirm_time, extensions, cancel_reason, labels, create_time, actor)
    SELECT event_id, version, 'RESERVATION_' || state, p.end_time, reservation_id, user_id, quantity, state, expire_time,
           confirm_time, extensions, cancel_reason, labels, create_time,
           CASE WHEN state = 'CANCELLED' THEN p.actor END
      FROM ended;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF ended <> p.reservations THEN
        RAISE 'an event has % live reservations, and % were counted', ended, p.reservations;
    END IF;

    WITH queue AS (
        SELECT entry_id, p.version + p.reservations + row_number() OVER (ORDER BY ticket) AS version
          FROM waitlist WHERE event_id = p_event_id AND state = 'WAITING'
    ), ended AS (
        UPDATE waitlist w SET state = 'ENDED', version = queue.version, update_time = p.end_time
          FROM queue WHERE w.event_id = p_event_id AND w.entry_id = queue.entry_id AND w.state = 'WAITING'
        RETURNING w.*
    )
    INSERT INTO changes (event_id, version, kind, change_time, reservation_id, user_id, actor, entry)
    SELECT event_id, version, 'WAITLIST_ENDED', p.end_time, entry_id, user_id, p.actor, 
           jsonb_build_object(
               'id', entry_id, 'event_id', event_id, 'user_id', user_id, 'quantity', quantity,
               'min_quantity', min_quantity, 'state', state, 'ticket', ticket, 'skips', skips,
               'labels', COALESCE(labels, '{}'), 'version', version,
               'create_time', (EXTRACT(epoch FROM create_time) * 1000000)::bigint,
               'update_time', (EXTRACT(epoch FROM update_time) * 1000000)::bigint)
      FROM ended;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF ended <> p.entries THEN
        RAISE 'an event has % waiting entries, and % were counted', ended, p.entries;
    END IF;
END
$$;

-- Writes decisions: the events' counters and definitions, reservations, waitlist entries, and changes.
--
-- Each event is written only if its version is still the one that the decision was made on, before the moment until
-- which the decision holds (by the clock as it is once the row is locked), and if nothing exists that a speculative
-- Reserve assumes not to exist. The others are passed over. Rows that other transactions have locked are passed over
-- too, or waited for; locks are taken in the order of the ids. Where p_whole, all events are written or none.
--
-- Returns null where everything was written, else for each of p_events what became of it: WRITTEN (unless p_whole),
-- LOCKED (by another transaction), CHANGED (since it was read), LATE (the moment has come) or MISPREDICTED.
CREATE FUNCTION write_events(
    p_events          event_write[],
    p_definitions     event_row[],       -- events whose own fields change, as they are afterwards
    p_known           reservation_row[], -- reservations that exist, as they are afterwards, each once
    p_new             reservation_row[],
    p_known_entries   waitlist_row[],
    p_new_entries     waitlist_row[],
    p_changes         change_row[],
    p_ends            end_all[],
    p_assumed_events  text[],            -- of each new reservation that speculation decided: its event,
    p_assumed_users   text[],            -- its user, who has no live reservation there,
    p_assumed_requests text[],           -- and its request_id, which is new; null: it has none
    p_whole           boolean,
    p_lock_timeout    text               -- how long to wait for a row that is locked; null: it is passed over
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    ours         text[];
    mispredicted text[];
    outcomes     text[];
    valid_until  timestamptz;
    ignored      text;
    ending       end_all;
BEGIN
    IF p_lock_timeout IS NULL THEN
        SELECT array_agg(locked.event_id) INTO ours
          FROM (SELECT e.event_id, w.valid_until
                  FROM unnest(p_events) AS w
                  JOIN events e ON e.event_id = w.event_id AND e.version = w.seen_version
                 ORDER BY e.event_id OFFSET 0
                   FOR UPDATE OF e SKIP LOCKED) AS locked
         WHERE locked.valid_until IS NULL OR clock_timestamp() < locked.valid_until;
    ELSE
        -- Assigned, this is no statement, which would cost twenty times as much.
        ignored := set_config('lock_timeout', p_lock_timeout, true);
        SELECT array_agg(locked.event_id) INTO ours
          FROM (SELECT e.event_id, w.valid_until
                  FROM unnest(p_events) AS w
                  JOIN events e ON e.event_id = w.event_id AND e.version = w.seen_version
                 ORDER BY e.event_id OFFSET 0 -- so that the clock is read after the locks are had
                   FOR UPDATE OF e) AS locked
         WHERE locked.valid_until IS NULL OR clock_timestamp() < locked.valid_until;
    END IF;

    -- Under the locks: what does not exist now can't appear any more.
    IF cardinality(p_assumed_events) > 0 THEN
        -- LIMIT keeps a plan that is made on empty tables from beginning with all their rows.
        SELECT array_agg(found.event_id) INTO mispredicted
          FROM (SELECT q.event_id
                  FROM unnest(p_assumed_events, p_assumed_users) AS q (event_id, user_id), LATERAL (
                       SELECT FROM reservations r
                        WHERE r.user_id = q.user_id AND r.event_id = q.event_id AND r.live LIMIT 1) AS one
                UNION ALL
                SELECT q.event_id
                  FROM unnest(p_assumed_events, p_assumed_requests) AS q (event_id, request_id), LATERAL (
                       SELECT FROM changes c
                        WHERE c.event_id = q.event_id AND c.request_id = q.request_id LIMIT 1) AS one) AS found;
        IF mispredicted IS NOT NULL THEN
            ours := ARRAY(SELECT id FROM unnest(ours) AS id WHERE id <> ALL (mispredicted));
        END IF;
    END IF;

    IF ours IS NULL OR cardinality(ours) < cardinality(p_events) THEN
        ours := COALESCE(ours, '{}');
        outcomes := ARRAY(
            SELECT CASE WHEN w.event_id = ANY (ours) THEN 'WRITTEN'
                        WHEN w.event_id = ANY (mispredicted) THEN 'MISPREDICTED'
                        WHEN e.version IS DISTINCT FROM w.seen_version THEN 'CHANGED'
                        WHEN clock_timestamp() >= w.valid_until THEN 'LATE'
                        ELSE 'LOCKED' END
              FROM unnest(p_events) WITH ORDINALITY AS w
                       (event_id, seen_version, valid_until, version, held, confirmed, waiting, place)
              LEFT JOIN events e ON e.event_id = w.event_id
             ORDER BY w.place);
        IF p_whole OR ours = '{}' THEN
            RETURN outcomes;
        END IF;
        p_events := ARRAY(SELECT w FROM unnest(p_events) AS w WHERE w.event_id = ANY (ours));
        p_definitions := ARRAY(SELECT w FROM unnest(p_definitions) AS w WHERE w.event_id = ANY (ours));
        p_known := ARRAY(SELECT w FROM unnest(p_known) AS w WHERE w.event_id = ANY (ours));
        p_new := ARRAY(SELECT w FROM unnest(p_new) AS w WHERE w.event_id = ANY (ours));
        p_known_entries := ARRAY(SELECT w FROM unnest(p_known_entries) AS w WHERE w.event_id = ANY (ours));
        p_new_entries := ARRAY(SELECT w FROM unnest(p_new_entries) AS w WHERE w.event_id = ANY (ours));
        p_changes := ARRAY(SELECT w FROM unnest(p_changes) AS w WHERE w.event_id = ANY (ours));
        p_ends := ARRAY(SELECT w FROM unnest(p_ends) AS w WHERE w.event_id = ANY (ours));
    END IF;

    valid_until := (SELECT min(w.valid_until) FROM unnest(p_events) AS w);
    IF cardinality(p_definitions) > 0 THEN
        -- In one update: a capacity may shrink to what lapsed holds make room for.
        UPDATE events AS e
           SET display_name = w.display_name, series_id = w.series_id,
               series_display_name = w.series_display_name, venue_id = w.venue_id,
               venue_display_name = w.venue_display_name, start_time = w.start_time, end_time = w.end_time, booking_open_time = w.booking_open_time,
               booking_close_time = w.booking_close_time, booking_close = w.booking_close, labels = w.labels, max_quantity = w.max_quantity,
               hold_ttl_default = w.hold_ttl_default, hold_ttl_max = w.hold_ttl_max,
               max_extensions = w.max_extensions, capacity = w.capacity, waitlist_policy = w.waitlist_policy,
               state = w.state, cancel_reason = w.cancel_reason, held = w.held, confirmed = w.confirmed,
               version = w.version, waiting = w.waiting, definition_version = w.definition_version,
               update_time = w.update_time
          FROM unnest(p_definitions) AS w
         WHERE e.event_id = w.event_id;
        p_events := ARRAY(SELECT w FROM unnest(p_events) AS w
                           WHERE w.event_id <> ALL (ARRAY(SELECT d.event_id FROM unnest(p_definitions) AS d)));
    END IF;
    UPDATE events AS e
       SET held = w.held, confirmed = w.confirmed, version = w.version, waiting = w.waiting
      FROM unnest(p_events) AS w
     WHERE e.event_id = w.event_id;

    -- What ends makes way first: a user's lapsed hold, for that user's next one.
    IF cardinality(p_known) > 0 THEN
        UPDATE reservations AS r
           SET user_id = w.user_id, quantity = w.quantity, state = w.state, expire_time = w.expire_time,
               confirm_time = w.confirm_time, extensions = w.extensions, cancel_reason = w.cancel_reason,
               labels = w.labels, version = w.version, update_time = w.update_time
          FROM unnest(p_known) AS w
         WHERE r.event_id = w.event_id AND r.reservation_id = w.reservation_id;
    END IF;
    IF cardinality(p_new) > 0 THEN
        INSERT INTO reservations SELECT w.* FROM unnest(p_new) AS w;
    END IF;
    IF cardinality(p_known_entries) > 0 THEN
        UPDATE waitlist AS l
           SET quantity = w.quantity, min_quantity = w.min_quantity, state = w.state, skips = w.skips,
               version = w.version, update_time = w.update_time
          FROM unnest(p_known_entries) AS w
         WHERE l.event_id = w.event_id AND l.entry_id = w.entry_id;
    END IF;
    IF cardinality(p_new_entries) > 0 THEN
        INSERT INTO waitlist SELECT w.* FROM unnest(p_new_entries) AS w;
    END IF;
    FOREACH ending IN ARRAY p_ends LOOP
        PERFORM end_all_of_event(ending.event_id, ending);
    END LOOP;
    INSERT INTO changes SELECT w.* FROM unnest(p_changes) AS w;
    -- Seldom: the update waited, for a lock of the whole table, say. All is undone, and decided again.
    IF clock_timestamp() >= valid_until THEN
        RAISE 'a moment on which a decision rests has come' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN outcomes;
END
$$;

-- Sets the transaction's limits, locks an event's row, waiting for it or not, and then reads: one round trip for a
-- command that has to wait. Each statement of a volatile function sees what was committed before it began. (One
-- statement that joins what it locks would see the reservations and changes of the moment before it waited.) No such
-- event: event.event_id is null.
CREATE FUNCTION lock_and_read(
    p_limit          text,    -- statement_timeout, of the statements that follow
    p_lock_limit     text,    -- lock_timeout
    p_event_id       text,
    p_waits          boolean,
    p_request_id     text,
    p_user_id        text,    -- the user's live reservation
    p_reservation_id uuid,    -- or the one with this id
    p_ended_too      boolean, -- or else the user's newest of those that ended
    OUT lock_wait    bigint,  -- microseconds
    OUT now          timestamptz,
    OUT event        events,
    OUT reservation  reservations,
    OUT is_repeated  boolean  -- the request_id stands for a change that was made
) LANGUAGE plpgsql AS $$
DECLARE
    asked   timestamptz := clock_timestamp();
    ignored text;
BEGIN
    -- Assigned, these are no statements, which would cost twenty times as much.
    ignored := set_config('statement_timeout', p_limit, true);
    ignored := set_config('lock_timeout', p_lock_limit, true);
    IF p_waits THEN
        SELECT e.* INTO event FROM events e WHERE e.event_id = p_event_id FOR UPDATE;
    ELSE
        SELECT e.* INTO event FROM events e WHERE e.event_id = p_event_id FOR UPDATE NOWAIT;
    END IF;
    now := clock_timestamp();
    lock_wait := extract(epoch FROM now - asked) * 1000000;
    IF event.event_id IS NULL THEN
        RETURN;
    END IF;
    IF p_request_id IS NOT NULL THEN
        PERFORM FROM changes c WHERE c.event_id = p_event_id AND c.request_id = p_request_id;
        is_repeated := FOUND;
    END IF;
    IF p_reservation_id IS NOT NULL THEN
        SELECT r.* INTO reservation FROM reservations r
         WHERE r.event_id = p_event_id AND r.reservation_id = p_reservation_id;
    ELSIF p_user_id IS NOT NULL THEN
        SELECT r.* INTO reservation FROM reservations r
         WHERE r.event_id = p_event_id AND r.user_id = p_user_id AND r.live;
        IF p_ended_too AND reservation.event_id IS NULL THEN
            SELECT r.* INTO reservation FROM reservations r
             WHERE r.event_id = p_event_id AND r.user_id = p_user_id AND r.live IS NULL
             ORDER BY r.reservation_id DESC LIMIT 1;
        END IF;
    END IF;
END
$$;
