#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| x402_types::fuzz::roundtrip_scalars(data));
