//! Whatever a store says, it is read, and what is read stays when it is written again (`tests/durable/forge.rs`).
#![no_main]

#[path = "../../tests/durable/forge.rs"]
mod forge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| forge::check(bytes));
