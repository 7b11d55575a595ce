//! The parts of an exchange that own memory, kept by the shard from one exchange to the next.

use crate::http::head::{RequestHead, ResponseHead};
use crate::http::ops::HeaderOps;
use crate::policy::PolicyState;
use crate::rt::recycle;

/// Heads, edits, policy state and the body bytes kept for a replay.
#[derive(Default)]
pub struct Kit {
    /// The request's head. There from the moment an exchange begins.
    pub request: Option<RequestHead>,
    /// The answer's head, once the upstream has sent one.
    pub response: Option<ResponseHead>,
    /// Edits towards the upstream.
    pub request_ops: HeaderOps,
    /// Edits towards the client.
    pub response_ops: HeaderOps,
    /// What policies remember.
    pub policy: PolicyState,
    /// Match path, where it is not a part of the head.
    pub path: Vec<u8>,
    /// Body bytes already sent, for another try.
    pub replay: Vec<u8>,
}

impl Kit {
    /// Forgets the exchange and keeps the memory.
    pub fn clear(&mut self) {
        if let Some(mut head) = self.request.take() {
            recycle::give(&mut head.bytes);
        }
        if let Some(mut head) = self.response.take() {
            recycle::give(&mut head.bytes);
        }
        self.request_ops.clear();
        self.response_ops.clear();
        self.policy.clear();
        self.path.clear();
        recycle::give(&mut self.replay);
    }
}
