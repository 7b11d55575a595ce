//! The routes of one host: a map of the paths without parameters and a trie of segments for the others.
//!
//! Walking back and forth over the trie cannot blow up: a node is reached by one path from the root only, so a match visits each node at
//! most once, however its literals, parameters and wildcards overlap.

use std::sync::Arc;

use smallvec::SmallVec;

use super::pattern::Segment;
use super::router::Entry;
use crate::http::head::Span;

type Map<V> = hashbrown::HashMap<Box<[u8]>, V, foldhash::fast::RandomState>;

/// Routes that end at one place, in the order in which they are tried.
type Leaf = Vec<Arc<Entry>>;

/// Spans of the parameters met so far.
type Spans = SmallVec<[Span; 4]>;

#[derive(Debug)]
pub(super) struct Table {
    /// Patterns without parameters by the one path that they match: more specific than any other pattern that matches it.
    literal: Map<Leaf>,
    /// The root is the first.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: Map<u32>,
    param: Option<u32>,
    /// Patterns that end here.
    end: Leaf,
    /// Patterns with a wildcard here.
    rest: Leaf,
}

impl Default for Table {
    fn default() -> Self {
        Self { literal: Map::default(), nodes: vec![Node::default()] }
    }
}

impl Table {
    /// Adds an entry; [`Table::seal`] puts them in order.
    pub(super) fn insert(&mut self, entry: &Arc<Entry>) {
        if entry.pattern.is_literal() {
            self.literal.entry(entry.pattern.literal_path().into()).or_default().push(entry.clone());
            return;
        }
        let mut at = 0;
        for segment in &entry.pattern.segments {
            let next = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let child = match segment {
                Segment::Rest => {
                    node.rest.push(entry.clone());
                    return;
                }
                Segment::Literal(bytes) => *node.literals.entry(bytes.clone()).or_insert(next),
                Segment::Param => *node.param.get_or_insert(next),
            };
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child as usize;
        }
        self.nodes[at].end.push(entry.clone());
    }

    /// Sorts the entries of every leaf: priority, then number of conditions, then the order of the file (the sort is stable).
    pub(super) fn seal(&mut self) {
        let leaves = self.nodes.iter_mut().flat_map(|n| [&mut n.end, &mut n.rest]).chain(self.literal.values_mut());
        for leaf in leaves {
            leaf.sort_by_key(|e| (std::cmp::Reverse(e.priority), std::cmp::Reverse(e.specificity())));
        }
    }

    /// Calls `visit` with each leaf that the path matches, most specific first, until it returns true. The result says whether it did.
    pub(super) fn visit<'t>(&'t self, path: &[u8], visit: &mut impl FnMut(&'t [Arc<Entry>], &[Span]) -> bool) -> bool {
        if path.first() != Some(&b'/') {
            return false;
        }
        if let Some(leaf) = self.literal.get(path)
            && visit(leaf, &[])
        {
            return true;
        }
        self.walk(&self.nodes[0], path, 1, &mut Spans::new(), visit)
    }

    /// `at` is where the next segment begins; one past the end of the path when there is none.
    fn walk<'t>(
        &'t self,
        node: &'t Node,
        path: &[u8],
        at: usize,
        spans: &mut Spans,
        visit: &mut impl FnMut(&'t [Arc<Entry>], &[Span]) -> bool,
    ) -> bool {
        if at > path.len() {
            return !node.end.is_empty() && visit(&node.end, spans);
        }
        let end = memchr::memchr(b'/', &path[at..]).map_or(path.len(), |slash| at + slash);
        if let Some(child) = node.literals.get(&path[at..end])
            && self.walk(&self.nodes[*child as usize], path, end + 1, spans, visit)
        {
            return true;
        }
        if let (Some(child), true) = (node.param, end > at) {
            spans.push(Span { start: at as u32, end: end as u32 });
            if self.walk(&self.nodes[child as usize], path, end + 1, spans, visit) {
                return true;
            }
            spans.pop();
        }
        if node.rest.is_empty() {
            return false;
        }
        spans.push(Span { start: at as u32, end: path.len() as u32 });
        let hit = visit(&node.rest, spans);
        spans.pop();
        hit
    }
}

impl Entry {
    /// Conditions beside host and path. A route for HEAD alone counts as more than one for GET, which includes it.
    fn specificity(&self) -> usize {
        let methods = if self.methods.is_any() { 0 } else { 1 + usize::from(self.methods.is_head_only()) };
        self.conditions.len() + methods
    }
}
