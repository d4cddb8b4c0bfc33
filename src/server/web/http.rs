//! HTTP: what is answered to a request, and which requests get the WebSocket.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Bytes,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

/// The page, as src/web makes it; and which scripts and styles a browser may run in it.
const PAGE: &str = include_str!("../../web/bundle/page.html");
const CONTENT_SECURITY_POLICY: &str = include_str!("../../web/bundle/csp.txt");

/// Where the page is, and the WebSocket.
const PAGE_PATH: &str = "/";
const SOCKET_PATH: &str = "/chat";

/// What RFC 6455 has the server append to the client's key.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How long a client's key is: 16 bytes in base64.
const KEY_CHARS: usize = 24;

/// The only version of WebSocket.
const SOCKET_VERSION: &str = "13";

/// What the answers to requests depend on.
pub(super) struct Site {
    /// Whether only this machine reaches it.
    is_local: bool,
    /// Pages of other sites that may use the WebSocket.
    origins: Vec<String>,
}

type Answer = Response<Full<Bytes>>;

impl Site {
    pub(super) fn new(is_local: bool, origins: Vec<String>) -> Self {
        Self { is_local, origins }
    }

    /// The answer, and whether the connection is a WebSocket from there on.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> (Answer, bool) {
        let headers = request.headers();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let answer = match request.uri().path() {
            _ if !self.is_host_allowed(headers) => refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "this server is reached as localhost",
            ),
            PAGE_PATH if is_read => page(),
            SOCKET_PATH if *request.method() == Method::GET => {
                return match self.upgrade(request) {
                    Ok(answer) => (answer, true),
                    Err(answer) => (*answer, false),
                };
            }
            PAGE_PATH | SOCKET_PATH => {
                refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here")
            }
            _ => refuse(StatusCode::NOT_FOUND, "nothing is here; the page is at /"),
        };
        (answer, false)
    }

    /// Against other sites' names for this machine (DNS rebinding).
    fn is_host_allowed(&self, headers: &HeaderMap) -> bool {
        !self.is_local || only(headers, &header::HOST).is_some_and(is_this_machine)
    }

    /// Whether the page that asks is this server's own, or one that it was told of. A
    /// client that is no browser sends no origin.
    fn is_origin_allowed(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(header::ORIGIN) {
            return true;
        }
        let (Some(origin), Some(host)) =
            (only(headers, &header::ORIGIN), only(headers, &header::HOST))
        else {
            return false;
        };
        let mut others = self.origins.iter();
        let is_own = origin
            .split_once("://")
            .is_some_and(|(_, from)| from.eq_ignore_ascii_case(host));
        is_own || others.any(|other| other.eq_ignore_ascii_case(origin))
    }

    fn upgrade<B>(&self, request: &Request<B>) -> Result<Answer, Box<Answer>> {
        let headers = request.headers();
        let asks = has_token(headers, &header::CONNECTION, "upgrade")
            && has_token(headers, &header::UPGRADE, "websocket")
            && request.version() == Version::HTTP_11;
        if !asks {
            return Err(upgrade_required("this is a WebSocket").into());
        }
        if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(SOCKET_VERSION) {
            return Err(upgrade_required("only version 13 of WebSocket is spoken").into());
        }
        // CHAT-WS-8
        if !self.is_origin_allowed(headers) {
            return Err(refuse(
                StatusCode::FORBIDDEN,
                "pages of other sites may not chat here, unless --web-origin names them",
            )
            .into());
        }
        let key = only(headers, &header::SEC_WEBSOCKET_KEY)
            .filter(|key| key.len() == KEY_CHARS && BASE64_STANDARD.decode(key).is_ok())
            .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "the key of the WebSocket is wrong"))?;
        let accepted = digest(
            &SHA1_FOR_LEGACY_USE_ONLY,
            [key, KEY_SUFFIX].concat().as_bytes(),
        );
        // CHAT-WS-9: what else the client offers is not agreed to.
        let mut answer = answer(StatusCode::SWITCHING_PROTOCOLS, "");
        for (name, value) in [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
        ] {
            set(&mut answer, name, value);
        }
        let accepted = BASE64_STANDARD.encode(accepted);
        set(&mut answer, header::SEC_WEBSOCKET_ACCEPT, &accepted);
        Ok(answer)
    }
}

