//! How records stand in a file: each in a *frame*, with a checksum.
//!
//! ```text
//! file   header (64 bytes), then frames one after the other, then zeros
//! frame  checksum u32 | length of the record u32 | low half of its position u32 | record | zeros up to a multiple of 4
//! ```
//!
//! The checksum (CRC-32C) is of the store's seed, the number of the file, the place in the file, and everything behind it. So
//! bytes of another file, or of a message's body, are no frame. Behind bytes that are no frame the next one is looked for at
//! each multiple of 4.

/// Bytes of a file's header.
pub(super) const HEADER: usize = 64;
/// Bytes of a frame beside its record.
const FRAME: usize = 12;
/// Multiple at which frames begin.
const UNIT: usize = 4;

const MAGIC: [u8; 8] = *b"ipcfslog";
/// Version of the format. A store of another version is left alone.
const VERSION: u32 = 1;

/// What the checksums of a file begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    /// A random number of the store.
    pub(super) seed: u128,
    /// The number of the file.
    pub(super) file: u64,
}

/// The header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) seal: Seal,
    /// A position near those of the records in the file: that of the next record when the file was made.
    pub(super) near: u64,
}

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Version(u32),
}

/// A frame that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) position: u64,
    pub(super) offset: usize,
    /// In the file, in bytes.
    pub(super) length: usize,
    pub(super) record: &'a [u8],
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        self.encode_as(VERSION)
    }

    /// Each version has the checksum here, so that damage is told from another version.
    pub(super) fn encode_as(&self, version: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let fields = [
            &MAGIC[..],
            &version.to_le_bytes(),
            &[0; 4],
            &self.seal.seed.to_le_bytes(),
            &self.seal.file.to_le_bytes(),
            &self.near.to_le_bytes(),
        ];
        let fields = fields.concat();
        let sum = crc32c::crc32c(&fields).to_le_bytes();
        for (to, from) in bytes.iter_mut().zip(fields.iter().chain(&sum)) {
            *to = *from;
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, BadHeader> {
        let at = |from: usize, to: usize| bytes.get(from..to).ok_or(BadHeader::Damaged);
        if at(0, 8)? != MAGIC {
            return Err(BadHeader::Damaged);
        }
        let version = number(at(8, 12)?) as u32;
        let sum = crc32c::crc32c(at(0, 48)?);
        if u64::from(sum) != number(at(48, 52)?) {
            return Err(BadHeader::Damaged);
        }
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let seed = u128::from(number(at(16, 24)?)) | u128::from(number(at(24, 32)?)) << 64;
        let seal = Seal { seed, file: number(at(32, 40)?) };
        Ok(Header { seal, near: number(at(40, 48)?) })
    }
}

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Bytes that a record of `length` bytes takes in a file.
pub(super) fn size(length: usize) -> usize {
    (FRAME + length).next_multiple_of(UNIT)
}

impl Seal {
    /// Appends a frame to `bytes`, which begin at `start` in the file. `encode` appends the record.
    pub(super) fn append(
        &self,
        bytes: &mut Vec<u8>,
        start: u64,
        position: u64,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let at = bytes.len();
        bytes.extend_from_slice(&[0; FRAME]);
        encode(bytes);
        let length = (bytes.len() - at - FRAME) as u32;
        put(bytes, at + 4, length);
        put(bytes, at + 8, position as u32);
        let sum = self.sum(start + at as u64, bytes.get(at + 4..).unwrap_or_default());
        put(bytes, at, sum);
        bytes.resize(bytes.len().next_multiple_of(UNIT), 0);
    }

    /// The checksum of what stands at `offset`, without the checksum itself.
    fn sum(&self, offset: u64, rest: &[u8]) -> u32 {
        let sum = crc32c::crc32c(&self.seed.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &self.file.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &offset.to_le_bytes());
        crc32c::crc32c_append(sum, rest)
    }

    /// The record of a frame whose bytes stand at `offset`.
    pub(super) fn record_at<'a>(&self, frame: &'a [u8], offset: u64) -> Option<&'a [u8]> {
        let length = number(frame.get(4..8)?) as usize;
        let rest = frame.get(4..FRAME.checked_add(length)?)?;
        (u64::from(self.sum(offset, rest)) == number(frame.get(..4)?)).then(|| rest.get(8..))?
    }

    /// The frame at `offset` of a file, if there is one. `near` is a position close to its own.
    pub(super) fn frame<'a>(&self, file: &'a [u8], offset: usize, near: u64) -> Option<Frame<'a>> {
        let head = file.get(offset..offset.checked_add(FRAME)?)?;
        let length = number(head.get(4..8)?) as usize;
        // No record is empty, and zeros are no frame.
        let end = offset.checked_add(FRAME)?.checked_add(length)?;
        let rest = file.get(offset + 4..end).filter(|_| length > 0)?;
        if u64::from(self.sum(offset as u64, rest)) != number(head.get(..4)?) {
            return None;
        }
        let low = number(head.get(8..12)?) as u32;
        let position = near.checked_add_signed(i64::from(low.wrapping_sub(near as u32) as i32))?;
        Some(Frame { position, offset, length: size(length), record: rest.get(8..)? })
    }
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    for (to, from) in bytes.iter_mut().skip(at).zip(number.to_le_bytes()) {
        *to = from;
    }
}

