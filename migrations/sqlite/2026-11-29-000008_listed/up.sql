-- What the LMS's whole lists showed last, so that a sweep by lists reads again only those for whom something looks otherwise tonight.
create table listing (
  id integer primary key,
  portal_id integer not null references portal (id),
  name text not null,                    -- '' is the list of all learners, others are the enrolments of that course
  sorting text not null,                 -- in which order of ids the LMS gives it; its rows are keyed so that bytes sort the same
  pages integer not null,                -- how many it had when it was last read to its end: what the next time will cost
  unique (portal_id, name),
  constraint sorting_is_known check (sorting in ('text', 'sql_server'))
) strict;

-- Nothing personal in clear: ids as the LMS gives them, and a keyed hash of the rest. No index beside the key: what is asked for is always
-- a stretch of one list.
create table listed (
  listing_id integer not null references listing (id),
  row_key blob not null,                 -- the row's id
  learner blob not null,                 -- whose it is
  digest blob not null,
  primary key (listing_id, row_key)
) strict, without rowid;

-- The routes that were configured at the last start, and the newest run of before one came to them: who was read by then was not planned
-- for it, and no list shows that.
alter table installation add column planned_routes text;
alter table installation add column planned_after_run integer;
