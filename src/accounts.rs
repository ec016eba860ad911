//! Accounts: what the daemon holds on behalf of each user, within the mount's limits and the user's share of them.
//!
//! Whatever is held has a [`Charge`], which returns what it is for when it is dropped. So nothing is held that no account
//! shows, and nothing stays charged that is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::config::NO_LIMIT;

/// What is limited, for the mount and for each user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Bytes of messages that are queued, leased or partly read, and of extended attributes.
    Memory,
    /// Bytes that writers wait with, bytes written that are not a message yet, and long messages that readers have in hand.
    Waiting,
    /// Bytes of what open files of `control/` show, and of names that were looked up there.
    Texts,
    /// Bytes promised to segments.
    Segments,
    /// Files and folders.
    Files,
    /// Open files.
    Open,
    /// Descriptors of the daemon that segments need.
    Descriptors,
    /// Locks held and awaited.
    Locks,
}

/// How many there are.
pub const COUNT: usize = 8;

impl Resource {
    /// All of them, in the order of their numbers.
    pub const ALL: [Resource; COUNT] = [
        Resource::Memory,
        Resource::Waiting,
        Resource::Texts,
        Resource::Segments,
        Resource::Files,
        Resource::Open,
        Resource::Descriptors,
        Resource::Locks,
    ];

    /// As `control/users/<uid>` and the log show it.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Waiting => "waiting",
            Resource::Texts => "texts",
            Resource::Segments => "segments",
            Resource::Files => "files",
            Resource::Open => "open",
            Resource::Descriptors => "descriptors",
            Resource::Locks => "locks",
        }
    }
}

/// One figure for each resource. All accesses are sequentially consistent: a mailbox that found no memory enters a list
/// before it looks once more, and whoever returns memory does so before it looks at the list.
#[derive(Debug, Default)]
struct Figures([AtomicU64; COUNT]);

impl Figures {
    #[allow(clippy::indexing_slicing)] // `Resource` has `COUNT` variants
    fn of(&self, resource: Resource) -> &AtomicU64 {
        &self.0[resource as usize]
    }

    fn get(&self, resource: Resource) -> u64 {
        self.of(resource).load(Ordering::SeqCst)
    }

    fn add_within(&self, resource: Resource, amount: u64, limit: u64) -> bool {
        let more = |used: u64| used.checked_add(amount).filter(|sum| *sum <= limit);
        self.of(resource).fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn subtract(&self, resource: Resource, amount: u64) {
        let before = self.of(resource).fetch_sub(amount, Ordering::SeqCst);
        debug_assert!(before >= amount, "returned {amount} of {before} charged");
    }
}

/// What all users of a mount hold together.
#[derive(Debug)]
struct Mount {
    limits: [u64; COUNT],
    /// What one user may hold of each.
    shares: [u64; COUNT],
    used: Figures,
    /// The first refusals for a user's share that nobody has been told of.
    refusals: Mutex<Vec<(u32, Resource)>>,
    /// There are some: can be read without the lock.
    refused: AtomicU64,
}

impl Mount {
    #[allow(clippy::indexing_slicing)] // `Resource` has `COUNT` variants
    fn limit(&self, resource: Resource) -> u64 {
        self.limits[resource as usize]
    }

    #[allow(clippy::indexing_slicing)] // `Resource` has `COUNT` variants
    fn share(&self, resource: Resource) -> u64 {
        self.shares[resource as usize]
    }
}

/// The accounts of a mount.
#[derive(Debug)]
pub struct Accounts {
    mount: Arc<Mount>,
    /// The mounting user, who is exempt from shares, as root is.
    owner: u32,
    users: Mutex<Users>,
}

#[derive(Debug)]
struct Users {
    accounts: BTreeMap<u32, Arc<Account>>,
    /// Number of accounts at which those that hold nothing are dropped.
    sweep_at: usize,
}

/// Accounts that hold nothing are kept up to this number.
const KEPT: usize = 1024;

/// What one user holds.
pub struct Account {
    uid: u32,
    mount: Arc<Mount>,
    exempt: bool,
    used: Figures,
    refused: Figures,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("uid", &self.uid).field("used", &self.used).finish_non_exhaustive()
    }
}

/// Which limit a charge would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// The user's share.
    Share,
    /// The mount's.
    Limit,
}

/// One resource of one user, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What it is.
    pub resource: Resource,
    /// How much the user holds.
    pub used: u64,
    /// How much the user may hold; [`NO_LIMIT`] if there is no share.
    pub share: u64,
    /// How often a request was refused for the share.
    pub refused: u64,
}

