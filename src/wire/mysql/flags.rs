//! Numbers of the protocol: capabilities, status flags, command bytes, column types, limits.
//!
//! Source: MySQL source documentation, `group__group__cs__capabilities__flags`,
//! `mysql__com_8h` and `field__types_8h`; MariaDB "Connection" and "Result set packets" pages.

/// Capability bits of the handshake, both directions, as one 32-bit word.
pub mod caps {
    /// Set by MySQL and its clients; cleared by MariaDB (`CLIENT_MYSQL`) to announce that the
    /// last four filler bytes carry [`super::mariadb_caps`].
    pub const LONG_PASSWORD: u32 = 1;
    /// Affected rows count the rows found, not the rows changed. Fixed at connect.
    pub const FOUND_ROWS: u32 = 1 << 1;
    /// Column flags have two bytes.
    pub const LONG_FLAG: u32 = 1 << 2;
    /// The response names an initial schema.
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    /// `schema.table.column` is refused. Fixed at connect.
    pub const NO_SCHEMA: u32 = 1 << 4;
    /// zlib compression of the connection.
    pub const COMPRESS: u32 = 1 << 5;
    /// ODBC client; no effect on the protocol.
    pub const ODBC: u32 = 1 << 6;
    /// The client can answer LOAD DATA LOCAL requests.
    pub const LOCAL_FILES: u32 = 1 << 7;
    /// Spaces before `(` are ignored. Fixed at connect.
    pub const IGNORE_SPACE: u32 = 1 << 8;
    /// The 4.1 protocol: the only one spoken here.
    pub const PROTOCOL_41: u32 = 1 << 9;
    /// `interactive_timeout` applies. Fixed at connect.
    pub const INTERACTIVE: u32 = 1 << 10;
    /// The connection changes to TLS after the short response.
    pub const SSL: u32 = 1 << 11;
    /// The client ignores SIGPIPE; no effect on the protocol.
    pub const IGNORE_SIGPIPE: u32 = 1 << 12;
    /// OK and EOF carry status flags.
    pub const TRANSACTIONS: u32 = 1 << 13;
    /// Former name of the 4.1 protocol bit; no effect.
    pub const RESERVED: u32 = 1 << 14;
    /// The response's scramble is preceded by a length byte.
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    /// One COM_QUERY may hold several statements. Changed by COM_SET_OPTION.
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    /// One COM_QUERY may have several replies.
    pub const MULTI_RESULTS: u32 = 1 << 17;
    /// One COM_STMT_EXECUTE may have several replies. Fixed at connect.
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    /// Authentication plugins are named.
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    /// The response ends with connection attributes.
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    /// The response's scramble is a length-encoded string.
    pub const PLUGIN_AUTH_LENENC_CLIENT_DATA: u32 = 1 << 21;
    /// The client can be told that its password has expired.
    pub const CAN_HANDLE_EXPIRED_PASSWORDS: u32 = 1 << 22;
    /// OK packets carry session state changes.
    pub const SESSION_TRACK: u32 = 1 << 23;
    /// OK with header 0xFE replaces EOF. Fixed at connect.
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    /// Column definitions may be left out.
    pub const OPTIONAL_RESULTSET_METADATA: u32 = 1 << 25;
    /// zstd compression of the connection.
    pub const ZSTD_COMPRESSION: u32 = 1 << 26;
    /// Statements carry attributes.
    pub const QUERY_ATTRIBUTES: u32 = 1 << 27;
    /// More than one authentication factor.
    pub const MULTI_FACTOR_AUTHENTICATION: u32 = 1 << 28;
    /// The capability word continues elsewhere; unused by servers.
    pub const CAPABILITY_EXTENSION: u32 = 1 << 29;
    /// The client verifies the server's certificate; client side only.
    pub const SSL_VERIFY_SERVER_CERT: u32 = 1 << 30;
    /// The client remembers options; client side only.
    pub const REMEMBER_OPTIONS: u32 = 1 << 31;
}

