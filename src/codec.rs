//! Numbers, strings of bytes and the words of `op`, as bytes: what the journal's records and a saved tree are made of.
//!
//! Numbers have seven bits in each byte, the lowest first, and the eighth bit says that more follow. Strings of bytes have
//! their length before them.

use crate::op::{Caller, FileTime, Ino, Timestamp};

/// Appends to bytes.
#[derive(Debug)]
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, number: u8) -> &mut Self {
        self.0.push(number);
        self
    }

    pub(crate) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        let mut rest = number.into();
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.u8(rest as u8)
    }

    /// In eight bytes, the lowest first, because the number is always great.
    pub(crate) fn time(&mut self, time: Timestamp) -> &mut Self {
        self.raw(&time.0.to_le_bytes())
    }

    pub(crate) fn file_time(&mut self, time: FileTime) -> &mut Self {
        self.raw(&time.seconds.to_le_bytes()).raw(&time.nanos.to_le_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64).raw(bytes)
    }

    pub(crate) fn caller(&mut self, caller: Caller) -> &mut Self {
        self.number(caller.uid).number(caller.gid).number(caller.pid)
    }
}

/// Reads from bytes. `None` where they end, or are not what is asked for.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return T::try_from(number).ok();
            }
        }
        None
    }

    pub(crate) fn ino(&mut self) -> Option<Ino> {
        self.number().map(Ino)
    }

    pub(crate) fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp(u64::from_le_bytes(self.take(8)?.try_into().ok()?)))
    }

    pub(crate) fn file_time(&mut self) -> Option<FileTime> {
        let seconds = i64::from_le_bytes(self.take(8)?.try_into().ok()?);
        let nanos = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        (nanos < 1_000_000_000).then_some(FileTime { seconds, nanos })
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.take(count)
    }

    pub(crate) fn caller(&mut self) -> Option<Caller> {
        Some(Caller { uid: self.number()?, gid: self.number()?, pid: self.number()? })
    }
}
