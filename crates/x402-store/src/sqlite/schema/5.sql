-- The mark of this ledger: a copy beside the file shows whether the file is an older one.
CREATE TABLE mark (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  ledger TEXT NOT NULL,
  count INTEGER NOT NULL
) STRICT;
-- One row while payments without a nonce on a chain are refused.
CREATE TABLE quarantine (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  since INTEGER NOT NULL,       -- seconds
  why TEXT NOT NULL
) STRICT;
