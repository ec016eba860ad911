//! Tables by numbers that nobody outside chooses: the tree's own, and the kernel's of its requests.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by such numbers, for which the standard library's protection against chosen keys would cost most of a look-up.
pub(crate) type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Spreads a number's bits over all of a hash.
#[derive(Debug, Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio. Both halves of the product together depend on all bits of the number.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ number) * u128::from(FACTOR);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::Mixer;

    /// A table looks at the low bits for a place, and at the highest seven to tell those in one place apart.
    #[test]
    fn numbers_in_a_row_and_in_steps_are_spread() {
        for step in [1, 2, 64, 4096, 1 << 32, 1 << 50] {
            let hashes = (0..1024u64).map(|n| BuildHasherDefault::<Mixer>::default().hash_one(n * step));
            let (mut low, mut high) = (HashSet::new(), HashSet::new());
            for hash in hashes {
                low.insert(hash & 1023);
                high.insert(hash >> 57);
            }
            // At random some 630 of 1,024 places are taken.
            assert!(low.len() > 500, "step {step}: {} places", low.len());
            assert!(high.len() > 100, "step {step}: {} tags", high.len());
        }
    }
}
