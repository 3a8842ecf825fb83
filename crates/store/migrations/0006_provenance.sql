-- Which store this is: `line` is made anew each time a copy is taken into use. A copy that was made by
-- `store backup` says so until then.
CREATE TABLE provenance (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    line      TEXT NOT NULL,
    copied_at INTEGER
) STRICT;
INSERT INTO provenance (one, line) VALUES (1, lower(hex(randomblob(16))));

-- How it was looked after: checks and backups, the newest few of each.
CREATE TABLE care (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    what TEXT NOT NULL,
    at   INTEGER NOT NULL,
    well INTEGER NOT NULL,
    told TEXT NOT NULL
) STRICT;
