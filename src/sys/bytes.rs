//! Shared bytes that are filled in steps. The standard library makes an `Arc<[u8]>` from a `Vec` in one go only.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::Arc;

/// Memory for shared bytes, of which the first `filled` are written.
#[derive(Debug)]
pub struct Filling {
    bytes: Arc<[MaybeUninit<u8>]>,
    filled: usize,
}

impl Filling {
    /// Memory for `length` bytes.
    pub fn new(length: usize) -> Filling {
        Filling { bytes: Arc::new_uninit_slice(length), filled: 0 }
    }

    /// How many bytes are written.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Writes the next bytes. Those for which there is no room are left out.
    pub fn append(&mut self, bytes: &[u8]) {
        let room = Arc::get_mut(&mut self.bytes).and_then(|all| all.get_mut(self.filled..));
        for (place, byte) in room.unwrap_or_default().iter_mut().zip(bytes) {
            place.write(*byte);
            self.filled += 1;
        }
    }

    /// The bytes, once all are written.
    ///
    /// # Errors
    /// Itself, if some are missing.
    pub fn finish(self) -> Result<Arc<[u8]>, Filling> {
        if self.filled < self.bytes.len() {
            return Err(self);
        }
        // SAFETY: `append` has written `filled` bytes from the first one on without a gap, which are all of them.
        Ok(unsafe { self.bytes.assume_init() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shared_once_all_are_written() {
        let mut filling = Filling::new(5);
        filling.append(b"abc");
        let mut filling = filling.finish().unwrap_err();
        assert_eq!(filling.filled(), 3);
        filling.append(b"defg");
        assert_eq!(*filling.finish().unwrap(), *b"abcde");
        assert_eq!(*Filling::new(0).finish().unwrap(), *b"");
    }
}
