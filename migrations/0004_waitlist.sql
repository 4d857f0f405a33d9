-- The waitlist: who waits for places of an event, in which order, and by which policy they are served.
--
-- An entry that is served becomes a reservation of the same id, in the transaction that freed the
-- places. Entries that ended stay as records for a while, as ended reservations do.

ALTER TABLE events
    ADD COLUMN waitlist_policy jsonb,                      -- null: nobody can join
    ADD COLUMN waiting         integer NOT NULL DEFAULT 0, -- entries that wait; only if there are any is the line read
    ADD CONSTRAINT events_waiting_counted CHECK (waiting >= 0);

-- Events with somebody in line. `waiting` changes with the line only, so that reserving stays HOT.
CREATE INDEX events_waiting ON events (event_id) WHERE waiting > 0;

CREATE TABLE waitlist (
    event_id     text COLLATE "C" NOT NULL,
    entry_id     uuid        NOT NULL, -- also of the reservation that it becomes
    user_id      text COLLATE "C" NOT NULL,
    quantity     integer     NOT NULL, -- units wanted
    min_quantity integer     NOT NULL, -- the fewest that would do
    state        text        NOT NULL,
    ticket       bigint      NOT NULL, -- the event version at which it joined: the order of the line
    skips        integer     NOT NULL, -- how often it was passed over while it was the first
    labels       jsonb,
    version      bigint      NOT NULL, -- the event version that its last change made
    create_time  timestamptz NOT NULL,
    update_time  timestamptz NOT NULL,

    CONSTRAINT waitlist_pkey PRIMARY KEY (event_id, entry_id),
    CONSTRAINT waitlist_tickets UNIQUE (event_id, ticket),
    CONSTRAINT waitlist_quantities CHECK (min_quantity > 0 AND min_quantity <= quantity),
    CONSTRAINT waitlist_state_known CHECK (state IN ('WAITING', 'PROMOTED', 'LEFT', 'ENDED'))
)
-- Being passed over is a heap-only update.
WITH (fillfactor = 90);

COMMENT ON TABLE waitlist IS 'Users who wait for places of events. Those who were served or left stay as records.';

-- The last line against one user waiting twice.
CREATE UNIQUE INDEX waitlist_one_per_user ON waitlist (event_id, user_id) WHERE state = 'WAITING';
-- The line from its head; and the first of each size, for a line that skips parties too large.
CREATE INDEX waitlist_line ON waitlist (event_id, ticket) INCLUDE (quantity) WHERE state = 'WAITING';
CREATE INDEX waitlist_line_by_size ON waitlist (event_id, min_quantity, ticket) WHERE state = 'WAITING';
CREATE INDEX waitlist_by_user ON waitlist (user_id, event_id, ticket);
-- Old records, for the retention.
CREATE INDEX waitlist_ended ON waitlist (update_time) WHERE state <> 'WAITING';

-- The entry after a change of a waitlist entry. Such a change also has reservation_id and user_id: the
-- entry and the reservation that it becomes share an id, and so a history.
ALTER TABLE changes
    ADD COLUMN entry jsonb,
    ADD CONSTRAINT changes_entry CHECK (entry IS NULL OR event IS NULL);

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

-- As apply_batch_1, and what the decisions did to lines.
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
    ours text[] := apply_batch_1(p_events, p_valid_until, p_known, p_new, p_changes);
BEGIN
    PERFORM apply_waitlist_1(
        ARRAY(SELECT w FROM unnest(p_counts) AS w WHERE w.event_id = ANY (ours)),
        ARRAY(SELECT w FROM unnest(p_entries) AS w WHERE w.event_id = ANY (ours)),
        ARRAY(SELECT w FROM unnest(p_entry_changes) AS w WHERE w.event_id = ANY (ours)));
    RETURN ours;
END
$$;
