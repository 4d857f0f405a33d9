-- Writing, revised: reservations come in two lists, so that a Reserve pays for no update; a batch of
-- commands can be written by one statement that is a transaction of its own; and the history names the
-- principal behind each change.

-- Null where nobody did it, such as a hold that time has ended, and where nobody was asked who they are.
-- The column comes without a default, so no row is rewritten, and a null costs nothing to keep.
ALTER TABLE changes ADD COLUMN actor text;

COMMENT ON COLUMN changes.actor IS 'The principal that asked for it, such as token:ann; null: nobody, or not asked.';

-- As reservation_write_1, without a word on whether it is new.
CREATE TYPE reservation_write_2 AS (
    event_id       text,
    reservation_id uuid,
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

-- As change_write_1, with the actor.
CREATE TYPE change_write_2 AS (
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
    event          jsonb,
    actor          text
);

-- As apply_changes_1, but new reservations and those that were there come apart, and with actors.
CREATE FUNCTION apply_changes_2(
    p_events      event_write_1[],
    p_known       reservation_write_2[], -- as they are after the batch, each once
    p_new         reservation_write_2[],
    p_changes     change_write_2[],
    p_valid_until timestamptz
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

    RETURN true;
END
$$;

-- Writes what was decided on a reading without locks, for those of the events that nobody has locked
-- or changed since, and whose decisions still hold by the clock. Returns their ids. Of the others it
-- writes nothing, and it waits for nobody; locks are taken in the order of the ids.
CREATE FUNCTION apply_batch_1(
    p_events      event_write_1[],
    p_valid_until timestamptz[], -- until when what was decided for each of p_events holds
    p_known       reservation_write_2[],
    p_new         reservation_write_2[],
    p_changes     change_write_2[]
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    ours text[];
BEGIN
    SELECT array_agg(locked.event_id) INTO ours
      FROM (SELECT e.event_id, w.valid_until
              FROM unnest(p_events, p_valid_until)
                       AS w (event_id, seen_version, version, held, confirmed, valid_until)
              JOIN events e ON e.event_id = w.event_id AND e.version = w.seen_version
             ORDER BY e.event_id
               FOR UPDATE OF e SKIP LOCKED) AS locked
     WHERE locked.valid_until IS NULL OR clock_timestamp() < locked.valid_until;

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
