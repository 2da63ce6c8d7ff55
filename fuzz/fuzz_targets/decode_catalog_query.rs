#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| x402_store::fuzz::decode_catalog_query(data));
