//! What a session has set goes with it, in whatever form it was set, and keeps no connection.

use crate::{Form, Scene, ask};

#[test]
fn what_holds_for_a_statement_is_neither_the_sessions_nor_the_connections() {
    let scene = Scene::new(1, "");
    let reads = "SELECT CONCAT(@@max_statement_time, @@sql_notes, @@time_zone)";
    for deprecate_eof in [false, true] {
        let (mut own, mut other) = (scene.client(deprecate_eof), scene.client(deprecate_eof));
        let before = ask(&mut other, Form::Text, reads);
        for form in Form::ALL {
            for sql in ["SELECT 1", "DO 1", "SELECT @@version"] {
                let passing = "max_statement_time = 9, sql_notes = 0, time_zone = '+03:00'";
                ask(
                    &mut own,
                    form,
                    &format!("SET STATEMENT {passing} FOR {sql}"),
                );
                assert_eq!(ask(&mut other, form, reads), before, "the other's: {sql}");
                assert_eq!(ask(&mut own, form, reads), before, "its own: {sql}");
            }
        }
    }
}
