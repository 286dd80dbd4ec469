-- Verify: what a destination really holds. It has a destination, may be held by its guard, and then says why. Staged rows refer to runs, so the
-- table is made anew while foreign keys are off. Cut off anywhere, this can be run again.
pragma foreign_keys = off;
begin immediate;
drop table if exists new_run;
create table new_run (
  id integer primary key,
  kind text not null,
  portal_id integer references portal (id),
  state text not null,
  started_at integer not null,
  finished_at integer,
  next_page integer not null default 0,
  counts text not null default '{}',
  destination_id integer references destination (id),
  cause text,
  constraint run_kind_is_known check (kind in ('sweep', 'verify', 'backfill', 'apply')),
  constraint run_state_is_known check (state in ('running', 'paused', 'held', 'done', 'failed')),
  constraint finished_has_a_time check ((state in ('running', 'paused', 'held')) = (finished_at is null)),
  constraint held_has_a_cause check (state != 'held' or cause is not null)
) strict;
insert into new_run (id, kind, portal_id, state, started_at, finished_at, next_page, counts)
  select id, kind, portal_id, state, started_at, finished_at, next_page, counts from run;
drop table run;
alter table new_run rename to run;

-- What we last wrote into a place, where it shows something else and why that is left, and how often we wrote it again: sealed under the
-- person's key, as JSON. Apart from the delivery, which stays narrow.
create table if not exists holding (
  delivery_id integer primary key references delivery (id),
  state blob not null
) strict;

-- What a verify found that is not as it should be. The fields are names of the target's, never values.
create table if not exists finding (
  id integer primary key,
  run_id integer not null references run (id),
  delivery_id integer references delivery (id),
  class text not null,
  object text not null,
  row text,                              -- the row's id in the target
  mark text,                             -- the mark that it carries, where no delivery says it
  fields text not null default '[]',     -- names, as JSON
  action text not null,
  held_at integer,                       -- the delivery's, when it was compared: what was written since is not touched
  person text,                           -- whose row it is in the target
  constraint class_is_known check (class in ('missing', 'moved', 'unmarked', 'edited', 'stale', 'duplicate', 'foreign', 'orphaned', 'unreadable', 'gone')),
  constraint action_is_known check (action in ('repair', 'report', 'adopt', 'withdraw', 'none'))
) strict;
-- serves what a run acts on, and what it found of a delivery
create index if not exists finding_by_run on finding (run_id, id);
create index if not exists finding_by_delivery on finding (delivery_id);

-- What a destination listed in a verify, until it is compared: merged with the deliveries row by row, so that nothing is held in memory.
create table if not exists target_row (
  run_id integer not null references run (id),
  object text not null,
  row text not null,
  person text,
  slot text,                             -- of a row that carries our mark
  mark text,                             -- of a row that carries another installation's
  digest blob,                           -- of its fields; null when they cannot be read
  fields blob,                           -- sealed under the installation's key; null when they cannot be read
  primary key (run_id, object, row)
) strict, without rowid;
-- serves the comparison: what carries our mark for a delivery
create index if not exists target_row_by_slot on target_row (run_id, object, slot);
-- serves the search for rows of others that say the same
create index if not exists target_row_by_digest on target_row (run_id, object, digest);
-- serves the search for a row that we know and that lost our mark: the primary key

-- A plan file that was applied, or is being: it is applied once.
create table if not exists applied_plan (
  seal blob primary key,
  run_id integer not null references run (id)
) strict, without rowid;

-- The lines of a plan under way, in their order.
create table if not exists planned (
  run_id integer not null references run (id),
  position integer not null,
  delivery_id integer not null references delivery (id),
  wanted blob not null,                  -- with other facts, or
  held blob,                             -- other fields, the line is stale
  primary key (run_id, position)
) strict, without rowid;
commit;
pragma foreign_keys = on;
