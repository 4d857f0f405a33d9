-- What the server's role may do, table by table: what the server does, and nothing else. Run this as reservd_owner
-- after each `reservd migrate`. It can be repeated, while servers run.
--
--   psql --dbname=reservd --username=reservd_owner --set=ON_ERROR_STOP=1 --file=deploy/grants.sql

BEGIN;
SET LOCAL client_min_messages = warning;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reservd_app;
GRANT SELECT ON events, reservations, waitlist, changes, event_counts, relay, relay_returned, _sqlx_migrations TO reservd_app;

-- The rows of events are never deleted.
GRANT INSERT, UPDATE (display_name, series_id, series_display_name, venue_id, venue_display_name, start_time, end_time,
                      booking_open_time, booking_close_time, booking_close, labels, max_quantity, hold_ttl_default,
                      hold_ttl_max, max_extensions, capacity,
                      waitlist_policy, state, cancel_reason, held, confirmed, version, waiting, definition_version,
                      create_time, update_time)
    ON events TO reservd_app;
GRANT INSERT, DELETE, UPDATE (user_id, quantity, state, expire_time, confirm_time, extensions, cancel_reason, labels,
                              version, create_time, update_time)
    ON reservations TO reservd_app;
GRANT INSERT, DELETE, UPDATE (quantity, min_quantity, state, skips, version, update_time) ON waitlist TO reservd_app;
-- History is never updated. The id of its transaction, by which it is published, is PostgreSQL's to set.
GRANT DELETE, INSERT (event_id, version, kind, change_time, request_id, fingerprint, actor, event, entry,
                      reservation_id, user_id, quantity, state, expire_time, confirm_time, extensions, cancel_reason,
                      labels, create_time, reason, after_promotions)
    ON changes TO reservd_app;
GRANT INSERT, DELETE ON event_counts TO reservd_app;
GRANT INSERT (delivered_below), UPDATE (delivered_below) ON relay TO reservd_app;
GRANT DELETE, INSERT (event_id, version, routing_key), UPDATE (return_time, republish) ON relay_returned TO reservd_app;

-- Only retention deletes, and it keeps everything for a day at least: what is younger or live can't be deleted, and
-- no change can be written with a time in the past.
ALTER TABLE reservations ENABLE ROW LEVEL SECURITY;
ALTER TABLE waitlist ENABLE ROW LEVEL SECURITY;
ALTER TABLE changes ENABLE ROW LEVEL SECURITY;

DROP POLICY IF EXISTS app_select ON reservations;
DROP POLICY IF EXISTS app_insert ON reservations;
DROP POLICY IF EXISTS app_update ON reservations;
DROP POLICY IF EXISTS app_delete ON reservations;
CREATE POLICY app_select ON reservations FOR SELECT TO reservd_app USING (true);
CREATE POLICY app_insert ON reservations FOR INSERT TO reservd_app WITH CHECK (true);
CREATE POLICY app_update ON reservations FOR UPDATE TO reservd_app USING (true);
CREATE POLICY app_delete ON reservations FOR DELETE TO reservd_app
    USING (live IS NULL AND update_time < now() - interval '1 day');

DROP POLICY IF EXISTS app_select ON waitlist;
DROP POLICY IF EXISTS app_insert ON waitlist;
DROP POLICY IF EXISTS app_update ON waitlist;
DROP POLICY IF EXISTS app_delete ON waitlist;
CREATE POLICY app_select ON waitlist FOR SELECT TO reservd_app USING (true);
CREATE POLICY app_insert ON waitlist FOR INSERT TO reservd_app WITH CHECK (true);
CREATE POLICY app_update ON waitlist FOR UPDATE TO reservd_app USING (true);
CREATE POLICY app_delete ON waitlist FOR DELETE TO reservd_app
    USING (state <> 'WAITING' AND update_time < now() - interval '1 day');

DROP POLICY IF EXISTS app_select ON changes;
DROP POLICY IF EXISTS app_insert ON changes;
DROP POLICY IF EXISTS app_delete ON changes;
CREATE POLICY app_select ON changes FOR SELECT TO reservd_app USING (true);
CREATE POLICY app_insert ON changes FOR INSERT TO reservd_app
    WITH CHECK (change_time > now() - interval '1 hour');
CREATE POLICY app_delete ON changes FOR DELETE TO reservd_app USING (change_time < now() - interval '1 day');

COMMIT;
