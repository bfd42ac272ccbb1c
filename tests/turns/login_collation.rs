//! The character sets of a session are those that its login gives directly, whatever number it names.

use crate::support::{Client, ClientError, Login, Options, Server};
use crate::{Form, Scene, ask};

const STATE: &str = "SELECT CONCAT_WS(' ', @@character_set_client, @@character_set_connection, \
    @@character_set_results, @@collation_connection)";

/// What a login with this number gives; the error's number if there is none.
fn state(login: &Login, collation: u8) -> Result<String, u16> {
    let mut client =
        Client::connect_in(login, collation).map_err(|error: ClientError| error.errno())?;
    let first = ask(&mut client, Form::Text, STATE);
    assert_eq!(ask(&mut client, Form::Binary, STATE), first, "{collation}");
    Ok(first)
}

fn are_those_of_the_server(scene: &Scene) {
    let direct = scene.direct_login();
    let through = scene.gateway.login();
    let mut wrong = Vec::new();
    for collation in 0..=u8::MAX {
        let (expect, found) = (state(&direct, collation), state(&through, collation));
        if found != expect {
            wrong.push(format!("{collation}: {found:?}, directly {expect:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Servers as they come, and with other defaults than any number names.
fn each(mut check: impl FnMut(Options)) {
    check(Options::with_test_schema(""));
    for defaults in [
        &["--collation-server=utf8mb4_unicode_ci"][..],
        &["--character-set-server=latin1"],
    ] {
        check(Options {
            arguments: defaults.iter().map(|&text| text.to_owned()).collect(),
            ..Options::with_test_schema("")
        });
    }
}

#[test]
fn a_login_gives_the_character_sets_of_a_direct_one() {
    each(|options| are_those_of_the_server(&Scene::before(Server::start(options), 1, "")));
}

#[test]
fn so_it_does_on_mysql() {
    each(|options| {
        if let Some(server) = Server::mysql(options) {
            are_those_of_the_server(&Scene::before(server, 1, ""));
        }
    });
}
