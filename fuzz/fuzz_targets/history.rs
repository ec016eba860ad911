//! The histories of `tests/model.rs`, made by the fuzzer: requests as a kernel sends them, each answer checked against a
//! ledger of names, references and waits; and after those, if the first byte says so, requests as none would.
//!
//! The input: a byte of options, then six bytes a request.
#![no_main]

#[path = "../../tests/model/plain.rs"]
mod plain;
#[path = "../../tests/model/script.rs"]
mod script;
#[path = "../../tests/model/world.rs"]
mod world;

use script::{Step, perform, perform_garbage};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((options, bytes)) = bytes.split_first() else { return };
    // How much of it is orderly: all, or up to here.
    let orderly = if options & 1 == 0 { usize::MAX } else { usize::from(options >> 2) };
    let mut world = world::World::new();
    for (index, chunk) in bytes.chunks_exact(6).enumerate() {
        let [what, who, a, b, low, high] = *chunk else { unreachable!() };
        let step = Step { what, who, a, b, c: u16::from_le_bytes([low, high]) };
        if index < orderly { perform(&mut world, step) } else { perform_garbage(&mut world, step) }
    }
    world.finish(options & 2 != 0);
});
