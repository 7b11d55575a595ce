//! From a field name to its [`HeaderId`]: a switch on length, then two word comparisons.

use crate::http::head::HeaderId;

/// Sets bit 5 of every byte: lowers letters. Of the other `tchar`s only `^` and `_` change, into bytes that no known name holds; control
/// bytes change into digits and `-`, which is why [`plain`] is asked too.
const FOLD: u64 = 0x2020_2020_2020_2020;

#[inline(always)]
const fn word(s: &[u8], at: usize) -> u64 {
    u64::from_le_bytes([s[at], s[at + 1], s[at + 2], s[at + 3], s[at + 4], s[at + 5], s[at + 6], s[at + 7]])
}

/// Whether no byte is a control byte: each has bit 5 or bit 6.
#[inline(always)]
const fn plain(x: u64) -> bool {
    (x | x << 1) & 0x4040_4040_4040_4040 == 0x4040_4040_4040_4040
}

#[inline(always)]
const fn half(s: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([s[at], s[at + 1], s[at + 2], s[at + 3]]) as u64
}

/// The first and the last eight bytes; they overlap in names shorter than 16.
#[inline(always)]
const fn ends(s: &[u8]) -> (u64, u64) {
    let n = s.len();
    if n >= 8 {
        (word(s, 0), word(s, n - 8))
    } else if n >= 4 {
        let x = half(s, 0) | half(s, n - 4) << 32;
        (x, x)
    } else if n >= 2 {
        let x = (s[0] as u64 | (s[1] as u64) << 8 | (s[n - 1] as u64) << 16) | FOLD << 24;
        (x, x)
    } else {
        (0, 0)
    }
}

/// The same, lowered.
#[inline(always)]
const fn lowered((a, b): (u64, u64)) -> (u64, u64) {
    (a | FOLD, b | FOLD)
}

macro_rules! known {
    ($name:ident; $($len:literal: $($id:ident = $text:literal),+;)+) => {{
        let found = ends($name);
        let (a, b) = lowered(found);
        match $name.len() {
            // In longer names the comparison below sees every byte.
            _ if !(plain(found.0) && plain(found.1)) => {}
            $($len => {
                $(
                    const { assert!($text.len() == $len) };
                    const $id: (u64, u64) = lowered(ends($text));
                    if a == $id.0 && b == $id.1 && ($len <= 16 || $name.eq_ignore_ascii_case($text)) {
                        return HeaderId::$id;
                    }
                )+
            })+
            _ => {}
        }
        if is_claim(a, $name) { HeaderId::Claim } else { HeaderId::Other }
    }};
}

/// Whether a name that is not known begins like one in which a proxy says what it received.
#[inline(always)]
fn is_claim(first: u64, name: &[u8]) -> bool {
    const FORWARDED: u64 = word(b"x-forwarded-", 0) | FOLD;
    const ORIGINAL: u64 = word(b"x-original-", 0) | FOLD;
    const REWRITE: u64 = word(b"x-rewrite-", 0) | FOLD;
    (first == FORWARDED || first == ORIGINAL || first == REWRITE)
        && [&b"x-forwarded-"[..], b"x-original-", b"x-rewrite-"]
            .iter()
            .any(|p| name.len() > p.len() && name[..p.len()].eq_ignore_ascii_case(p))
}

/// Id of a field name in any case. What is not a token has none: it is [`HeaderId::Other`].
#[inline]
#[allow(non_upper_case_globals, reason = "constants are named after the ids")]
pub fn header_id(name: &[u8]) -> HeaderId {
    known!(name;
        2: Te = b"te";
        3: Via = b"via";
        4: Host = b"host", Date = b"date", ETag = b"etag", Vary = b"vary";
        5: Range = b"range";
        6: Cookie = b"cookie", Accept = b"accept", Origin = b"origin", Expect = b"expect", Server = b"server";
        7: Upgrade = b"upgrade", Trailer = b"trailer", Referer = b"referer";
        8: Location = b"location";
        9: Forwarded = b"forwarded", XRealIp = b"x-real-ip";
        10: Connection = b"connection", UserAgent = b"user-agent", SetCookie = b"set-cookie", KeepAlive = b"keep-alive", Tracestate = b"tracestate";
        11: Traceparent = b"traceparent", RetryAfter = b"retry-after", GrpcStatus = b"grpc-status";
        12: ContentType = b"content-type", XRequestId = b"x-request-id", GrpcTimeout = b"grpc-timeout", GrpcMessage = b"grpc-message";
        13: CacheControl = b"cache-control", Authorization = b"authorization";
        14: ContentLength = b"content-length", Http2Settings = b"http2-settings";
        15: AcceptEncoding = b"accept-encoding", XForwardedFor = b"x-forwarded-for";
        16: ContentEncoding = b"content-encoding", ProxyConnection = b"proxy-connection", XForwardedHost = b"x-forwarded-host", XForwardedPort = b"x-forwarded-port";
        17: TransferEncoding = b"transfer-encoding", XForwardedProto = b"x-forwarded-proto", SecWebSocketKey = b"sec-websocket-key";
        18: ProxyAuthenticate = b"proxy-authenticate";
        19: ProxyAuthorization = b"proxy-authorization";
        21: SecWebSocketVersion = b"sec-websocket-version";
        22: SecWebSocketProtocol = b"sec-websocket-protocol";
        25: StrictTransportSecurity = b"strict-transport-security";
        29: AccessControlRequestMethod = b"access-control-request-method";
        30: AccessControlRequestHeaders = b"access-control-request-headers";
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_in_any_case_and_nothing_else() {
        for (name, id) in [
            ("te", HeaderId::Te),
            ("Via", HeaderId::Via),
            ("HOST", HeaderId::Host),
            ("eTag", HeaderId::ETag),
            ("Range", HeaderId::Range),
            ("Cookie", HeaderId::Cookie),
            ("Trailer", HeaderId::Trailer),
            ("Location", HeaderId::Location),
            ("X-Real-IP", HeaderId::XRealIp),
            ("Connection", HeaderId::Connection),
            ("Content-Length", HeaderId::ContentLength),
            ("HTTP2-Settings", HeaderId::Http2Settings),
            ("X-Forwarded-For", HeaderId::XForwardedFor),
            ("Transfer-Encoding", HeaderId::TransferEncoding),
            ("Access-Control-Request-Headers", HeaderId::AccessControlRequestHeaders),
            ("Strict-Transport-Security", HeaderId::StrictTransportSecurity),
            ("x_forwarded_for", HeaderId::Other),
            ("x-forwarded-fox", HeaderId::Claim),
            ("transfer-xncoding", HeaderId::Other),
            ("tranzfer-encoding", HeaderId::Other),
            ("strict-trXXsport-security", HeaderId::Other),
            ("content_length", HeaderId::Other),
            ("hos", HeaderId::Other),
            ("h", HeaderId::Other),
            ("", HeaderId::Other),
            ("date~", HeaderId::Other),
            ("content\rlength", HeaderId::Other),
            ("etag\r", HeaderId::Other),
            ("t\u{5}", HeaderId::Other),
            ("http\u{12}-settings", HeaderId::Other),
            ("\0e", HeaderId::Other),
            ("tra\0e", HeaderId::Other),
            ("X-Forwarded-Prefix", HeaderId::Claim),
            ("X-Original-URL", HeaderId::Claim),
            ("X-Rewrite-URL", HeaderId::Claim),
            ("X-Forwarded-", HeaderId::Other),
            ("x-forwardedx", HeaderId::Other),
        ] {
            assert_eq!(header_id(name.as_bytes()), id, "{name}");
        }
    }
}
