-- Until when the LMS itself asked to be left alone. Apart from rests_until, which is our own doing too: nothing of ours shortens it, and
-- no request goes out before it, whoever asks.
alter table portal add column asked_until integer;

-- What our calls of the last hour were for, as JSON; told by `status`, decides nothing.
alter table portal add column budget_use text;

-- How often, and when last, another program's login ended our session.
alter table portal add column contests integer not null default 0;
alter table portal add column contested_at integer;

-- The login by OAuth 2: the refresh token, sealed under store.token_key and then under the installation's key, and its life.
alter table portal add column grant_token blob;
alter table portal add column grant_obtained_at integer;
alter table portal add column grant_ends_at integer;

-- Each portal has readers of its own, so that one that is slow or rests does not hold up the others: they look for their marks alone. A
-- trigger keeps the column, because whoever marks a subject knows the subject only.
alter table mark add column portal_id integer not null default 0;
update mark set portal_id = (select portal_id from subject where id = mark.subject_id);
create trigger mark_knows_its_portal after insert on mark
begin
  update mark set portal_id = (select portal_id from subject where id = new.subject_id) where subject_id = new.subject_id;
end;
drop index mark_by_due;
-- serves the claim of a portal's due subjects, live before sweep
create index mark_by_due on mark (portal_id, lane, due_at, subject_id);
