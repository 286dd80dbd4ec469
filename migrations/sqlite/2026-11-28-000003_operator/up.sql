-- Why an operator paused a destination, in their own words; tells something only while pause_cause is 'operator'.
alter table destination add column pause_reason text;

-- A destination that was forgotten: whoever configures it again, under whatever name, may meet rows of ours that no ledger knows.
create table forgotten (
  name text not null,
  at integer not null
) strict;

-- What is left of an attempt whose delivery was forgotten: its link in the chain, so that the others can still be verified.
create table chain_link (
  attempt_id integer primary key,
  previous_hash blob not null,
  hash blob not null
) strict;
