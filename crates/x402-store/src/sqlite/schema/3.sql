-- Payments by delegated cards, `nvm:card-delegation`. No card number, security code or expiry has a column.
CREATE TABLE card_customers (
  user TEXT PRIMARY KEY NOT NULL,
  customer TEXT NOT NULL
) STRICT;

CREATE TABLE cards (
  method TEXT PRIMARY KEY NOT NULL,
  user TEXT NOT NULL,
  customer TEXT NOT NULL,
  brand TEXT NOT NULL,
  last4 TEXT NOT NULL,
  removed INTEGER NOT NULL CHECK (removed IN (0, 1)),
  place INTEGER NOT NULL            -- the order in which cards were enrolled
) STRICT;
CREATE INDEX cards_user ON cards (user, place);

CREATE TABLE card_delegations (
  id TEXT PRIMARY KEY NOT NULL,
  owner TEXT NOT NULL,
  api_key TEXT,
  processor TEXT NOT NULL,
  customer TEXT NOT NULL,
  method TEXT NOT NULL,
  currency TEXT NOT NULL,
  limit_cents INTEGER NOT NULL,
  max_charges INTEGER,
  plan TEXT,
  merchant TEXT,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER,
  spent_cents INTEGER NOT NULL CHECK (spent_cents BETWEEN 0 AND limit_cents),
  charges INTEGER NOT NULL CHECK (charges >= 0),
  place INTEGER NOT NULL            -- the order of creation
) STRICT;
CREATE INDEX card_delegations_owner ON card_delegations (owner, place);
CREATE INDEX card_delegations_method ON card_delegations (method);

CREATE TABLE card_charges (
  payment BLOB PRIMARY KEY NOT NULL, -- SHA-256 of the payment's key
  delegation TEXT NOT NULL REFERENCES card_delegations (id),
  cents INTEGER NOT NULL,
  state TEXT NOT NULL,              -- counted, released, or refused with its reason
  at INTEGER NOT NULL,
  result TEXT,                      -- what became of it; nothing is decided by it
  intent TEXT,
  refund TEXT,
  failure TEXT,
  place INTEGER NOT NULL
) STRICT;
CREATE INDEX card_charges_delegation ON card_charges (delegation, place);

-- The books of credits: a move acts once for its id, and is kept with what it did.
CREATE TABLE card_credits (
  plan TEXT NOT NULL,
  holder TEXT NOT NULL,
  balance INTEGER NOT NULL CHECK (balance BETWEEN 0 AND 9007199254740991),
  PRIMARY KEY (plan, holder)
) STRICT;
CREATE TABLE card_moves (
  id TEXT PRIMARY KEY NOT NULL,
  plan TEXT NOT NULL,
  holder TEXT NOT NULL,
  credits INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('mint', 'burn')),
  made INTEGER NOT NULL CHECK (made IN (0, 1))
) STRICT;
