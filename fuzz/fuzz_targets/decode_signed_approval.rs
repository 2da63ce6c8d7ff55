#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| x402_evm::fuzz::decode_signed_approval(data));
