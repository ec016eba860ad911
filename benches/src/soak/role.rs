//! Who is in the crew.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Sender,
    KeptSender,
    LeasedSender,
    Taker,
    Keeper,
    Streamer,
    Worker,
    Client,
    Server,
    Herald,
    Listener,
    Counter,
    Churner,
    Operator,
    Waiter,
}

/// All of them.
const ROLES: [Role; 15] = [
    Role::Sender,
    Role::KeptSender,
    Role::LeasedSender,
    Role::Taker,
    Role::Keeper,
    Role::Streamer,
    Role::Worker,
    Role::Client,
    Role::Server,
    Role::Herald,
    Role::Listener,
    Role::Counter,
    Role::Churner,
    Role::Operator,
    Role::Waiter,
];

/// How many of each there are.
pub const CREW: &[Role] = &[
    Role::Sender,
    Role::Sender,
    Role::Sender,
    Role::KeptSender,
    Role::KeptSender,
    Role::LeasedSender,
    Role::LeasedSender,
    Role::Taker,
    Role::Taker,
    Role::Taker,
    Role::Keeper,
    Role::Streamer,
    Role::Worker,
    Role::Worker,
    Role::Worker,
    Role::Client,
    Role::Client,
    Role::Server,
    Role::Server,
    Role::Herald,
    Role::Listener,
    Role::Listener,
    Role::Counter,
    Role::Counter,
    Role::Churner,
    Role::Churner,
    Role::Operator,
    Role::Waiter,
    Role::Waiter,
    Role::Waiter,
    Role::Waiter,
];

impl Role {
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    pub fn named(name: &str) -> Option<Role> {
        ROLES.into_iter().find(|role| role.name() == name)
    }

    /// Never killed while there is anything to receive.
    pub fn is_spared(self) -> bool {
        matches!(self, Role::Keeper | Role::Streamer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_its_name() {
        for role in ROLES {
            assert_eq!(Role::named(&role.name()), Some(role));
            assert!(CREW.contains(&role), "nobody is a {}", role.name());
        }
    }
}
