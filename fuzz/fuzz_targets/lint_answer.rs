#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| x402_validate::fuzz::lint_answer(data));
