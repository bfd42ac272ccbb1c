//! HTTP/1.1 messages, well-formed and hostile: fed whole, byte by byte and cut at every index they
//! give the same.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use ringgate::wire::http::body::Framing;
use ringgate::wire::http::encode::{HeadWriter, LAST_CHUNK, put_chunk_head};
use ringgate::wire::http::head::{Asked, Fields};
use ringgate::wire::http::walk::{Event, RequestWalker, ResponseWalker};
use ringgate::wire::http::{HttpError, Limits};

/// What came of a stream: heads in words, bodies by their content, and the error that ended it.
type Told = (Vec<String>, Option<HttpError>);

fn words(fields: Fields<'_>) -> String {
    let field = |(name, value)| {
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        format!("{name}={value}")
    };
    fields.map(field).collect::<Vec<_>>().join(",")
}

/// Joins pieces of one body.
fn content(told: &mut Vec<String>, piece: &[u8]) {
    // One character for each byte: a cut must not show.
    let text: String = piece.iter().copied().map(char::from).collect();
    match told.last_mut().filter(|last| last.starts_with("body ")) {
        Some(last) => last.push_str(&text),
        None => told.push(format!("body {text}")),
    }
}

fn requests<'a>(parts: impl Iterator<Item = &'a [u8]>, limits: Limits) -> Told {
    let mut walker = RequestWalker::new(limits);
    let mut told = Vec::new();
    for part in parts {
        let mut rest = part;
        loop {
            let (taken, event) = match walker.next(rest) {
                Ok(found) => found,
                Err(error) => return (told, Some(error)),
            };
            match event {
                Event::More => break,
                Event::Head(head) => told.push(format!(
                    "{} {} {:?} keep={} [{}]",
                    head.method,
                    head.target,
                    head.framing,
                    head.keep_alive,
                    words(head.fields)
                )),
                Event::Content(count) => content(&mut told, &rest[taken - count..taken]),
                Event::End => told.push("end".into()),
                Event::Switched => unreachable!("nobody has switched"),
            }
            rest = &rest[taken..];
        }
    }
    (told, walker.end().err())
}

fn responses<'a>(parts: impl Iterator<Item = &'a [u8]>, asked: &[Asked]) -> Told {
    let mut walker = ResponseWalker::new(Limits::default());
    let mut asked = asked.iter();
    asked
        .next()
        .into_iter()
        .for_each(|&asked| walker.expect(asked));
    let mut told = Vec::new();
    for part in parts {
        let mut rest = part;
        loop {
            let (taken, event) = match walker.next(rest) {
                Ok(found) => found,
                Err(error) => return (told, Some(error)),
            };
            let mut is_over = false;
            match event {
                Event::More => break,
                Event::Head(head) => told.push(format!(
                    "{} {:?} keep={}",
                    head.status, head.framing, head.keep_alive
                )),
                Event::Content(count) => content(&mut told, &rest[taken - count..taken]),
                Event::End => {
                    told.push("end".into());
                    is_over = true;
                }
                Event::Switched => {
                    told.push("switched".into());
                    return (told, None);
                }
            }
            rest = &rest[taken..];
            if is_over && let Some(&next) = asked.next() {
                walker.expect(next);
            }
        }
    }
    match walker.end() {
        Ok(true) => {
            told.push("end".into());
            (told, None)
        }
        ended => (told, ended.err()),
    }
}

