//! A blocking MySQL client, so that the demo can check itself where no MySQL client is installed.
//!
//! It wants whole answers in memory and text for every value: enough for small results.

use super::packet::Packets;
use crate::wire::mysql::auth::{FAST_AUTH_OK, native_scramble, sha2_scramble};
use crate::wire::mysql::command::{encode_execute, encode_statement_command, encode_text_command};
use crate::wire::mysql::cursor::{WireError, put_lenenc_bytes};
use crate::wire::mysql::flags::{caps, column_type, com, header, status};
use crate::wire::mysql::handshake::{
    Attributes, AuthSwitch, Greeting, Nonce, Response, decode_auth_more_data,
};
use crate::wire::mysql::response::{decode_eof, decode_err, decode_ok, is_eof};
use crate::wire::mysql::value::{
    Column, PrepareOk, TextRow, Value, decode_binary_row, decode_column_count,
};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What the client asks for; DEPRECATE_EOF is left out, so that every list has its end packet.
const WANTED: u32 = caps::LONG_PASSWORD
    | caps::LONG_FLAG
    | caps::CONNECT_WITH_DB
    | caps::PROTOCOL_41
    | caps::TRANSACTIONS
    | caps::SECURE_CONNECTION
    | caps::MULTI_RESULTS
    | caps::PS_MULTI_RESULTS
    | caps::PLUGIN_AUTH;

const CACHING_SHA2: &[u8] = b"caching_sha2_password";
const NATIVE: &[u8] = b"mysql_native_password";
/// `utf8mb4_general_ci`.
const COLLATION: u8 = 45;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed, ended, or was silent for too long.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server's ERR packet.
    #[error("error {errno}: {message}")]
    Server {
        /// Its number.
        errno: u16,
        /// Its message.
        message: String,
    },
    /// What the server sent is not what the protocol has in this place.
    #[error("the answer is not MySQL's: {0}")]
    Protocol(&'static str),
}

impl From<WireError> for ClientError {
    fn from(_: WireError) -> Self {
        Self::Protocol("a packet that cannot be read")
    }
}

/// Values as text; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Reads a row; the columns' types with whether they are unsigned matter to binary rows only.
type DecodeRow = fn(&[u8], &[(u8, bool)]) -> Result<Row, ClientError>;

/// How to log in.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions<'a> {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The user.
    pub user: &'a str,
    /// Its password.
    pub password: &'a str,
    /// The database to start in.
    pub schema: &'a str,
    /// How long the connection, and each packet of an answer, may take.
    pub patience: Duration,
}

/// One logged-in connection.
pub struct Client {
    packets: Packets<TcpStream>,
    caps: u32,
}

impl Client {
    /// Connects and logs in, with `caching_sha2_password`'s fast path or `mysql_native_password`.
    ///
    /// # Errors
    /// Any of [`ClientError`]; `Protocol` when the server wants another way to log in.
    pub fn connect(options: &ClientOptions<'_>) -> Result<Self, ClientError> {
        let stream = TcpStream::connect_timeout(&options.address, options.patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(options.patience))?;
        stream.set_write_timeout(Some(options.patience))?;
        let mut client = Self {
            packets: Packets::new(stream.try_clone()?, stream),
            caps: WANTED,
        };
        client.log_in(options)?;
        Ok(client)
    }

