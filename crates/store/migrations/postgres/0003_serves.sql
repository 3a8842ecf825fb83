-- The units that a run serves by its configuration; none before its first heartbeat, after its end, and of
-- a build that does not know this column.
ALTER TABLE lease ADD COLUMN serves TEXT[];
