//! What is answered to the head of a request: a WebSocket only to one that asks for it as
//! RFC 6455 says, from a page that may (CHAT-WS-8), and without extensions (CHAT-WS-9).

use std::net::IpAddr;

use hyper::{Request, Version};

use super::http::Site;

/// A page of another site that may use the WebSocket.
const ALLOWED: &str = "https://allowed.example";

/// The first byte says whether only this machine reaches the site, and the version. The
/// rest is the head: method and path in the first line, then a header in each line.
pub fn run(data: &[u8]) {
    let Some((&flags, head)) = data.split_first() else {
        return;
    };
    let is_local = flags % 2 == 1;
    let mut lines = head.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let Ok(first) = str::from_utf8(first) else {
        return;
    };
    let (method, path) = first.split_once(' ').unwrap_or((first, "/"));
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .version(match flags % 4 {
            0 | 1 => Version::HTTP_11,
            _ => Version::HTTP_10,
        });
    let mut headers = Vec::new();
    for line in lines {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        request = request.header(name, value);
        headers.push((name.to_ascii_lowercase(), value.to_vec()));
    }
    // What is no request does not come so far.
    let Ok(request) = request.body(()) else {
        return;
    };
    let site = Site::new(is_local, vec![ALLOWED.to_owned()]);
    let (answer, is_websocket) = site.answer(&request);
    assert_eq!(is_websocket, answer.status() == 101, "{}", answer.status());
    for header in ["sec-websocket-extensions", "sec-websocket-protocol"] {
        assert!(!answer.headers().contains_key(header), "{header}");
    }
    if !is_websocket {
        return;
    }
    assert!(answer.headers().contains_key("sec-websocket-accept"));
    assert_eq!(
        (request.method().as_str(), request.uri().path()),
        ("GET", "/chat")
    );
    assert_eq!(request.version(), Version::HTTP_11);
    let values = |wanted: &str| -> Vec<String> {
        let named = headers.iter().filter(|(name, _)| name == wanted.as_bytes());
        named
            .map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase())
            .collect()
    };
    let has = |name: &str, token: &str| {
        values(name)
            .iter()
            .any(|value| value.split(',').any(|it| it.trim() == token))
    };
    assert!(has("connection", "upgrade") && has("upgrade", "websocket"));
    assert_eq!(values("sec-websocket-version"), ["13"]);
    assert_eq!(values("sec-websocket-key").len(), 1);
    let hosts = values("host");
    if let [origin, more @ ..] = &values("origin")[..] {
        assert!(more.is_empty(), "{origin} and {more:?}");
        let from = origin.split_once("://").map_or("", |(_, from)| from);
        assert!(
            origin == ALLOWED || hosts == [from],
            "{origin} at {hosts:?}"
        );
    }
    if is_local {
        let host = hosts.first().map_or("", String::as_str);
        let is_port = |it: &str| it.bytes().all(|byte| byte.is_ascii_digit());
        let name = match host.rsplit_once(':') {
            Some((name, port)) if is_port(port) => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = address.parse().is_ok_and(|it: IpAddr| it.is_loopback());
        assert!(is_loopback || name == "localhost", "{host}");
    }
}
