-- Fewer and cheaper statements where there is one event, or one command. A command by itself takes one
-- round trip to lock its event and read what it is decided on, and one to write what was decided.

-- Sets the transaction's limits, locks the event's row, waiting for it or not, and then reads: each
-- statement of a volatile function sees what was committed before it began. (One statement that joined
-- what it locks would see the reservations and changes of the moment before it waited.) No such event:
-- event.event_id is null.
CREATE FUNCTION lock_and_load_1(
    p_limit          text,    -- statement_timeout, of the statements that follow
    p_lock_limit     text,    -- lock_timeout
    p_event_id       text,
    p_waits          boolean,
    p_request_id     text,
    p_user_id        text,    -- the user's live reservation
    p_reservation_id uuid,    -- or the one of this id
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

-- Writes one change of one reservation and its event's counters: what apply_changes_2 does with the
-- same in lists. False: the event has another version than was seen, or the moment has come on which
-- the decision rested; the transaction must then be rolled back.
CREATE FUNCTION apply_change_1(
    p_seen_version bigint,
    p_held         integer,
    p_confirmed    integer,
    p_valid_until  timestamptz,
    p_is_new       boolean, -- whether the reservation comes into being
    p_change       change_write_2
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events SET held = p_held, confirmed = p_confirmed, version = p_change.version
     WHERE event_id = p_change.event_id AND version = p_seen_version;
    IF NOT FOUND OR clock_timestamp() >= p_valid_until THEN
        RETURN false;
    END IF;

    IF p_is_new THEN
        INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, confirm_time,
                                  extensions, cancel_reason, labels, version, create_time, update_time)
        VALUES (p_change.event_id, p_change.reservation_id, p_change.user_id, p_change.quantity, p_change.state,
                p_change.expire_time, p_change.confirm_time, p_change.extensions, p_change.cancel_reason,
                p_change.labels, p_change.version, p_change.create_time, p_change.change_time);
    ELSE
        UPDATE reservations
           SET quantity = p_change.quantity, state = p_change.state, expire_time = p_change.expire_time,
               confirm_time = p_change.confirm_time, extensions = p_change.extensions,
               cancel_reason = p_change.cancel_reason, labels = p_change.labels, version = p_change.version,
               update_time = p_change.change_time
         WHERE event_id = p_change.event_id AND reservation_id = p_change.reservation_id;
    END IF;

    INSERT INTO changes (event_id, version, kind, change_time, request_id, fingerprint, reservation_id,
                         user_id, quantity, state, expire_time, confirm_time, extensions, cancel_reason,
                         labels, create_time, event, actor)
    VALUES (p_change.event_id, p_change.version, p_change.kind, p_change.change_time, p_change.request_id,
            p_change.fingerprint, p_change.reservation_id, p_change.user_id, p_change.quantity, p_change.state,
            p_change.expire_time, p_change.confirm_time, p_change.extensions, p_change.cancel_reason,
            p_change.labels, p_change.create_time, p_change.event, p_change.actor);
    RETURN true;
END
$$;

-- The same as a transaction of its own, unless somebody else has locked or changed the event since, or
-- the clock has overtaken the decision; then it writes nothing. Waits for nobody.
CREATE FUNCTION apply_change_alone_1(
    p_seen_version bigint,
    p_held         integer,
    p_confirmed    integer,
    p_valid_until  timestamptz,
    p_is_new       boolean,
    p_change       change_write_2
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM events
      WHERE event_id = p_change.event_id AND version = p_seen_version
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR clock_timestamp() >= p_valid_until THEN
        RETURN false;
    END IF;
    IF NOT apply_change_1(p_seen_version, p_held, p_confirmed, NULL, p_is_new, p_change) THEN
        RAISE 'an event changed under its lock';
    END IF;
    RETURN true;
END
$$;

-- The rows of a batch, in statements of their own: its events are written by those who call this.
CREATE FUNCTION apply_rows_1(
    p_known   reservation_write_2[], -- as they are after the batch, each once
    p_new     reservation_write_2[],
    p_changes change_write_2[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- What ends makes way first: a user's lapsed hold, for that user's next one.
    IF cardinality(p_known) > 0 THEN
        UPDATE reservations AS r
           SET quantity = w.quantity, state = w.state, expire_time = w.expire_time, confirm_time = w.confirm_time,
               extensions = w.extensions, cancel_reason = w.cancel_reason, labels = w.labels,
               version = w.version, update_time = w.update_time
          FROM unnest(p_known) AS w
         WHERE r.event_id = w.event_id AND r.reservation_id = w.reservation_id;
    END IF;

    IF cardinality(p_new) > 0 THEN
        INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, confirm_time,
                                  extensions, cancel_reason, labels, version, create_time, update_time)
        SELECT w.event_id, w.reservation_id, w.user_id, w.quantity, w.state, w.expire_time, w.confirm_time,
               w.extensions, w.cancel_reason, w.labels, w.version, w.create_time, w.update_time
          FROM unnest(p_new) AS w;
    END IF;

    INSERT INTO changes (event_id, version, kind, change_time, request_id, fingerprint, reservation_id,
                         user_id, quantity, state, expire_time, confirm_time, extensions, cancel_reason,
                         labels, create_time, event, actor)
    SELECT w.event_id, w.version, w.kind, w.change_time, w.request_id, w.fingerprint, w.reservation_id,
           w.user_id, w.quantity, w.state, w.expire_time, w.confirm_time, w.extensions, w.cancel_reason,
           w.labels, w.create_time, w.event, w.actor
      FROM unnest(p_changes) AS w;
END
$$;

-- As it was, by that function.
CREATE OR REPLACE FUNCTION apply_changes_2(
    p_events      event_write_1[],
    p_known       reservation_write_2[],
    p_new         reservation_write_2[],
    p_changes     change_write_2[],
    p_valid_until timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    updated integer := 0;
BEGIN
    IF cardinality(p_events) > 0 THEN
        UPDATE events AS e
           SET held = w.held, confirmed = w.confirmed, version = w.version
          FROM unnest(p_events) AS w
         WHERE e.event_id = w.event_id AND e.version = w.seen_version;
        GET DIAGNOSTICS updated = ROW_COUNT;
    END IF;
    IF updated < cardinality(p_events) OR clock_timestamp() >= p_valid_until THEN
        RETURN false;
    END IF;
    PERFORM apply_rows_1(p_known, p_new, p_changes);
    RETURN true;
END
$$;

-- As apply_batch_1, of one event. False: nothing was written.
CREATE FUNCTION apply_event_alone_1(
    p_event       event_write_1,
    p_valid_until timestamptz,
    p_known       reservation_write_2[],
    p_new         reservation_write_2[],
    p_changes     change_write_2[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM events
      WHERE event_id = p_event.event_id AND version = p_event.seen_version
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR clock_timestamp() >= p_valid_until THEN
        RETURN false;
    END IF;
    UPDATE events SET held = p_event.held, confirmed = p_event.confirmed, version = p_event.version
     WHERE event_id = p_event.event_id;
    PERFORM apply_rows_1(p_known, p_new, p_changes);
    RETURN true;
END
$$;
