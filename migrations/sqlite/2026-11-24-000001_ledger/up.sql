-- Instants are integer milliseconds since 1970 (UTC). Sealed columns are nonce || ciphertext under a key of the key file.

-- one row: whose ledger this is
create table installation (
  id integer primary key check (id = 1),
  name text not null,
  blind_key_check blob not null          -- proves that the key file at hand is the one this store was made with
) strict;

-- one life of the daemon
create table epoch (
  id integer primary key autoincrement,
  started_at integer not null,
  pid integer not null,
  version text not null
) strict;

create table portal (
  id integer primary key,
  name text not null unique,
  token blob,                            -- the LMS token, sealed under the installation's key
  token_obtained_at integer,
  constraint token_has_its_time check ((token is null) = (token_obtained_at is null))
) strict;

-- at most four logins an hour, also across restarts
create table login (
  portal_id integer not null references portal (id),
  at integer not null
) strict;

-- the event log: append-only, raw, and without any secondary index (an index halves the rate of the receiver)
create table event (
  id integer primary key autoincrement,
  portal_id integer not null references portal (id),
  received_at integer not null,
  method text not null,
  content_type text not null,
  body blob not null,                    -- sealed under the key of its day
  day integer not null                   -- days since 1970: names that key
) strict;

-- how far intake has read the log
create table intake (
  id integer primary key check (id = 1),
  last_event_id integer not null
) strict;

-- what intake read from an event; one event may hold several
create table reading (
  event_id integer not null references event (id),
  position integer not null,
  name text not null,
  subject_id integer references subject (id),
  disposition text not null,
  dedupe blob not null,
  oddity text,
  primary key (event_id, position),
  constraint disposition_is_known check (disposition in ('marked', 'duplicate', 'test', 'no_subject', 'unknown', 'not_a_learner'))
) strict, without rowid;
-- serves the recognition of duplicates in intake
create index reading_by_dedupe on reading (dedupe);
-- serves explain: which events came for a learner
create index reading_by_subject on reading (subject_id, event_id);

-- a learner, course, department ... that events make us re-read
create table subject (
  id integer primary key,
  portal_id integer not null references portal (id),
  kind text not null,
  lms_id text not null,
  last_read_at integer,                  -- start of the newest complete read
  absent_until integer,                  -- the LMS does not know it: not asked again before
  unique (portal_id, kind, lms_id),
  constraint subject_kind_is_known check (kind in ('learner'))
) strict;

-- a dirty subject. A refresh removes the mark only if it is still of the generation that was claimed
create table mark (
  subject_id integer primary key references subject (id),
  generation integer not null,
  due_at integer not null,
  tries integer not null default 0,
  lane text not null,
  constraint lane_is_known check (lane in ('live', 'retry', 'sweep'))
) strict;
-- serves the claim of due subjects, live before sweep
create index mark_by_due on mark (lane, due_at, subject_id);

-- an event said that a record exists; kept by any such record, or expired into the night
create table promise (
  id integer primary key,
  subject_id integer not null references subject (id),
  event_id integer not null references event (id),
  record_kind text not null,
  received_at integer not null,
  tries integer not null default 0,
  state text not null,
  constraint promise_state_is_known check (state in ('open', 'kept', 'expired'))
) strict;
-- serves the check of promises after a refresh
create index promise_open on promise (subject_id) where state = 'open';

-- a learner's profile; personal columns are sealed under the person's own key
create table person (
  id integer primary key,
  subject_id integer not null unique references subject (id),
  portal_id integer not null references portal (id),
  profile blob,
  profile_digest blob not null,          -- keyed hash of the profile: tells whether it changed
  external_id_index blob,                -- HMAC blind indices: find without knowing
  email_index blob,
  name_index blob,
  state text not null,
  read_version integer not null,
  constraint person_state_is_known check (state in ('active', 'inactive', 'gone', 'erased')),
  constraint erased_has_no_profile check (state != 'erased' or profile is null)
) strict;
create index person_by_external_id on person (external_id_index);
create index person_by_email on person (email_index);
create index person_by_name on person (name_index);

-- one fact as the LMS holds it
create table record (
  id integer primary key,
  person_id integer not null references person (id),
  kind text not null,
  key text not null,
  facts blob not null,                   -- sealed JSON
  fingerprint blob not null,             -- keyed hash over canonical, named fields
  fingerprint_version integer not null,
  course_id text,
  read_version integer not null,         -- start instant of the read that produced it
  achieved_on integer,
  state text not null,
  state_since integer not null,
  constraint record_state_is_known check (state in ('present', 'suspected_absent', 'gone')),
  unique (person_id, key)
) strict;

create table destination (
  id integer primary key,
  name text not null unique,
  connector text not null,
  account text,                          -- the account's identity at the first probe
  first_seen_at integer not null,
  state text not null,
  pause_cause text,
  paused_until integer,                  -- null while paused: until a probe succeeds or a person acts
  failures integer not null default 0,   -- in a row, for the breaker
  failed_persons text not null default '[]',
  constraint destination_state_is_known check (state in ('active', 'paused', 'retired')),
  constraint paused_has_a_cause check (state != 'paused' or pause_cause is not null)
) strict;

