//! Saving.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::{Saved, VERSION};
use crate::codec::Writer;
use crate::segment::Memory;

/// Bytes that are gathered before they are written.
const CHUNK: usize = 1 << 20;

/// Where values are saved.
pub(crate) struct Saver<'a> {
    bytes: Vec<u8>,
    sink: &'a mut dyn io::Write,
    /// Of the first write that failed.
    error: Option<io::Error>,
    checksum: u32,
    /// The numbers of the values that several share, by their addresses.
    shared: HashMap<usize, u64>,
    /// Of segments, in the order of their numbers.
    memories: Vec<Arc<dyn Memory>>,
    /// Their numbers, by their addresses.
    numbers: HashMap<usize, u64>,
}

/// A short value as bytes, from which [`restored_alone`](super::restored_alone) makes it again. They are no state: they have neither
/// version nor checksum.
pub(crate) fn alone<T: Saved>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut to = Saver::empty(&mut bytes);
    value.save(&mut to);
    to.write_out();
    bytes
}

impl<'a> Saver<'a> {
    pub(crate) fn new(sink: &'a mut dyn io::Write) -> Saver<'a> {
        let mut saver = Saver { bytes: Vec::with_capacity(CHUNK), ..Saver::empty(sink) };
        Writer(&mut saver.bytes).raw(&VERSION.to_le_bytes());
        saver
    }

    fn empty(sink: &'a mut dyn io::Write) -> Saver<'a> {
        Saver {
            bytes: Vec::new(),
            sink,
            error: None,
            checksum: 0,
            shared: HashMap::new(),
            memories: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Ends the state. Returns the memory that it has numbered.
    pub(crate) fn finish(mut self) -> io::Result<Vec<Arc<dyn Memory>>> {
        self.write_out();
        Writer(&mut self.bytes).raw(&self.checksum.to_le_bytes());
        self.write_out();
        match self.error {
            Some(error) => Err(error),
            None => self.sink.flush().map(|()| self.memories),
        }
    }

    /// Appends what is short.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer(&mut self.bytes)
    }

    pub(crate) fn u8(&mut self, number: u8) {
        self.writer().u8(number);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.writer().number(number);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.write_some();
        if bytes.len() < CHUNK {
            Writer(&mut self.bytes).raw(bytes);
        } else {
            self.write_out();
            self.put(bytes);
        }
    }

    /// Writes what was gathered, if that is much.
    pub(crate) fn write_some(&mut self) {
        if self.bytes.len() >= CHUNK {
            self.write_out();
        }
    }

    /// Saves what is at this address, with `save`; but if that was done before, only its number.
    pub(crate) fn share(&mut self, address: usize, save: impl FnOnce(&mut Saver<'a>)) {
        if let Some(number) = self.shared.get(&address) {
            let number = *number;
            return self.number(number);
        }
        self.number(0);
        save(self);
        // Numbered when it is complete, as it is when it is made again.
        let number = self.shared.len() as u64 + 1;
        self.shared.insert(address, number);
    }

    /// The number of a segment's memory, whose descriptor goes to the other process beside the bytes.
    pub(crate) fn memory(&mut self, memory: &Arc<dyn Memory>) {
        let memories = &mut self.memories;
        let number = *self.numbers.entry(Arc::as_ptr(memory).addr()).or_insert_with(|| {
            memories.push(Arc::clone(memory));
            memories.len() as u64 - 1
        });
        self.number(number);
    }

    fn write_out(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.put(&bytes);
        self.bytes = bytes;
        self.bytes.clear();
    }

    fn put(&mut self, bytes: &[u8]) {
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        if self.error.is_none() {
            self.error = self.sink.write_all(bytes).err();
        }
    }
}
