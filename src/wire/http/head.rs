//! Request and response heads: the start line, the fields, and what they say about the message.
//!
//! Sources: RFC 9110, sections 5 to 7 and 10.1.1; RFC 9112, sections 2 to 6. `httparse` 1.10 accepts
//! bare LF, obsolete bytes in a target and `#`, and has no opinion on Host and framing: those are
//! checked here and in `lines`.

use std::mem::MaybeUninit;

use super::body::Framing;
use super::{FIELDS_MAX, HttpError, Limits, Version};

/// The fields of a head that was checked: names are tokens, values are visible bytes, blanks, and
/// 0x80 to 0xFF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Lines that each end with CR LF.
    raw: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The value of the first field called `name`, in any case.
    pub fn get(mut self, name: &str) -> Option<&'a [u8]> {
        self.find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\r', self.raw)?;
        let (line, rest) = self.raw.split_at_checked(end)?;
        self.raw = rest.get(2..).unwrap_or_default();
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((name, trim(value.get(1..).unwrap_or_default())))
    }
}

/// Without blanks and tabs at both ends.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = value.split_first() {
        value = rest;
    }
    while let Some((b' ' | b'\t', rest)) = value.split_last() {
        value = rest;
    }
    value
}

/// A request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// A token, in the case it came in.
    pub method: &'a str,
    /// In one of the four forms of RFC 9112, section 3.2; visible ASCII.
    pub target: &'a str,
    /// The version of the request.
    pub version: Version,
    /// The host and port asked for: those of the target in absolute form, else of Host. Empty only in
    /// HTTP/1.0.
    pub authority: &'a [u8],
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants to go on with the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The protocols of Upgrade, if Connection names it.
    pub upgrade: Option<&'a [u8]>,
    /// All fields.
    pub fields: Fields<'a>,
}

/// A response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// 100 to 599.
    pub status: u16,
    /// The version of the response.
    pub version: Version,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the server goes on with the connection after this response.
    pub keep_alive: bool,
    /// The protocols of Upgrade, if Connection names it.
    pub upgrade: Option<&'a [u8]>,
    /// All fields.
    pub fields: Fields<'a>,
}

impl ResponseHead<'_> {
    /// Whether another response to the same request follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// What the fields say about the message.
#[derive(Default)]
struct Facts<'a> {
    length: Option<u64>,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    names_upgrade: bool,
    upgrade: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Result<Self, HttpError> {
        let mut facts = Self::default();
        for field in fields {
            facts.take(field.name, trim(field.value))?;
        }
        if facts.is_chunked && facts.length.is_some() {
            return Err(HttpError::TwoFramings);
        }
        Ok(facts)
    }

    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), HttpError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") && self.host.replace(value).is_some() => {
                return Err(HttpError::Host);
            }
            6 if is("expect") => self.expect = Some(value),
            7 if is("upgrade") => self.upgrade = Some(value),
            10 if is("connection") => {
                for token in value.split(|&byte| byte == b',').map(trim) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    self.names_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                }
            }
            14 if is("content-length") => {
                let length = decimal(value).ok_or(HttpError::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(HttpError::ContentLength);
                }
            }
            17 if is("transfer-encoding") => {
                let is_repeated = std::mem::replace(&mut self.is_chunked, true);
                if is_repeated || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HttpError::TransferEncoding);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::V11 || self.keep_alive)
    }

    fn upgrade(&self) -> Option<&'a [u8]> {
        self.upgrade.filter(|_| self.names_upgrade)
    }
}

/// Digits only, of a number below 2^63.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (number < 1 << 63).then_some(number)
}

fn refused(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::HeadTooLarge,
        httparse::Error::Version => HttpError::Version,
        httparse::Error::NewLine => HttpError::LineEnd,
        httparse::Error::Status => HttpError::Status,
        _ => HttpError::Head,
    }
}

fn version(minor: Option<u8>) -> Result<Version, HttpError> {
    match minor {
        Some(0) => Ok(Version::V10),
        Some(1) => Ok(Version::V11),
        _ => Err(HttpError::Version),
    }
}

/// Lines after the first one of a section that ends with an empty line.
fn fields_of(section: &[u8]) -> Fields<'_> {
    let lines = memchr::memchr(b'\n', section).and_then(|end| section.get(end + 1..));
    let raw = lines.and_then(|lines| lines.get(..lines.len().checked_sub(2)?));
    Fields {
        raw: raw.unwrap_or_default(),
    }
}

type FieldRoom<'a> = [MaybeUninit<httparse::Header<'a>>; FIELDS_MAX];

/// Room for as many fields as `limits` allow.
fn room<'a, 'r>(
    room: &'r mut FieldRoom<'a>,
    limits: &Limits,
) -> &'r mut [MaybeUninit<httparse::Header<'a>>] {
    let count = limits.fields_max.min(FIELDS_MAX);
    room.split_at_mut(count).0
}

