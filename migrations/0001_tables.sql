-- The ledger: events, reservations, waitlists, and the changes that made them what they are.
--
-- Every key contains event_id, so that the whole life of an event is on one shard when the tables are distributed.
-- Ids compare byte by byte (COLLATE "C"): lock order and page order are then the same on every server, whatever the
-- database's locale.
--
-- There are no foreign keys. A reservation, an entry or a change is only ever written by a transaction that updates
-- its event's row too, and events are never deleted; a foreign key would repeat that proof with an index probe for
-- each row on the hottest path.
--
-- For each table there is a type of the rows that the program writes (event_row and so on), with the columns in the
-- order of src/store/tables.rs. It is apart from the table's own row type, so that a server of an earlier release
-- goes on writing while a column is added.

CREATE TYPE event_row AS (
    event_id           text,
    display_name       text,
    series_id          text,
    series_display_name text,
    venue_id           text,
    venue_display_name text,
    start_time         timestamptz,
    end_time           timestamptz,
    booking_open_time  timestamptz,
    booking_close_time timestamptz,
    booking_close      text,
    labels             jsonb,
    max_quantity       integer,
    hold_ttl_default   bigint,
    hold_ttl_max       bigint,
    max_extensions     integer,
    capacity           integer,
    waitlist_policy    jsonb,
    state              text,
    cancel_reason      text,
    held               integer,
    confirmed          integer,
    version            bigint,
    waiting            integer,
    definition_version bigint,
    create_time        timestamptz,
    update_time        timestamptz
);

CREATE TABLE events (
    event_id           text COLLATE "C" NOT NULL,
    display_name       text        NOT NULL,
    series_id          text COLLATE "C",
    series_display_name text       NOT NULL,
    venue_id           text COLLATE "C",
    venue_display_name text        NOT NULL,
    start_time         timestamptz,
    end_time           timestamptz,
    booking_open_time  timestamptz,
    booking_close_time timestamptz,
    booking_close      text,                 -- such as start-30m: booking_close_time follows; null: it is fixed, or none
    labels             jsonb,                -- null: none
    max_quantity       integer     NOT NULL,
    hold_ttl_default   bigint,               -- microseconds; null: nobody has set it
    hold_ttl_max       bigint,               -- microseconds; null: nobody has set it
    max_extensions     integer     NOT NULL,
    capacity           integer     NOT NULL,
    waitlist_policy    jsonb,                -- null: the waitlist is closed
    state              text        NOT NULL, -- DELETED: the row stays, so that a new event of this id continues its versions
    cancel_reason      text,
    held               integer     NOT NULL, -- units in HELD reservations, lapsed ones included
    confirmed          integer     NOT NULL, -- units in CONFIRMED reservations
    version            bigint      NOT NULL, -- one more for each change, assigned under the row lock
    waiting            integer     NOT NULL DEFAULT 0, -- WAITING entries; only if there are any is the waitlist read
    definition_version bigint      NOT NULL, -- the version of the last change of the event itself
    create_time        timestamptz NOT NULL,
    update_time        timestamptz NOT NULL, -- of the last change of the event itself

    CONSTRAINT events_pkey PRIMARY KEY (event_id),
    CONSTRAINT events_state_known CHECK (state IN ('OPEN', 'CLOSED', 'CANCELLED', 'DELETED')),
    -- The last line against overselling: PostgreSQL refuses it even to a wrong program.
    CONSTRAINT events_never_oversold
        CHECK (held >= 0 AND confirmed >= 0 AND held::bigint + confirmed <= capacity),
    CONSTRAINT events_waiting_counted CHECK (waiting >= 0)
)
-- No index touches held, confirmed and version, and a third of each page is kept free, so that counting stays a
-- heap-only update on the same page.
WITH (fillfactor = 66, autovacuum_vacuum_scale_factor = 0.02);

COMMENT ON TABLE events IS 'Bookable units with a capacity. The counters are the truth for admission.';

-- Listing is by start_time, events without one last.
CREATE INDEX events_by_start  ON events (COALESCE(start_time, 'infinity'), event_id);
CREATE INDEX events_by_series ON events (series_id, COALESCE(start_time, 'infinity'), event_id)
    WHERE series_id IS NOT NULL;