/// The frames of a file, from its beginning, whatever is between them.
pub(super) struct Frames<'a> {
    header: Header,
    file: &'a [u8],
    offset: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn new(header: Header, file: &'a [u8]) -> Frames<'a> {
        Frames { header, file, offset: HEADER }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        loop {
            if let Some(frame) = self.header.seal.frame(self.file, self.offset, self.header.near) {
                self.header.near = frame.position;
                self.offset = frame.offset + frame.length;
                return Some(frame);
            }
            // Zeros are passed over fast: there is a whole segment of them behind the last frame.
            let rest = self.file.get(self.offset + UNIT..)?;
            let skipped = rest.iter().position(|byte| *byte != 0)?;
            self.offset += UNIT + skipped / UNIT * UNIT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEAL: Seal = Seal { seed: 77, file: 3 };

    fn header() -> Header {
        Header { seal: SEAL, near: (7 << 32) - 1 }
    }

    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = header().encode().to_vec();
        for (n, record) in records.iter().enumerate() {
            SEAL.append(&mut bytes, 0, header().near + n as u64, |to| to.extend_from_slice(record));
        }
        bytes.resize(bytes.len() + 100, 0);
        bytes
    }

    fn found(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
        Frames::new(header(), file).map(|frame| (frame.position, frame.record.to_vec())).collect()
    }

    #[test]
    fn a_header_reads_back() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
        assert_eq!(Header::decode(&header().encode_as(2)), Err(BadHeader::Version(2)));
        for at in [0, 8, 20, 33, 41, 49] {
            let mut broken = header().encode();
            broken[at] ^= 1;
            assert_eq!(Header::decode(&broken), Err(BadHeader::Damaged), "{at}");
        }
        assert_eq!(Header::decode(b""), Err(BadHeader::Damaged));
    }

    #[test]
    fn frames_read_back_with_their_positions() {
        let first = header().near;
        let all = found(&file(&[b"one", b"", b"three"]));
        assert_eq!(
            all,
            [(first, b"one".to_vec()), (first + 2, b"three".to_vec())],
            "an empty record is none"
        );
    }

    #[test]
    fn a_frame_counts_only_in_its_place() {
        let whole = file(&[b"one"]);
        let mut moved = header().encode().to_vec();
        moved.extend_from_slice(&[0; 4]);
        moved.extend_from_slice(&whole[HEADER..]);
        assert_eq!(found(&moved), []);
        let other = Header { seal: Seal { file: 4, ..SEAL }, ..header() };
        assert_eq!(Frames::new(other, &whole).count(), 0);
    }

    proptest! {
        /// Whatever one byte becomes, only the frame that it is in is lost.
        #[test]
        fn damage_loses_one_frame(lengths in prop::collection::vec(1usize..60, 1..12), at: prop::sample::Index, bits in 1u8..) {
            let records: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, length)| vec![n as u8; *length]).collect();
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let mut bytes = file(&records);
            let all = found(&bytes);
            let at = HEADER + at.index(bytes.len() - HEADER);
            bytes[at] ^= bits;
            let left = found(&bytes);
            prop_assert!(left.len() + 1 >= all.len());
            prop_assert!(left.iter().all(|frame| all.contains(frame)));
        }

        #[test]
        fn any_bytes_are_searched(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Frames::new(header(), &bytes).count(), 0);
        }
    }
}
