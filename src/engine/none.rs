//! A program that was built without an engine.

use super::{EngineConfig, Event, Tell};

/// Takes events.
pub type Sink = Box<dyn Fn(Event)>;

/// There is none.
#[derive(Debug)]
pub enum Engine {}

impl Engine {
    /// Always fails.
    ///
    /// # Errors
    /// Says why.
    pub fn connect(_: &EngineConfig, _: u32) -> Result<Engine, String> {
        Err(String::from(
            "this program was built without NATS\n  build it with the feature `nats`, which is on by default",
        ))
    }

    /// Cannot be called.
    pub fn teller(&self) -> Tell {
        match *self {}
    }

    /// Cannot be called.
    pub fn serve(&self, _: impl FnOnce() -> Sink + Send + 'static) {
        match *self {}
    }

    /// Cannot be called.
    pub fn end(&mut self) {
        match *self {}
    }
}
