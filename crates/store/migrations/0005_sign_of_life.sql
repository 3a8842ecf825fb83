-- What the daemon said last about itself, for `imbabot status`: one row, overwritten every few seconds.
-- Nothing that is promised depends on it.
CREATE TABLE sign_of_life (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    at      INTEGER NOT NULL,
    stopped INTEGER NOT NULL,  -- 1 once that run ended by itself
    status  TEXT NOT NULL      -- JSON, as /api/status
) STRICT;
