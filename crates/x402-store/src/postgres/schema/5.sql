-- The mark of this ledger: what processes remember of it shows whether the database is an older copy.
CREATE TABLE x402_marks (
  one SMALLINT PRIMARY KEY CHECK (one = 1),
  ledger TEXT NOT NULL,
  count BIGINT NOT NULL,
  origin TEXT                   -- cluster, database and timeline; NULL where the server does not tell
);
-- One row while payments without a nonce on a chain are refused.
CREATE TABLE x402_quarantines (
  one SMALLINT PRIMARY KEY CHECK (one = 1),
  since BIGINT NOT NULL,        -- seconds
  why TEXT NOT NULL
);
