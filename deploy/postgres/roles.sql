-- Roles and schemas of the warehouse on Postgres, so that each reader sees what it needs and no more:
--   cdw_loader     owns raw and raw_restricted and writes them (cdw load)
--   cdw_transform  reads raw, owns what dbt builds (dbt build, cdw status); of raw_restricted it may count
--                  records and sees no byte of them: cdw load grants it those columns
--   cdw_reader     reads the marts (people, BI tools)
-- Run by a superuser in the warehouse's database, before or after the first load; running it again changes
-- nothing:  psql --dbname clinical --file deploy/postgres/roles.sql
-- The roles have no password yet:  alter role cdw_loader password '...';

do $$
declare
    name text;
begin
    foreach name in array array['cdw_loader', 'cdw_transform', 'cdw_reader'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I login', name);
        end if;
        execute format('grant connect on database %I to %I', current_database(), name);
    end loop;
end
$$;

-- The server's log says what it refused and why, without quoting the record.
alter role cdw_loader set log_error_verbosity = 'terse';

-- Schemas, and what is in them already, go to the role that writes there.
do $$
declare
    owners constant jsonb := '{
        "raw": "cdw_loader", "raw_restricted": "cdw_loader",
        "reference": "cdw_transform", "staging": "cdw_transform", "intermediate": "cdw_transform",
        "core": "cdw_transform", "monitoring": "cdw_transform", "vitals": "cdw_transform",
        "operations": "cdw_transform"}';
    schema_name text;
    owner text;
    object record;
begin
    for schema_name, owner in select key, value from jsonb_each_text(owners) loop
        execute format('create schema if not exists %I', schema_name);
        execute format('alter schema %I owner to %I', schema_name, owner);
        execute format('revoke all on schema %I from public', schema_name);
        for object in
            select relname, relkind from pg_class
            where relnamespace = schema_name::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S')
            and relowner <> owner::regrole
        loop
            execute format(
                'alter %s %I.%I owner to %I',
                case object.relkind
                    when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' else 'table'
                end,
                schema_name, object.relname, owner
            );
        end loop;
    end loop;
end
$$;

grant usage on schema raw, raw_restricted to cdw_transform;
grant select on all tables in schema raw to cdw_transform;
alter default privileges for role cdw_loader in schema raw grant select on tables to cdw_transform;

-- dbt replaces its tables at each build: the right to read them has to come with every new one.
grant usage on schema core, monitoring, vitals, operations to cdw_reader;
grant select on all tables in schema core, monitoring, vitals, operations to cdw_reader;
alter default privileges for role cdw_transform in schema core, monitoring, vitals, operations
grant select on tables to cdw_reader;