/// MariaDB's extended capabilities (its bits 32 and up, here from bit 0).
pub mod mariadb_caps {
    /// Progress reports as ERR packets with code 0xFFFF.
    pub const PROGRESS: u32 = 1;
    /// COM_MULTI; reserved.
    pub const COM_MULTI: u32 = 1 << 1;
    /// COM_STMT_BULK_EXECUTE.
    pub const STMT_BULK_OPERATIONS: u32 = 1 << 2;
    /// Column definitions carry extended type information.
    pub const EXTENDED_METADATA: u32 = 1 << 3;
    /// Column definitions may be left out on repeated execution.
    pub const CACHE_METADATA: u32 = 1 << 4;
    /// Unit results of bulk operations.
    pub const BULK_UNIT_RESULTS: u32 = 1 << 5;
}

/// Status flags of OK and EOF packets.
pub mod status {
    /// A transaction is open.
    pub const IN_TRANS: u16 = 1;
    /// `autocommit` is on.
    pub const AUTOCOMMIT: u16 = 1 << 1;
    /// Another reply to the same command follows.
    pub const MORE_RESULTS_EXISTS: u16 = 1 << 3;
    /// No good index was used.
    pub const NO_GOOD_INDEX_USED: u16 = 1 << 4;
    /// No index was used.
    pub const NO_INDEX_USED: u16 = 1 << 5;
    /// A read-only cursor was opened; rows come by COM_STMT_FETCH.
    pub const CURSOR_EXISTS: u16 = 1 << 6;
    /// The cursor is exhausted.
    pub const LAST_ROW_SENT: u16 = 1 << 7;
    /// A schema was dropped.
    pub const DB_DROPPED: u16 = 1 << 8;
    /// `sql_mode` has NO_BACKSLASH_ESCAPES.
    pub const NO_BACKSLASH_ESCAPES: u16 = 1 << 9;
    /// The statement's metadata changed since it was prepared.
    pub const METADATA_CHANGED: u16 = 1 << 10;
    /// The statement was slow.
    pub const QUERY_WAS_SLOW: u16 = 1 << 11;
    /// The result set holds output parameters of a procedure.
    pub const PS_OUT_PARAMS: u16 = 1 << 12;
    /// The open transaction is read-only.
    pub const IN_TRANS_READONLY: u16 = 1 << 13;
    /// The OK packet carries session state changes.
    pub const SESSION_STATE_CHANGED: u16 = 1 << 14;
    /// MariaDB: `sql_mode` has ANSI_QUOTES.
    pub const ANSI_QUOTES: u16 = 1 << 15;
}

/// Command bytes.
pub mod com {
    /// Internal; refused.
    pub const SLEEP: u8 = 0x00;
    /// Ends the connection; no reply.
    pub const QUIT: u8 = 0x01;
    /// Changes the schema.
    pub const INIT_DB: u8 = 0x02;
    /// A statement as text.
    pub const QUERY: u8 = 0x03;
    /// Columns of a table.
    pub const FIELD_LIST: u8 = 0x04;
    /// Removed.
    pub const CREATE_DB: u8 = 0x05;
    /// Removed.
    pub const DROP_DB: u8 = 0x06;
    /// FLUSH by bit mask.
    pub const REFRESH: u8 = 0x07;
    /// Stops the server.
    pub const SHUTDOWN: u8 = 0x08;
    /// One line of statistics.
    pub const STATISTICS: u8 = 0x09;
    /// SHOW PROCESSLIST.
    pub const PROCESS_INFO: u8 = 0x0a;
    /// Internal; refused.
    pub const CONNECT: u8 = 0x0b;
    /// KILL by connection id.
    pub const PROCESS_KILL: u8 = 0x0c;
    /// Dumps debug information on the server.
    pub const DEBUG: u8 = 0x0d;
    /// Is the server alive?
    pub const PING: u8 = 0x0e;
    /// Internal; refused.
    pub const TIME: u8 = 0x0f;
    /// Internal; refused.
    pub const DELAYED_INSERT: u8 = 0x10;
    /// Authenticates again as another user.
    pub const CHANGE_USER: u8 = 0x11;
    /// Replication.
    pub const BINLOG_DUMP: u8 = 0x12;
    /// Replication.
    pub const TABLE_DUMP: u8 = 0x13;
    /// Internal; refused.
    pub const CONNECT_OUT: u8 = 0x14;
    /// Replication.
    pub const REGISTER_REPLICA: u8 = 0x15;
    /// Prepares a statement.
    pub const STMT_PREPARE: u8 = 0x16;
    /// Executes a prepared statement.
    pub const STMT_EXECUTE: u8 = 0x17;
    /// A chunk of one parameter; no reply.
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    /// Forgets a prepared statement; no reply.
    pub const STMT_CLOSE: u8 = 0x19;
    /// Closes the cursor and drops the long data of a prepared statement.
    pub const STMT_RESET: u8 = 0x1a;
    /// Switches multi-statements on or off.
    pub const SET_OPTION: u8 = 0x1b;
    /// Rows of an open cursor.
    pub const STMT_FETCH: u8 = 0x1c;
    /// Internal; refused.
    pub const DAEMON: u8 = 0x1d;
    /// Replication.
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
    /// Resets the session's state.
    pub const RESET_CONNECTION: u8 = 0x1f;
    /// The clone plugin.
    pub const CLONE: u8 = 0x20;
    /// Replication groups.
    pub const SUBSCRIBE_GROUP_REPLICATION_STREAM: u8 = 0x21;
    /// MariaDB: executes a prepared statement for many rows of parameters.
    pub const STMT_BULK_EXECUTE: u8 = 0xfa;
}

