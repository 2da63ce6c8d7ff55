-- Payments that have their end, until whoever is told of it has taken it. Nothing is noted while the switch has no row.
CREATE TABLE x402_ended_switch (
  noting INTEGER PRIMARY KEY CHECK (noting = 1)
);
CREATE TABLE x402_ended (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  due BIGINT NOT NULL,          -- seconds; not told before
  tries BIGINT NOT NULL,
  row TEXT NOT NULL             -- the payment's row as of its end
);
CREATE INDEX x402_ended_due ON x402_ended (due, seq);
