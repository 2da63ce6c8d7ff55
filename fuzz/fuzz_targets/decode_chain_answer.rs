#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| x402_evm::fuzz::decode_chain_answer(data));
