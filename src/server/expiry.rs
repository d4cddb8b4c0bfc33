//! Expiry: until when a chain of certificates is valid, for the metrics and the log. Pure:
//! certificates and the time go in.

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// How long before the end of a certificate the log warns, in seconds: a week, by when
/// programs that renew have tried many times.
const WARNING_S: i64 = 7 * 86_400;

/// Until when a chain is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The server's own certificate.
    pub(super) server_unix_s: i64,
    /// Of those between it and its root, the one that ends first.
    pub(super) issuers_unix_s: Option<i64>,
}

impl Expiry {
    /// Of a chain, the server's own certificate first; `None` if that cannot be read.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let end_unix_s = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some(certificate.validity().not_after.timestamp())
        };
        let (server, issuers) = chain.split_first()?;
        Some(Self {
            server_unix_s: end_unix_s(server)?,
            issuers_unix_s: issuers.iter().filter_map(end_unix_s).min(),
        })
    }

    /// What to tell the operator about it, if anything.
    pub(super) fn warning(self, now_unix_s: i64) -> Option<&'static str> {
        let issuers_unix_s = self.issuers_unix_s.unwrap_or(i64::MAX);
        match self.server_unix_s.min(issuers_unix_s) - now_unix_s {
            ..0 => Some("the certificate has expired, and clients refuse it: renew it"),
            0..WARNING_S => Some("the certificate expires within a week: renew it"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// 2027-03-01 and 2028-03-01, at midnight.
    const MARCH_2027_UNIX_S: i64 = 1_803_859_200;
    const MARCH_2028_UNIX_S: i64 = 1_835_481_600;

    fn certificate(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([]).expect("no names");
        params.not_after = date_time_ymd(year, 3, 1);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").into()
    }

    #[test]
    fn a_chain_ends_with_its_certificates() {
        let (server, issuer) = (certificate(2027), certificate(2028));
        let of = |chain: &[CertificateDer<'_>]| {
            let expiry = Expiry::of(chain)?;
            Some((expiry.server_unix_s, expiry.issuers_unix_s))
        };
        assert_eq!(of(&[]), None);
        let alone = std::slice::from_ref(&server);
        assert_eq!(of(alone), Some((MARCH_2027_UNIX_S, None)));
        let both = Some((MARCH_2028_UNIX_S, Some(MARCH_2027_UNIX_S)));
        assert_eq!(of(&[issuer.clone(), issuer, server]), both);
        assert_eq!(of(&[CertificateDer::from(&b"none"[..])]), None);
    }

    #[test]
    fn the_operator_is_warned_of_whichever_ends_first() {
        for (server, issuers, is_warned) in [
            (WARNING_S, None, false),
            (WARNING_S - 1, None, true),
            (WARNING_S, Some(WARNING_S - 1), true),
            (-1, None, true),
        ] {
            let expiry = Expiry {
                server_unix_s: server,
                issuers_unix_s: issuers,
            };
            assert_eq!(expiry.warning(0).is_some(), is_warned, "{expiry:?}");
        }
    }
}
