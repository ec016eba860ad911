//! Messages between processes that keep their ends open, and one that opens them each time.

use anyhow::Result;

use super::{Context, grouped};
use crate::launch::{self, alone, exchange};
use crate::model::Samples;
use crate::peers::Shape;
use crate::worker::Task;

/// The last is the largest that all peers take: NATS ends at 1,048,576 bytes, ipcfs at 1,044,480.
const SIZES: [(usize, &str); 4] = [(64, "64 B"), (4096, "4 KiB"), (65_536, "64 KiB"), (1_000_000, "1 MB")];

const SMALL: usize = 64;

pub(super) fn one_way(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for (size, point) in SIZES {
        context.measure(("oneway", point, size as f64), Shape::two(size), samples, |peer| {
            exchange(peer, context.settings, size, 1, 1)
        })?;
    }
    Ok(())
}

pub(super) fn round_trip(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for (size, point) in SIZES {
        context.measure(("roundtrip", point, size as f64), Shape::two(size), samples, |peer| {
            launch::round_trip(peer, context.settings, size)
        })?;
    }
    Ok(())
}

pub(super) fn pair(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for (size, point) in SIZES {
        let shape = Shape { alone: true, ..Shape::two(size) };
        context.measure(("pair", point, size as f64), shape, samples, |peer| {
            alone(peer, context.settings, size, Task::Pair)
        })?;
    }
    Ok(())
}

pub(super) fn open(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let shape = Shape { alone: true, opened_each: true, ..Shape::two(SMALL) };
    context.measure(("open", "64 B", SMALL as f64), shape, samples, |peer| {
        alone(peer, context.settings, SMALL, Task::Open)
    })
}

pub(super) fn many(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for (senders, receivers) in [(1, 1), (2, 2), (8, 8), (8, 1), (1, 8)] {
        let point = format!("{senders} to {receivers}");
        let shape = Shape { shared: true, ..Shape::two(SMALL) };
        context.measure(("many", &point, (senders + receivers) as f64), shape, samples, |peer| {
            exchange(peer, context.settings, SMALL, senders, receivers)
        })?;
    }
    Ok(())
}

pub(super) fn cpus(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let cpus: Vec<usize> = (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    for count in [1, cpus.len()] {
        let point = format!("{} CPU{}", grouped(count), if count == 1 { "" } else { "s" });
        for peer in context.in_turn() {
            context.go_on(&format!("{point}: {}", crate::peers::name(peer.id)))?;
            let shape = Shape { alone: true, ..Shape::two(SMALL) };
            if peer.unfit(shape).is_some() {
                continue;
            }
            match launch::side_by_side(peer, context.settings, SMALL, &cpus[..count]) {
                Ok(time) => samples.add("cpus", (&point, count as f64), peer.id, "time", time),
                Err(error) => {
                    context.go_on("")?;
                    samples.leave_out(&format!("cpus {point}"), peer.id, format!("{error:#}"));
                }
            }
        }
    }
    Ok(())
}
