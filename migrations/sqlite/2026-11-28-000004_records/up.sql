-- The LMS's id of the thing that an event is about, and of the administrator whose doing it was, as the webhook said.
alter table promise add column thing text;
alter table promise add column by_admin text;

-- When a subject's records next stand otherwise without any event: a certificate begins to expire, or has expired.
create table calendar (
  subject_id integer primary key references subject (id),
  due_at integer not null
) strict;
-- serves the step that wakes when the next one is due
create index calendar_by_due on calendar (due_at, subject_id);

-- The backfill has a lane and runs of its own.
create table new_mark (
  subject_id integer primary key references subject (id),
  generation integer not null,
  due_at integer not null,
  tries integer not null default 0,
  lane text not null,
  constraint lane_is_known check (lane in ('live', 'retry', 'sweep', 'backfill'))
) strict;
insert into new_mark select subject_id, generation, due_at, tries, lane from mark;
drop table mark;
alter table new_mark rename to mark;
create index mark_by_due on mark (lane, due_at, subject_id);

create table new_run (
  id integer primary key,
  kind text not null,
  portal_id integer references portal (id),
  state text not null,
  started_at integer not null,
  finished_at integer,
  next_page integer not null default 0,
  counts text not null default '{}',
  constraint run_kind_is_known check (kind in ('sweep', 'verify', 'backfill')),
  constraint run_state_is_known check (state in ('running', 'paused', 'done', 'failed')),
  constraint finished_has_a_time check ((state in ('running', 'paused')) = (finished_at is null))
) strict;
insert into new_run select id, kind, portal_id, state, started_at, finished_at, next_page, counts from run;
drop table run;
alter table new_run rename to run;

-- What a backfill has read of whole lists, until all of a learner is there: then it is kept as one read, and goes.
create table staged (
  run_id integer not null references run (id),
  lms_id text not null,                  -- the learner
  row_id text not null,                  -- '' is the profile, others are enrolments
  row blob not null,                     -- sealed under the installation's key
  primary key (lms_id, run_id, row_id)
) strict, without rowid;
