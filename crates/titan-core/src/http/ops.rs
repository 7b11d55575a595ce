//! Edits of a head: what policies want added, set or removed. Applied once, while the head is encoded.

use std::borrow::Cow;

use smallvec::SmallVec;

/// A name or value that an edit carries.
pub type Text = Cow<'static, [u8]>;

/// One edit. Names are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderOp {
    /// One more field line.
    Add(Text, Text),
    /// Replaces every field line of the name.
    Set(Text, Text),
    /// Takes every field line of the name off.
    Remove(Text),
}

/// Edits in the order they were asked for; a later one on the same name wins over an earlier one.
#[derive(Debug, Default, Clone)]
pub struct HeaderOps {
    /// The edits.
    pub list: SmallVec<[HeaderOp; 4]>,
}

impl HeaderOps {
    /// One more field line.
    pub fn add(&mut self, name: impl Into<Text>, value: impl Into<Text>) {
        self.list.push(HeaderOp::Add(name.into(), value.into()));
    }

    /// Replaces every field line of the name.
    pub fn set(&mut self, name: impl Into<Text>, value: impl Into<Text>) {
        self.list.push(HeaderOp::Set(name.into(), value.into()));
    }

    /// Takes every field line of the name off.
    pub fn remove(&mut self, name: impl Into<Text>) {
        self.list.push(HeaderOp::Remove(name.into()));
    }

    /// Whether there is nothing to do: the encoder then copies fields without looking at names.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
