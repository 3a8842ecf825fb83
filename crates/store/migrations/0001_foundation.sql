-- Instants are microseconds since the Unix epoch, UTC. Ids of deliveries are 16 bytes.

CREATE TABLE incarnation (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    clean      INTEGER,
    version    TEXT NOT NULL
) STRICT;

-- A line for each change of a record, append-only. The text of a delivery is not repeated here:
-- it is joined when the line is read.
CREATE TABLE ledger (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id   TEXT NOT NULL,
    at   INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX ledger_by_id ON ledger (id, seq);
CREATE INDEX ledger_by_at ON ledger (at);

-- Which number of ImbaChat's a widget's name stands for.
CREATE TABLE widget (
    name    TEXT PRIMARY KEY,
    imba_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE list (
    widget       TEXT NOT NULL,
    list         TEXT NOT NULL,
    baseline_at  INTEGER,
    last_good_at INTEGER,
    PRIMARY KEY (widget, list)
) STRICT, WITHOUT ROWID;

CREATE TABLE item (
    widget TEXT NOT NULL,
    list   TEXT NOT NULL,
    id     INTEGER NOT NULL,
    hash   INTEGER NOT NULL,
    gone   INTEGER NOT NULL DEFAULT 0,
    body   TEXT NOT NULL,
    PRIMARY KEY (widget, list, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE bot (
    name     TEXT PRIMARY KEY,
    since    INTEGER NOT NULL,
    present  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Never used twice, also not after pruning: the number keys what a handler sends.
CREATE TABLE event (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    widget TEXT NOT NULL,
    at     INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    room   INTEGER,
    body   TEXT NOT NULL
) STRICT;

-- Who is to be told of which event. Of the entries of one bot in one lane only the first may be
-- claimed: the others are blocked until it has ended.
CREATE TABLE inbox (
    bot      TEXT NOT NULL,
    event    INTEGER NOT NULL REFERENCES event (seq),
    widget   TEXT NOT NULL,
    lane     TEXT NOT NULL,
    state    TEXT NOT NULL,             -- waiting, running, handled, poisoned, ignored
    blocked  INTEGER NOT NULL,
    suspect  INTEGER NOT NULL DEFAULT 0, -- was running when the process was killed
    tries    INTEGER NOT NULL DEFAULT 0,
    due_at   INTEGER NOT NULL,
    ended_at INTEGER,
    reason   TEXT,
    PRIMARY KEY (bot, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_due ON inbox (bot, due_at, event) WHERE state = 'waiting' AND blocked = 0;
CREATE INDEX inbox_lane ON inbox (bot, widget, lane, event) WHERE state IN ('waiting', 'running');
CREATE INDEX inbox_running ON inbox (bot, event) WHERE state = 'running';
CREATE INDEX inbox_poisoned ON inbox (bot, event) WHERE state = 'poisoned';
CREATE INDEX inbox_ended ON inbox (ended_at) WHERE state IN ('handled', 'ignored');
CREATE INDEX inbox_suspect ON inbox (due_at) WHERE suspect = 1 AND state IN ('waiting', 'running');
CREATE INDEX inbox_event ON inbox (event);

CREATE TABLE memory (
    bot     TEXT NOT NULL,
    widget  TEXT NOT NULL,
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (bot, widget, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE wake (
    bot    TEXT NOT NULL,
    widget TEXT NOT NULL,
    key    TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    PRIMARY KEY (bot, widget, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX wake_due ON wake (due_at);

CREATE TABLE delivery (
    seq                INTEGER PRIMARY KEY AUTOINCREMENT,
    id                 BLOB NOT NULL UNIQUE,
    key                TEXT NOT NULL UNIQUE,
    widget             TEXT NOT NULL,
    room               INTEGER NOT NULL,
    sender             TEXT NOT NULL,
    bot                TEXT,
    event              TEXT,
    occurrence         TEXT,
    schedule           TEXT,
    policy             TEXT NOT NULL,
    text               TEXT,
    text_sha256        TEXT NOT NULL,
    state              TEXT NOT NULL,
    reason             TEXT,
    possible_duplicate INTEGER NOT NULL DEFAULT 0,
    -- Its lane waits for it: queued, sending, or unknown and to be repeated.
    open               INTEGER NOT NULL,
    -- Whether the limits on bots count it.
    counts             INTEGER NOT NULL,
    report             INTEGER NOT NULL DEFAULT 0,
    created_at         INTEGER NOT NULL,
    not_before         INTEGER NOT NULL,
    expires_at         INTEGER NOT NULL,
    -- How long its content keeps; an operator's retry starts that anew.
    keeps              INTEGER NOT NULL,
    next_attempt_at    INTEGER NOT NULL DEFAULT 0,
    attempts           INTEGER NOT NULL DEFAULT 0,
    misses             INTEGER NOT NULL DEFAULT 0,
    ambiguous          INTEGER NOT NULL DEFAULT 0,
    resends            INTEGER NOT NULL DEFAULT 0,
    unknown_since      INTEGER,
    resend_at          INTEGER,
    ended_at           INTEGER,
    server_message_id  INTEGER,
    server_uuid        TEXT,
    server_time        INTEGER
) STRICT;
CREATE INDEX delivery_lane ON delivery (widget, room, sender, not_before, seq) WHERE open = 1;
-- At most one request of a lane is on its way.
CREATE UNIQUE INDEX delivery_sending ON delivery (widget, room, sender) WHERE state = 'sending';
CREATE INDEX delivery_expiry ON delivery (expires_at) WHERE state = 'queued';
CREATE INDEX delivery_unknown ON delivery (unknown_since) WHERE state = 'unknown';
CREATE INDEX delivery_resend ON delivery (resend_at) WHERE resend_at IS NOT NULL;
-- The reason comes first, so that nobody who asks for a state takes this for the index to go by: the
-- ones above hold only what is asked for, in order.
CREATE INDEX delivery_tally ON delivery (reason, state);
CREATE INDEX delivery_created ON delivery (created_at);
CREATE INDEX delivery_bot ON delivery (bot, created_at) WHERE counts = 1;
CREATE INDEX delivery_bot_room ON delivery (bot, widget, room, created_at) WHERE counts = 1;
CREATE INDEX delivery_schedule ON delivery (schedule, widget, room) WHERE open = 1;
CREATE INDEX delivery_uuid ON delivery (server_uuid) WHERE server_uuid IS NOT NULL;
-- For telling our own changes of a room from those of others.
CREATE INDEX delivery_room_time ON delivery (widget, room, server_time) WHERE server_time IS NOT NULL;
CREATE INDEX delivery_room_unsure ON delivery (widget, room) WHERE ambiguous > 0;
CREATE INDEX delivery_doubled ON delivery (possible_duplicate) WHERE possible_duplicate = 1;

CREATE TABLE attempt (
    delivery    BLOB NOT NULL,
    n           INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    class       TEXT,
    code        TEXT,
    http_status INTEGER,
    PRIMARY KEY (delivery, n)
) STRICT, WITHOUT ROWID;

-- When the head of a lane may be claimed; NULL while a request of the lane is on its way or its head
-- is held. An empty lane has no row.
CREATE TABLE lane (
    widget   TEXT NOT NULL,
    room     INTEGER NOT NULL,
    sender   TEXT NOT NULL,
    ready_at INTEGER,
    PRIMARY KEY (widget, room, sender)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_ready ON lane (widget, ready_at) WHERE ready_at IS NOT NULL;

-- The theoretical arrival time of the next request (GCRA), per widget and per room; beside it, per
-- widget, until when the server asked for silence.
CREATE TABLE rate (
    key TEXT PRIMARY KEY,
    tat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule (
    key           TEXT PRIMARY KEY,
    definition    TEXT NOT NULL,
    fired_through INTEGER NOT NULL,
    last_fired    INTEGER,
    missed        INTEGER NOT NULL DEFAULT 0,
    paused        INTEGER NOT NULL DEFAULT 0,
    present       INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE occurrence (
    id          TEXT PRIMARY KEY,
    schedule    TEXT NOT NULL,
    nominal_at  INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    reason      TEXT,
    deliveries  INTEGER NOT NULL,
    -- The rooms still to be served, pinned when it fired; NULL once all are.
    targets     BLOB,
    position    INTEGER NOT NULL DEFAULT 0,
    -- How many rooms were left out because an earlier delivery still waited there.
    overlaps    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX occurrence_pinned ON occurrence (recorded_at) WHERE targets IS NOT NULL;
CREATE INDEX occurrence_tally ON occurrence (schedule, outcome);
CREATE INDEX occurrence_order ON occurrence (schedule, nominal_at);
CREATE INDEX occurrence_age ON occurrence (recorded_at);

CREATE TABLE pause (
    scope TEXT PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