create table route (
  id integer primary key,
  destination_id integer not null references destination (id),
  name text not null,
  mode text not null,
  unique (destination_id, name),
  constraint route_mode_is_known check (mode in ('state', 'append'))
) strict;

create table mapping_version (
  id integer primary key,
  route_id integer not null references route (id),
  digest text not null,
  first_seen_at integer not null,
  unique (route_id, digest)
) strict;

-- which person in a destination a learner is, and by which rule we know
create table link (
  destination_id integer not null references destination (id),
  person_id integer not null references person (id),
  state text not null,
  remote_person text,
  rule text,
  candidates text,
  checked_at integer not null,
  is_pinned integer not null default 0,
  primary key (destination_id, person_id),
  constraint link_state_is_known check (state in ('linked', 'unmatched', 'ambiguous')),
  constraint linked_names_the_person check ((state = 'linked') = (remote_person is not null))
) strict, without rowid;

-- the obligation for one (destination, route, slot)
create table delivery (
  id integer primary key,
  destination_id integer not null references destination (id),
  route_id integer not null references route (id),
  slot text not null,
  person_id integer not null references person (id),
  record_id integer not null references record (id),
  state text not null,
  cause text,
  cause_detail text,
  due_at integer,
  -- what the place should hold
  wanted text not null,
  wanted_fingerprint blob not null,      -- of the record's facts
  wanted_mapping_id integer references mapping_version (id),
  wanted_at integer not null,
  -- what we know that it holds
  held_person text,
  held_row text,
  held_fields_digest blob,
  held_fingerprint blob,
  held_mapping_id integer references mapping_version (id),
  held_at integer,
  receipt blob,                          -- sealed under the person's key: the target's own words
  receipt_status integer,
  -- the attempt under way or of unknown outcome
  sending_epoch integer references epoch (id),
  sending_at integer,
  tries integer not null default 0,      -- failures in a row
  attempts integer not null default 0,   -- all attempts ever: the next one's number
  unique (destination_id, route_id, slot),
  constraint delivery_state_is_known check (state in ('pending', 'sending', 'uncertain', 'settled', 'parked', 'skipped', 'superseded')),
  constraint wanted_is_known check (wanted in ('present', 'absent')),
  constraint sending_has_an_epoch check ((state in ('sending', 'uncertain')) = (sending_epoch is not null)),
  constraint sending_has_a_time check ((sending_epoch is null) = (sending_at is null)),
  constraint waiting_has_a_due_time check ((state in ('pending', 'uncertain')) = (due_at is not null)),
  constraint parked_has_a_cause check (state not in ('parked', 'skipped', 'superseded') or cause is not null),
  constraint settled_has_a_row check (state != 'settled' or wanted = 'absent' or held_row is not null)
) strict;
-- serves: one person's rows are written together and in order
create index delivery_by_person on delivery (person_id, destination_id);
-- serves the release of all deliveries of one cause
create index delivery_by_cause on delivery (destination_id, cause) where cause is not null;
create index delivery_by_record on delivery (record_id);
-- serves the start of an epoch: what was under way when the last one ended
create index delivery_under_way on delivery (id) where state = 'sending';

-- the queue: narrow and apart from the rows it points to, so that it stays flat from a thousand to millions
create table delivery_queue (
  destination_id integer not null,
  due_at integer not null,
  delivery_id integer not null,
  primary key (destination_id, due_at, delivery_id)
) strict, without rowid;

-- every try, append-only; each row's hash covers the one before it
create table attempt (
  id integer primary key autoincrement,
  delivery_id integer not null references delivery (id),
  epoch_id integer not null references epoch (id),
  number integer not null,
  action text not null,
  started_at integer not null,
  finished_at integer not null,
  outcome text not null,
  status integer,
  remote_row text,
  words blob,                            -- sealed under the person's key
  words_digest blob not null,            -- so that erasing the key leaves the chain whole
  fields_digest blob,
  previous_hash blob not null,
  hash blob not null,
  constraint action_is_known check (action in ('put', 'withdraw', 'look', 'link')),
  constraint outcome_is_known check (outcome in ('taken', 'found', 'absent', 'rejected', 'unmatched', 'throttled', 'unavailable', 'ambiguous', 'unauthorized', 'superseded', 'interrupted'))
) strict;
create index attempt_by_delivery on attempt (delivery_id, id);

-- one reconciliation
create table run (
  id integer primary key,
  kind text not null,
  portal_id integer references portal (id),
  state text not null,
  started_at integer not null,
  finished_at integer,
  next_page integer not null default 0,
  counts text not null default '{}',
  constraint run_kind_is_known check (kind in ('sweep', 'verify')),
  constraint run_state_is_known check (state in ('running', 'done', 'failed')),
  constraint finished_has_a_time check ((state = 'running') = (finished_at is null))
) strict;
