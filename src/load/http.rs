//! One HTTP/1.1 connection of the generator: bytes in, events out; no socket, no clock.

use std::rc::Rc;

use super::dialogue::{Broken, Event};
use super::keys::{Drawn, Keys};
use super::record::Failure;
use super::scenario::{Expectation, Request};
use crate::wire::http::Limits;
use crate::wire::http::encode::HeadWriter;
use crate::wire::http::head::Asked;
use crate::wire::http::walk::{self, ResponseWalker};

/// What a group's connections have in common.
#[derive(Debug)]
pub struct Program {
    host: String,
    request: Request,
    /// The path around its arguments.
    parts: Vec<String>,
    asked: Asked,
    body: Vec<u8>,
    expect: Option<Expectation>,
}

/// A request that cannot be written as HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be sent: {0}")]
pub struct BadRequest(String);

impl Program {
    /// The program of a group that sends `request` to `host` (with its port). `expect` is what
    /// answers are compared with, if they are.
    ///
    /// # Errors
    /// [`BadRequest`] when the method, path or host cannot stand in a head.
    pub fn new(
        host: String,
        request: &Request,
        expect: Option<Expectation>,
    ) -> Result<Self, BadRequest> {
        let program = Self {
            host,
            parts: request.path.split("{}").map(str::to_owned).collect(),
            asked: match request.method.as_str() {
                "HEAD" => Asked::Head,
                _ => Asked::Plain,
            },
            body: vec![b'x'; request.body_bytes],
            request: request.clone(),
            expect,
        };
        let sample = program.parts.join("0");
        program.put(&sample, &mut Vec::new())?;
        Ok(program)
    }

    fn put(&self, path: &str, out: &mut Vec<u8>) -> Result<(), BadRequest> {
        let bad = |error: crate::wire::http::encode::Unwritable| BadRequest(error.to_string());
        let head = HeadWriter::request(out, &self.request.method, path)
            .and_then(|head| head.field("Host", self.host.as_bytes()))
            .map_err(bad)?;
        match self.body.is_empty() {
            true => head.finish(),
            false => head.content_length(self.body.len() as u64).finish(),
        }
        out.extend_from_slice(&self.body);
        Ok(())
    }
}

/// One connection.
pub struct Http {
    program: Rc<Program>,
    walker: ResponseWalker,
    keys: Keys,
    path: String,
    status: u16,
    keeps: bool,
    content: u64,
}

impl Http {
    /// A fresh connection.
    pub fn new(program: Rc<Program>, keys: Keys) -> Self {
        Self {
            program,
            walker: ResponseWalker::new(Limits::default()),
            keys,
            path: String::new(),
            status: 0,
            keeps: true,
            content: 0,
        }
    }

    /// Whether the server ends the connection after the last answer.
    pub fn is_spent(&self) -> bool {
        !self.keeps
    }

    /// Begins the next request; appends what to send.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.path.clear();
        let program = Rc::clone(&self.program);
        for (at, part) in program.parts.iter().enumerate() {
            if at > 0 {
                match self.keys.draw(at - 1) {
                    Drawn::Number(number) => self.path.push_str(&number.to_string()),
                    Drawn::Text(text) => self.path.push_str(text),
                }
            }
            self.path.push_str(part);
        }
        self.content = 0;
        self.status = 0;
        // A text argument that breaks the path shows as an answer that never comes; the sample
        // written at the start has shown that everything else is right.
        let _ = program.put(&self.path, out);
        self.walker.expect(program.asked);
    }

    /// Takes in bytes.
    ///
    /// # Errors
    /// [`Broken`]: the connection must be closed.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Result<Event, Broken> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let (used, event) = self
                .walker
                .next(rest)
                .map_err(|error| Broken::new(Failure::Protocol, error.to_string()))?;
            at += used;
            match event {
                walk::Event::More => return Ok(Event::More),
                walk::Event::Head(head) => {
                    if !head.is_interim() {
                        self.status = head.status;
                        self.keeps = head.keep_alive;
                    }
                }
                walk::Event::Content(count) => self.content += count as u64,
                walk::Event::End => {
                    if at < bytes.len() {
                        let why = "bytes after the end of the answer";
                        return Err(Broken::new(Failure::Protocol, why));
                    }
                    return Ok(self.verdict());
                }
                walk::Event::Switched => {
                    let why = "the server switched protocols without being asked";
                    return Err(Broken::new(Failure::Protocol, why));
                }
            }
        }
    }

    /// The server has ended its side.
    ///
    /// # Errors
    /// [`Broken`] where that is no end of an answer.
    pub fn on_end(&mut self) -> Result<Event, Broken> {
        self.keeps = false;
        match self.walker.end() {
            Ok(true) => Ok(self.verdict()),
            Ok(false) => Err(Broken::new(
                Failure::Reset,
                "the peer closed the connection",
            )),
            Err(error) => Err(Broken::new(Failure::Reset, error.to_string())),
        }
    }

    /// What the last answer was.
    pub fn said(&self) -> String {
        format!("status {}", self.status)
    }

    fn verdict(&self) -> Event {
        let wanted = self.program.expect.as_ref();
        if let Some(status) = wanted.and_then(|expect| expect.status) {
            if status != self.status {
                return Failure::of_status(self.status).map_or(Event::Wrong, Event::Refused);
            }
        } else if let Some(failure) = Failure::of_status(self.status) {
            return Event::Refused(failure);
        }
        let bytes = wanted.and_then(|expect| expect.body_bytes);
        match bytes.is_some_and(|bytes| bytes != self.content) {
            true => Event::Wrong,
            false => Event::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(expect: Option<Expectation>) -> Http {
        let request = Request {
            method: "GET".into(),
            path: "/item/{}".into(),
            arguments: Vec::new(),
            body_bytes: 0,
        };
        let program = Program::new("h:1".into(), &request, expect).unwrap();
        let argument = crate::load::keys::Argument::Number(7);
        Http::new(Rc::new(program), Keys::new([&argument], 1, 0, 1))
    }

    #[test]
    fn a_request_is_written_and_its_answer_judged() {
        let expect = Expectation {
            body_bytes: Some(2),
            ..Expectation::default()
        };
        let check = |answer: &str, expected: Event| {
            let mut http = http(Some(expect.clone()));
            let mut out = Vec::new();
            http.begin(&mut out);
            assert_eq!(out, b"GET /item/7 HTTP/1.1\r\nHost: h:1\r\n\r\n");
            let (head, tail) = answer.split_at(20);
            assert_eq!(http.on_bytes(head.as_bytes()), Ok(Event::More));
            assert_eq!(http.on_bytes(tail.as_bytes()), Ok(expected));
        };
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Event::Done,
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            Event::Wrong,
        );
        let full = "HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n";
        check(full, Event::Refused(Failure::Refused));
    }

    #[test]
    fn an_answer_that_ends_with_its_connection_spends_it() {
        let mut http = http(None);
        http.begin(&mut Vec::new());
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc";
        assert_eq!(http.on_bytes(head), Ok(Event::More));
        assert_eq!(http.on_end(), Ok(Event::Done));
        assert!(http.is_spent());
        http.begin(&mut Vec::new());
        assert!(http.on_end().is_err());
    }

    #[test]
    fn a_request_that_would_break_its_head_is_refused() {
        let request = Request {
            method: "GET".into(),
            path: "/a b".into(),
            arguments: Vec::new(),
            body_bytes: 0,
        };
        assert!(Program::new("h".into(), &request, None).is_err());
    }
}
