//! Any sequence of requests, as a kernel gone mad might send them, is answered: each at most once, none twice.
//!
//! The input is cut into requests: a length byte, then that many bytes after a header made from the next few.
#![no_main]

use std::collections::HashSet;
use std::sync::Arc;

use ipcfs::config::Limits;
use ipcfs::kernel::request::decode;
use ipcfs::op::{Effect, Effects, Now};
use ipcfs::sys::memfd::Memfd;
use ipcfs::tree::{Setup, Tree};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut limits = Limits::for_machine(1 << 24);
    limits.max_files = 64;
    let setup = Setup {
        limits,
        ceiling: 4096,
        uid: 0,
        gid: 0,
        shared: true,
        backing: None,
        transport: "none",
        scheduling: None,
        threads: 1,
        descriptors: 1000,
        pid: 1,
        journal: None,
        engine: false,
    };
    let make_memory = || Memfd::new().map(|memory| Arc::new(memory) as Arc<dyn ipcfs::segment::Memory>);
    let tree = Tree::new(setup, std::sync::Arc::new(make_memory), Now::same(0));
    let (mut fx, mut answered, mut rest, mut unique) = (Effects::new(), HashSet::new(), bytes, 0_u64);
    while let [length, opcode, node, more @ ..] = rest {
        let (body, next) = more.split_at((*length as usize).min(more.len()));
        rest = next;
        unique += 2;
        let mut request = ((40 + body.len()) as u32).to_le_bytes().to_vec();
        request.extend_from_slice(&u32::from(*opcode).to_le_bytes());
        request.extend_from_slice(&unique.to_le_bytes());
        request.extend_from_slice(&u64::from(*node).to_le_bytes());
        request.extend_from_slice(&[0; 16]);
        request.extend_from_slice(body);
        if let Ok(request) = decode(&request, 0) {
            tree.handle(&request, Now::same(unique), &mut fx);
            tree.work(Now::same(unique), &mut fx);
        }
        for effect in fx.drain() {
            if let Effect::Reply(request_id, _) = effect {
                assert!(answered.insert(request_id.unique), "request {} was answered twice", request_id.unique);
            }
        }
    }
    tree.end(Now::same(unique), &mut fx);
    while tree.work(Now::same(unique), &mut fx) {}
    for effect in fx.drain() {
        if let Effect::Reply(request_id, _) = effect {
            assert!(answered.insert(request_id.unique), "request {} was answered twice", request_id.unique);
        }
    }
});
