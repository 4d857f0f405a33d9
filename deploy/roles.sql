-- The two roles for running reservd with least privilege. Run this as a superuser in reservd's database,
-- before the first `reservd migrate`; it can be repeated.
--
--   psql --dbname=reservd --set=ON_ERROR_STOP=1 --file=deploy/roles.sql
--   psql --dbname=reservd --command='\password reservd_owner' --command='\password reservd_app'
--
-- reservd_owner owns the tables and changes the schema. After that, grants.sql says what the server may do:
--   DATABASE_URL=postgres://reservd_owner@host/reservd reservd migrate
--   psql --dbname=reservd --username=reservd_owner --set=ON_ERROR_STOP=1 --file=deploy/grants.sql
-- reservd_app does what the server does, and nothing else:
--   DATABASE_URL=postgres://reservd_app@host/reservd reservd serve --set database.migrate=false

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reservd_owner') THEN
        CREATE ROLE reservd_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reservd_app') THEN
        CREATE ROLE reservd_app LOGIN;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO reservd_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO reservd_app', current_database());
END
$$;

ALTER ROLE reservd_owner NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE reservd_app NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

-- A last defence behind reservd's own, shorter timeouts: neither a bug nor a stolen password can hold a row or a
-- connection forever.
ALTER ROLE reservd_app SET statement_timeout = '2min';
ALTER ROLE reservd_app SET lock_timeout = '2min';
ALTER ROLE reservd_app SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE reservd_owner SET lock_timeout = '10s';
ALTER ROLE reservd_owner SET idle_in_transaction_session_timeout = '1min';

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO reservd_owner;
GRANT USAGE ON SCHEMA public TO reservd_app;

-- The app gets no table by default: grants.sql names each. Functions and types are granted to PUBLIC by default.
ALTER DEFAULT PRIVILEGES FOR ROLE reservd_owner IN SCHEMA public REVOKE ALL ON TABLES FROM reservd_app;
ALTER DEFAULT PRIVILEGES FOR ROLE reservd_owner IN SCHEMA public REVOKE ALL ON SEQUENCES FROM reservd_app;
