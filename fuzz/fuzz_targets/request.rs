//! Any bytes from the device give a request or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = ipcfs::kernel::request::decode(bytes, 0);
});
