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
CREATE FUNCTION x402_note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM x402_ended_switch) THEN
    INSERT INTO x402_ended (due, tries, row) VALUES (0, 0, NEW.row);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER x402_note_end AFTER UPDATE OF due ON x402_payments
  FOR EACH ROW WHEN (OLD.due IS NOT NULL AND NEW.due IS NULL) EXECUTE FUNCTION x402_note_end();
