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

DROP INDEX delivery_tally;
DROP INDEX occurrence_tally;
