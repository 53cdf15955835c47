-- What serves at each instance, as it said last.
CREATE TABLE instances (
    id         TEXT PRIMARY KEY,
    revision   TEXT NOT NULL,
    generation INTEGER NOT NULL,
    wanted     TEXT NOT NULL,
    loaded_at  TEXT NOT NULL,
    seen_at_ms INTEGER NOT NULL
) STRICT;
