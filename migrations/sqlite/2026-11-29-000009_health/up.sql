-- What reads found that webhooks should have announced, by the day on which it was found. A few rows a day; told by `status`, decides
-- nothing.
create table webhook_health (
  portal_id integer not null references portal (id),
  day integer not null,                  -- days since 1970
  record_kind text not null,
  tally text not null,                   -- announced, missed, a coarse histogram of delays and the longest, as JSON
  primary key (portal_id, day, record_kind)
) strict, without rowid;

-- In how many minutes of an hour webhooks came: the rhythm of a portal. The event log has no index on time, and is too long to count.
create table webhook_hour (
  portal_id integer not null references portal (id),
  hour integer not null,                 -- hours since 1970
  minutes integer not null,
  last_at integer not null,              -- the first webhook of the last of these minutes
  primary key (portal_id, hour),
  constraint an_hour_has_sixty_minutes check (minutes between 1 and 60)
) strict, without rowid;
