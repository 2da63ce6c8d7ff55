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

-- The x402.v1 dialect: challenges that were issued, and the payment that holds or paid each.
CREATE TABLE IF NOT EXISTS challenges (
  id TEXT PRIMARY KEY,
  row TEXT NOT NULL,            -- the challenge as it was sent, JSON
  issued_at INTEGER NOT NULL,   -- seconds, as every time here
  expires_at INTEGER NOT NULL,
  keep_until INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'held', 'paid')),
  fence INTEGER NOT NULL,       -- counts the holds
  nonce TEXT,                   -- the payment's; NULL while it is open
  digest BLOB,                  -- the payment's
  held_until INTEGER NOT NULL,
  resume_until INTEGER NOT NULL,
  forget_after INTEGER NOT NULL
) STRICT;
-- A nonce is used once over all challenges.
CREATE UNIQUE INDEX IF NOT EXISTS challenges_nonce ON challenges (nonce) WHERE nonce IS NOT NULL;
CREATE INDEX IF NOT EXISTS challenges_old ON challenges (forget_after);

-- What was proven once and for all. Kept for good, and with it what was paid back of it.
CREATE TABLE IF NOT EXISTS proofs (
  key TEXT PRIMARY KEY,
  refundable TEXT NOT NULL,     -- atomic units
  refund TEXT,                  -- network, token, recipient, amount, time: one a line
  receipt TEXT                  -- NULL until the refund was made
) STRICT;

CREATE TABLE IF NOT EXISTS entitlements (
  token BLOB PRIMARY KEY,       -- its hash
  resource TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  uses INTEGER                  -- left; NULL: as often as wanted
) STRICT;
CREATE INDEX IF NOT EXISTS entitlements_old ON entitlements (expires_at);

CREATE TABLE IF NOT EXISTS meters (
  id TEXT PRIMARY KEY,          -- the challenge's
  challenge TEXT NOT NULL,      -- JSON
  payment TEXT NOT NULL,        -- JSON
  issued_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  keep_until INTEGER NOT NULL,
  used TEXT NOT NULL,           -- atomic units
  state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'settled', 'refused')),
  touched_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS meters_open ON meters (touched_at, id) WHERE state IN ('open', 'closed');
CREATE INDEX IF NOT EXISTS meters_old ON meters (keep_until) WHERE state IN ('settled', 'refused');

-- What `/verify` remembers of an nvm:erc4337 request for `/settle`.
CREATE TABLE IF NOT EXISTS requests (
  caller TEXT NOT NULL,
  id TEXT NOT NULL,             -- agentRequestId
  digest BLOB NOT NULL,         -- of the payment and what it was offered for
  max_amount TEXT NOT NULL,     -- credits
  expires INTEGER NOT NULL,
  PRIMARY KEY (caller, id)
) STRICT;
CREATE INDEX IF NOT EXISTS requests_old ON requests (expires);

-- Session keys that payments name by their hash.
CREATE TABLE IF NOT EXISTS session_keys (
  network TEXT NOT NULL,
  account BLOB NOT NULL,
  provider TEXT NOT NULL,
  hash BLOB NOT NULL,
  caller TEXT NOT NULL,         -- who registered it, and may remove it
  nonce BLOB NOT NULL,
  sealed BLOB NOT NULL,         -- ChaCha20-Poly1305, bound to the row's name
  PRIMARY KEY (network, account, provider, hash)
) STRICT;
