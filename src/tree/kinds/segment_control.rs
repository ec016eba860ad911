//! What `control/` shows of a segment.

use std::sync::Arc;

use super::control::{ControlNode, Other, Slot, TextFile, refusal_noted, table_file};
use super::doorbell::{Doorbell, DoorbellFile};
use super::segment::SegmentFile;
use super::{ControlOps, Cx, Inode, Names};
use crate::control::{DOORBELL, SEGMENT, SegmentView};
use crate::op::{Attr, Caller, Error};

impl ControlOps for Arc<SegmentFile> {
    fn owner(&self, _: &Names) -> Result<Attr, Error> {
        Ok(self.state.lock().meta.attr(self.ino, 0))
    }

    fn folder_mode(&self, slot: Slot, _: u32) -> Option<u32> {
        matches!(slot, Slot::Top | Slot::Config).then_some(0o555)
    }

    fn files(&self) -> Vec<TextFile> {
        SEGMENT.iter().map(TextFile::of).collect()
    }

    fn others(&self) -> Vec<Other> {
        let other = |(index, (name, _)): (usize, &(&'static str, &str))| Other {
            name,
            slot: Slot::Door(index),
            folder: false,
        };
        DOORBELL.iter().enumerate().map(other).collect()
    }

    fn node(&self, place: ControlNode) -> Result<Inode, Error> {
        let file = DoorbellFile::at(place.slot).ok_or(Error::NotFound)?;
        Ok(Inode::Doorbell(Box::new(Doorbell::new(place, file, self))))
    }

    fn status_lines(&self) -> u64 {
        self.state.lock().openers.len() as u64
    }

    fn show(&self, index: usize, _: Caller, cx: &mut Cx<'_>) -> Result<Vec<u8>, Error> {
        let file = table_file(&SEGMENT, index)?;
        let state = self.state.lock();
        let openers = state.openers.iter();
        let view = SegmentView {
            settings: state.settings(),
            size: state.segment.size(),
            promised: state.segment.promised(),
            resident: state.segment.blocks() * 512,
            in_use: state.in_use(),
            openers: openers.map(|(_, opener)| (opener.caller, opener.read, opener.write)).collect(),
            path: cx.tree.segment_path(),
            refusal: state.refusal.as_deref().map(String::from).unwrap_or_default(),
        };
        drop(state);
        Ok((file.show)(&view).into_bytes())
    }

    fn store(&self, index: usize, text: &[u8], _: Caller, _: &mut Cx<'_>) -> Result<(), Error> {
        let store = table_file(&SEGMENT, index)?.store.ok_or(Error::AccessDenied)?;
        let mut state = self.state.lock();
        let mut settings = state.settings();
        let result = store(&String::from_utf8_lossy(text), &mut settings);
        state.segment.set_seals(settings.seals)?;
        state.segment.set_size_max(settings.size_max);
        state.segment.set_lifetime(settings.lifetime);
        refusal_noted(result, &mut state.refusal)
    }
}
