//! Who and what waits: requests, for whatever ends them; files, for a time, for memory, or for the end of their last
//! mapping. All of it is generic over what waits; so this folder imports nothing of `names` and `kinds`, but for tables by number.

pub(crate) mod alarms;
pub(crate) mod index;
pub(crate) mod orphans;
pub(crate) mod ring_reads;
pub(crate) mod starved;
pub(crate) mod totals;
pub(crate) mod work;
