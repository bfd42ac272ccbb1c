//! What a server makes of a session's variables at COM_RESET_CONNECTION, which is no login: it goes back to its
//! globals, whatever `init_connect` or the account gave at the login.
//!
//! The families differ in what stays of the login (measured with MariaDB 10.11 and MySQL 9.7): MariaDB keeps its
//! character sets and forgets what IGNORE_SPACE and INTERACTIVE stand for, MySQL does the opposite. Sources:
//! `THD::init` of both (sql/sql_class.cc).

use std::rc::Rc;

use super::after_login::with_ignore_space;
use super::baseline::Base;
use super::downstream::Session;
use super::output::Output;
use super::state::number_of;
use crate::wire::mysql::flags::caps;

/// What a session's state began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Since {
    /// Its login.
    #[default]
    Login,
    /// A COM_RESET_CONNECTION.
    Reset,
}

impl Session {
    /// The state of a session that has just logged in, but for the schema, which stays
    /// (MySQL manual, "mysql_reset_connection()"), and for what a server makes of its variables: with that it is
    /// to begin (`beginning`), then [`Self::tell_reset`].
    pub fn reset(&mut self) {
        let schema = self.vector.schema().unwrap_or_default();
        let vector = if self.login_vector.schema().unwrap_or_default() == schema {
            self.login_vector.clone()
        } else {
            Rc::new(self.login_vector.with_schema(schema))
        };
        self.set_vector(vector);
        self.since = Since::Reset;
        self.status = 0;
        self.lose_lease();
        self.statements.clear();
        self.left.reset();
        self.trackers = None;
        self.schema_is_gone = false;
        self.schema_refusal = None;
        self.has_explained = false;
    }

    /// The reply to COM_RESET_CONNECTION.
    pub fn tell_reset(&mut self, out: &mut Output) {
        self.answer_ok(out);
    }
}

/// The variables of a session that was reset and has `login` since its login, with capabilities `agreed`, on a
/// server with these `globals`. Character sets are not among them.
pub(super) fn base(login: &Base, globals: &Base, agreed: u32, is_mysql: bool) -> Base {
    let [mode, wait, interactive] =
        ["sql_mode", "wait_timeout", "interactive_timeout"].map(|name| number_of(name.as_bytes()));
    let value = |(number, own): (u8, &[u8])| -> (u8, Box<[u8]>) {
        let has = |capability: u32| is_mysql && agreed & capability != 0;
        let from = match () {
            () if has(caps::INTERACTIVE) && wait == Some(number) => interactive.unwrap_or(number),
            () => number,
        };
        let value = globals.value_of(from).unwrap_or(own);
        match has(caps::IGNORE_SPACE) && mode == Some(number) {
            true => (number, with_ignore_space(value)),
            false => (number, value.into()),
        }
    };
    login.values().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::tests::base as values;

    #[test]
    fn a_reset_goes_back_to_the_globals_and_each_family_keeps_its_own() {
        let login = values(&[
            ("interactive_timeout", "5"),
            ("max_statement_time", "33.000000"),
            ("sql_mode", "IGNORE_SPACE"),
            ("time_zone", "+03:00"),
            ("wait_timeout", "5"),
        ]);
        let globals = values(&[
            ("character_set_client", "gbk"),
            ("interactive_timeout", "6"),
            ("max_statement_time", "0.000000"),
            ("sql_mode", "ANSI_QUOTES,HIGH_NOT_PRECEDENCE"),
            ("wait_timeout", "7"),
        ]);
        let expect = |mode: &str, wait: &str| {
            values(&[
                ("interactive_timeout", "6"),
                ("max_statement_time", "0.000000"),
                ("sql_mode", mode),
                // The server does not tell that one.
                ("time_zone", "+03:00"),
                ("wait_timeout", wait),
            ])
        };
        let plain = "ANSI_QUOTES,HIGH_NOT_PRECEDENCE";
        let spaced = "ANSI_QUOTES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE";
        let both = caps::IGNORE_SPACE | caps::INTERACTIVE;
        for (agreed, is_mysql, mode, wait) in [
            (0, false, plain, "7"),
            (both, false, plain, "7"),
            (0, true, plain, "7"),
            (caps::IGNORE_SPACE, true, spaced, "7"),
            (caps::INTERACTIVE, true, plain, "6"),
        ] {
            let found = base(&login, &globals, agreed, is_mysql);
            assert_eq!(found, expect(mode, wait), "{agreed} {is_mysql}");
        }
    }
}
