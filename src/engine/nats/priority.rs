//! Receiving from a mailbox that has had messages of several priorities.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::Hosts;
use super::messages::{Pulled, next};
use crate::engine::Path;
use crate::op::Ino;

impl Hosts {
    /// One message of a mailbox that has these priorities, highest first.
    pub(super) async fn pull_by_priority(
        self: &Rc<Self>,
        whose: (Ino, &Path, u64),
        (id, priorities): (&str, &[u16]),
        waits: bool,
        left: &mut oneshot::Receiver<()>,
    ) -> Pulled {
        let all = || priorities.iter().copied().chain([0]);
        for priority in all() {
            let consumer = self.lane(id, priority).consumer;
            match self.pull_from(whose, (id, &consumer), false, left).await {
                Pulled::None => {}
                other => return other,
            }
        }
        if !waits {
            return Pulled::None;
        }
        let Some(mut inbox) = self.inbox().await else { return Pulled::Left };
        let mut link = self.link.clone();
        link.mark_unchanged();
        for priority in all() {
            let consumer = self.lane(id, priority).consumer;
            if self.request((id, &consumer), true, &inbox).await.is_err() {
                return Pulled::Again;
            }
        }
        let pulled = tokio::select! {
            pulled = next(&mut inbox.messages, true) => pulled,
            _ = link.changed() => Pulled::Lost,
            () = self.priorities_change(whose.1, priorities) => Pulled::Lost,
            _ = &mut *left => Pulled::Left,
        };
        // The others are not asked any more.
        self.drop_inbox(whose, inbox);
        pulled
    }
}
