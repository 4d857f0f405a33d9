-- One round trip for a command that has to wait for its event's lock.

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
