-- What the connector of ehr.json needs of the EHR's Postgres (14 or newer): a role that may read three tables
-- and their changes and nothing else, changes that carry the whole row, and the list of what is published.
-- Run once in the EHR's database, by a superuser or by the owner of the tables with CREATEROLE and REPLICATION:
--   psql --dbname ehr --set ON_ERROR_STOP=1 --file deploy/connect/ehr.sql
-- The server has to run with wal_level = logical (a restart), and pg_hba.conf has to let the role in, for the
-- database and for replication. The role has no password yet:  \password cdw_connect
--
-- From here on the server keeps all changes until the connector has read them: register it soon, and set
-- max_slot_wal_keep_size, so that the disk cannot fill while it is away. One that was away for longer says so,
-- and cdw connect snapshot mends it, once the slot has been dropped and made anew as below.

create role cdw_connect login replication;
grant usage on schema public to cdw_connect;
grant select on public.patients, public.devices, public.prescriptions to cdw_connect;

-- A change tells the row before it, long values included; a deletion tells which patient's it was.
alter table public.patients replica identity full;
alter table public.devices replica identity full;
alter table public.prescriptions replica identity full;

create publication cdw for table public.patients, public.devices, public.prescriptions
with (publish = 'insert, update, delete');

-- Made here, not by the connector: it would tell what it reads first at a time after the slot's, so that changes
-- of that second or so seem to be older than what they changed.
select pg_create_logical_replication_slot('cdw', 'pgoutput');
