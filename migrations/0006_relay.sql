-- Where the relay to the message broker stands. The table of changes itself is the outbox: nothing
-- is written twice.
--
-- The relay finds what is new by the transaction that wrote it. A transaction's id says nothing about
-- when it commits; but every transaction below the oldest one that still runs has ended, and what it
-- wrote is there to be read. src/store/relay.rs tells how the order of each event's versions is kept
-- although ids do not follow it.

-- What there is already belongs to transaction 0, which has ended for sure. A constant default
-- rewrites no table; the one for rows to come is set after it.
ALTER TABLE changes ADD COLUMN txid bigint NOT NULL DEFAULT 0;
ALTER TABLE changes ALTER COLUMN txid SET DEFAULT (pg_current_xact_id()::text::bigint);
COMMENT ON COLUMN changes.txid IS 'The id of the transaction that wrote the change.';

-- Always appended to at its right end, and compact: the changes of one transaction share an entry.
CREATE INDEX changes_by_txid ON changes (txid);

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
