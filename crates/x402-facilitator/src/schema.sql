-- Rows are JSON: the settlement machine owns their meaning. Beside them stand the columns that are looked up.
CREATE TABLE IF NOT EXISTS payments (
  key BLOB PRIMARY KEY,
  lane TEXT NOT NULL,
  version INTEGER NOT NULL,
  due INTEGER,                  -- seconds; NULL once it is answered
  ready INTEGER NOT NULL,       -- 1: its newest step waits for a carrier
  keep_until INTEGER NOT NULL,  -- seconds; not deleted before
  row TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS payments_due ON payments (lane, due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS payments_ready ON payments (lane, key) WHERE ready = 1;
CREATE INDEX IF NOT EXISTS payments_old ON payments (keep_until) WHERE due IS NULL;

-- One live step a guard.
CREATE TABLE IF NOT EXISTS guards (
  guard BLOB PRIMARY KEY,
  key BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS slots (
  lane TEXT NOT NULL,
  nonce INTEGER NOT NULL,
  version INTEGER NOT NULL,
  used INTEGER NOT NULL,
  row TEXT NOT NULL,
  PRIMARY KEY (lane, nonce)
) STRICT;
CREATE INDEX IF NOT EXISTS slots_open ON slots (lane, nonce) WHERE used = 0;

CREATE TABLE IF NOT EXISTS lanes (
  lane TEXT PRIMARY KEY,
  next INTEGER NOT NULL,        -- the first account nonce never given to a slot
  owner TEXT NOT NULL,
  fence INTEGER NOT NULL,       -- counts the owners
  until INTEGER NOT NULL        -- seconds, this machine's clock
) STRICT;

-- What a resource server has granted: a payment pays for one answer.
CREATE TABLE IF NOT EXISTS grants (
  key BLOB PRIMARY KEY,
  state TEXT NOT NULL CHECK (state IN ('pending', 'granted')),
  request TEXT NOT NULL         -- only the same request takes up a pending one
) STRICT;
