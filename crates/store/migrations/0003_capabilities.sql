-- What is known of a widget's server beside its lists: how large they are, which quirks were met, which
-- filters it honours. One row for what polls learned, one for what `doctor` found.
CREATE TABLE capability (
    widget TEXT NOT NULL,
    source TEXT NOT NULL,     -- polls, doctor
    at     INTEGER NOT NULL,
    body   TEXT NOT NULL,     -- JSON
    PRIMARY KEY (widget, source)
) STRICT, WITHOUT ROWID;
