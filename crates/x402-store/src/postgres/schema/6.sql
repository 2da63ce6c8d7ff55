-- A resource has a listing for each account that was paid for it on a network, so that nobody's payment to another account
-- replaces one.
ALTER TABLE x402_listings DROP CONSTRAINT x402_listings_identity_key;
ALTER TABLE x402_listings ADD CONSTRAINT x402_listings_of_an_account UNIQUE (identity, network, pay_to);