    fn log_in(&mut self, options: &ClientOptions<'_>) -> Result<(), ClientError> {
        let payload = self.read()?;
        let greeting = Greeting::decode(&payload)?;
        self.caps &= greeting.caps;
        let plugin = if greeting.plugin == NATIVE {
            NATIVE
        } else {
            CACHING_SHA2
        };
        let response = Response {
            caps: self.caps,
            mariadb_caps: 0,
            max_packet: 1 << 24,
            collation: COLLATION,
            user: options.user.as_bytes(),
            auth: &prove(plugin, options.password, &greeting.nonce)?,
            schema: Some(options.schema.as_bytes()),
            plugin,
            attributes: Attributes::default(),
        };
        self.packets.write(|out| response.encode(out))?;
        self.packets.flush()?;
        loop {
            let payload = self.read()?;
            match payload.first() {
                Some(&header::OK) => return Ok(()),
                Some(&header::EOF) => {
                    let switch = AuthSwitch::decode(&payload)?;
                    let challenge = switch.nonce();
                    let nonce = challenge.ok_or(ClientError::Protocol("no challenge"))?;
                    let proof = prove(switch.plugin, options.password, &nonce)?;
                    self.packets.write(|out| out.extend_from_slice(&proof))?;
                    self.packets.flush()?;
                }
                _ if decode_auth_more_data(&payload)? == [FAST_AUTH_OK] => {}
                _ => return Err(ClientError::Protocol("a login without a fast path")),
            }
        }
    }

    /// Runs one statement; gives the rows of all its results.
    ///
    /// # Errors
    /// Any of [`ClientError`]; after `Server` the connection can go on.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, ClientError> {
        self.command(|out| encode_text_command(out, com::QUERY, sql.as_bytes()))?;
        self.results(text_row)
    }

    /// Prepares a statement, executes it once with `parameters` as strings, closes it.
    ///
    /// # Errors
    /// As [`Client::query`]; `Protocol` when the parameters are not as many as the statement's.
    pub fn execute(&mut self, sql: &str, parameters: &[&str]) -> Result<Vec<Row>, ClientError> {
        self.command(|out| encode_text_command(out, com::STMT_PREPARE, sql.as_bytes()))?;
        let prepared = PrepareOk::decode(&self.read()?)?;
        for count in [prepared.parameters, prepared.columns] {
            for _ in 0..count {
                self.read()?;
            }
            if count > 0 {
                decode_eof(&self.read()?)?;
            }
        }
        if usize::from(prepared.parameters) != parameters.len() {
            return Err(ClientError::Protocol("another number of parameters"));
        }
        let nulls = vec![0; parameters.len().div_ceil(8)];
        let types = [column_type::VAR_STRING, 0].repeat(parameters.len());
        let mut values = Vec::new();
        for parameter in parameters {
            put_lenenc_bytes(&mut values, parameter.as_bytes());
        }
        let id = prepared.statement;
        self.command(|out| encode_execute(out, id, 0, &nulls, Some(&types), &values))?;
        let rows = self.results(binary_row)?;
        self.command(|out| encode_statement_command(out, com::STMT_CLOSE, id))?;
        Ok(rows)
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The connection's.
    pub fn quit(mut self) -> Result<(), ClientError> {
        self.command(|out| out.push(com::QUIT))
    }

    fn command(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), ClientError> {
        self.packets.restart();
        self.packets.write(write)?;
        Ok(self.packets.flush()?)
    }

    fn results(&mut self, decode: DecodeRow) -> Result<Vec<Row>, ClientError> {
        let mut rows = Vec::new();
        loop {
            let payload = self.read()?;
            let flags = if payload.first() == Some(&header::OK) {
                decode_ok(&payload, self.caps)?.status
            } else {
                let count = decode_column_count(&payload)?;
                let columns = self.columns(count)?;
                loop {
                    let payload = self.read()?;
                    if is_eof(&payload) {
                        break decode_eof(&payload)?.status;
                    }
                    rows.push(decode(&payload, &columns)?);
                }
            };
            if flags & status::MORE_RESULTS_EXISTS == 0 {
                return Ok(rows);
            }
        }
    }

    fn columns(&mut self, count: u16) -> Result<Vec<(u8, bool)>, ClientError> {
        let mut columns = Vec::with_capacity(count.into());
        for _ in 0..count {
            let payload = self.read()?;
            let column = Column::decode(&payload)?;
            columns.push((column.column_type, column.is_unsigned()));
        }
        decode_eof(&self.read()?)?;
        Ok(columns)
    }

    /// The next payload; an ERR packet is an error.
    fn read(&mut self) -> Result<Vec<u8>, ClientError> {
        let payload = self.packets.read()?;
        let payload = payload.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        if payload.first() != Some(&header::ERR) {
            return Ok(payload);
        }
        let error = decode_err(&payload)?;
        Err(ClientError::Server {
            errno: error.errno,
            message: String::from_utf8_lossy(error.message).into_owned(),
        })
    }
}

