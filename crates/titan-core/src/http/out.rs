//! Where the encoder writes a head: plain text for HTTP/1.1; for HTTP/2 the same text, with a note of where each field lies in it, so that
//! nobody has to look for what the encoder knew.

use super::head::{HeaderId, Span};

/// A head as it grows.
pub trait Out {
    /// The lines so far.
    fn text(&mut self) -> &mut Vec<u8>;

    /// The name and the value of a field line that was appended.
    fn note(&mut self, id: HeaderId, name: Span, value: Span);
}

impl Out for Vec<u8> {
    #[inline(always)]
    fn text(&mut self) -> &mut Vec<u8> {
        self
    }

    #[inline(always)]
    fn note(&mut self, _: HeaderId, _: Span, _: Span) {}
}

/// Appends a line. `prefix` is the name with a colon and a space, `value` known to be a field value. Inlined: of a constant prefix a few
/// moves are left.
#[inline(always)]
pub(crate) fn line<O: Out>(out: &mut O, id: HeaderId, prefix: &[u8], value: &[u8]) {
    line_with(out, id, prefix, |text| text.extend_from_slice(value));
}

/// The same with a value that `write` appends.
#[inline(always)]
pub(crate) fn line_with<O: Out>(out: &mut O, id: HeaderId, prefix: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
    let text = out.text();
    let start = text.len();
    text.extend_from_slice(prefix);
    let value = text.len();
    write(text);
    let end = text.len();
    text.extend_from_slice(b"\r\n");
    out.note(id, span(start, value - 2), span(value, end));
}

pub(crate) fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}
