-- Budgets: what each day's payments are counted under, and each payment's part.
CREATE TABLE x402_budget_lines (
  day BIGINT NOT NULL,
  rule TEXT NOT NULL,
  of TEXT NOT NULL,
  used NUMERIC NOT NULL,
  PRIMARY KEY (day, rule, of)
);
CREATE TABLE x402_budget_charges (
  payment BYTEA NOT NULL,
  rule TEXT NOT NULL,
  of TEXT NOT NULL,
  day BIGINT NOT NULL,
  measure TEXT NOT NULL CHECK (measure IN ('money', 'gas')),
  amount NUMERIC NOT NULL,
  PRIMARY KEY (payment, rule)
);
CREATE INDEX x402_budget_charges_day ON x402_budget_charges (day);
