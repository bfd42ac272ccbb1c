//! Collects a head or a trailer section from chunks of any size: to its empty line, each byte seen
//! once, never more than a bound.

use super::HttpError;

/// Where the empty line is, as far as it was looked for.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// Bytes seen.
    seen: usize,
    /// Bytes of the current line seen, its CR not counted.
    line: usize,
    /// The last byte seen was a CR.
    after_cr: bool,
    /// Lines ended, empty ones ahead of the first not counted.
    lines: usize,
}

/// What stops a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overrun {
    /// Too many bytes, and not even one line.
    InFirstLine,
    /// Too many bytes.
    Later,
}

/// A head under way.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    scan: Scan,
    /// An empty line is skipped ahead of the first line.
    may_skip: bool,
    /// `held` was given out and is of no further use.
    is_over: bool,
}

/// What one chunk brought: bytes taken from it, and the whole section when it is complete.
pub(super) type Taken<'a> = (usize, Option<&'a [u8]>);

impl Lines {
    /// `may_skip`: one empty line may come ahead of the first line (RFC 9112, section 2.2).
    pub(super) fn new(may_skip: bool) -> Self {
        Self {
            may_skip,
            ..Self::default()
        }
    }

    /// Whether nothing of a section has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.is_over || self.scan.seen == 0
    }

    /// Takes what belongs to the section from `bytes`. A complete one is given out with its empty
    /// line, from `bytes` itself if all of it is there.
    pub(super) fn take<'a>(
        &'a mut self,
        bytes: &'a [u8],
        max: usize,
    ) -> Result<Taken<'a>, Result<Overrun, HttpError>> {
        if std::mem::take(&mut self.is_over) {
            // Seldom used and up to `max` large: not kept for connections that then idle.
            self.held = Vec::new();
            self.scan = Scan::default();
        }
        let room = max.saturating_sub(self.scan.seen).min(bytes.len());
        let within = bytes.get(..room).unwrap_or_default();
        let (taken, is_complete) = self.scan.feed(within, self.may_skip).map_err(Err)?;
        let piece = within.get(..taken).unwrap_or_default();
        if !is_complete && self.scan.seen >= max {
            return Err(Ok(match self.scan.lines {
                0 => Overrun::InFirstLine,
                _ => Overrun::Later,
            }));
        }
        self.is_over = is_complete;
        if is_complete && self.held.is_empty() {
            return Ok((taken, Some(piece)));
        }
        self.held.extend_from_slice(piece);
        Ok((taken, is_complete.then_some(&self.held[..])))
    }
}

impl Scan {
    /// Bytes up to and with the empty line, or all of them; and whether it was there.
    fn feed(&mut self, bytes: &[u8], may_skip: bool) -> Result<(usize, bool), HttpError> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.after_cr {
                if rest.first() != Some(&b'\n') {
                    return Err(HttpError::LineEnd);
                }
                at += 1;
                self.seen += 1;
                self.after_cr = false;
                let is_skipped = may_skip && self.lines == 0 && self.seen == 2;
                if self.line == 0 && !is_skipped {
                    return Ok((at, true));
                }
                self.lines += usize::from(self.line > 0);
                self.line = 0;
                continue;
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
                self.seen += rest.len();
                self.line += rest.len();
                return Ok((bytes.len(), false));
            };
            if rest.get(end) == Some(&b'\n') {
                return Err(HttpError::LineEnd);
            }
            at += end + 1;
            self.seen += end + 1;
            self.line += end;
            self.after_cr = true;
        }
        Ok((bytes.len(), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 32;

    /// Feeds `bytes` in two parts; gives the section and how many bytes it took.
    fn feed(bytes: &[u8], cut: usize, may_skip: bool) -> Result<Option<(Vec<u8>, usize)>, String> {
        let mut lines = Lines::new(may_skip);
        let mut taken = 0;
        for part in [&bytes[..cut], &bytes[cut..]] {
            let (n, section) = lines.take(part, MAX).map_err(|e| format!("{e:?}"))?;
            taken += n;
            if let Some(section) = section {
                return Ok(Some((section.to_vec(), taken)));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_section_ends_at_its_empty_line_however_it_is_cut() {
        #[track_caller]
        fn check(bytes: &[u8], may_skip: bool, expect: Option<usize>) {
            for cut in 0..=bytes.len() {
                let got = feed(bytes, cut, may_skip).unwrap();
                assert_eq!(
                    got.as_ref().map(|(_, taken)| *taken),
                    expect,
                    "cut at {cut}"
                );
                if let Some((section, taken)) = got {
                    assert_eq!(section, bytes[..taken]);
                }
            }
        }
        check(b"a\r\n\r\nrest", false, Some(5));
        check(b"a\r\nb\r\n\r\n\r\n", false, Some(8));
        check(b"\r\nrest", false, Some(2));
        check(b"\r\na\r\n\r\n", true, Some(7));
        check(b"\r\n\r\na", true, Some(4));
        check(b"a\r\nb\r\n", false, None);
    }

    #[test]
    fn other_line_ends_and_too_many_bytes_are_refused() {
        #[track_caller]
        fn check(bytes: &[u8], expect: &str) {
            for cut in 0..=bytes.len() {
                assert_eq!(
                    feed(bytes, cut, true),
                    Err(expect.to_owned()),
                    "cut at {cut}"
                );
            }
        }
        check(b"a\n\n", "Err(LineEnd)");
        check(b"a\rb\r\n\r\n", "Err(LineEnd)");
        check(b"a\r\r\n\r\n", "Err(LineEnd)");
        check(&[b'a'; MAX], "Ok(InFirstLine)");
        check(b"a\r\n0123456789012345678901234567890", "Ok(Later)");
        assert!(
            feed(b"0123456789012345678901234567\r\n\r\n", 3, true)
                .unwrap()
                .is_some()
        );
    }
}
