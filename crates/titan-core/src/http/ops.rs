//! Edits of a head: what policies want added, set or removed. Applied once, while the head is encoded.

use smallvec::SmallVec;

/// One edit, as seen by the encoder. Names are lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderOp<'a> {
    /// One more field line.
    Add(&'a [u8], &'a [u8]),
    /// Replaces every field line of the name.
    Set(&'a [u8], &'a [u8]),
    /// Takes every field line of the name off.
    Remove(&'a [u8]),
}

/// Edits in the order they were asked for; a later one on the same name wins over an earlier one.
///
/// Names and values lie end to end in one buffer, so that an exchange which is reused ([`HeaderOps::clear`]) edits without allocating.
#[derive(Debug, Default, Clone)]
pub struct HeaderOps {
    list: SmallVec<[Edit; 6]>,
    text: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Edit {
    kind: Kind,
    /// Where the name begins, where it ends and the value begins, where the value ends.
    at: [u32; 3],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Add,
    Set,
    Remove,
}

impl HeaderOps {
    /// One more field line.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(Kind::Add, name.as_ref(), |text| text.extend_from_slice(value.as_ref()));
    }

    /// Replaces every field line of the name.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(Kind::Set, name.as_ref(), |text| text.extend_from_slice(value.as_ref()));
    }

    /// Takes every field line of the name off.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        self.push(Kind::Remove, name.as_ref(), |_| {});
    }

    /// As [`HeaderOps::set`], with a value that `write` appends to the buffer it is given (and must not touch otherwise).
    pub fn set_with(&mut self, name: impl AsRef<[u8]>, write: impl FnOnce(&mut Vec<u8>)) {
        self.push(Kind::Set, name.as_ref(), write);
    }

    /// As [`HeaderOps::add`], with a value that `write` appends to the buffer it is given (and must not touch otherwise).
    pub fn add_with(&mut self, name: impl AsRef<[u8]>, write: impl FnOnce(&mut Vec<u8>)) {
        self.push(Kind::Add, name.as_ref(), write);
    }

    /// As [`HeaderOps::add_with`]; an empty value is no field line when `drop_empty`.
    pub fn add_if(&mut self, name: impl AsRef<[u8]>, write: impl FnOnce(&mut Vec<u8>), drop_empty: bool) {
        let before = self.text.len();
        self.push(Kind::Add, name.as_ref(), write);
        let [_, value, end] = self.list[self.list.len() - 1].at;
        if drop_empty && value == end {
            self.list.pop();
            self.text.truncate(before);
        }
    }

    /// The edits in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = HeaderOp<'_>> + ExactSizeIterator {
        self.list.iter().map(|e| {
            let [a, b, c] = e.at.map(|i| i as usize);
            let (name, value) = (&self.text[a..b], &self.text[b..c]);
            match e.kind {
                Kind::Add => HeaderOp::Add(name, value),
                Kind::Set => HeaderOp::Set(name, value),
                Kind::Remove => HeaderOp::Remove(name),
            }
        })
    }

    /// Appends every edit of `other`.
    pub fn extend(&mut self, other: &HeaderOps) {
        let base = self.text.len() as u32;
        self.text.extend_from_slice(&other.text);
        self.list.extend(other.list.iter().map(|e| Edit { kind: e.kind, at: e.at.map(|i| i + base) }));
    }

    /// Whether there is nothing to do: the encoder then copies fields without looking at names.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets every edit and keeps the buffers.
    pub fn clear(&mut self) {
        self.list.clear();
        self.text.clear();
    }

    fn push(&mut self, kind: Kind, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(!name.iter().any(u8::is_ascii_uppercase), "header names of edits are lower case");
        let start = self.text.len() as u32;
        self.text.extend_from_slice(name);
        let middle = self.text.len() as u32;
        value(&mut self.text);
        self.list.push(Edit { kind, at: [start, middle, self.text.len() as u32] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_come_back_in_order_and_clear_keeps_the_buffer() {
        let mut ops = HeaderOps::default();
        ops.add("a", "1");
        ops.set_with("b", |v| v.extend_from_slice(b"22"));
        ops.remove("c");
        let mut more = HeaderOps::default();
        more.set("d", "4");
        ops.extend(&more);
        let all: Vec<_> = ops.iter().collect();
        assert_eq!(all, [HeaderOp::Add(b"a", b"1"), HeaderOp::Set(b"b", b"22"), HeaderOp::Remove(b"c"), HeaderOp::Set(b"d", b"4")]);
        let capacity = ops.text.capacity();
        ops.clear();
        assert!(ops.is_empty() && ops.text.capacity() == capacity);
    }
}