impl Accounts {
    /// Accounts of a mount with these limits, given in the order of [`Resource::ALL`], and `shares` of them that one user
    /// may hold. Root and `owner` may hold all.
    pub fn new(limits: [u64; COUNT], shares: [u64; COUNT], owner: u32) -> Accounts {
        let mount = Mount {
            limits,
            shares,
            used: Figures::default(),
            refusals: Mutex::default(),
            refused: AtomicU64::new(0),
        };
        let users = Users { accounts: BTreeMap::new(), sweep_at: KEPT };
        Accounts { mount: Arc::new(mount), owner, users: Mutex::new(users) }
    }

    /// Accounts without shares, each limit being `limit`.
    pub fn unshared(limit: u64) -> Accounts {
        Accounts::new([limit; COUNT], [NO_LIMIT; COUNT], 0)
    }

    /// The account of a user.
    pub fn of(&self, uid: u32) -> Arc<Account> {
        let mut users = self.users.lock();
        if let Some(account) = users.accounts.get(&uid) {
            return Arc::clone(account);
        }
        if users.accounts.len() >= users.sweep_at {
            users.accounts.retain(|_, account| Arc::strong_count(account) > 1);
            users.sweep_at = (users.accounts.len() * 2).max(KEPT);
        }
        let account = Arc::new(Account {
            uid,
            mount: Arc::clone(&self.mount),
            exempt: uid == 0 || uid == self.owner,
            used: Figures::default(),
            refused: Figures::default(),
        });
        users.accounts.insert(uid, Arc::clone(&account));
        account
    }

    /// The account of a user, if there is one.
    pub fn find(&self, uid: u32) -> Option<Arc<Account>> {
        self.users.lock().accounts.get(&uid).cloned()
    }

    /// The users that have an account, in order, after `after`, at most `most`.
    pub fn list(&self, after: Option<u32>, most: usize) -> Vec<u32> {
        let from = after.map_or(Some(0), |uid| uid.checked_add(1));
        let users = self.users.lock();
        from.map_or_else(Vec::new, |from| {
            users.accounts.range(from..).take(most).map(|user| *user.0).collect()
        })
    }

    /// What all users hold of `resource`.
    pub fn used(&self, resource: Resource) -> u64 {
        self.mount.used.get(resource)
    }

    /// The mount's limit.
    pub fn limit(&self, resource: Resource) -> u64 {
        self.mount.limit(resource)
    }

    /// Users and resources for which a share was refused for the first time since this was last asked.
    pub fn take_refusals(&self) -> Vec<(u32, Resource)> {
        if self.mount.refused.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut refusals = self.mount.refusals.lock();
        self.mount.refused.store(0, Ordering::Relaxed);
        std::mem::take(&mut refusals)
    }
}

impl Account {
    /// Whose it is.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// How much of `resource` the user may hold.
    fn share(&self, resource: Resource) -> u64 {
        if self.exempt { NO_LIMIT } else { self.mount.share(resource) }
    }

    /// True if the user's share has room for `amount`.
    pub fn has_share(&self, resource: Resource, amount: u64) -> bool {
        self.used.get(resource).saturating_add(amount) <= self.share(resource)
    }

    /// True if `amount` can ever be charged.
    pub fn can_hold(&self, resource: Resource, amount: u64) -> bool {
        amount <= self.share(resource).min(self.mount.limit(resource))
    }

    /// True if `amount` could be charged now.
    pub fn has_room(&self, resource: Resource, amount: u64) -> bool {
        self.has_share(resource, amount)
            && self.mount.used.get(resource).saturating_add(amount) <= self.mount.limit(resource)
    }

    /// Charges `amount` of `resource`. After an error nothing is charged.
    pub fn charge(self: &Arc<Self>, resource: Resource, amount: u64) -> Result<Charge, Exceeded> {
        if amount > Held::MOST {
            return Err(Exceeded::Limit);
        }
        self.add(resource, amount)?;
        Ok(Charge::new(self, resource, amount))
    }

    /// Charges what is held already, whatever the limits.
    pub fn charge_regardless(self: &Arc<Self>, resource: Resource, amount: u64) -> Charge {
        let amount = amount.min(Held::MOST);
        self.force(resource, amount);
        Charge::new(self, resource, amount)
    }

    /// What the user holds.
    pub fn usage(&self) -> [Usage; COUNT] {
        Resource::ALL.map(|resource| Usage {
            resource,
            used: self.used.get(resource),
            share: self.share(resource),
            refused: self.refused.get(resource),
        })
    }

    /// How often charges were refused, in a process before this one.
    pub fn restore_refused(&self, refused: [u64; COUNT]) {
        for (figure, before) in self.refused.0.iter().zip(refused) {
            figure.store(before, Ordering::Relaxed);
        }
    }

