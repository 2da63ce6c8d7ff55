-- Payments that have their end, until whoever is told of it has taken it. Nothing is noted while the switch has no row.
CREATE TABLE ended_switch (
  noting INTEGER PRIMARY KEY NOT NULL CHECK (noting = 1)
) STRICT;
CREATE TABLE ended (
  seq INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,  -- never used twice
  due INTEGER NOT NULL,             -- seconds; not told before
  tries INTEGER NOT NULL,
  row TEXT NOT NULL                 -- the payment's row as of its end
) STRICT;
CREATE INDEX ended_due ON ended (due, seq);
CREATE TRIGGER note_end AFTER UPDATE OF due ON payments
  WHEN OLD.due IS NOT NULL AND NEW.due IS NULL AND EXISTS (SELECT 1 FROM ended_switch)
BEGIN
  INSERT INTO ended (due, tries, row) VALUES (0, 0, NEW.row);
END;