/// The answer to a challenge.
fn prove(plugin: &[u8], password: &str, nonce: &Nonce) -> Result<Vec<u8>, ClientError> {
    match plugin {
        _ if password.is_empty() => Ok(Vec::new()),
        CACHING_SHA2 => Ok(sha2_scramble(password.as_bytes(), nonce).to_vec()),
        NATIVE => Ok(native_scramble(password.as_bytes(), nonce).to_vec()),
        _ => Err(ClientError::Protocol("an unknown way to log in")),
    }
}

fn text_row(payload: &[u8], _: &[(u8, bool)]) -> Result<Row, ClientError> {
    TextRow::new(payload)
        .map(|field| Ok(field?.map(|bytes| String::from_utf8_lossy(bytes).into_owned())))
        .collect()
}

fn binary_row(payload: &[u8], columns: &[(u8, bool)]) -> Result<Row, ClientError> {
    let row = decode_binary_row(payload, columns)?;
    row.into_iter().map(text_of).collect()
}

fn text_of(value: Value<'_>) -> Result<Option<String>, ClientError> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Signed(number) => number.to_string(),
        Value::Unsigned(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Date(_) | Value::Time(_) => {
            return Err(ClientError::Protocol("a date, which has no text here"));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Shard, ShardOptions};

    fn shard() -> Shard {
        Shard::start(ShardOptions {
            users: vec![("u".into(), "secret".into())],
            databases: vec!["d".into()],
            ..ShardOptions::default()
        })
        .unwrap()
    }

    fn connect(shard: &Shard, user: &str, password: &str) -> Result<Client, ClientError> {
        Client::connect(&ClientOptions {
            address: shard.address(),
            user,
            password,
            schema: "d",
            patience: Duration::from_secs(30),
        })
    }

    fn row(values: &[&str]) -> Row {
        values
            .iter()
            .map(|value| (*value != "NULL").then(|| (*value).to_owned()))
            .collect()
    }

    #[test]
    fn text_and_binary_answers_are_the_same_text() {
        let shard = shard();
        let mut client = connect(&shard, "u", "secret").unwrap();
        let create = "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(9), price DECIMAL(6,2))";
        assert!(client.query(create).unwrap().is_empty());
        let insert = "INSERT INTO t VALUES (1, 'one', 1.50), (-2, NULL, 20.00)";
        assert!(client.query(insert).unwrap().is_empty());
        let expect = [row(&["-2", "NULL", "20.00"]), row(&["1", "one", "1.50"])];
        let all = "SELECT id, name, price FROM t ORDER BY id";
        assert_eq!(client.query(all).unwrap(), expect);
        assert_eq!(client.execute(all, &[]).unwrap(), expect);
        let one = "SELECT id, name, price FROM t WHERE id = ?";
        assert_eq!(client.execute(one, &["1"]).unwrap(), expect[1..]);
        client.quit().unwrap();
    }

    #[test]
    fn refusals_have_the_servers_number_and_the_session_goes_on() {
        let shard = shard();
        let errno = |error: ClientError| match error {
            ClientError::Server { errno, .. } => errno,
            other => panic!("{other}"),
        };
        for (user, password) in [("u", "wrong"), ("nobody", "secret"), ("u", "")] {
            let refused = connect(&shard, user, password).err().map(errno);
            assert_eq!(refused, Some(1045), "{user} {password}");
        }
        let mut client = connect(&shard, "u", "secret").unwrap();
        assert_eq!(errno(client.query("SELECT * FROM gone").unwrap_err()), 1146);
        assert_eq!(client.query("SELECT 1").unwrap(), [row(&["1"])]);
    }
}