    fn add(&self, resource: Resource, amount: u64) -> Result<(), Exceeded> {
        if !self.used.add_within(resource, amount, self.share(resource)) {
            self.note_refused(resource);
            return Err(Exceeded::Share);
        }
        if !self.mount.used.add_within(resource, amount, self.mount.limit(resource)) {
            self.used.subtract(resource, amount);
            return Err(Exceeded::Limit);
        }
        Ok(())
    }

    fn force(&self, resource: Resource, amount: u64) {
        self.used.of(resource).fetch_add(amount, Ordering::SeqCst);
        self.mount.used.of(resource).fetch_add(amount, Ordering::SeqCst);
    }

    /// How much more of `resource` could be charged now.
    pub fn left(&self, resource: Resource) -> u64 {
        let own = self.share(resource).saturating_sub(self.used.get(resource));
        own.min(self.mount.limit(resource).saturating_sub(self.mount.used.get(resource)))
    }

    fn subtract(&self, resource: Resource, amount: u64) {
        self.mount.used.subtract(resource, amount);
        self.used.subtract(resource, amount);
    }

    /// Counts a refusal for the share, if that is what would have been exceeded.
    pub fn note_exceeded(&self, resource: Resource) {
        if !self.has_share(resource, 1) {
            self.note_refused(resource);
        }
    }

    fn note_refused(&self, resource: Resource) {
        if self.refused.of(resource).fetch_add(1, Ordering::Relaxed) == 0 {
            self.mount.refusals.lock().push((self.uid, resource));
            self.mount.refused.store(1, Ordering::Relaxed);
        }
    }
}

/// An amount of a resource that is charged to an account until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    held: Held,
}

/// How much of what, in eight bytes, because each message has a charge.
#[derive(Debug, Clone, Copy)]
struct Held(u64);

impl Held {
    /// The greatest amount: more than any machine has.
    const MOST: u64 = (1 << Held::AMOUNT_BITS) - 1;
    const AMOUNT_BITS: u32 = 56;

    fn new(resource: Resource, amount: u64) -> Held {
        Held((resource as u64) << Held::AMOUNT_BITS | amount.min(Held::MOST))
    }

    fn resource(self) -> Resource {
        let number = (self.0 >> Held::AMOUNT_BITS) as usize;
        Resource::ALL.get(number).copied().unwrap_or(Resource::Memory)
    }

    fn amount(self) -> u64 {
        self.0 & Held::MOST
    }
}

impl Charge {
    fn new(account: &Arc<Account>, resource: Resource, amount: u64) -> Charge {
        Charge { account: Arc::clone(account), held: Held::new(resource, amount) }
    }

    /// How much it is.
    pub fn amount(&self) -> u64 {
        self.held.amount()
    }

    /// What it is of.
    pub fn resource(&self) -> Resource {
        self.held.resource()
    }

    /// The account that is charged.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Changes the amount. After an error it is what it was.
    pub fn resize(&mut self, amount: u64) -> Result<(), Exceeded> {
        match amount.checked_sub(self.amount()) {
            Some(_) if amount > Held::MOST => return Err(Exceeded::Limit),
            Some(more) => self.account.add(self.resource(), more)?,
            None => self.account.subtract(self.resource(), self.amount() - amount),
        }
        self.held = Held::new(self.resource(), amount);
        Ok(())
    }

    /// Changes the amount, even beyond the limits.
    pub fn force(&mut self, amount: u64) {
        let amount = amount.min(Held::MOST);
        match amount.checked_sub(self.amount()) {
            Some(more) => self.account.force(self.resource(), more),
            None => self.account.subtract(self.resource(), self.amount() - amount),
        }
        self.held = Held::new(self.resource(), amount);
    }

    /// Returns all but `amount`, if that is less than what is charged.
    pub fn lower_to(&mut self, amount: u64) {
        let amount = amount.min(self.amount());
        self.account.subtract(self.resource(), self.amount() - amount);
        self.held = Held::new(self.resource(), amount);
    }

    /// Adds another charge of the same account and resource.
    pub fn merge(&mut self, mut other: Charge) {
        debug_assert!(Arc::ptr_eq(&self.account, &other.account) && self.resource() == other.resource());
        self.held = Held::new(self.resource(), self.amount() + other.amount());
        other.held = Held::new(self.resource(), 0);
    }

