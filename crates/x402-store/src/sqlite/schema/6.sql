-- A resource has a listing for each account that was paid for it on a network, so that nobody's payment to another account
-- replaces one. Rows are numbered anew, in the order of their payments.
CREATE TABLE listings_new (
  id INTEGER PRIMARY KEY,       -- grows with each payment that is listed
  identity TEXT NOT NULL,       -- the kind, the method or the tool, and the URL
  type TEXT NOT NULL,
  network TEXT NOT NULL,
  scheme TEXT NOT NULL,
  pay_to TEXT NOT NULL,         -- in lower case
  listing TEXT NOT NULL,        -- JSON
  updated INTEGER NOT NULL,
  UNIQUE (identity, network, pay_to)
) STRICT;
INSERT INTO listings_new (id, identity, type, network, scheme, pay_to, listing, updated)
  SELECT row_number() OVER (ORDER BY updated, id), identity, type, network, scheme, pay_to, listing, updated FROM listings;
DROP TABLE listings;
ALTER TABLE listings_new RENAME TO listings;
CREATE INDEX listings_newest ON listings (updated DESC, id DESC);

-- The words again, with an index of the beginnings of one and two letters, which otherwise are the words of half of the rows.
DROP TABLE listing_words;
CREATE VIRTUAL TABLE listing_words USING fts5(text, content='', contentless_delete=1, prefix='1 2', tokenize='unicode61 remove_diacritics 2');
INSERT INTO listing_words (rowid, text)
  SELECT id, concat_ws(' ', listing ->> '$.resource', listing ->> '$.serviceName', listing ->> '$.description', listing ->> '$.toolName',
    (SELECT group_concat(value, ' ') FROM json_each(listing, '$.tags')))
  FROM listings;
