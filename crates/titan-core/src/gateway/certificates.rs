//! Says in time that a listener's certificate must be replaced: a figure is of use only to who asks for it.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::Inner;
use crate::tls::CertificateInfo;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(3600);
/// Told at most so many seconds before the end.
const SOON: i64 = 14 * 86_400;

/// Looks at the certificates in use now, whenever `changed` says that there may be others, and every hour. Tells of each once.
pub(super) async fn watch(inner: Weak<Inner>, changed: Arc<Notify>) {
    let mut told = HashSet::new();
    loop {
        let Some(alive) = inner.upgrade() else { return };
        let snapshot = alive.state.lock().snapshot.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        for certificate in snapshot.listeners.iter().filter_map(|spec| spec.tls.as_ref()).flat_map(|tls| tls.certificates()) {
            if let Some((event, message)) = due(certificate, now)
                && told.insert((certificate.path.clone(), certificate.serial.clone(), event))
            {
                alive.tell("warn", event, message);
            }
        }
        // Neither the gateway nor its configuration lives for this.
        drop((alive, snapshot));
        let _ = tokio::time::timeout(EVERY, changed.notified()).await;
    }
}

/// What is to be said of a certificate at `now`. One that lives for days is due in the last third of its time.
fn due(certificate: &CertificateInfo, now: i64) -> Option<(&'static str, String)> {
    let left = certificate.not_after - now;
    let what = format!("the certificate in {} for {}", certificate.path, certificate.names.join(", "));
    if now < certificate.not_before {
        let from = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(certificate.not_before as u64));
        Some(("certificate_not_yet_valid", format!("{what} is not valid before {from}: clients refuse it; is the clock right?")))
    } else if left <= 0 {
        Some(("certificate_expired", format!("{what} has expired: clients refuse it; put another one there and reload")))
    } else if left <= SOON.min((certificate.not_after - certificate.not_before) / 3) {
        let (days, hours) = (left / 86_400, left % 86_400 / 3600);
        Some(("certificate_expires", format!("{what} expires in {days} days and {hours} hours; put another one there and reload")))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(not_before: i64, not_after: i64) -> CertificateInfo {
        CertificateInfo {
            path: "a.pem".into(),
            names: vec!["a.test".into()],
            subject: String::new(),
            issuer: String::new(),
            serial: "1".into(),
            not_before,
            not_after,
            version: 3,
            self_signed: false,
        }
    }

    #[test]
    fn a_certificate_is_due_in_time() {
        let day = 86_400;
        let event = |certificate: &CertificateInfo, now| due(certificate, now).map(|(event, _)| event);
        let long = certificate(0, 90 * day);
        assert_eq!(event(&long, 75 * day), None);
        assert_eq!(
            due(&long, 77 * day).unwrap().1.split(" expires").nth(1),
            Some(" in 13 days and 0 hours; put another one there and reload")
        );
        assert_eq!(event(&long, 90 * day), Some("certificate_expired"));
        assert_eq!(event(&certificate(day, 90 * day), 0), Some("certificate_not_yet_valid"));
        let short = certificate(0, 6 * day);
        assert_eq!((event(&short, 3 * day), event(&short, 5 * day)), (None, Some("certificate_expires")));
    }
}
