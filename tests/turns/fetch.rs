//! COM_STMT_FETCH where there is nothing to fetch: the server's own errors.

use crate::Scene;
use crate::support::Client;

/// The error's number of a COM_STMT_FETCH.
fn fetch(client: &mut Client, id: u32) -> u16 {
    let body = [id.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    let error = client.run_raw(0x1c, &body).expect_err("an error");
    error.errno()
}

/// What a client is told, step by step.
fn fetches(mut client: Client) -> Vec<u16> {
    let mut told = vec![fetch(&mut client, 77)];
    let statement = client.prepare("SELECT 1").expect("a statement");
    told.push(fetch(&mut client, statement.id));
    client.execute(statement, &[]).expect("a row");
    told.push(fetch(&mut client, statement.id));
    let write = client.prepare("DO 1").expect("a statement");
    client.execute(write, &[]).expect("an OK");
    told.push(fetch(&mut client, write.id));
    client.close_statement(statement).expect("a write");
    told.push(fetch(&mut client, statement.id));
    client.reset().expect("an OK");
    told.push(fetch(&mut client, write.id));
    told
}

fn are_the_servers_own(scene: &Scene) {
    let direct = fetches(scene.direct());
    assert_eq!(direct, [1243, 1421, 1421, 1421, 1243, 1243]);
    for deprecate_eof in [true, false] {
        assert_eq!(fetches(scene.client(deprecate_eof)), direct);
    }
}

#[test]
fn a_fetch_without_a_cursor_is_told_apart_from_one_without_a_statement() {
    are_the_servers_own(&Scene::new(1, ""));
}

#[test]
fn so_it_is_on_mysql() {
    if let Some(scene) = Scene::on_mysql(1, "", "") {
        are_the_servers_own(&scene);
    }
}
