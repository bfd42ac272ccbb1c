//! The body of COM_STMT_EXECUTE, checked before it is translated.
//!
//! Servers check little of it, and differ in what: MariaDB 10.11 ends altogether on an EXECUTE without
//! types for a statement that never had any, reads up to nine bytes beyond the end of a value that is
//! cut short (what another session's command has left in the buffer), and checks lengths only under
//! the id 0xFFFFFFFF. What is refused here a server would refuse too; bytes too many are not, as
//! servers take no notice of them.

use super::statements::Statement;
use crate::base::codes::Event;
use crate::wire::mysql::command::EXECUTE_HEAD_BYTES;
use crate::wire::mysql::flags::column_type;
use crate::wire::mysql::value::{value_len, value_reach};

/// What an EXECUTE says of its parameters' types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Types {
    /// It has no parameters.
    #[default]
    NoParameters,
    /// They follow the flag, which is at this offset of the payload.
    Bound(usize),
    /// They are those of the execution before; the flag is at this offset.
    AsBefore(usize),
    /// There was none before, and all its parameters are NULL; the flag is at this offset.
    AllNull(usize),
}

/// Whether the EXECUTE asks for a cursor of any kind: the byte behind the statement's id.
pub(super) fn wants_cursor(payload: &[u8]) -> bool {
    payload.get(5).is_some_and(|flags| *flags != 0)
}

/// How much of the payload must be there for [`check`]: more than is here, perhaps.
pub(super) fn needed(payload: &[u8], statement: &Statement) -> usize {
    let flag_at = flag_at(statement);
    let types = match payload.get(flag_at) {
        Some(0) => 0,
        _ => types_len(statement),
    };
    flag_at.saturating_add(1).saturating_add(types)
}

fn flag_at(statement: &Statement) -> usize {
    EXECUTE_HEAD_BYTES.saturating_add(usize::from(statement.params).div_ceil(8))
}

fn types_len(statement: &Statement) -> usize {
    usize::from(statement.params).saturating_mul(2)
}

/// Checks the payload of an EXECUTE. Of one that is not whole, the values are not looked at.
/// `is_last_prepared`: it names the statement as 0xFFFFFFFF.
///
/// # Errors
/// What its client is to be told, which is what MariaDB says of it.
pub(super) fn check(
    payload: &[u8],
    is_whole: bool,
    is_last_prepared: bool,
    statement: &Statement,
) -> Result<Types, Event> {
    if statement.params == 0 {
        return Ok(Types::NoParameters);
    }
    let too_short = match is_last_prepared {
        true => Event::MalformedCommand,
        false => Event::WrongArguments,
    };
    let flag_at = flag_at(statement);
    let values_at = flag_at.saturating_add(1);
    let nulls = payload.get(EXECUTE_HEAD_BYTES..flag_at).ok_or(too_short)?;
    let (found, types, values_at) = match payload.get(flag_at).ok_or(too_short)? {
        1 => {
            let end = values_at.saturating_add(types_len(statement));
            let types = payload.get(values_at..end).ok_or(Event::MalformedCommand)?;
            (Types::Bound(flag_at), types, end)
        }
        0 if is_last_prepared => return Err(Event::MalformedCommand),
        0 => match &statement.types {
            Some(types) => (Types::AsBefore(flag_at), &**types, values_at),
            None if all_null(nulls, statement) => return Ok(Types::AllNull(flag_at)),
            None => return Err(Event::WrongArguments),
        },
        _ => return Err(Event::MalformedCommand),
    };
    if is_whole {
        let values = payload.get(values_at..).unwrap_or_default();
        check_values(nulls, types, values, statement)?;
    }
    Ok(found)
}

/// The types of parameters that are all NULL.
pub(super) fn null_types(params: u16) -> Vec<u8> {
    [column_type::NULL, 0].repeat(usize::from(params))
}

fn all_null(nulls: &[u8], statement: &Statement) -> bool {
    (0..statement.params).all(|index| is_set(nulls, index))
}

/// Whether every value is there to its end.
fn check_values(
    nulls: &[u8],
    types: &[u8],
    mut values: &[u8],
    statement: &Statement,
) -> Result<(), Event> {
    for (index, pair) in (0_u16..).zip(types.chunks_exact(2)) {
        if is_set(nulls, index) || statement.has_long_data() && statement.is_long(index) {
            continue;
        }
        let column_type = pair.first().copied().unwrap_or_default();
        let reach = value_reach(column_type, values);
        let rest = value_len(column_type, values)
            .filter(|_| reach.is_some_and(|reach| reach <= values.len()))
            .and_then(|len| values.get(len..));
        values = rest.ok_or(Event::WrongArguments)?;
    }
    Ok(())
}

