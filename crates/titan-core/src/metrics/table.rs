//! From stable names to indices, and from indices to series that are allocated on first use.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

/// Index of a series within its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

impl Id {
    /// Series for everything that has no own one: requests that no route matched, and names beyond the limit.
    pub const NONE: Self = Self(0);
}

const CHUNK: usize = 256;
const CHUNKS: usize = 256;
/// Names a family can have; reloads that keep renaming routes end in [`Id::NONE`] and not in unbounded memory.
const LIMIT: usize = CHUNK * CHUNKS;

/// Names of a family.
pub(super) struct Names(RwLock<Known>);

#[derive(Default)]
struct Known {
    list: Vec<Arc<str>>,
    index: HashMap<Arc<str>, Id>,
}

impl Default for Names {
    fn default() -> Self {
        let none: Arc<str> = "".into();
        Self(RwLock::new(Known { list: vec![Arc::clone(&none)], index: HashMap::from([(none, Id::NONE)]) }))
    }
}

impl Names {
    /// Index of a name, given on first sight and kept for the life of the process.
    pub(super) fn id(&self, name: &str) -> Id {
        let mut known = self.0.write();
        if let Some(id) = known.index.get(name) {
            return *id;
        }
        if known.list.len() == LIMIT {
            return Id::NONE;
        }
        let id = Id(known.list.len() as u32);
        let name: Arc<str> = name.into();
        known.list.push(Arc::clone(&name));
        known.index.insert(name, id);
        id
    }

    /// Every name with its index.
    pub(super) fn all(&self) -> Vec<(Id, Arc<str>)> {
        self.0.read().list.iter().enumerate().map(|(index, name)| (Id(index as u32), Arc::clone(name))).collect()
    }
}

/// Series of a family on one shard.
pub(super) struct Table<T> {
    chunks: Box<[OnceLock<Chunk<T>>; CHUNKS]>,
}

type Chunk<T> = Box<[OnceLock<Box<T>>; CHUNK]>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { chunks: Box::new([const { OnceLock::new() }; CHUNKS]) }
    }
}

impl<T: Default> Table<T> {
    /// The series of an index; allocated now if this is its first use.
    #[inline]
    pub(super) fn get(&self, id: Id) -> &T {
        let index = id.0 as usize;
        self.chunks[index / CHUNK].get_or_init(|| Box::new([const { OnceLock::new() }; CHUNK]))[index % CHUNK].get_or_init(Box::default)
    }

    /// The series of an index if it was ever used.
    pub(super) fn used(&self, id: Id) -> Option<&T> {
        let index = id.0 as usize;
        self.chunks[index / CHUNK].get()?[index % CHUNK].get().map(AsRef::as_ref)
    }
}
