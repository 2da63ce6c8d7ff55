-- The processes that work lanes, by this database's clock: each takes its share of them.
CREATE TABLE x402_workers (
  owner TEXT PRIMARY KEY,
  since TIMESTAMPTZ NOT NULL,   -- announced since then without a break
  until TIMESTAMPTZ NOT NULL
);
