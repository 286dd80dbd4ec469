-- Whom an attempt of unknown outcome was for: a link may be pinned to somebody else meanwhile, and the row would stay under the first.
alter table delivery add column sending_person text;

-- An older life of this ledger, or another account, may have written what this one does not know (a restored backup, `rebase`): facts
-- achieved before this instant are looked up before their first create.
alter table destination add column doubt_before integer;

-- Until when the LMS asked us to wait, and why: also a restart keeps to it.
alter table portal add column rests_until integer;
alter table portal add column rest_cause text;

-- Set in a copy that a backup makes; the first opening of that copy finds it, doubts what the copy cannot know, and clears it.
alter table installation add column copied_at integer;

-- When a copy was last taken into use, and the newest run of before: nothing of a learner is delivered before they were read again
-- (person.read_version is 0 until then), and a sweep is due at once.
alter table installation add column restored_at integer;
alter table installation add column restored_after_run integer;

-- A bound value that is compared with a partial index's condition makes SQLite prepare the statement anew at every use: a quarter of all
-- time in the simulation. What was under way is looked for once a start, and a learner has few promises.
drop index delivery_under_way;
drop index promise_open;
create index promise_by_subject on promise (subject_id, state);
