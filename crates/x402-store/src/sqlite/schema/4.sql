-- Budgets: what each day's payments are counted under, and each payment's part.
CREATE TABLE budget_lines (
  day INTEGER NOT NULL,
  rule TEXT NOT NULL,
  of TEXT NOT NULL,
  used TEXT NOT NULL,               -- a decimal integer
  PRIMARY KEY (day, rule, of)
) STRICT;
CREATE TABLE budget_charges (
  payment BLOB NOT NULL,
  rule TEXT NOT NULL,
  of TEXT NOT NULL,
  day INTEGER NOT NULL,
  measure TEXT NOT NULL CHECK (measure IN ('money', 'gas')),
  amount TEXT NOT NULL,             -- a decimal integer
  PRIMARY KEY (payment, rule)
) STRICT;
CREATE INDEX budget_charges_day ON budget_charges (day);