/// Feeds `bytes` in every way; all ways must tell the same.
#[track_caller]
fn every_way(bytes: &[u8], feed: impl Fn(&[&[u8]]) -> Told) -> Told {
    let whole = feed(&[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(
        feed(&single),
        whole,
        "byte by byte: {:?}",
        String::from_utf8_lossy(bytes)
    );
    for cut in 0..bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(
            feed(&[a, b]),
            whole,
            "cut at {cut}: {:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    whole
}

#[track_caller]
fn request(bytes: &[u8]) -> Told {
    every_way(bytes, |parts| {
        requests(parts.iter().copied(), Limits::default())
    })
}

#[track_caller]
fn response(bytes: &[u8], asked: &[Asked]) -> Told {
    every_way(bytes, |parts| responses(parts.iter().copied(), asked))
}

#[test]
fn requests_one_after_the_other() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /x?y=1 HTTP/1.1\r\nhost: a:80\r\nContent-Length: 5\r\nX:  v \t\r\n\r\nhello\
        \r\nPUT * HTTP/1.1\r\nHost: a\r\n\r\n";
    let (told, error) = request(bytes);
    assert_eq!(
        told,
        [
            "GET / None keep=true [Host=a]",
            "end",
            "POST /x?y=1 Length(5) keep=true [host=a:80,Content-Length=5,X=v]",
            "body hello",
            "end",
        ]
    );
    assert_eq!(error, Some(HttpError::Target));
}

#[test]
fn a_request_in_chunks_with_extensions_and_trailers() {
    let bytes = b"POST / HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: Chunked\r\nConnection: x, Close\r\n\r\n\
        5;a=b\r\nhello\r\n00A\r\n, world!!!\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n\
        GET http://[::1]:8080/?x HTTP/1.0\r\nHost: [::1]:8080\r\nConnection: keep-alive\r\n\r\n";
    let (told, error) = request(bytes);
    assert_eq!(error, None);
    assert_eq!(
        told,
        [
            "POST / Chunked keep=false [Host=[::1]:8080,Transfer-Encoding=Chunked,Connection=x, Close]",
            "body hello, world!!!",
            "end",
            "GET http://[::1]:8080/?x None keep=true [Host=[::1]:8080,Connection=keep-alive]",
            "end",
        ]
    );
}

/// A request with this line and these fields.
fn with(line: &str, fields: &str) -> Vec<u8> {
    format!("{line}\r\n{fields}\r\n").into_bytes()
}

#[track_caller]
fn refused(bytes: &[u8], expect: HttpError) {
    let (_, error) = request(bytes);
    assert_eq!(error, Some(expect), "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn framing_that_could_be_read_in_two_ways_is_refused() {
    use HttpError as E;
    let check = |fields: &str, expect| {
        let fields = format!("Host: a\r\n{fields}\r\n");
        refused(&with("POST / HTTP/1.1", &fields), expect);
    };
    check(
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        E::TwoFramings,
    );
    check(
        "Transfer-Encoding: chunked\r\nContent-Length: 1",
        E::TwoFramings,
    );
    let lengths = "|+1|-1|0x10|1_0|1, 1|1 1|9223372036854775808|99999999999999999999";
    for length in lengths.split('|') {
        check(&format!("Content-Length: {length}"), E::ContentLength);
    }
    check("Content-Length: 1\r\nContent-Length: 1", E::ContentLength);
    let codings =
        "xchunked|chunked, chunked|,chunked|chunked,|identity|gzip, chunked|\u{a0}chunked";
    for coding in codings.split('|') {
        check(&format!("Transfer-Encoding: {coding}"), E::TransferEncoding);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    check(twice, E::TransferEncoding);
    check("Transfer-Encoding: chunked\x0b", E::Head);
    check("Transfer-Encoding:\r\n chunked", E::Head);
    check("Transfer-Encoding : chunked", E::Head);
    let upgrade = "Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1";
    check(upgrade, E::UnexpectedBody);
    let old = with("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n");
    refused(&old, E::UnexpectedTransferEncoding);
}

#[test]
fn fields_that_break_the_grammar_are_refused() {
    use HttpError as E;
    let check = |fields: &str, expect| {
        let fields = format!("Host: a\r\n{fields}\r\n");
        refused(&with("POST / HTTP/1.1", &fields), expect);
    };
    check(": x", E::Head);
    check("no colon", E::Head);
    check("X: a\0b", E::Head);
    check("X: a\rb", E::LineEnd);
    check("X: a\nContent-Length: 1", E::LineEnd);
    check("Host: a", E::Host);
    check("Expect: more", E::Expect);
    refused(&with("GET / HTTP/1.1", ""), E::Host);
    for host in "|a,b|u@a|a:99999|a:x|[::1|[::1]x|[a]|a/b|a b".split('|') {
        refused(
            &with("GET / HTTP/1.1", &format!("Host: {host}\r\n")),
            E::Host,
        );
    }
}

#[test]
fn first_lines_that_are_refused() {
    use HttpError as E;
    let host = "Host: a\r\n";
    for version in ["HTTP/9.9", "HTTP/2.0", "HTTP/1.2"] {
        refused(&with(&format!("GET / {version}"), host), E::Version);
    }
    for line in "GET\t/ HTTP/1.1|GET /|GET / HTTP/1.10|G(T / HTTP/1.1| GET / HTTP/1.1".split('|') {
        assert!(request(&with(line, host)).1.is_some(), "{line}");
    }
    for target in "/#x|/\\|a|*|ftp://a/|http:///x|http://u@a/|/\u{e9}".split('|') {
        let (told, error) = request(&with(&format!("GET {target} HTTP/1.1"), host));
        let is_refused = matches!(error, Some(E::Target | E::Head));
        assert!(told.is_empty() && is_refused, "{target}: {error:?}");
    }
    refused(&with("GET http://b/ HTTP/1.1", host), E::Host);
    refused(&with("CONNECT a HTTP/1.1", host), E::Target);
    refused(&with("CONNECT / HTTP/1.1", host), E::Target);
    refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", E::Version);
    refused(b"\x16\x03\x01\x02\0\x01", E::Head);
    refused(b"\r\n\r\n\r\nGET / HTTP/1.1\r\n", E::Head);
    refused(b"GET / HTTP/1.1\r\nHo", E::Truncated);
    let short = with("POST / HTTP/1.1", "Host: a\r\nContent-Length: 2\r\n");
    refused(&[&short[..], b"x"].concat(), E::Truncated);
}

#[test]
fn a_refused_request_lets_nothing_behind_it_through() {
    let bad = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /canary HTTP/1.1\r\nHost: a\r\n\r\n";
    let (told, error) = request(bad);
    assert_eq!((told.len(), error), (0, Some(HttpError::TwoFramings)));
    assert_eq!(HttpError::TwoFramings.status(), 400);
    assert_eq!(HttpError::TransferEncoding.status(), 501);
}

#[test]
fn chunks_that_lie() {
    #[track_caller]
    fn check(body: &[u8], expect: Option<HttpError>) {
        let mut bytes =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend_from_slice(body);
        assert_eq!(
            request(&bytes).1,
            expect,
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
    let bad = Some(HttpError::Chunk);
    check(b"0\r\n\r\n", None);
    check(b"0000000000000001\r\nx\r\n0000000000000000\r\n\r\n", None);
    check(b"1;a;b=\"c \xe9\"\r\nx\r\n0;z\r\n\r\n", None);
    for size in [
        &b"\r\n"[..],
        b"0x1\r\nx\r\n",
        b"+1\r\nx\r\n",
        b"1_\r\nx\r\n",
        b"1 \r\nx\r\n",
        b" 1\r\nx\r\n",
        b"1;\r\nx\r\n",
        b"1; \r\nx\r\n",
        b"1\nx\r\n",
        b"1\r\r\nx\r\n",
        b"1;a\nb\r\nx\r\n",
        b"1;a\r \r\nx\r\n",
        b"00000000000000001\r\nx\r\n",
        b"1\r\nxy\r\n",
        b"1\r\nx\n",
        b"1\r\nx0\r\n\r\n",
    ] {
        check(size, bad);
    }
    check(b"0\r\n", Some(HttpError::Truncated));
    check(b"5\r\nabc", Some(HttpError::Truncated));
    for name in ["Content-Length", "transfer-encoding", "HOST"] {
        check(
            format!("0\r\n{name}: 1\r\n\r\n").as_bytes(),
            Some(HttpError::Trailer),
        );
    }
    check(b"0\r\nno colon\r\n\r\n", Some(HttpError::Trailer));
    check(b"0\r\nX: y\n\r\n", Some(HttpError::LineEnd));
}

#[test]
fn heads_are_bounded() {
    let limits = Limits {
        head_bytes_max: 64,
        fields_max: 3,
        target_bytes_max: 10,
        extension_bytes_max: 8,
        ..Limits::default()
    };
    let check = |bytes: &[u8], expect: Option<HttpError>| {
        let told = every_way(bytes, |parts| requests(parts.iter().copied(), limits));
        assert_eq!(told.1, expect, "{:?}", String::from_utf8_lossy(bytes));
    };
    check(b"GET /123456789 HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check(
        b"GET /1234567890 HTTP/1.1\r\nHost: a\r\n\r\n",
        Some(HttpError::TargetTooLong),
    );
    check(&[b'A'; 100], Some(HttpError::TargetTooLong));
    check(b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\nHost: a\r\n\r\n", None);
    check(
        b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\nE: f\r\nHost: a\r\n\r\n",
        Some(HttpError::HeadTooLarge),
    );
    let long = with(
        "GET / HTTP/1.1",
        &format!("Host: a\r\nX: {}\r\n", "y".repeat(64)),
    );
    check(&long, Some(HttpError::HeadTooLarge));
    let exact = with(
        "GET / HTTP/1.1",
        &format!("Host: a\r\nX: {}\r\n", "y".repeat(32)),
    );
    assert_eq!(exact.len(), 64);
    check(&exact, None);
    let mut bytes = b"POST / HTTP/1.1\r\nHost:a\r\nTransfer-Encoding:chunked\r\n\r\n".to_vec();
    let head = bytes.len();
    bytes.extend_from_slice(b"1;abcdefg\r\nx\r\n0\r\n\r\n");
    check(&bytes, None);
    bytes.splice(head.., *b"1;abcd\r\nx\r\n0;abcd\r\n\r\n");
    check(&bytes, Some(HttpError::ExtensionsTooLong));
}

#[test]
fn no_length_of_a_name_hides_the_field_behind_it() {
    // CVE-2021-40346: a length kept in too few bits.
    let limits = Limits {
        head_bytes_max: 1 << 18,
        ..Limits::default()
    };
    for length in [1, 254, 255, 256, 257, 65_534, 65_535, 65_536, 65_537] {
        let name = "x".repeat(length);
        let fields = format!("Host: a\r\n{name}: v\r\nContent-Length: 3\r\n");
        let mut bytes = with("POST / HTTP/1.1", &fields);
        bytes.extend_from_slice(b"abcGET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        let (told, error) = requests([&bytes[..]].into_iter(), limits);
        assert_eq!((told.len(), error), (5, None), "{length}");
        assert!(told[0].starts_with("POST / Length(3)") && told[3].starts_with("GET /next"));
    }
}

#[test]
fn responses_end_where_their_heads_say() {
    use Asked::{Head, Plain, Upgrade};
    #[track_caller]
    fn check(bytes: &[u8], asked: &[Asked], expect: &[&str]) {
        assert_eq!(
            response(bytes, asked),
            (expect.iter().map(ToString::to_string).collect(), None)
        );
    }
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        &[Plain, Plain],
        &["200 Length(2) keep=true", "body hi", "end", "404 None keep=true", "end"],
    );
    check(
        b"HTTP/1.1 200\r\n\r\nall of it",
        &[Plain],
        &["200 UntilClose keep=false", "body all of it", "end"],
    );
    check(
        b"HTTP/1.0 200 OK\r\n\r\n",
        &[Plain],
        &["200 UntilClose keep=false", "end"],
    );
    check(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: 1\r\n\r\n",
        &[Plain],
        &["200 Chunked keep=true", "body abcd", "end"],
    );
    check(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\nConnection: close\r\n\r\n",
        &[Plain],
        &["100 None keep=true", "103 None keep=true", "204 None keep=false", "end"],
    );
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        &[Head, Plain],
        &["200 None keep=true", "end", "304 None keep=true", "end"],
    );
    check(
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00",
        &[Upgrade],
        &["101 None keep=true", "switched"],
    );
}

#[test]
fn responses_that_are_refused() {
    use HttpError as E;
    #[track_caller]
    fn check(bytes: &[u8], expect: HttpError) {
        assert_eq!(
            response(bytes, &[Asked::Plain]).1,
            Some(expect),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    let head =
        |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes();
    check(
        &head(
            "200 OK",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        ),
        E::TwoFramings,
    );
    check(
        &head("200 OK", "Content-Length: 1\r\nContent-Length: 2\r\n"),
        E::ContentLength,
    );
    check(
        &head("200 OK", "Transfer-Encoding: gzip\r\n"),
        E::TransferEncoding,
    );
    check(
        &head("204 No", "Transfer-Encoding: chunked\r\n"),
        E::UnexpectedTransferEncoding,
    );
    check(&head("204 No", "Content-Length: 3\r\n"), E::UnexpectedBody);
    check(&head("999 Odd", ""), E::Status);
    check(&head("99 Odd", ""), E::Status);
    check(
        &head("101 Switching", "Upgrade: x\r\nConnection: upgrade\r\n"),
        E::UnexpectedUpgrade,
    );
    check(&head("200 OK", "X: a\rb\r\n"), E::LineEnd);
    check(b"SSH-2.0-OpenSSH\r\n", E::Head);
    check(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        E::UnexpectedTransferEncoding,
    );
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1",
        E::Unsolicited,
    );
    check(b"HTTP/1.1 204 No\r\n\r\nbody", E::Unsolicited);
    check(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nx",
        E::Truncated,
    );
    check(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        E::Truncated,
    );
    check(b"", E::Truncated);
    check(
        &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(11),
        E::TooManyInterims,
    );
    let long = format!("200 {}", "x".repeat(64 * 1024));
    assert_eq!(
        responses([&head(&long, "")[..]].into_iter(), &[Asked::Plain]).1,
        Some(E::HeadTooLarge)
    );
}

#[test]
fn a_head_in_single_bytes_is_looked_at_once() {
    // A quadratic walker would need half a minute for this one.
    let limits = Limits {
        head_bytes_max: 1 << 22,
        target_bytes_max: 1 << 22,
        ..Limits::default()
    };
    let bytes = with(
        &format!("GET /{} HTTP/1.1", "x".repeat(1 << 21)),
        "Host: a\r\n",
    );
    let (told, error) = requests(bytes.chunks(1), limits);
    assert_eq!((told.len(), error), (2, None));
}

#[test]
fn a_switched_connection_is_left_alone() {
    let mut walker = RequestWalker::new(Limits::default());
    let bytes = with(
        "GET /ws HTTP/1.1",
        "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    let (taken, event) = walker.next(&bytes).unwrap();
    let Event::Head(head) = event else {
        panic!("{event:?}");
    };
    assert_eq!(
        (taken, head.upgrade),
        (bytes.len(), Some(&b"websocket"[..]))
    );
    assert_eq!((head.authority, head.framing), (&b"a"[..], Framing::None));
    walker.switch();
    assert_eq!(walker.next(b"\x81\x05hello"), Ok((0, Event::Switched)));
    assert_eq!(walker.end(), Ok(()));
}

/// One well-formed response and what is to be told of it.
fn any_response() -> impl Strategy<Value = (Vec<u8>, Vec<String>)> {
    let body = proptest::collection::vec("[a-z]{1,40}", 0..6);
    (100_u16..600, body, any::<bool>()).prop_map(|(status, pieces, is_chunked)| {
        let status = if status < 200 || status == 204 || status == 304 {
            200
        } else {
            status
        };
        let mut bytes = Vec::new();
        let mut head = HeadWriter::response(&mut bytes, status, "Any").unwrap();
        let all = pieces.concat();
        if is_chunked {
            head = head.field("Transfer-Encoding", b"chunked").unwrap();
        } else {
            head = head.content_length(all.len() as u64);
        }
        head.field("X-Any", b"thing").unwrap().finish();
        if is_chunked {
            for piece in &pieces {
                put_chunk_head(&mut bytes, piece.len() as u64);
                bytes.extend_from_slice(piece.as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(LAST_CHUNK);
        } else {
            bytes.extend_from_slice(all.as_bytes());
        }
        let framing = match (is_chunked, all.len()) {
            (true, _) => "Chunked".to_owned(),
            (false, 0) => "None".to_owned(),
            (false, length) => format!("Length({length})"),
        };
        let mut told = vec![format!("{status} {framing} keep=true")];
        if !all.is_empty() {
            told.push(format!("body {all}"));
        }
        told.push("end".into());
        (bytes, told)
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(
        messages in proptest::collection::vec(any_response(), 1..4),
        sizes in proptest::collection::vec(1_usize..60, 1..20),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let expect: Vec<String> = messages.iter().flat_map(|(_, told)| told.clone()).collect();
        let mut sizes = sizes.iter().cycle();
        let mut rest = &bytes[..];
        let parts = std::iter::from_fn(|| {
            let size = (*sizes.next()?).min(rest.len());
            let (part, after) = rest.split_at(size);
            rest = after;
            (!part.is_empty()).then_some(part)
        });
        let asked = vec![Asked::Plain; messages.len()];
        prop_assert_eq!(responses(parts, &asked), (expect, None));
    }

    #[test]
    fn bytes_of_any_kind_tell_the_same_however_they_are_cut(
        bytes in proptest::collection::vec(
            prop_oneof![
                Just(b"\r\n".to_vec()), Just(b"\r\n\r\n".to_vec()), Just(b"0\r\n\r\n".to_vec()),
                Just(b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec()),
                Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
                Just(b"Content-Length: 3\r\n".to_vec()), Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..4),
            ],
            0..12,
        )
    ) {
        let bytes = bytes.concat();
        request(&bytes);
        response(&bytes, &[Asked::Plain, Asked::Head]);
    }
}
