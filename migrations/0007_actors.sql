-- Who did it: the history names the principal behind each change.
--
-- Null where nobody did: a hold that time has ended; and where nobody was asked who they are. The
-- column comes without a default, so no row is rewritten, and a null costs nothing to keep.

ALTER TABLE changes ADD COLUMN actor text;

COMMENT ON COLUMN changes.actor IS 'The principal that asked for it, such as token:ann; null: nobody, or not asked.';

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

-- As apply_changes_2, with the actors.
CREATE FUNCTION apply_changes_3(
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

-- As apply_batch_1, with the actors.
CREATE FUNCTION apply_batch_2(
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
    IF NOT apply_changes_3(p_events, p_known, p_new, p_changes, NULL) THEN
        RAISE 'an event changed under its lock';
    END IF;
    RETURN ours;
END
$$;

-- Writes what a decision, or a batch of them, did to lines: the events' counts, the entries, and the
-- changes of entries. Runs after apply_changes has checked the versions, in its transaction.

CREATE TYPE waitlist_count_1 AS (
    event_id text,
    waiting  integer
);

CREATE TYPE waitlist_write_1 AS (
    event_id     text,
    entry_id     uuid,
    is_new       boolean,
    user_id      text,
    quantity     integer,
    min_quantity integer,
    state        text,
    ticket       bigint,
    skips        integer,
    labels       jsonb,
    version      bigint,
    create_time  timestamptz,
    update_time  timestamptz
);

CREATE TYPE waitlist_change_1 AS (
    event_id       text,
    version        bigint,
    kind           text,
    change_time    timestamptz,
    request_id     text,
    fingerprint    bytea,
    reservation_id uuid,
    user_id        text,
    entry          jsonb,
    actor          text
);

CREATE FUNCTION apply_waitlist_1(
    p_counts  waitlist_count_1[],
    p_entries waitlist_write_1[], -- as they are after the batch, each once
    p_changes waitlist_change_1[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events AS e SET waiting = w.waiting
      FROM unnest(p_counts) AS w
     WHERE e.event_id = w.event_id AND e.waiting <> w.waiting;

    -- Who leaves makes way first: for an entry of the same user that joined after.
    UPDATE waitlist AS l
       SET state = w.state, skips = w.skips, version = w.version, update_time = w.update_time
      FROM unnest(p_entries) AS w
     WHERE NOT w.is_new AND l.event_id = w.event_id AND l.entry_id = w.entry_id;

    INSERT INTO waitlist (event_id, entry_id, user_id, quantity, min_quantity, state, ticket, skips, labels,
                          version, create_time, update_time)
    SELECT w.event_id, w.entry_id, w.user_id, w.quantity, w.min_quantity, w.state, w.ticket, w.skips, w.labels,
           w.version, w.create_time, w.update_time
      FROM unnest(p_entries) AS w
     WHERE w.is_new;

    INSERT INTO changes (event_id, version, kind, change_time, request_id, fingerprint, reservation_id, user_id,
                         entry, actor)
    SELECT w.event_id, w.version, w.kind, w.change_time, w.request_id, w.fingerprint, w.reservation_id, w.user_id,
           w.entry, w.actor
      FROM unnest(p_changes) AS w;
END
$$;

-- As apply_batch_2, and what the decisions did to lines.
CREATE FUNCTION apply_batch_with_lines_1(
    p_events        event_write_1[],
    p_valid_until   timestamptz[],
    p_known         reservation_write_2[],
    p_new           reservation_write_2[],
    p_changes       change_write_2[],
    p_counts        waitlist_count_1[],
    p_entries       waitlist_write_1[],
    p_entry_changes waitlist_change_1[]
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    ours text[] := apply_batch_2(p_events, p_valid_until, p_known, p_new, p_changes);
BEGIN
    PERFORM apply_waitlist_1(
        ARRAY(SELECT w FROM unnest(p_counts) AS w WHERE w.event_id = ANY (ours)),
        ARRAY(SELECT w FROM unnest(p_entries) AS w WHERE w.event_id = ANY (ours)),
        ARRAY(SELECT w FROM unnest(p_entry_changes) AS w WHERE w.event_id = ANY (ours)));
    RETURN ours;
END
$$;
