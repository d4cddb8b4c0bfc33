//! A sentence for each reason not to trust a server, with what to do. Pure.

use crate::client::{Address, Distrust, Printable, Untrusted};

/// The sentence for a server that is not trusted, with what to do.
pub(super) fn sentence(untrusted: &Untrusted, address: &Address) -> Printable {
    let line = Printable::new();
    let of = |words: &'static str| line.trusted(words).untrusted(&address.to_string());
    let presented = untrusted.presented.to_string();
    match &untrusted.reason {
        Distrust::Expired => of("the certificate of ").trusted(
            " has expired; ask the server's operator to renew it, and check this machine's clock",
        ),
        Distrust::NotYetValid => {
            of("the certificate of ").trusted(" is not valid yet; check this machine's clock")
        }
        Distrust::OtherHost(names) if names.is_empty() => {
            of("the certificate of ").trusted(" is for no host of this name; check the address")
        }
        Distrust::OtherHost(names) => of("the certificate of ")
            .trusted(" is for ")
            .untrusted(&names.join(", "))
            .trusted("; use that name, or check the address"),
        Distrust::SelfSigned => of("the certificate of ")
            .trusted(
                " is self-signed; compare it with what the server's operator says, then say --pin ",
            )
            .untrusted(&presented),
        Distrust::UnknownIssuer => of("the issuer of the certificate of ")
            .trusted(
                " is not known; the server may lack the chain behind --tls-cert, or the issuer \
                 is a private one: say --ca FILE, or compare the certificate and say --pin ",
            )
            .untrusted(&presented),
        Distrust::OtherPin { .. } => of("the certificate of ")
            .trusted(" is not the pinned one but ")
            .untrusted(&presented)
            .trusted(
                ": somebody may be in between; if the server's operator confirms it, use the new \
                 address",
            ),
        Distrust::Invalid(error) => of("the certificate of ")
            .trusted(" is not accepted: ")
            .untrusted(error)
            .trusted("; ask the server's operator for another"),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::client::Pin;

    #[test]
    fn each_reason_has_a_sentence_that_says_what_to_do() {
        let address: Address = "chats://example.org:1".parse().expect("an address");
        let sentences: String = [
            Distrust::Expired,
            Distrust::NotYetValid,
            Distrust::OtherHost(vec!["a.example".to_owned(), "\u{202e}b".to_owned()]),
            Distrust::OtherHost(Vec::new()),
            Distrust::SelfSigned,
            Distrust::UnknownIssuer,
            Distrust::OtherPin {
                expected: Pin::new([2; 32]),
            },
            Distrust::Invalid("its\nwords".to_owned()),
        ]
        .map(|reason| {
            let presented = Pin::new([1; 32]);
            let untrusted = Untrusted { presented, reason };
            format!("{}\n", sentence(&untrusted, &address))
        })
        .concat();
        assert_snapshot!(sentences);
    }
}
