-- Courses, departments and groups are re-read as lists: one subject each. A CHECK cannot be changed, so the table is made anew.
-- Cut off anywhere, this can be run again.
pragma foreign_keys = off;
begin immediate;
drop table if exists new_subject;
create table new_subject (
  id integer primary key,
  portal_id integer not null references portal (id),
  kind text not null,
  lms_id text not null,
  last_read_at integer,                  -- start of the newest complete read
  absent_until integer,                  -- the LMS does not know it: not asked again before
  unique (portal_id, kind, lms_id),
  constraint subject_kind_is_known check (kind in ('learner', 'courses', 'departments', 'groups'))
) strict;
insert into new_subject select id, portal_id, kind, lms_id, last_read_at, absent_until from subject;
drop table subject;
alter table new_subject rename to subject;
commit;
pragma foreign_keys = on;