CREATE INDEX events_by_venue  ON events (venue_id, COALESCE(start_time, 'infinity'), event_id)
    WHERE venue_id IS NOT NULL;
-- Events with a waitlist. `waiting` changes with the waitlist only, so that reserving stays heap-only.
CREATE INDEX events_waiting   ON events (event_id) WHERE waiting > 0;

CREATE TYPE reservation_row AS (
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

CREATE TABLE reservations (
    event_id       text COLLATE "C" NOT NULL,
    reservation_id uuid        NOT NULL, -- version 7, so ids follow age; version 8 where it was a waitlist entry
    user_id        text COLLATE "C" NOT NULL,
    quantity       integer     NOT NULL,
    state          text        NOT NULL,
    expire_time    timestamptz,          -- HELD: when it lapses; EXPIRED: when it did
    confirm_time   timestamptz,
    extensions     integer     NOT NULL,
    cancel_reason  text,
    labels         jsonb,
    version        bigint      NOT NULL, -- the event version that its last change made
    create_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,
    -- TRUE while HELD or CONFIRMED, NULL ever after. NULLs are distinct, so the unique constraint below binds live
    -- rows only, while its index serves a user's whole history.
    live           boolean     GENERATED ALWAYS AS
                       (CASE WHEN state IN ('HELD', 'CONFIRMED') THEN true END) STORED,

    CONSTRAINT reservations_pkey PRIMARY KEY (event_id, reservation_id),
    -- The last line against booking one user twice.
    CONSTRAINT reservations_one_live_per_user UNIQUE (user_id, event_id, live),
    CONSTRAINT reservations_quantity_positive CHECK (quantity > 0),
    CONSTRAINT reservations_state_known CHECK (state IN ('HELD', 'CONFIRMED', 'CANCELLED', 'EXPIRED')),
    CONSTRAINT reservations_hold_expires CHECK (state <> 'HELD' OR expire_time IS NOT NULL)
);

COMMENT ON TABLE reservations IS 'Users'' claims on units of events. Ended ones stay as records until retention.';

-- An event's lapsed holds, for a Reserve that is short of units; and its next lapse.
CREATE INDEX reservations_holds_of_event ON reservations (event_id, expire_time) WHERE state = 'HELD';
-- All lapsed holds in expiry order, for the expiry worker.
CREATE INDEX reservations_holds_by_expiry ON reservations (expire_time) WHERE state = 'HELD';
-- Reservations that ended long ago, oldest first, for retention.
CREATE INDEX reservations_ended ON reservations (update_time) WHERE state IN ('CANCELLED', 'EXPIRED');

-- For a search by label. Rows without labels are not in it.
CREATE INDEX reservations_by_label ON reservations USING gin (labels jsonb_path_ops) WHERE labels IS NOT NULL;

CREATE TYPE waitlist_row AS (
    event_id     text,
    entry_id     uuid,
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

CREATE TABLE waitlist (
    event_id     text COLLATE "C" NOT NULL,
    entry_id     uuid        NOT NULL, -- also of the reservation that it becomes
    user_id      text COLLATE "C" NOT NULL,
    quantity     integer     NOT NULL, -- units wanted
    min_quantity integer     NOT NULL, -- the fewest that are accepted
    state        text        NOT NULL,
    ticket       bigint      NOT NULL, -- the event version at which it joined: the order of the queue
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

COMMENT ON TABLE waitlist IS 'Users who wait for units of events. Entries that ended stay as records until retention.';

-- The last line against one user waiting twice.
CREATE UNIQUE INDEX waitlist_one_per_user ON waitlist (event_id, user_id) WHERE state = 'WAITING';
-- The queue from its head; and the first of each size, for a queue that skips parties too large.
CREATE INDEX waitlist_queue ON waitlist (event_id, ticket) INCLUDE (quantity) WHERE state = 'WAITING';
CREATE INDEX waitlist_queue_by_size ON waitlist (event_id, min_quantity, ticket) WHERE state = 'WAITING';
CREATE INDEX waitlist_by_user ON waitlist (user_id, event_id, ticket);
-- Old records, for retention.
CREATE INDEX waitlist_ended ON waitlist (update_time) WHERE state <> 'WAITING';

CREATE TYPE change_row AS (
    event_id       text,
    version        bigint,
    kind           text,
    change_time    timestamptz,
    request_id     text,
    fingerprint    bytea,
    actor          text,
    event          jsonb,
    entry          jsonb,
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
    reason         text,
    after_promotions jsonb
);

CREATE TABLE changes (
    event_id       text COLLATE "C" NOT NULL,
    version        bigint      NOT NULL,
    kind           text        NOT NULL,
    change_time    timestamptz NOT NULL,
    -- The idempotency record: a repeated request_id is answered from this row.
    request_id     text COLLATE "C",
    fingerprint    bytea,       -- of the request's payload
    actor          text,        -- the principal that asked for it, such as token:ann; null: the ledger, or unknown
    event          jsonb,       -- the event after a change of the event itself
    entry          jsonb,       -- the entry after a change of a waitlist entry
    -- The reservation after a change of one; for an entry its id and user, since the two share an id and a history.
    reservation_id uuid,
    user_id        text COLLATE "C",
    quantity       integer,
    state          text,
    expire_time    timestamptz,
    confirm_time   timestamptz,
    extensions     integer,
    cancel_reason  text,
    labels         jsonb,
    create_time    timestamptz, -- of the reservation
    reason         text,        -- why, where the caller has to say it
    -- The event's counters after the promotions that the command caused, which are written with it; null: it caused
    -- none.
    after_promotions jsonb,
    -- The transaction that wrote it: src/store/relay.rs tells how the outbox is read by it.
    txid           bigint      NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),

    CONSTRAINT changes_pkey PRIMARY KEY (event_id, version),
    CONSTRAINT changes_subject CHECK ((reservation_id IS NULL) <> (event IS NULL)),
    CONSTRAINT changes_entry CHECK (entry IS NULL OR event IS NULL),
    CONSTRAINT changes_fingerprint CHECK ((request_id IS NULL) = (fingerprint IS NULL))
);

COMMENT ON TABLE changes IS 'Every transition: history, feed, outbox and idempotency record in one.';

CREATE UNIQUE INDEX changes_request ON changes (event_id, request_id) WHERE request_id IS NOT NULL;
-- Always appended to at its right end, and compact: the changes of one transaction share an entry.
CREATE INDEX changes_by_txid ON changes (txid);

CREATE TABLE event_counts (
    event_id    text COLLATE "C" NOT NULL,
    sample_time timestamptz NOT NULL,
    version     bigint      NOT NULL,
    capacity    integer     NOT NULL,
    held        integer     NOT NULL,
    confirmed   integer     NOT NULL,
    waiting     integer     NOT NULL,

    CONSTRAINT event_counts_pkey PRIMARY KEY (event_id, sample_time)
);

COMMENT ON TABLE event_counts IS 'The counters of events over time, sampled each minute while they change.';

-- Old samples, for retention.
CREATE INDEX event_counts_by_time ON event_counts (sample_time);

CREATE TABLE relay (
    one             boolean PRIMARY KEY DEFAULT true,
    -- Every change that a transaction below this one wrote has been delivered.
    delivered_below bigint NOT NULL,

    CONSTRAINT relay_one_row CHECK (one)
);
COMMENT ON TABLE relay IS 'How far changes have been delivered to the message broker. No row: none was asked for yet.';

CREATE TABLE relay_returned (
    event_id    text COLLATE "C" NOT NULL,
    version     bigint      NOT NULL,
    routing_key text        NOT NULL,
    return_time timestamptz NOT NULL DEFAULT now(),
    -- Set it to have the change published again; it stays here only if it is returned once more.
    republish   boolean     NOT NULL DEFAULT false,

    CONSTRAINT relay_returned_pkey PRIMARY KEY (event_id, version)
);
COMMENT ON TABLE relay_returned IS 'Changes that the broker took but had no queue for. Kept as long as changes are.';

CREATE INDEX relay_returned_by_time ON relay_returned (return_time);
CREATE INDEX relay_returned_to_republish ON relay_returned (event_id, version) WHERE republish;
