-- Work under an idempotency key: who carries it out until when, and the sealed answer once there is
-- one. Key and request are keyed hashes; an answer opens only with the request that it answers.
CREATE TABLE claims (
    tenant          TEXT NOT NULL,
    key             BLOB NOT NULL CHECK (length(key) = 32),
    request         BLOB NOT NULL CHECK (length(request) = 32),
    owner           BLOB NOT NULL CHECK (length(owner) = 16),
    leased_until_ms INTEGER NOT NULL,
    forget_at_ms    INTEGER NOT NULL,
    answer          BLOB,
    PRIMARY KEY (tenant, key)
) STRICT;
CREATE INDEX claims_by_end ON claims (forget_at_ms);
