//! What IGNORE_SPACE and INTERACTIVE stand for at a login: a mode more, and another `wait_timeout`. Servers set both
//! ahead of `init_connect`, which may set the variables anew (sql/sql_connect.cc, `prepare_new_connection_state`).

use super::baseline::Base;
use super::state::number_of;
use crate::wire::mysql::flags::caps;

/// The mode that IGNORE_SPACE stands for.
const IGNORE_SPACE: &[u8] = b"IGNORE_SPACE";

/// The modes that servers name ahead of it.
const AHEAD: [&[u8]; 3] = [b"REAL_AS_FLOAT", b"PIPES_AS_CONCAT", b"ANSI_QUOTES"];

/// The variables of a session that has logged in with capabilities `agreed`, where a login with neither of the two
/// gives `login`. What is not as among the `globals` then was set by `init_connect`.
pub(super) fn base(login: &Base, globals: Option<&Base>, agreed: u32) -> Base {
    let [mode, wait, interactive] =
        ["sql_mode", "wait_timeout", "interactive_timeout"].map(|name| number_of(name.as_bytes()));
    let has = |capability: u32| agreed & capability != 0;
    let is_global = |number: u8, own: &[u8]| {
        let global = globals.and_then(|globals| globals.value_of(number));
        global.is_none_or(|global| global == own)
    };
    let value = |(number, own): (u8, &[u8])| -> (u8, Box<[u8]>) {
        let value = match () {
            () if has(caps::INTERACTIVE) && wait == Some(number) && is_global(number, own) => {
                // Of that one, `init_connect` has not run yet.
                let longer =
                    interactive.and_then(|number| globals.unwrap_or(login).value_of(number));
                longer.unwrap_or(own).into()
            }
            () if has(caps::IGNORE_SPACE) && mode == Some(number) && is_global(number, own) => {
                with_ignore_space(own)
            }
            () => own.into(),
        };
        (number, value)
    };
    match has(caps::INTERACTIVE | caps::IGNORE_SPACE) {
        true => login.values().map(value).collect(),
        false => login.clone(),
    }
}

/// These modes and [`IGNORE_SPACE`], in the order in which servers name them.
pub(super) fn with_ignore_space(modes: &[u8]) -> Box<[u8]> {
    let mut names: Vec<&[u8]> = modes.split(|byte| *byte == b',').collect();
    names.retain(|name| !name.is_empty());
    if !names.contains(&IGNORE_SPACE) {
        let ahead = names.iter().take_while(|name| AHEAD.contains(name));
        names.insert(ahead.count(), IGNORE_SPACE);
    }
    names.join(&b","[..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mysql::tests::base as values;

    #[test]
    fn what_init_connect_sets_stays_whatever_was_agreed_on() {
        let both = caps::IGNORE_SPACE | caps::INTERACTIVE;
        let of = |mode: &str, wait: &str, interactive: &str| {
            values(&[
                ("interactive_timeout", interactive),
                ("sql_mode", mode),
                ("wait_timeout", wait),
            ])
        };
        let globals = of("ANSI_QUOTES,HIGH_NOT_PRECEDENCE", "7", "6");
        let plain = of("ANSI_QUOTES,HIGH_NOT_PRECEDENCE", "7", "6");
        let spaced = "ANSI_QUOTES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE";
        for (agreed, mode, wait) in [
            (0, "ANSI_QUOTES,HIGH_NOT_PRECEDENCE", "7"),
            (caps::IGNORE_SPACE, spaced, "7"),
            (caps::INTERACTIVE, "ANSI_QUOTES,HIGH_NOT_PRECEDENCE", "6"),
            (both, spaced, "6"),
        ] {
            for globals in [Some(&globals), None] {
                assert_eq!(base(&plain, globals, agreed), of(mode, wait, "6"));
            }
        }
        let set = of("", "9", "8");
        assert_eq!(base(&set, Some(&globals), both), set);
        let longer = of("", "7", "8");
        assert_eq!(base(&longer, Some(&globals), both), of("", "6", "8"));
    }

    #[test]
    fn a_mode_is_put_where_servers_name_it() {
        for (modes, expect) in [
            ("", "IGNORE_SPACE"),
            ("IGNORE_SPACE", "IGNORE_SPACE"),
            ("ANSI_QUOTES", "ANSI_QUOTES,IGNORE_SPACE"),
            ("STRICT_ALL_TABLES", "IGNORE_SPACE,STRICT_ALL_TABLES"),
            (
                "REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ANSI",
                "REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ANSI",
            ),
        ] {
            assert_eq!(&*with_ignore_space(modes.as_bytes()), expect.as_bytes());
        }
    }
}
