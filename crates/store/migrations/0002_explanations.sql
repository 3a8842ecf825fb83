-- What `why` tells: from when to when nothing was sent, what held an attempt back, and the words that
-- came with an outcome.

-- Stretches of time in which nothing was sent to a widget, by a bot or at all, and why: breakers and
-- pauses. One of a scope and reason lasts at a time.
CREATE TABLE stoppage (
    scope  TEXT NOT NULL,     -- all, widget/<name>, bot/<name>
    reason TEXT NOT NULL,     -- paused, outage, credentials, redirect
    since  INTEGER NOT NULL,
    until  INTEGER,           -- NULL while it lasts
    detail TEXT,              -- where a redirect points
    PRIMARY KEY (scope, reason, since)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX stoppage_lasting ON stoppage (scope, reason) WHERE until IS NULL;
CREATE INDEX stoppage_ended ON stoppage (until) WHERE until IS NOT NULL;

INSERT INTO stoppage (scope, reason, since) SELECT scope, 'paused', since FROM pause;
DROP TABLE pause;

-- What its attempt had to wait for last, and since when it could have left otherwise.
ALTER TABLE attempt ADD COLUMN held_by TEXT;
ALTER TABLE attempt ADD COLUMN held_since INTEGER;
-- What was seen, in the server's words or ours; never a secret.
ALTER TABLE attempt ADD COLUMN detail TEXT;
ALTER TABLE delivery ADD COLUMN detail TEXT;

-- Since when the head of the lane is its head.
ALTER TABLE lane ADD COLUMN head INTEGER;
ALTER TABLE lane ADD COLUMN head_since INTEGER;

-- How many deliveries are in a state now, and how many ever came to it. Kept with every change, so that
-- telling it does not walk the deliveries, and so that the second number outlives the retention.
CREATE TABLE delivery_count (
    state   TEXT NOT NULL,
    reason  TEXT NOT NULL,    -- '' where there is none
    present INTEGER NOT NULL,
    total   INTEGER NOT NULL,
    PRIMARY KEY (state, reason)
) STRICT, WITHOUT ROWID;
INSERT INTO delivery_count (state, reason, present, total)
    SELECT state, coalesce(reason, ''), count(*), count(*) FROM delivery GROUP BY 1, 2;

CREATE TRIGGER delivery_born AFTER INSERT ON delivery BEGIN
    INSERT INTO delivery_count VALUES (new.state, coalesce(new.reason, ''), 1, 1)
    ON CONFLICT DO UPDATE SET present = present + 1, total = total + 1;
END;
CREATE TRIGGER delivery_moved AFTER UPDATE OF state, reason ON delivery
WHEN old.state <> new.state OR old.reason IS NOT new.reason BEGIN
    UPDATE delivery_count SET present = present - 1
    WHERE state = old.state AND reason = coalesce(old.reason, '');
    INSERT INTO delivery_count VALUES (new.state, coalesce(new.reason, ''), 1, 1)
    ON CONFLICT DO UPDATE SET present = present + 1, total = total + 1;
END;
CREATE TRIGGER delivery_pruned AFTER DELETE ON delivery BEGIN
    UPDATE delivery_count SET present = present - 1
    WHERE state = old.state AND reason = coalesce(old.reason, '');
END;

-- How many deliveries were ever marked as possibly there more than once.
CREATE TABLE doubled_count (total INTEGER NOT NULL) STRICT;
INSERT INTO doubled_count SELECT count(*) FROM delivery WHERE possible_duplicate = 1;
CREATE TRIGGER delivery_doubled_once AFTER UPDATE OF possible_duplicate ON delivery
WHEN new.possible_duplicate > old.possible_duplicate BEGIN
    UPDATE doubled_count SET total = total + 1;
END;

-- A retention that was cut short may have left lines of records that are gone. From now on a record
-- goes with all its lines at once.
DELETE FROM ledger WHERE CASE kind
    WHEN 'delivery' THEN NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = unhex(ledger.id))
    WHEN 'attempt' THEN
        NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = unhex(substr(ledger.id, 1, 32)))
    WHEN 'event' THEN NOT EXISTS (SELECT 1 FROM inbox i
        WHERE i.bot = substr(ledger.id, instr(ledger.id, '/') + 1)
          AND i.event = CAST(substr(ledger.id, 2, instr(ledger.id, '/') - 2) AS INTEGER))
    WHEN 'occurrence' THEN NOT EXISTS (SELECT 1 FROM occurrence o WHERE o.id = ledger.id)
    ELSE 0 END;

DROP INDEX delivery_doubled;
DROP INDEX delivery_tally;
DROP INDEX occurrence_tally;