/// Column and parameter types.
pub mod column_type {
    /// DECIMAL before 5.0; as text.
    pub const DECIMAL: u8 = 0x00;
    /// 1 byte.
    pub const TINY: u8 = 0x01;
    /// 2 bytes.
    pub const SHORT: u8 = 0x02;
    /// 4 bytes.
    pub const LONG: u8 = 0x03;
    /// 4 bytes.
    pub const FLOAT: u8 = 0x04;
    /// 8 bytes.
    pub const DOUBLE: u8 = 0x05;
    /// No bytes.
    pub const NULL: u8 = 0x06;
    /// 0, 4, 7 or 11 bytes after a length byte.
    pub const TIMESTAMP: u8 = 0x07;
    /// 8 bytes.
    pub const LONGLONG: u8 = 0x08;
    /// 4 bytes.
    pub const INT24: u8 = 0x09;
    /// 0, 4, 7 or 11 bytes after a length byte.
    pub const DATE: u8 = 0x0a;
    /// 0, 8 or 12 bytes after a length byte.
    pub const TIME: u8 = 0x0b;
    /// 0, 4, 7 or 11 bytes after a length byte.
    pub const DATETIME: u8 = 0x0c;
    /// 2 bytes.
    pub const YEAR: u8 = 0x0d;
    /// Internal DATE.
    pub const NEWDATE: u8 = 0x0e;
    /// Length-encoded.
    pub const VARCHAR: u8 = 0x0f;
    /// Length-encoded.
    pub const BIT: u8 = 0x10;
    /// Internal TIMESTAMP.
    pub const TIMESTAMP2: u8 = 0x11;
    /// Internal DATETIME.
    pub const DATETIME2: u8 = 0x12;
    /// Internal TIME.
    pub const TIME2: u8 = 0x13;
    /// Internal.
    pub const TYPED_ARRAY: u8 = 0x14;
    /// Length-encoded.
    pub const VECTOR: u8 = 0xf2;
    /// Length-encoded text.
    pub const JSON: u8 = 0xf5;
    /// Length-encoded text.
    pub const NEWDECIMAL: u8 = 0xf6;
    /// Length-encoded.
    pub const ENUM: u8 = 0xf7;
    /// Length-encoded.
    pub const SET: u8 = 0xf8;
    /// Length-encoded.
    pub const TINY_BLOB: u8 = 0xf9;
    /// Length-encoded.
    pub const MEDIUM_BLOB: u8 = 0xfa;
    /// Length-encoded.
    pub const LONG_BLOB: u8 = 0xfb;
    /// Length-encoded.
    pub const BLOB: u8 = 0xfc;
    /// Length-encoded.
    pub const VAR_STRING: u8 = 0xfd;
    /// Length-encoded.
    pub const STRING: u8 = 0xfe;
    /// Length-encoded.
    pub const GEOMETRY: u8 = 0xff;
}