/// Reads a request's head: all its lines, each with CR LF, and the empty one.
///
/// # Errors
/// What [`HttpError::status`] gives a status for.
pub fn parse_request<'a>(section: &'a [u8], limits: &Limits) -> Result<RequestHead<'a>, HttpError> {
    let section = section.strip_prefix(b"\r\n").unwrap_or(section);
    let mut memory = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let room = room(&mut memory, limits);
    match parsed.parse_with_uninit_headers(section, room) {
        Ok(httparse::Status::Complete(end)) if end == section.len() => {}
        Ok(_) => return Err(HttpError::Head),
        Err(error) => return Err(refused(error)),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(HttpError::Head);
    };
    if target.len() > limits.target_bytes_max {
        return Err(HttpError::TargetTooLong);
    }
    let version = version(parsed.version)?;
    let facts = Facts::of(parsed.headers)?;
    let authority = authority(method, target, version, facts.host)?;
    let framing = match (facts.is_chunked, facts.length) {
        (true, _) if version == Version::V10 => return Err(HttpError::UnexpectedTransferEncoding),
        (true, _) => Framing::Chunked,
        (false, Some(0) | None) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
    };
    let upgrade = facts.upgrade();
    if upgrade.is_some() && framing != Framing::None {
        return Err(HttpError::UnexpectedBody);
    }
    let expects_continue = match facts.expect {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => version == Version::V11,
        Some(_) => return Err(HttpError::Expect),
    };
    Ok(RequestHead {
        method,
        target,
        version,
        authority,
        framing,
        keep_alive: facts.keeps_alive(version),
        expects_continue,
        upgrade,
        fields: fields_of(section),
    })
}

/// What decides how a response ends, known to whoever sent the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// With GET, POST and the like.
    #[default]
    Plain,
    /// With HEAD: no body, whatever the head says.
    Head,
    /// With an Upgrade: 101 is an answer.
    Upgrade,
}

/// Reads a response's head: all its lines, each with CR LF, and the empty one.
///
/// # Errors
/// The connection is of no further use then.
pub fn parse_response<'a>(
    section: &'a [u8],
    asked: Asked,
    limits: &Limits,
) -> Result<ResponseHead<'a>, HttpError> {
    let mut memory = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let room = room(&mut memory, limits);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, section, room) {
        Ok(httparse::Status::Complete(end)) if end == section.len() => {}
        Ok(_) => return Err(HttpError::Head),
        Err(error) => return Err(refused(error)),
    }
    let version = version(parsed.version)?;
    let status = parsed.code.filter(|code| (100..600).contains(code));
    let status = status.ok_or(HttpError::Status)?;
    let facts = Facts::of(parsed.headers)?;
    let framing = response_framing(status, version, asked, &facts)?;
    let upgrade = facts.upgrade();
    if status == 101 && (asked != Asked::Upgrade || upgrade.is_none()) {
        return Err(HttpError::UnexpectedUpgrade);
    }
    Ok(ResponseHead {
        status,
        version,
        framing,
        keep_alive: facts.keeps_alive(version) && framing != Framing::UntilClose,
        upgrade,
        fields: fields_of(section),
    })
}

/// RFC 9112, section 6.3.
fn response_framing(
    status: u16,
    version: Version,
    asked: Asked,
    facts: &Facts<'_>,
) -> Result<Framing, HttpError> {
    let is_bodiless = status < 200 || status == 204;
    if facts.is_chunked && (is_bodiless || version == Version::V10) {
        return Err(HttpError::UnexpectedTransferEncoding);
    }
    if is_bodiless && facts.length.is_some_and(|length| length > 0) {
        return Err(HttpError::UnexpectedBody);
    }
    Ok(match (facts.is_chunked, facts.length) {
        _ if is_bodiless || status == 304 || asked == Asked::Head => Framing::None,
        (true, _) => Framing::Chunked,
        (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    })
}

/// Checks the target's form and gives the authority it or Host names.
fn authority<'a>(
    method: &str,
    target: &'a str,
    version: Version,
    host: Option<&'a [u8]>,
) -> Result<&'a [u8], HttpError> {
    let is_plain = |byte: u8| {
        matches!(byte, b'!'..=b'~') && !matches!(byte, b'#' | b'\\' | b'"' | b'<' | b'>')
    };
    if !target.bytes().all(is_plain) {
        return Err(HttpError::Target);
    }
    if host.is_some_and(|host| !is_authority(host)) || host.is_none() && version == Version::V11 {
        return Err(HttpError::Host);
    }
    let named = if method == "CONNECT" {
        let has_port = target
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
        Some(target).filter(|_| has_port)
    } else if target.starts_with('/') || target == "*" && method == "OPTIONS" {
        return Ok(host.unwrap_or_default());
    } else {
        absolute(target)
    };
    let named = named.map(str::as_bytes).filter(|named| is_authority(named));
    let named = named.ok_or(HttpError::Target)?;
    match host {
        Some(host) if !host.eq_ignore_ascii_case(named) => Err(HttpError::Host),
        _ => Ok(named),
    }
}

/// The authority of a target in absolute form.
fn absolute(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    rest.get(..end).filter(|_| is_http)
}

/// A host, or an IPv6 address in brackets, and perhaps a port. No user, no list.
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else {
                return false;
            };
            let (address, port) = rest.split_at(end);
            let is_address = address.contains(&b':')
                && address
                    .iter()
                    .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            if !is_address {
                return false;
            }
            (address, port.get(1..).unwrap_or_default())
        }
        None => text.split_at(memchr::memchr(b':', text).unwrap_or(text.len())),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:".contains(byte);
    let is_port = match port.strip_prefix(b":") {
        None => port.is_empty(),
        Some(digits) => digits.is_empty() || decimal(digits).is_some_and(|port| port <= 65_535),
    };
    !host.is_empty() && host.iter().all(is_name) && is_port
}
