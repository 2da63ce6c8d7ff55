-- The answers that a seller gave to named requests, so that each gets its answer again.
CREATE TABLE x402_kept_answers (
  request TEXT PRIMARY KEY,
  answer BYTEA NOT NULL,        -- status, header lines and body
  kept BIGINT NOT NULL          -- seconds
);
CREATE INDEX x402_kept_answers_oldest ON x402_kept_answers (kept);
