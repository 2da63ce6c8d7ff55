-- The catalog of resources that were paid, and the words by which they are found.
CREATE TABLE x402_listings (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  identity BYTEA NOT NULL UNIQUE, -- its SHA-256, since a text may be longer than an index takes
  type TEXT NOT NULL,
  network TEXT NOT NULL,
  scheme TEXT NOT NULL,
  pay_to TEXT NOT NULL,         -- in lower case
  listing TEXT NOT NULL,        -- JSON
  words TSVECTOR NOT NULL,
  updated BIGINT NOT NULL       -- seconds
);
CREATE INDEX x402_listings_newest ON x402_listings (updated DESC, id DESC);
CREATE INDEX x402_listings_words ON x402_listings USING GIN (words);
