//! Speaks for a client on a socket through a front in memory: what the client sends is said as it is, and
//! what is heard is put together again from its decoded values. Debug builds only; see
//! [`super::memory`].

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::memory::{Heard, Speaker};
use crate::net::Stream;
use crate::wire::mysql::cursor::{WireError, packet, put_lenenc};
use crate::wire::mysql::decode::Event;
use crate::wire::mysql::flags::caps;
use crate::wire::mysql::response::{
    EofPacket, OkPacket, encode_end_of_rows, encode_eof, encode_err, encode_ok,
};
use crate::wire::mysql::rows::{Columns, Row, RowForm};
use crate::wire::mysql::value::{PrepareOk, Value, encode_binary_row, put_text_field};

/// Bytes that wait on the way from or to a socket before no more are taken in.
const WAITING_MAX: usize = 64 * 1024;

/// Speaks for the client until both sides have nothing more to say. `capabilities` are the client's.
pub(super) async fn speak_for(mut stream: Stream, mut speaker: Speaker, capabilities: u32) {
    let mut encoder = Encoder {
        capabilities,
        sequence: None,
        owes_eof: false,
        out: Vec::new(),
    };
    let is_cut = poll_fn(|cx| poll_speech(&mut stream, &mut speaker, &mut encoder, cx)).await;
    if is_cut {
        stream.abort_when_dropped();
    }
}

/// Passes on what there is; ready when the conversation has ended, with whether its last reply was cut.
fn poll_speech(
    stream: &mut Stream,
    speaker: &mut Speaker,
    encoder: &mut Encoder,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    while speaker.unsaid() < WAITING_MAX {
        match stream.poll_receive(cx) {
            Poll::Ready(Ok(Some(buf))) => speaker.say(&buf),
            Poll::Ready(Ok(None) | Err(_)) => {
                speaker.end();
                break;
            }
            Poll::Pending => break,
        }
    }
    loop {
        match stream.poll_unsent_below(cx, WAITING_MAX) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(true),
            Poll::Pending => return Poll::Pending,
        }
        let encoded = match speaker.poll_heard(cx) {
            Poll::Ready(Heard::Piece { event, sequence }) => encoder.encode(&event, sequence),
            Poll::Ready(Heard::Broken(error)) => {
                crate::log!(
                    Error,
                    "a reply was not understood",
                    error = format_args!("{error:?}")
                );
                return Poll::Ready(true);
            }
            Poll::Ready(Heard::Closed { is_cut }) => return Poll::Ready(is_cut),
            Poll::Pending => return Poll::Pending,
        };
        if let Err(error) = encoded {
            crate::log!(
                Error,
                "a reply was not put together",
                error = format_args!("{error:?}")
            );
            return Poll::Ready(true);
        }
        stream.send_bytes(&encoder.out);
        encoder.out.clear();
    }
}

/// Puts replies together for a client with these capabilities.
struct Encoder {
    capabilities: u32,
    /// The next packet's sequence id within the reply in progress.
    sequence: Option<u8>,
    /// A legacy EOF is to follow the columns, unless a cursor's own one comes.
    owes_eof: bool,
    out: Vec<u8>,
}

impl Encoder {
    fn encode(&mut self, event: &Event<'_>, command_sequence: u8) -> Result<(), WireError> {
        self.sequence
            .get_or_insert(command_sequence.wrapping_add(1));
        match event {
            Event::Columns(columns) => self.columns(columns),
            Event::Row(row) => self.row(row)?,
            Event::RowsEnd {
                ok, opens_cursor, ..
            } => self.rows_end(ok, *opens_cursor),
            Event::Ok { ok, .. } => {
                let capabilities = self.capabilities;
                self.packet(|out| encode_ok(out, capabilities, ok));
            }
            Event::Err(err) => self.packet(|out| encode_err(out, err)),
            Event::Prepared {
                id,
                params,
                columns,
                warnings,
            } => {
                let head = PrepareOk {
                    statement: *id,
                    columns: count(columns),
                    parameters: count(params),
                    warnings: *warnings,
                };
                self.packet(|out| head.encode(out));
                for list in [params, columns] {
                    self.definitions(list);
                    if !list.is_empty() && !self.deprecates_eof() {
                        self.eof();
                    }
                }
            }
            Event::Goodbye(err) => {
                self.sequence = Some(0);
                self.packet(|out| encode_err(out, err));
            }
        }
        if event.is_last() {
            self.sequence = None;
            self.owes_eof = false;
        }
        Ok(())
    }

    fn columns(&mut self, columns: &Columns) {
        self.packet(|out| put_lenenc(out, u64::from(count(columns))));
        self.definitions(columns);
        self.owes_eof = !self.deprecates_eof();
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), WireError> {
        self.pay_eof();
        let values = row.values()?;
        let mut payload = Vec::with_capacity(row.payload.len());
        match row.form {
            RowForm::Binary => {
                let types = row.columns.iter().map(|column| column.column_type);
                let typed: Vec<_> = types.zip(values).collect();
                encode_binary_row(&mut payload, &typed)?;
            }
            RowForm::Text => {
                for value in &values {
                    let field = match value {
                        Value::Bytes(bytes) => Some(*bytes),
                        _ => None,
                    };
                    put_text_field(&mut payload, field);
                }
            }
        }
        self.packet(|out| out.extend_from_slice(&payload));
        Ok(())
    }

    fn rows_end(&mut self, ok: &OkPacket<'_>, opens_cursor: bool) {
        if !opens_cursor {
            self.pay_eof();
        }
        self.owes_eof = false;
        let capabilities = self.capabilities;
        self.packet(|out| encode_end_of_rows(out, capabilities, ok));
    }

    fn pay_eof(&mut self) {
        if std::mem::take(&mut self.owes_eof) {
            self.eof();
        }
    }

    fn eof(&mut self) {
        self.packet(|out| encode_eof(out, EofPacket::default()));
    }

    fn definitions(&mut self, columns: &Columns) {
        for column in columns.iter() {
            self.packet(|out| column.encode(out));
        }
    }

    fn deprecates_eof(&self) -> bool {
        self.capabilities & caps::DEPRECATE_EOF != 0
    }

    fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let sequence = self.sequence.unwrap_or_default();
        self.sequence = Some(packet(&mut self.out, sequence, write));
    }
}

/// How many there are; a result has at most 65,535 columns.
fn count(columns: &Columns) -> u16 {
    u16::try_from(columns.len()).unwrap_or(u16::MAX)
}
