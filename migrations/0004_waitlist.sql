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
