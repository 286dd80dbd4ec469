-- A ledger is never migrated down: restore a backup instead.
select raise_a_ledger_is_never_migrated_down();
