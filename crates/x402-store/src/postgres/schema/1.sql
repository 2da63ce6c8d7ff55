-- Rows are JSON: the settlement machine owns their meaning. Beside them stand the columns that are looked up.
CREATE TABLE x402_payments (
  key BYTEA PRIMARY KEY,
  lane TEXT NOT NULL,
  version BIGINT NOT NULL,
  due BIGINT,                   -- seconds; NULL once it is answered
  ready BOOLEAN NOT NULL,       -- its newest step waits for a carrier
  keep_until BIGINT NOT NULL,   -- seconds; not deleted before
  row TEXT NOT NULL
);
CREATE INDEX x402_payments_due ON x402_payments (lane, due, key) WHERE due IS NOT NULL;
CREATE INDEX x402_payments_ready ON x402_payments (lane, due, key) WHERE ready;
CREATE INDEX x402_payments_open ON x402_payments (key) WHERE due IS NOT NULL;
CREATE INDEX x402_payments_old ON x402_payments (keep_until, key) WHERE due IS NULL;

-- One live step a once key.
CREATE TABLE x402_once_keys (
  once_key BYTEA PRIMARY KEY,
  payment BYTEA NOT NULL
);

CREATE TABLE x402_slots (
  lane TEXT NOT NULL,
  nonce BIGINT NOT NULL,
  version BIGINT NOT NULL,
  used BOOLEAN NOT NULL,
  row TEXT NOT NULL,
  PRIMARY KEY (lane, nonce)
);
CREATE INDEX x402_slots_open ON x402_slots (lane, nonce) WHERE NOT used;

-- The worker of each lane, by this database's clock.
CREATE TABLE x402_leases (
  lane TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  fence BIGINT NOT NULL,        -- counts the owners
  until TIMESTAMPTZ NOT NULL
);
-- The newest fence of each lane. Every commit of a worker locks its row, and a new owner changes it; a renewal of the
-- lease does not, so that it never waits for a commit.
CREATE TABLE x402_fences (
  lane TEXT PRIMARY KEY,
  fence BIGINT NOT NULL
);
-- The first account nonce of each lane that was never given to a slot.
CREATE TABLE x402_nonces (
  lane TEXT PRIMARY KEY,
  next BIGINT NOT NULL
);

-- What a resource server has granted: a payment pays for one answer.
CREATE TABLE x402_grants (
  key BYTEA PRIMARY KEY,
  state TEXT NOT NULL CHECK (state IN ('open', 'pending', 'granted')),
  request TEXT NOT NULL,        -- only the same request takes up a pending one
  holder TEXT,                  -- the process whose request has the payment now
  lock BIGINT NOT NULL          -- counts the claims of that process
);
CREATE INDEX x402_grants_open ON x402_grants (key) WHERE state = 'open';
-- The processes that hold grants. What a process held is free once its time is over, by this database's clock.
CREATE TABLE x402_grant_holders (
  holder TEXT PRIMARY KEY,
  until TIMESTAMPTZ NOT NULL
);

-- The x402.v1 dialect: challenges that were issued, and the payment that holds or paid each.
CREATE TABLE x402_challenges (
  id TEXT PRIMARY KEY,
  row TEXT NOT NULL,            -- the challenge as it was sent, JSON
  issued_at BIGINT NOT NULL,    -- seconds, as every time of these tables
  expires_at BIGINT NOT NULL,
  keep_until BIGINT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'held', 'paid')),
  fence BIGINT NOT NULL,        -- counts the holds
  nonce TEXT,                   -- the payment's; NULL while it is open
  digest BYTEA,                 -- the payment's
  held_until BIGINT NOT NULL,
  resume_until BIGINT NOT NULL,
  forget_after BIGINT NOT NULL
);
-- A nonce is used once over all challenges.
CREATE UNIQUE INDEX x402_challenges_nonce ON x402_challenges (nonce) WHERE nonce IS NOT NULL;
CREATE INDEX x402_challenges_old ON x402_challenges (forget_after);

-- What was proven once and for all. Kept for good, and with it what was paid back of it.
CREATE TABLE x402_proofs (
  key TEXT PRIMARY KEY,
  refundable TEXT NOT NULL,     -- atomic units
  refund TEXT,                  -- network, token, recipient, amount, time: one a line
  receipt TEXT                  -- NULL until the refund was made
);

CREATE TABLE x402_entitlements (
  token BYTEA PRIMARY KEY,      -- its hash
  resource TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  uses BIGINT                   -- left; NULL: as often as wanted
);
CREATE INDEX x402_entitlements_old ON x402_entitlements (expires_at);

CREATE TABLE x402_meters (
  id TEXT PRIMARY KEY,          -- the challenge's
  challenge TEXT NOT NULL,      -- JSON
  payment TEXT NOT NULL,        -- JSON
  issued_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  keep_until BIGINT NOT NULL,
  used TEXT NOT NULL,           -- atomic units
  state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'settled', 'refused')),
  touched_at BIGINT NOT NULL
);
CREATE INDEX x402_meters_open ON x402_meters (touched_at, id) WHERE state IN ('open', 'closed');
CREATE INDEX x402_meters_old ON x402_meters (keep_until) WHERE state IN ('settled', 'refused');

-- What `/verify` remembers of a request for `/settle`.
CREATE TABLE x402_requests (
  caller TEXT NOT NULL,
  id TEXT NOT NULL,
  digest BYTEA NOT NULL,        -- of the payment and what it was offered for
  max_amount TEXT NOT NULL,
  expires BIGINT NOT NULL,
  PRIMARY KEY (caller, id)
);
CREATE INDEX x402_requests_old ON x402_requests (expires);

-- Session keys that payments name by their hash.
CREATE TABLE x402_session_keys (
  network TEXT NOT NULL,
  account BYTEA NOT NULL,
  provider TEXT NOT NULL,
  hash BYTEA NOT NULL,
  caller TEXT NOT NULL,         -- who registered it, and may remove it
  nonce BYTEA NOT NULL,
  sealed BYTEA NOT NULL,        -- ChaCha20-Poly1305, bound to the row's name
  PRIMARY KEY (network, account, provider, hash)
);
