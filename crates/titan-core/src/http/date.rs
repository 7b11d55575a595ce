//! The `Date` header, formatted once a second.

use std::time::SystemTime;

/// An IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate(pub [u8; 29]);

impl HttpDate {
    /// Formats a Unix time.
    pub fn from_unix(secs: u64) -> Self {
        use std::io::Write;
        let at = httpdate::HttpDate::from(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs));
        let mut out = [b' '; 29];
        // 29 bytes up to the year 9999, far above what a clock can be set to.
        let _ = write!(&mut out[..], "{at}");
        Self(out)
    }
}

/// Cached date of a shard.
#[derive(Debug, Clone, Copy)]
pub struct DateCache {
    secs: u64,
    date: HttpDate,
}

impl DateCache {
    /// Empty: formats at first use.
    pub fn new() -> Self {
        Self { secs: 0, date: HttpDate::from_unix(0) }
    }

    /// The date of a Unix time; formats only when the second has changed.
    pub fn at(&mut self, secs: u64) -> &HttpDate {
        if secs != self.secs {
            *self = Self { secs, date: HttpDate::from_unix(secs) };
        }
        &self.date
    }

    /// The date now.
    pub fn now(&mut self) -> &HttpDate {
        let secs = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.at(secs)
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_caches() {
        let mut c = DateCache::new();
        assert_eq!(&c.at(784_111_777).0, b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&c.at(784_111_778).0, b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(&c.at(0).0, b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
