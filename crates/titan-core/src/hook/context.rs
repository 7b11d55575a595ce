//! What hooks attach to a request: an object in JavaScript, known here by its number.

use std::sync::Arc;

use super::channel::Channel;
use super::{call, desk};

/// An attached object; released when the request ends, however it ends.
pub struct Context {
    pub(super) channel: Arc<Channel>,
    pub(super) id: u32,
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.channel.is_open() {
            desk::post(&self.channel, |out| call::release(self.id, out));
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({})", self.id)
    }
}
