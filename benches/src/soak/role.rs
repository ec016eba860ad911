//! The roles of actors.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Sender,
    KeptSender,
    LeasedSender,
    Consumer,
    SafeConsumer,
    StreamConsumer,
    Worker,
    Client,
    Server,
    Publisher,
    Subscriber,
    Incrementer,
    Churner,
    Operator,
    BlockedReader,
}

const ROLES: [Role; 15] = [
    Role::Sender,
    Role::KeptSender,
    Role::LeasedSender,
    Role::Consumer,
    Role::SafeConsumer,
    Role::StreamConsumer,
    Role::Worker,
    Role::Client,
    Role::Server,
    Role::Publisher,
    Role::Subscriber,
    Role::Incrementer,
    Role::Churner,
    Role::Operator,
    Role::BlockedReader,
];

/// The actors of a soak.
pub const FLEET: &[Role] = &[
    Role::Sender,
    Role::Sender,
    Role::Sender,
    Role::KeptSender,
    Role::KeptSender,
    Role::LeasedSender,
    Role::LeasedSender,
    Role::Consumer,
    Role::Consumer,
    Role::Consumer,
    Role::SafeConsumer,
    Role::StreamConsumer,
    Role::Worker,
    Role::Worker,
    Role::Worker,
    Role::Client,
    Role::Client,
    Role::Server,
    Role::Server,
    Role::Publisher,
    Role::Subscriber,
    Role::Subscriber,
    Role::Incrementer,
    Role::Incrementer,
    Role::Churner,
    Role::Churner,
    Role::Operator,
    Role::BlockedReader,
    Role::BlockedReader,
    Role::BlockedReader,
    Role::BlockedReader,
];

impl Role {
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    pub fn named(name: &str) -> Option<Role> {
        ROLES.into_iter().find(|role| role.name() == name)
    }

    /// True for consumers that are not killed while there is anything to receive.
    pub fn is_never_killed(self) -> bool {
        matches!(self, Role::SafeConsumer | Role::StreamConsumer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_found_by_its_name() {
        for role in ROLES {
            assert_eq!(Role::named(&role.name()), Some(role));
            assert!(FLEET.contains(&role), "no actor is a {}", role.name());
        }
    }
}