/// Flags of a column definition.
pub mod column_flag {
    /// NOT NULL.
    pub const NOT_NULL: u16 = 1;
    /// Part of the primary key.
    pub const PRIMARY_KEY: u16 = 1 << 1;
    /// Part of a unique key.
    pub const UNIQUE_KEY: u16 = 1 << 2;
    /// Part of a non-unique key.
    pub const MULTIPLE_KEY: u16 = 1 << 3;
    /// A BLOB or TEXT.
    pub const BLOB: u16 = 1 << 4;
    /// UNSIGNED.
    pub const UNSIGNED: u16 = 1 << 5;
    /// ZEROFILL.
    pub const ZEROFILL: u16 = 1 << 6;
    /// A binary collation.
    pub const BINARY: u16 = 1 << 7;
    /// An ENUM.
    pub const ENUM: u16 = 1 << 8;
    /// AUTO_INCREMENT.
    pub const AUTO_INCREMENT: u16 = 1 << 9;
    /// A TIMESTAMP.
    pub const TIMESTAMP: u16 = 1 << 10;
    /// A SET.
    pub const SET: u16 = 1 << 11;
    /// No default value.
    pub const NO_DEFAULT_VALUE: u16 = 1 << 12;
    /// Set to NOW on update.
    pub const ON_UPDATE_NOW: u16 = 1 << 13;
    /// A number.
    pub const NUM: u16 = 1 << 15;
}

/// Flags of COM_STMT_EXECUTE.
pub mod cursor_flag {
    /// A read-only cursor is wanted.
    pub const READ_ONLY: u8 = 1;
    /// Accepted and ignored by servers.
    pub const FOR_UPDATE: u8 = 1 << 1;
    /// Accepted and ignored by servers.
    pub const SCROLLABLE: u8 = 1 << 2;
    /// The parameter count is sent; only with [`super::caps::QUERY_ATTRIBUTES`].
    pub const PARAMETER_COUNT_AVAILABLE: u8 = 1 << 3;
}

/// First bytes of reply packets.
pub mod header {
    /// OK.
    pub const OK: u8 = 0x00;
    /// More data of an authentication plugin.
    pub const AUTH_MORE_DATA: u8 = 0x01;
    /// NULL in a text row; LOCAL INFILE as a first reply.
    pub const LOCAL_INFILE: u8 = 0xfb;
    /// EOF, OK in place of EOF, AuthSwitchRequest.
    pub const EOF: u8 = 0xfe;
    /// ERR.
    pub const ERR: u8 = 0xff;
}

/// Bounds.
pub mod limits {
    /// Bytes before each packet's payload: three of length, one of sequence.
    pub const HEADER_BYTES: usize = 4;
    /// The longest payload of one packet; a payload of this length is continued.
    pub const PACKET_MAX: usize = 0xff_ffff;
    /// The nonce of the handshake, without its NUL.
    pub const NONCE_BYTES: usize = 20;
    /// Connection attributes of one client, in all (MySQL's own bound).
    pub const ATTRIBUTES_MAX: usize = 64 * 1024;
    /// A user name on the wire: servers allow 32 characters (MySQL) or 128 (MariaDB).
    pub const USER_MAX: usize = 512;
    /// A schema name on the wire: 64 characters of up to four bytes.
    pub const SCHEMA_MAX: usize = 256;
    /// A plugin's name on the wire.
    pub const PLUGIN_MAX: usize = 64;
    /// A server's version string.
    pub const VERSION_MAX: usize = 128;
    /// A server's public key: a 16,384-bit key has about 2,900 characters.
    pub const PUBLIC_KEY_MAX: usize = 8 * 1024;
    /// `max_allowed_packet`'s greatest value.
    pub const MAX_ALLOWED_PACKET: u32 = 1 << 30;
    /// Parameters of one prepared statement.
    pub const PARAMETERS_MAX: usize = 65_535;
}
