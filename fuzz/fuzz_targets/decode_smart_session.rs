#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| x402_erc4337::fuzz::decode_smart_session(data));
