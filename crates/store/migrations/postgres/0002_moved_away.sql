-- A row once the store was moved into a file: no run begins here any more.
CREATE TABLE moved_away (
    one BOOLEAN PRIMARY KEY CHECK (one),
    at  BIGINT NOT NULL
);
