-- Writes one decision, or a batch of them, in one round trip: the events' counters, the
-- reservations, and the changes.
--
-- It decides nothing. Each event is updated only if its version is still the one the decision was
-- made on, and only before the moment until which the decision holds (p_valid_until, by the clock
-- as it is once the rows are locked). Where either fails it returns false, and the caller must roll
-- its transaction back.
--
-- A function rather than one statement with data-modifying CTEs: it can be distributed by event_id
-- and then runs where the event lives. Its signature never changes: a later one gets another name,
-- so that servers of two releases can run side by side.

CREATE TYPE event_write_1 AS (
    event_id     text,
    seen_version bigint,
    version      bigint,
    held         integer,
    confirmed    integer
);

CREATE TYPE reservation_write_1 AS (
    event_id       text,
    reservation_id uuid,
    is_new         boolean,
    user_id        text,
    quantity       integer,
    state          text,
    expire_time    timestamptz,
    confirm_time   timestamptz,
    extensions     integer,
    cancel_reason  text,
    labels         jsonb,
    version        bigint,
    create_time    timestamptz,
    update_time    timestamptz
);

CREATE TYPE change_write_1 AS (
    event_id       text,
    version        bigint,
    kind           text,
    change_time    timestamptz,
    request_id     text,
    fingerprint    bytea,
    reservation_id uuid,
    user_id        text,
    quantity       integer,
    state          text,
    expire_time    timestamptz,
    confirm_time   timestamptz,
    extensions     integer,
    cancel_reason  text,
    labels         jsonb,
    create_time    timestamptz,
    event          jsonb
);

CREATE FUNCTION apply_changes_1(
    p_events       event_write_1[],
    p_reservations reservation_write_1[], -- as they are after the batch, each once
    p_changes      change_write_1[],
    p_valid_until  timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    updated integer;
BEGIN
    UPDATE events AS e
       SET held = w.held, confirmed = w.confirmed, version = w.version
      FROM unnest(p_events) AS w
     WHERE e.event_id = w.event_id AND e.version = w.seen_version;
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF updated < cardinality(p_events) OR clock_timestamp() >= p_valid_until THEN
        RETURN false;
    END IF;

    -- What ends makes way first: a user's lapsed hold, for that user's next one.
    UPDATE reservations AS r
       SET quantity = w.quantity, state = w.state, expire_time = w.expire_time, confirm_time = w.confirm_time,
           extensions = w.extensions, cancel_reason = w.cancel_reason, labels = w.labels,
           version = w.version, update_time = w.update_time
      FROM unnest(p_reservations) AS w
     WHERE NOT w.is_new AND r.event_id = w.event_id AND r.reservation_id = w.reservation_id;

    INSERT INTO reservations (event_id, reservation_id, user_id, quantity, state, expire_time, confirm_time,
                              extensions, cancel_reason, labels, version, create_time, update_time)
    SELECT w.event_id, w.reservation_id, w.user_id, w.quantity, w.state, w.expire_time, w.confirm_time,
           w.extensions, w.cancel_reason, w.labels, w.version, w.create_time, w.update_time
      FROM unnest(p_reservations) AS w
     WHERE w.is_new;

    INSERT INTO changes (event_id, version, kind, change_time, request_id, fingerprint, reservation_id,
                         user_id, quantity, state, expire_time, confirm_time, extensions, cancel_reason,
                         labels, create_time, event)
    SELECT w.event_id, w.version, w.kind, w.change_time, w.request_id, w.fingerprint, w.reservation_id,
           w.user_id, w.quantity, w.state, w.expire_time, w.confirm_time, w.extensions, w.cancel_reason,
           w.labels, w.create_time, w.event
      FROM unnest(p_changes) AS w;

    RETURN true;
END
$$;
