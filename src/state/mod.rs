//! All that a tree knows, as bytes, from which another process makes the same tree again.
//!
//! Every type that a tree is made of says in one line, `saved!`, what its fields are. The line takes the type apart and puts
//! it together again, so that a field that it does not name is an error of the compiler. The order of the fields is the order
//! of the bytes. A field that comes later makes a new [`VERSION`], and the line says `since` which version it is there: in a state
//! of an older one it has its default. A state of a newer version is refused, and the process that has saved it goes on.
//!
//! ```text
//! state   version u32 | one value after the other | checksum u32 of all before it
//! value   its fields, one after the other; of an enum, the number of the variant first
//! Arc     0 and the value where it comes first; then its number, counted from 1
//! ```
//!
//! What belongs to the process is not saved but given to the process that makes the tree again (`Restorer::given`): the
//! accounts, into which all charges are entered anew; the journal; descriptors of memory.

mod given;
mod read;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub(crate) use read::{Given, Restorer, restored_alone};
pub(crate) use write::{Saver, alone};

/// Version of the format.
pub const VERSION: u32 = 4;

/// Why no tree can be made from a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It was saved by a program that has a newer format.
    #[error("the state has version {0}, and this program has version {VERSION}")]
    Version(u32),
    /// It is not what was saved.
    #[error("the state is damaged")]
    Damaged,
    /// Its mount has, or has not, what this process has. Says what it is.
    #[error("the state is of a mount with another {0}")]
    Mount(&'static str),
}

/// What can be saved, and made again.
pub(crate) trait Saved: Sized + Send + Sync + 'static {
    /// Appends its bytes.
    fn save(&self, to: &mut Saver<'_>);

    /// The value that the next bytes are. `None` if they are none. Takes no more memory than a small multiple of the bytes.
    fn restore(from: &mut Restorer<'_>) -> Option<Self>;
}

/// Makes a type one that can be saved: with all its fields, or all its variants and their numbers.
macro_rules! saved {
    (struct $name:ident $(<$($of:ident),+>)? {
        $($field:ident $(since $version:literal)?),* $(,)?
    } $(if $fits:expr)?) => {
        impl $(<$($of: $crate::state::Saved),+>)? $crate::state::Saved for $name $(<$($of),+>)? {
            fn save(&self, to: &mut $crate::state::Saver<'_>) {
                let $name { $($field),* } = self;
                $($crate::state::Saved::save($field, to);)*
            }

            fn restore(from: &mut $crate::state::Restorer<'_>) -> Option<Self> {
                $(let $field = $crate::state::saved!(@field from $($version)?);)*
                let restored = $name { $($field),* };
                $(if !$fits(&restored) { return None; })?
                Some(restored)
            }
        }
    };
    (@field $from:ident) => {
        $crate::state::Saved::restore($from)?
    };
    (@field $from:ident $version:literal) => {
        if $from.version() < $version { Default::default() } else { $crate::state::Saved::restore($from)? }
    };
    (struct $name:ident ($($field:ident),*)) => {
        impl $crate::state::Saved for $name {
            fn save(&self, to: &mut $crate::state::Saver<'_>) {
                let $name($($field),*) = self;
                $($crate::state::Saved::save($field, to);)*
            }

            fn restore(from: &mut $crate::state::Restorer<'_>) -> Option<Self> {
                $(let $field = $crate::state::Saved::restore(from)?;)*
                Some($name($($field),*))
            }
        }
    };
    (enum $name:ident {
        $($number:literal = $variant:ident $(($($item:ident),*))? $({ $($field:ident),* $(,)? })?),* $(,)?
    }) => {
        impl $crate::state::Saved for $name {
            fn save(&self, to: &mut $crate::state::Saver<'_>) {
                match self {
                    $($name::$variant $(($($item),*))? $({ $($field),* })? => {
                        to.u8($number);
                        $($($crate::state::Saved::save($item, to);)*)?
                        $($($crate::state::Saved::save($field, to);)*)?
                    })*
                }
            }

            fn restore(from: &mut $crate::state::Restorer<'_>) -> Option<Self> {
                Some(match from.u8()? {
                    $($number => {
                        $($(let $item = $crate::state::Saved::restore(from)?;)*)?
                        $($(let $field = $crate::state::Saved::restore(from)?;)*)?
                        $name::$variant $(($($item),*))? $({ $($field),* })?
                    })*
                    _ => return None,
                })
            }
        }
    };
}
pub(crate) use saved;