/// Whether a bit is set; those beyond the end are not.
pub(super) fn is_set(bits: &[u8], index: u16) -> bool {
    let byte = bits.get(usize::from(index / 8));
    byte.is_some_and(|byte| byte >> (index % 8) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::effects::Effects;
    use super::super::statements::Texts;
    use super::*;
    use crate::wire::mysql::command::encode_execute;

    fn statement(params: u16, types: Option<&[u8]>) -> Statement {
        let mut texts = Texts::default();
        let settings = texts.settings_of(&Rc::default());
        let text = texts.intern(b"x", &settings);
        let mut statement = Statement::new(text, params, Effects::default());
        statement.types = types.map(Into::into);
        statement
    }

    fn execute(nulls: &[u8], types: Option<&[u8]>, values: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_execute(&mut out, 1, 0, nulls, types, values);
        out
    }

    /// A long integer and a string.
    const TYPES: &[u8] = &[8, 0, 0xfd, 0];
    const VALUES: &[u8] = b"\x01\0\0\0\0\0\0\0\x03abc";

    #[test]
    fn a_whole_body_passes_and_no_other() {
        let whole = execute(&[0], Some(TYPES), VALUES);
        for is_last in [true, false] {
            let fresh = statement(2, None);
            assert_eq!(check(&whole, true, is_last, &fresh), Ok(Types::Bound(11)));
            for cut in EXECUTE_HEAD_BYTES..whole.len() {
                let body = &whole[..cut];
                let expect = match cut {
                    // The types are cut, or the client says that it is sure of its statement.
                    ..16 if is_last || cut >= 12 => Event::MalformedCommand,
                    _ => Event::WrongArguments,
                };
                assert_eq!(check(body, true, is_last, &fresh), Err(expect), "{cut}");
            }
            let longer = [&whole[..], b"more"].concat();
            assert!(check(&longer, true, is_last, &fresh).is_ok());
        }
        let known = statement(2, Some(TYPES));
        let as_before = execute(&[0], None, VALUES);
        assert_eq!(
            check(&as_before, true, false, &known),
            Ok(Types::AsBefore(11))
        );
        let cut = &as_before[..as_before.len() - 1];
        assert_eq!(check(cut, true, false, &known), Err(Event::WrongArguments));
        // The rest of a long one is not here.
        assert!(check(cut, false, false, &known).is_ok());
    }

    #[test]
    fn types_are_bound_first_unless_all_is_null() {
        let fresh = statement(2, None);
        let body = execute(&[0], None, VALUES);
        assert_eq!(
            check(&body, true, false, &fresh),
            Err(Event::WrongArguments)
        );
        assert_eq!(
            check(&body, true, true, &fresh),
            Err(Event::MalformedCommand)
        );
        let nulls = execute(&[0b11], None, b"");
        assert_eq!(check(&nulls, true, false, &fresh), Ok(Types::AllNull(11)));
        assert_eq!(null_types(2), [6, 0, 6, 0]);
        let mut odd = execute(&[0], Some(TYPES), VALUES);
        odd[11] = 2;
        assert_eq!(
            check(&odd, true, false, &fresh),
            Err(Event::MalformedCommand)
        );
        let unknown = execute(&[0], Some(&[8, 0, 0x77, 0]), VALUES);
        assert_eq!(
            check(&unknown, true, false, &fresh),
            Err(Event::WrongArguments)
        );
        assert_eq!(
            check(&execute(&[], None, b""), true, true, &statement(0, None)),
            Ok(Types::NoParameters)
        );
    }

    #[test]
    fn a_length_that_is_cut_or_runs_beyond_the_end_is_refused() {
        let text = statement(1, Some(&[0xfd, 0]));
        for value in [
            &b"\x04abc"[..],
            b"\xfc",
            b"\xfc\x03",
            b"\xfc\x04\0abc",
            b"\xfd\x04\0\0abc",
            b"\xfe\x04\0\0\0\0\0\0\0abc",
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffabc",
            b"\xfb",
            b"\xff\x03\0\0\0\0\0\0\0abc",
        ] {
            let body = execute(&[0], None, value);
            assert!(check(&body, true, false, &text).is_err(), "{value:?}");
        }
        let time = statement(1, Some(&[11, 0]));
        for (value, is_good) in [(&b"\0"[..], true), (b"\x08", false), (b"\x01a", true)] {
            let body = execute(&[0], None, value);
            assert_eq!(
                check(&body, true, false, &time).is_ok(),
                is_good,
                "{value:?}"
            );
        }
        // A server would read on behind the last value; behind others there are more bytes of the same client.
        for (kind, good) in [
            (10, &[0, 1, 2, 3, 4, 7, 11][..]),
            (11, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 12]),
        ] {
            let (one, two) = (
                statement(1, Some(&[kind, 0])),
                statement(2, Some(&[kind, 0, 8, 0])),
            );
            for len in 0..=12_u8 {
                let mut value = vec![1; usize::from(len) + 1];
                value[0] = len;
                let is_good = good.contains(&len) || kind == 10 && len > 11;
                let body = execute(&[0], None, &value);
                assert_eq!(
                    check(&body, true, false, &one).is_ok(),
                    is_good,
                    "{kind} {len}"
                );
                value.extend([0; 8]);
                let body = execute(&[0], None, &value);
                assert!(check(&body, true, false, &two).is_ok(), "{kind} {len}");
            }
        }
    }

    #[test]
    fn a_parameter_that_came_as_long_data_has_no_value() {
        let mut sent = statement(2, Some(TYPES));
        sent.note_long(1);
        sent.note_long(7);
        let body = execute(&[0], None, &VALUES[..8]);
        // Without the count that `Statements` keeps, nothing is waited for.
        assert!(check(&body, true, false, &sent).is_err());
        assert!(sent.is_long(1) && !sent.is_long(0) && !sent.is_long(7));
    }

    #[test]
    fn what_is_needed_of_a_long_one_ends_with_its_types() {
        let many = statement(65_535, None);
        let with = execute(&[0; 8192], Some(&[8, 0].repeat(65_535)), b"");
        assert_eq!(needed(&with[..9000], &many), with.len());
        let without = execute(&[0; 8192], None, b"values");
        assert_eq!(needed(&without, &many), without.len() - 6);
        assert_eq!(needed(b"", &many), with.len());
    }
}
