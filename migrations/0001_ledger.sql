-- The ledger: events, reservations and the changes that made them what they are.
--
-- Every key contains event_id, so that the whole life of an event lives on one shard when the tables
-- are distributed. Ids compare byte by byte (COLLATE "C"): lock order and page order are then the
-- same on every server, whatever the database's locale.
--
-- There are no foreign keys. A reservation or a change is only ever written by a transaction that
-- has just updated its event's row, and events are never deleted; a foreign key would repeat that
-- proof with an index probe for each row on the hottest path.

CREATE TABLE events (
    event_id           text COLLATE "C" NOT NULL,
    display_name       text        NOT NULL,
    series             text COLLATE "C",
    venue              text COLLATE "C",
    start_time         timestamptz,
    end_time           timestamptz,
    booking_open_time  timestamptz,
    booking_close_time timestamptz,
    state              text        NOT NULL,
    cancel_reason      text,
    labels             jsonb,
    max_quantity       integer     NOT NULL,
    hold_ttl_default   bigint      NOT NULL, -- microseconds
    hold_ttl_max       bigint      NOT NULL, -- microseconds
    max_extensions     integer     NOT NULL,
    capacity           integer     NOT NULL,
    held               integer     NOT NULL, -- units in HELD reservations, lapsed ones included
    confirmed          integer     NOT NULL, -- units in CONFIRMED reservations
    version            bigint      NOT NULL, -- one more for each change, assigned under the row lock
    create_time        timestamptz NOT NULL,
    update_time        timestamptz NOT NULL, -- of the last change of the event itself

    CONSTRAINT events_pkey PRIMARY KEY (event_id),
    CONSTRAINT events_state_known CHECK (state IN ('OPEN', 'CLOSED', 'CANCELLED')),
    -- The last line against overselling: PostgreSQL refuses it even to a wrong program.
    CONSTRAINT events_never_oversold
        CHECK (held >= 0 AND confirmed >= 0 AND held::bigint + confirmed <= capacity)
)
-- No index touches the counters, and a third of each page is kept free, so that counting stays a
-- heap-only update on the same page.
WITH (fillfactor = 66, autovacuum_vacuum_scale_factor = 0.02);

COMMENT ON TABLE events IS 'Bookable units with a capacity. The counters are the truth for admission.';

-- Listing is by start_time, events without one last.
CREATE INDEX events_by_start  ON events (COALESCE(start_time, 'infinity'), event_id);
CREATE INDEX events_by_series ON events (series, COALESCE(start_time, 'infinity'), event_id) WHERE series IS NOT NULL;
CREATE INDEX events_by_venue  ON events (venue, COALESCE(start_time, 'infinity'), event_id) WHERE venue IS NOT NULL;

CREATE TABLE reservations (
    event_id       text COLLATE "C" NOT NULL,
    reservation_id uuid        NOT NULL, -- version 7: follows age
    user_id        text COLLATE "C" NOT NULL,
    quantity       integer     NOT NULL,
    state          text        NOT NULL,
    -- TRUE while HELD or CONFIRMED, NULL ever after. NULLs are distinct, so the unique constraint
    -- below binds live rows only, while its index serves a user's whole history.
    live           boolean     GENERATED ALWAYS AS
                       (CASE WHEN state IN ('HELD', 'CONFIRMED') THEN true END) STORED,
    expire_time    timestamptz, -- HELD: when it lapses; EXPIRED: when it did
    confirm_time   timestamptz,
    extensions     integer     NOT NULL,
    cancel_reason  text,
    labels         jsonb,
    version        bigint      NOT NULL, -- the event version that its last change made
    create_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,

    CONSTRAINT reservations_pkey PRIMARY KEY (event_id, reservation_id),
    -- The last line against booking one user twice.
    CONSTRAINT reservations_one_live_per_user UNIQUE (user_id, event_id, live),
    CONSTRAINT reservations_quantity_positive CHECK (quantity > 0),
    CONSTRAINT reservations_state_known
        CHECK (state IN ('HELD', 'CONFIRMED', 'CANCELLED', 'EXPIRED')),
    CONSTRAINT reservations_hold_expires
        CHECK (state <> 'HELD' OR expire_time IS NOT NULL)
);

COMMENT ON TABLE reservations IS 'Users'' claims on units of events. Ended ones stay as records.';

-- An event's lapsed holds, for a Reserve that is short of units; and its next lapse.
CREATE INDEX reservations_holds_of_event ON reservations (event_id, expire_time) WHERE state = 'HELD';
-- All lapsed holds in expiry order, for the sweeper.
CREATE INDEX reservations_holds_by_expiry ON reservations (expire_time) WHERE state = 'HELD';

CREATE TABLE changes (
    event_id       text COLLATE "C" NOT NULL,
    version        bigint      NOT NULL,
    kind           text        NOT NULL,
    change_time    timestamptz NOT NULL,
    -- The idempotency record: a repeated request_id is answered from this row.
    request_id     text COLLATE "C",
    fingerprint    bytea,       -- of the request's payload
    -- The reservation after the change; all null for a change of the event itself.
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
    -- The event after a change of the event itself.
    event          jsonb,

    CONSTRAINT changes_pkey PRIMARY KEY (event_id, version),
    CONSTRAINT changes_subject CHECK ((reservation_id IS NULL) <> (event IS NULL)),
    CONSTRAINT changes_fingerprint CHECK ((request_id IS NULL) = (fingerprint IS NULL))
);

COMMENT ON TABLE changes IS 'Every transition: history, feed, and idempotency record in one.';

CREATE UNIQUE INDEX changes_request ON changes (event_id, request_id) WHERE request_id IS NOT NULL;
-- Rows arrive in time order, so a block-range index finds the old ones at almost no cost.
CREATE INDEX changes_by_time ON changes USING brin (change_time) WITH (autosummarize = on);
