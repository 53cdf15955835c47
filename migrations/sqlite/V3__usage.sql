-- How much each tenant has had judged in one hour of the clock; written in batches.
CREATE TABLE usage (
    tenant TEXT PRIMARY KEY,
    hour   INTEGER NOT NULL CHECK (hour >= 0),
    used   INTEGER NOT NULL CHECK (used >= 0)
) STRICT;
