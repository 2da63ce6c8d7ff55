-- The catalog of resources that were paid, and the words by which they are found.

CREATE TABLE listings (
  id INTEGER PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL,
  network TEXT NOT NULL,
  scheme TEXT NOT NULL,
  pay_to TEXT NOT NULL,         -- in lower case
  listing TEXT NOT NULL,        -- JSON
  updated INTEGER NOT NULL
) STRICT;
CREATE INDEX listings_newest ON listings (updated DESC, id DESC);

CREATE VIRTUAL TABLE listing_words USING fts5(text, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2');