    /// Splits off a charge of `amount`, or of all that there is.
    pub fn split(&mut self, amount: u64) -> Charge {
        let amount = amount.min(self.amount());
        self.held = Held::new(self.resource(), self.amount() - amount);
        Charge::new(&self.account, self.resource(), amount)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.subtract(self.resource(), self.amount());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: u32 = 7;

    fn accounts() -> Accounts {
        Accounts::new([100; COUNT], [50; COUNT], OWNER)
    }

    #[test]
    fn a_user_gets_the_share_and_no_more() {
        let accounts = accounts();
        let user = accounts.of(1000);
        let held = user.charge(Resource::Memory, 50).unwrap();
        assert!(!user.has_room(Resource::Memory, 1) && user.has_room(Resource::Waiting, 50));
        assert_eq!(user.charge(Resource::Memory, 1).unwrap_err(), Exceeded::Share);
        assert_eq!((accounts.used(Resource::Memory), user.usage()[0].refused), (50, 1));
        drop(held);
        assert_eq!((accounts.used(Resource::Memory), user.usage()[0].used), (0, 0));
    }

    #[test]
    fn users_share_what_the_mount_has() {
        let accounts = accounts();
        let held: Vec<Charge> =
            [1000, 1001].map(|uid| accounts.of(uid).charge(Resource::Files, 50).unwrap()).into();
        assert_eq!(accounts.of(1002).charge(Resource::Files, 1).unwrap_err(), Exceeded::Limit);
        assert_eq!(accounts.of(0).charge(Resource::Files, 1).unwrap_err(), Exceeded::Limit);
        drop(held);
        assert_eq!(accounts.used(Resource::Files), 0);
    }

    #[test]
    fn root_and_the_mounting_user_may_take_all() {
        for uid in [0, OWNER] {
            let accounts = accounts();
            let held = accounts.of(uid).charge(Resource::Locks, 100).unwrap();
            assert_eq!(held.amount(), 100);
            assert!(accounts.take_refusals().is_empty());
        }
    }

    #[test]
    fn a_charge_changes_and_splits() {
        let accounts = accounts();
        let mut charge = accounts.of(1000).charge(Resource::Segments, 10).unwrap();
        charge.resize(50).unwrap();
        assert_eq!(charge.resize(51), Err(Exceeded::Share));
        assert_eq!((charge.amount(), accounts.used(Resource::Segments)), (50, 50));
        charge.resize(30).unwrap();
        let part = charge.split(20);
        assert_eq!((charge.amount(), part.amount(), accounts.used(Resource::Segments)), (10, 20, 30));
        drop(charge);
        assert_eq!(accounts.used(Resource::Segments), 20);
        charge = part;
        charge.lower_to(5);
        assert_eq!(accounts.used(Resource::Segments), 5);
    }

    #[test]
    fn a_charge_is_of_any_resource_and_of_no_more_than_any_machine_has() {
        let accounts = Accounts::new([u64::MAX; COUNT], [u64::MAX; COUNT], OWNER);
        let user = accounts.of(1000);
        for resource in Resource::ALL {
            let mut charge = user.charge(resource, Held::MOST).unwrap();
            assert_eq!((charge.resource(), charge.amount()), (resource, Held::MOST));
            assert_eq!(charge.resize(Held::MOST + 1), Err(Exceeded::Limit));
            assert_eq!(user.charge(resource, Held::MOST + 1).unwrap_err(), Exceeded::Limit);
            drop(charge);
            assert_eq!(accounts.used(resource), 0);
        }
        assert_eq!(size_of::<Option<Charge>>(), 16);
    }

    #[test]
    fn the_first_refusal_of_each_user_is_told_once() {
        let accounts = accounts();
        for uid in [1000, 1001] {
            let user = accounts.of(uid);
            for resource in [Resource::Memory, Resource::Open, Resource::Memory] {
                assert_eq!(user.charge(resource, 51).unwrap_err(), Exceeded::Share);
            }
        }
        let told: Vec<(u32, Resource)> = [1000, 1001]
            .into_iter()
            .flat_map(|uid| [(uid, Resource::Memory), (uid, Resource::Open)])
            .collect();
        assert_eq!(accounts.take_refusals(), told);
        assert!(accounts.take_refusals().is_empty());
    }

    #[test]
    fn accounts_that_hold_nothing_are_bounded_in_number() {
        let accounts = accounts();
        let held = accounts.of(5).charge(Resource::Open, 1).unwrap();
        for uid in 10..10_000 {
            let _ = accounts.of(uid);
        }
        assert!(accounts.list(None, usize::MAX).len() <= KEPT);
        assert_eq!(accounts.list(None, 1), [5]);
        assert_eq!(accounts.find(5).unwrap().usage()[5].used, 1);
        drop(held);
    }
}
