-- The answers that a seller gave to named requests, so that each gets its answer again.
CREATE TABLE kept_answers (
  request TEXT PRIMARY KEY,
  answer BLOB NOT NULL,         -- status, header lines and body
  kept INTEGER NOT NULL         -- seconds
) STRICT;
CREATE INDEX kept_answers_oldest ON kept_answers (kept);
