//! Tests of what a session may ask for of its last statement, over connections whose server says
//! what a table tells it to.

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::Leftovers;
    use super::super::residue::{Kind, Place, Residue};
    use crate::base::codes::Event;
    use crate::session::mysql::downstream::{Next, Session, SessionFacts};
    use crate::session::mysql::exchange::{Begin, Fault};
    use crate::session::mysql::output::Output;
    use crate::session::mysql::state::Vector;
    use crate::session::mysql::statements::Texts;
    use crate::session::mysql::upstream::{LoginFacts, Upstream};
    use crate::wire::mysql::command::{
        LongData, encode_execute, encode_long_data, encode_statement_command, encode_text_command,
    };
    use crate::wire::mysql::cursor::packet;
    use crate::wire::mysql::flags::{caps, column_type, com, status};
    use crate::wire::mysql::response::{
        ErrPacket, OkPacket, encode_end_of_rows, encode_err, encode_ok,
    };

    const CAPABILITIES: u32 = caps::PROTOCOL_41 | caps::DEPRECATE_EOF | caps::MULTI_STATEMENTS;

    impl Leftovers {
        /// As if the last statement here had been one of session `owner` that left this.
        pub(in crate::session::mysql) fn leave(&mut self, kind: Kind, owner: u64) -> Rc<Residue> {
            self.last_user = (owner, 9);
            self.last_rows = (owner, 2);
            let mut left = None;
            self.put(kind, &mut left, owner);
            left.unwrap()
        }

        /// Whether nobody's statement was the last.
        pub(in crate::session::mysql) fn is_nobodys(&self) -> bool {
            (self.last_user, self.last_rows) == ((0, 0), (0, 0))
        }
    }

    fn upstream() -> Upstream {
        let mut upstream = Upstream::new(LoginFacts {
            thread_id: 1,
            deprecates_eof: true,
            vector: Rc::new(Vector::at_login("utf8mb4", "utf8mb4_general_ci")),
            statements_max: 2,
            baselines: Rc::default(),
        });
        upstream.takes_several = true;
        upstream
    }

    fn ok(affected_rows: u64, last_insert_id: u64, status: u16) -> Vec<u8> {
        let mut out = Vec::new();
        let ok = OkPacket {
            affected_rows,
            last_insert_id,
            status,
            ..OkPacket::default()
        };
        packet(&mut out, 1, |out| encode_ok(out, CAPABILITIES, &ok));
        out
    }

    fn err(errno: u16) -> Vec<u8> {
        let mut out = Vec::new();
        let err = ErrPacket::new(errno, "HY000", b"no");
        packet(&mut out, 1, |out| encode_err(out, &err));
        out
    }

    /// A result of one column and this many rows.
    fn rows(count: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sequence = packet(&mut out, 1, |out| out.push(1));
        sequence = packet(&mut out, sequence, |out| {
            out.extend_from_slice(b"\x03def\0\0\0\x01x\0\x0c\x2d\0\0\x01\0\0\x08\0\0\0\0\0");
        });
        for row in 0..count {
            sequence = packet(&mut out, sequence, |out| {
                out.extend_from_slice(&[1, b'0' + row]);
            });
        }
        let end = OkPacket {
            status: status::AUTOCOMMIT,
            ..OkPacket::default()
        };
        packet(&mut out, sequence, |out| {
            encode_end_of_rows(out, CAPABILITIES, &end);
        });
        out
    }

    /// The head of the reply to a PREPARE without parameters and columns.
    fn prepared(id: u8) -> Vec<u8> {
        let mut out = Vec::new();
        packet(&mut out, 1, |out| {
            out.extend_from_slice(&[0, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        });
        out
    }

    /// A session, and the texts of its core.
    struct Client {
        session: Session,
        texts: Texts,
    }

    impl Client {
        fn new() -> Self {
            Self {
                session: Session::new(SessionFacts {
                    owner: 7,
                    capabilities: CAPABILITIES,
                    vector: Rc::new(Vector::at_login("utf8mb4", "utf8mb4_general_ci")),
                    statements_max: 9,
                    settled: Rc::default(),
                }),
                texts: Texts::default(),
            }
        }

        fn accept(&mut self, payload: &[u8], held: Option<&mut Upstream>) -> (Next, Vec<u8>) {
            let mut out = Output::default();
            let next = self
                .session
                .accept(payload, true, held, &mut out, &mut Vec::new());
            (next, out.own().to_vec())
        }

        /// Runs a command on a connection whose server answers with `replies`, one after the other, and
        /// gives what that server was sent.
        fn run(&mut self, on: &mut Upstream, payload: &[u8], replies: &[Vec<u8>]) -> Vec<u8> {
            let (next, _) = self.accept(payload, Some(on));
            assert!(matches!(next, Next::Lease { .. }), "{next:?}");
            self.exchange(on, payload, replies).unwrap()
        }

        fn exchange(
            &mut self,
            on: &mut Upstream,
            payload: &[u8],
            replies: &[Vec<u8>],
        ) -> Result<Vec<u8>, Fault> {
            let mut command = Vec::new();
            packet(&mut command, 0, |out| out.extend_from_slice(payload));
            let (mut sent, mut replies) = (Vec::new(), replies.iter());
            loop {
                let begin =
                    self.session
                        .begin(on, &mut self.texts, &mut command, true, &mut sent)?;
                if begin == Begin::Send {
                    sent.extend_from_slice(&command);
                }
                while !on.is_idle() {
                    let mut reply = replies.next().expect("a reply for each").clone();
                    let mut out = Output::default();
                    self.session.on_reply(on, &mut reply, &mut out, &mut sent)?;
                }
                if begin != Begin::Wait {
                    self.session.end(on, &mut sent);
                    return Ok(sent);
                }
            }
        }

        fn query(&mut self, on: &mut Upstream, sql: &str, reply: Vec<u8>) -> String {
            let sent = self.run(on, &text(sql), &[reply]);
            String::from_utf8_lossy(&sent).into_owned()
        }

        /// The reason word of the gateway's refusal.
        fn refused(&mut self, payload: &[u8]) -> Option<&'static str> {
            let (next, said) = self.accept(payload, None);
            let said = String::from_utf8_lossy(&said).into_owned();
            let words = ["last_statement_lost", "diagnostics_moved"];
            (next == Next::Answered).then(|| words.into_iter().find(|word| said.contains(word)))?
        }
    }

    fn text(sql: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode_text_command(&mut out, com::QUERY, sql.as_bytes());
        out
    }

    fn prepare(sql: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode_text_command(&mut out, com::STMT_PREPARE, sql.as_bytes());
        out
    }

    fn execute(id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        encode_execute(&mut out, id, 0, &[], None, &[]);
        out
    }

    #[test]
    fn found_rows_outlives_what_does_not_count_rows() {
        let (mut client, mut a, mut b) = (Client::new(), upstream(), upstream());
        client.query(&mut a, "SELECT 1 FROM t", rows(5));
        client.query(&mut b, "SET NAMES utf8mb4", ok(0, 0, status::AUTOCOMMIT));
        client.query(&mut b, "CHECK TABLE t", rows(1));
        let sent = client.query(&mut b, "COMMIT; SELECT FOUND_ROWS()", rows(1));
        assert!(sent.contains("COMMIT; SELECT CAST(5 AS SIGNED)"), "{sent}");
    }

    #[test]
    fn a_statement_that_may_count_rows_leaves_the_question_to_its_connection() {
        for (sql, reply) in [
            ("SELECT SQL_CALC_FOUND_ROWS 1 FROM t LIMIT 1", rows(1)),
            ("SELECT 1 UNION SELECT 2 LIMIT 1", rows(1)),
            ("SELECT 1; SELECT 2", rows(1)),
        ] {
            let (mut client, mut a) = (Client::new(), upstream());
            client.query(&mut a, sql, reply);
            client.query(&mut a, "COMMIT", ok(0, 0, status::AUTOCOMMIT));
            let residue = client.session.left.found_rows_residue.clone().expect(sql);
            assert_eq!(residue.place(), Place::OnConnection);
            drop(a);
            assert_eq!(
                client.refused(&text("SELECT FOUND_ROWS()")),
                Some("last_statement_lost")
            );
        }
    }

    #[test]
    fn found_rows_that_may_have_been_kept_is_told_only_where_it_was() {
        for (sql, reply) in [
            ("EXPLAIN SELECT 1", rows(1)),
            ("INSERT INTO t SELECT 1", ok(1, 0, status::AUTOCOMMIT)),
            ("SELECT nosuch", err(1054)),
        ] {
            let (mut client, mut a, mut b) = (Client::new(), upstream(), upstream());
            client.query(&mut a, "SELECT 1 FROM t", rows(5));
            client.query(&mut a, sql, reply.clone());
            let sent = client.query(&mut a, "SELECT FOUND_ROWS()", rows(1));
            assert!(sent.ends_with("SELECT FOUND_ROWS()"), "{sql}: {sent}");
            client.query(&mut b, sql, reply);
            assert_eq!(
                client.refused(&text("SELECT FOUND_ROWS()")),
                Some("last_statement_lost"),
                "{sql}"
            );
        }
        let (mut client, mut a, mut b) = (Client::new(), upstream(), upstream());
        client.query(&mut a, "SELECT 1 FROM t", rows(5));
        client.query(&mut b, "SELEC", err(1064));
        let sent = client.query(&mut b, "SELECT FOUND_ROWS()", rows(1));
        assert!(
            sent.contains("CAST(5 AS SIGNED)"),
            "nothing has run: {sent}"
        );
    }

    #[test]
    fn the_rows_of_kept_conditions_are_not_for_an_execute() {
        let (mut client, mut a) = (Client::new(), upstream());
        client.run(&mut a, &prepare("SHOW WARNINGS"), &[prepared(9)]);
        let residue = Residue::new(Kind::Diagnostics, 7);
        residue.read(&rows(1));
        residue.end_reading(true);
        client.session.left.conditions = Some(residue);
        assert_eq!(client.refused(&execute(1)), Some("diagnostics_moved"));
        let (next, said) = client.accept(&text("SHOW WARNINGS"), None);
        assert_eq!((next, said), (Next::Answered, rows(1)));
        assert_eq!(
            client.session.left.row_count, -1,
            "as after a SHOW WARNINGS of the server's"
        );
    }

    #[test]
    fn two_statements_of_one_text_are_two_on_the_server() {
        let (mut client, mut a) = (Client::new(), upstream());
        for id in [8, 9] {
            let sent = client.run(&mut a, &prepare("SELECT 1"), &[prepared(id)]);
            let mut expect = Vec::new();
            packet(&mut expect, 0, |out| {
                out.extend_from_slice(&prepare("SELECT 1"));
            });
            assert_eq!(sent, expect, "the first is not closed");
        }
        for (id, server_id) in [(1, 8), (2, 9)] {
            let sent = client.run(&mut a, &execute(id), &[rows(1)]);
            assert_eq!(sent[5], server_id);
        }
    }

    #[test]
    fn long_data_is_not_closed_for_want_of_room() {
        let (mut client, mut a) = (Client::new(), upstream());
        client.run(&mut a, &prepare("INSERT INTO t VALUES (1)"), &[prepared(1)]);
        let mut data = Vec::new();
        let chunk = LongData {
            statement: 1,
            parameter: 0,
            data: b"x",
        };
        encode_long_data(&mut data, &chunk);
        client.run(&mut a, &data, &[]);
        let mut close = Vec::new();
        packet(&mut close, 0, |out| {
            encode_statement_command(out, com::STMT_CLOSE, 2);
        });
        client.run(&mut a, &prepare("SELECT 2"), &[prepared(2)]);
        let sent = client.run(&mut a, &prepare("SELECT 3"), &[prepared(3)]);
        assert!(sent.ends_with(&close), "the oldest that holds nothing");
        assert_eq!(a.prepared.len(), 2);
    }

    #[test]
    fn a_lost_connection_changes_nothing_for_the_statement_that_is_repeated() {
        let (mut client, mut a, mut b) = (Client::new(), upstream(), upstream());
        client.query(&mut a, "UPDATE t SET a = 1", ok(3, 0, status::AUTOCOMMIT));
        client.accept(&text("SELECT ROW_COUNT()"), None);
        client.session.lose_lease();
        let sent = client
            .exchange(&mut b, &text("SELECT ROW_COUNT()"), &[rows(1)])
            .unwrap();
        assert!(String::from_utf8_lossy(&sent).contains("CAST(3 AS SIGNED)"));
        client.session.told(Event::OutcomeUnknown);
        assert_eq!(client.session.left.row_count, -1);
    }

    #[test]
    fn a_lost_connection_leaves_the_way_in_which_text_is_read() {
        let (mut client, mut a) = (Client::new(), upstream());
        let flags = status::NO_BACKSLASH_ESCAPES | status::ANSI_QUOTES | status::AUTOCOMMIT;
        client.query(
            &mut a,
            "SET sql_mode = 'x'",
            ok(0, 0, flags | status::IN_TRANS),
        );
        client.session.lose_lease();
        assert_eq!(client.session.status, flags);
    }

    #[test]
    fn an_insert_id_that_only_a_lost_connection_knew_is_refused() {
        let (mut client, mut a, mut b) = (Client::new(), upstream(), upstream());
        let sql = "SELECT LAST_INSERT_ID()";
        client.query(
            &mut a,
            "INSERT INTO t VALUES (1)",
            ok(1, 5, status::AUTOCOMMIT),
        );
        // The 5 may have been in the statement's text, and the id is what it was then.
        drop(std::mem::replace(&mut a, upstream()));
        assert_eq!(client.refused(&text(sql)), Some("last_statement_lost"));
        // After another one the connection is asked, and was left at 0.
        client.query(
            &mut a,
            "INSERT INTO t VALUES (1)",
            ok(1, 5, status::AUTOCOMMIT),
        );
        let mut five = rows(1);
        let at = five.windows(2).position(|bytes| bytes == b"\x010").unwrap();
        five[at + 1] = b'5';
        let sent = client.run(&mut a, &text(sql), &[five, ok(0, 0, 2), rows(1)]);
        assert!(String::from_utf8_lossy(&sent).contains("SET LAST_INSERT_ID=5"));
        // Should it leave none, the session's own must be there.
        let sets = "SELECT LAST_INSERT_ID(9)";
        client.run(&mut a, &text(sets), &[ok(0, 0, 2), rows(1)]);
        // It is lost between the look at the command and its lease.
        client.accept(&text(sql), None);
        drop(a);
        let result = client.exchange(&mut b, &text(sql), &[]);
        assert_eq!(result, Err(Fault::LastStatementLost));
        assert_eq!(client.refused(&text(sql)), Some("last_statement_lost"));
    }

    #[test]
    fn a_statement_that_may_set_the_insert_id_or_not_finds_its_own() {
        for (sql, reply) in [
            (
                "UPDATE t SET a = LAST_INSERT_ID(a + 1) WHERE a = 9",
                ok(0, 0, 2),
            ),
            ("SELECT LAST_INSERT_ID(7) FROM nosuch", err(1146)),
            (
                "INSERT INTO nosuch VALUES (1); SELECT LAST_INSERT_ID(7)",
                err(1146),
            ),
            ("CALL adds_nothing()", ok(0, 0, 2)),
        ] {
            let (mut client, mut a) = (Client::new(), upstream());
            let sent = client.run(&mut a, &text(sql), &[ok(0, 0, 2), reply]);
            let sent = String::from_utf8_lossy(&sent).into_owned();
            assert!(sent.contains("SET LAST_INSERT_ID=0"), "{sql}: {sent}");
            let sent = client.run(&mut a, &text("SELECT LAST_INSERT_ID()"), &[rows(1)]);
            let sent = String::from_utf8_lossy(&sent).into_owned();
            assert!(!sent.contains("SET LAST"), "{sql}: {sent}");
        }
    }

    #[test]
    fn a_ping_that_runs_upstream_leaves_the_conditions_readable() {
        let (mut client, mut a) = (Client::new(), upstream());
        client.query(&mut a, "SELEC", err(1064));
        client.session.status_is_stale = true;
        client.run(&mut a, &[com::PING], &[ok(0, 0, status::AUTOCOMMIT)]);
        assert!(client.session.left.conditions.is_some());
    }

    #[test]
    fn types_of_an_execute_that_had_no_connection_hold_for_the_next() {
        let (mut client, mut a) = (Client::new(), upstream());
        let mut reply = Vec::new();
        packet(&mut reply, 1, |out| {
            out.extend_from_slice(&[0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        });
        packet(&mut reply, 2, |out| {
            out.extend_from_slice(b"\x03def\0\0\0\x01?\0\x0c\x2d\0\0\x01\0\0\x08\0\0\0\0\0");
        });
        client.run(&mut a, &prepare("SELECT ?"), &[reply]);
        let run = |types: Option<&[u8]>, value: &[u8]| {
            let mut out = Vec::new();
            encode_execute(&mut out, 1, 0, &[0], types, value);
            out
        };
        let types = [column_type::VAR_STRING, 0];
        client.run(&mut a, &run(Some(&types), b"\x07seventy"), &[rows(1)]);
        // A number of eight bytes, which would also do for a text.
        let (types, number) = ([column_type::LONGLONG, 0], b"\x07\0\0\0\0\0\0\0");
        client.accept(&run(Some(&types), number), None);
        client.session.told(Event::PoolWait);
        let sent = client.run(&mut a, &run(None, number), &[rows(1)]);
        let expect = run(Some(&types), number);
        assert!(sent.ends_with(&expect[5..]), "{sent:?}");
    }
}