fn answer(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

fn refuse(status: StatusCode, sentence: &'static str) -> Answer {
    let mut answer = answer(status, sentence);
    set(&mut answer, header::CONTENT_TYPE, "text/plain");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

fn upgrade_required(sentence: &'static str) -> Answer {
    let mut answer = refuse(StatusCode::UPGRADE_REQUIRED, sentence);
    set(&mut answer, header::CONNECTION, "Upgrade");
    set(&mut answer, header::UPGRADE, "websocket");
    set(&mut answer, header::SEC_WEBSOCKET_VERSION, SOCKET_VERSION);
    answer
}

fn page() -> Answer {
    let mut answer = answer(StatusCode::OK, PAGE);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            CONTENT_SECURITY_POLICY.trim(),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        set(&mut answer, name, value);
    }
    answer
}

/// The value of a header that comes once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// Whether a Host header names the machine itself.
fn is_this_machine(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = without_port.trim_start_matches('[').trim_end_matches(']');
    without_port.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    const UPGRADE: [(&str, &str); 5] = [
        ("host", "chat.example:8080"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn status(site: &Site, path: &str, headers: &[(&str, &str)]) -> u16 {
        site.answer(&request(path, headers)).0.status().as_u16()
    }

    #[test]
    fn the_key_is_answered_as_in_the_example_of_the_standard() {
        let site = Site::new(false, Vec::new());
        let (answer, is_upgraded) = site.answer(&request("/chat", &UPGRADE));
        assert!(is_upgraded);
        assert_eq!(answer.status(), 101);
        let accepted = &answer.headers()[header::SEC_WEBSOCKET_ACCEPT];
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_upgrade_is_refused() {
        let site = Site::new(false, Vec::new());
        for (name, value, expected) in [
            ("connection", "close", 426),
            ("upgrade", "h2c", 426),
            ("sec-websocket-version", "8", 426),
            ("sec-websocket-key", "short", 400),
            ("sec-websocket-key", "************************", 400),
        ] {
            let mut headers = UPGRADE.to_vec();
            headers.retain(|(other, _)| *other != name);
            let (answer, is_upgraded) = site.answer(&request("/chat", &headers));
            assert_eq!((answer.status().as_u16(), is_upgraded), (expected, false));
            headers.push((name, value));
            assert_eq!(
                status(&site, "/chat", &headers),
                expected,
                "{name}: {value}"
            );
        }
        assert_eq!(status(&site, "/", &[]), 200);
        assert_eq!(status(&site, "/other", &[]), 404);
    }

    /// CHAT-WS-8
    #[test]
    fn pages_of_other_sites_are_refused() {
        let site = Site::new(false, vec!["https://other.example".to_owned()]);
        for (origin, expected) in [
            ("http://chat.example:8080", 101),
            ("https://CHAT.example:8080", 101),
            ("https://other.example", 101),
            ("http://other.example", 403),
            ("http://chat.example", 403),
            ("http://chat.example:8080.evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            let headers = [&UPGRADE[..], &[("origin", origin)]].concat();
            assert_eq!(status(&site, "/chat", &headers), expected, "{origin}");
        }
        let twice = [
            &UPGRADE[..],
            &[("origin", "https://other.example"), ("origin", "null")],
        ]
        .concat();
        assert_eq!(status(&site, "/chat", &twice), 403);
    }

    #[test]
    fn a_local_server_answers_to_local_names_only() {
        let site = Site::new(true, Vec::new());
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:8080", 200),
            ("127.0.0.1:8080", 200),
            ("127.1.2.3", 200),
            ("[::1]:8080", 200),
            ("evil.example:8080", 421),
            ("192.0.2.1", 421),
            ("localhost.evil.example", 421),
            ("", 421),
        ] {
            assert_eq!(status(&site, "/", &[("host", host)]), expected, "{host}");
        }
        assert_eq!(status(&site, "/", &[]), 421);
    }

    #[test]
    fn the_page_forbids_what_it_does_not_need() {
        let (answer, _) = Site::new(false, Vec::new()).answer(&request("/", &[]));
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("text");
        for words in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "script-src 'sha256-",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(words), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
