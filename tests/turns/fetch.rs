//! COM_STMT_FETCH where there is nothing to fetch: the server's own errors. What a cursor leaves to be read.

use std::io::Read;

use crate::support::{ACCOUNT, Client, Login, PASSWORD};
use crate::{Form, Scene, ask};

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

/// Sends a command and reads to its first EOF: the client knows no cursors.
fn run_to_eof(client: &mut Client, command: u8, body: &[u8]) {
    let len = u8::try_from(body.len() + 1).expect("a short command");
    let packet = [&[len, 0, 0, 0, command], body].concat();
    client.send_raw(&packet).expect("a write");
    loop {
        let mut header = [0; 4];
        client.stream().read_exact(&mut header).expect("a header");
        let mut payload = vec![0; usize::from(header[0])];
        client.stream().read_exact(&mut payload).expect("a packet");
        match payload.first() {
            Some(0xfe) => return,
            first => assert_ne!(first, Some(&0xff), "{payload:?}"),
        }
    }
}

/// Executes a statement that gives `count` rows with a cursor, and fetches some of them.
fn open_cursor(client: &mut Client, count: u32, fetched: u32) {
    let sql = format!("SELECT seq FROM seq_1_to_{count}");
    let statement = client.prepare(&sql).expect("a statement");
    let id = statement.id.to_le_bytes();
    run_to_eof(
        client,
        0x17,
        &[&id[..], &[1], &1_u32.to_le_bytes()].concat(),
    );
    if fetched > 0 {
        run_to_eof(client, 0x1c, &[id, fetched.to_le_bytes()].concat());
    }
    client.close_statement(statement).expect("a write");
}

#[test]
fn a_cursor_counts_rows_for_its_own_session() {
    let scene = Scene::new(1, "");
    let reads = "SELECT FOUND_ROWS()";
    for fetched in [0, 2, 9] {
        for form in Form::ALL {
            let login = Login {
                port: scene.server.port(),
                user: ACCOUNT.to_owned(),
                password: PASSWORD.to_owned(),
                schema: "test".to_owned(),
                deprecate_eof: false,
            };
            let mut direct = Client::connect(&login).expect("a login");
            let (mut own, mut other) = (scene.client(false), scene.client(false));
            for client in [&mut direct, &mut own] {
                ask(client, Form::Text, "SELECT seq FROM seq_1_to_3");
            }
            open_cursor(&mut other, 5, fetched);
            let expect = ask(&mut direct, form, reads);
            assert_eq!(ask(&mut own, form, reads), expect, "{form:?} {fetched}");
            for client in [&mut direct, &mut own] {
                open_cursor(client, 7, fetched);
            }
            ask(&mut other, Form::Text, "SELECT seq FROM seq_1_to_4");
            let expect = ask(&mut direct, form, reads);
            assert_eq!(
                ask(&mut own, form, reads),
                expect,
                "{form:?} {fetched}, its own"
            );
        }
    }
}

#[test]
fn a_cursor_is_that_of_the_text_that_was_executed() {
    let scene = Scene::new(2, "");
    let mut own = scene.client(false);
    // On another connection the count is a literal, in a text of its own.
    let sql = "SELECT ROW_COUNT(), seq FROM seq_1_to_5";
    let statement = own.prepare(sql).expect("a statement");
    for closes in [false, true] {
        ask(&mut own, Form::Text, "DO 1");
        let mut crowd = scene.client(false);
        ask(&mut crowd, Form::Text, "BEGIN");
        let id = statement.id.to_le_bytes();
        run_to_eof(
            &mut own,
            0x17,
            &[&id[..], &[1], &1_u32.to_le_bytes()].concat(),
        );
        for _ in 0..2 {
            run_to_eof(&mut own, 0x1c, &[id, 2_u32.to_le_bytes()].concat());
        }
        match closes {
            false => drop(own.run_raw(0x1a, &id).expect("an OK")),
            true => own.close_statement(statement).expect("a write"),
        }
        ask(&mut crowd, Form::Text, "COMMIT");
        assert!(scene.is_free(), "kept for a cursor that is closed");
    }
}
