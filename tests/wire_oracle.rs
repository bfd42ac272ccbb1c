//! The codecs against `mysql_common`: what one writes the other reads, both ways.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail by panicking"
)]

use std::collections::HashMap;
use std::sync::Arc;

use mysql_common::constants::{
    CapabilityFlags, ColumnFlags, ColumnType, MariadbCapabilities, StatusFlags,
};
use mysql_common::io::ParseBuf;
use mysql_common::packets as oracle;
use mysql_common::packets::session_state_change::SessionStateChange;
use mysql_common::proto::{Binary, MyDeserialize, MySerialize, Text};
use mysql_common::row::RowDeserializer;
use mysql_common::value::{ServerSide, Value as OracleValue};
use proptest::prelude::*;
use ringgate::wire::mysql::charset;
use ringgate::wire::mysql::command::Command;
use ringgate::wire::mysql::flags::{caps, column_flag, column_type, status};
use ringgate::wire::mysql::handshake::{Attributes, AuthSwitch, Greeting, Response, put_attribute};
use ringgate::wire::mysql::response::{
    ErrPacket, OkPacket, decode_err, decode_ok, encode_err, encode_ok, encode_ok_as_eof,
};
use ringgate::wire::mysql::track::{Change, Changes, encode_change};
use ringgate::wire::mysql::value::{
    Column, DateTime, PrepareOk, Time, Value, decode_binary_row, decode_parameters,
    encode_binary_row, encode_text_row,
};

fn read<'a, T: MyDeserialize<'a>>(bytes: &'a [u8], ctx: T::Ctx) -> T {
    let mut buf = ParseBuf(bytes);
    let value = buf.parse(ctx).expect("the oracle refuses it");
    assert!(buf.is_empty(), "the oracle leaves {} bytes", buf.len());
    value
}

fn written(value: &impl MySerialize) -> Vec<u8> {
    let mut out = Vec::new();
    value.serialize(&mut out);
    out
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Status flags that the oracle knows: it refuses others.
fn known_status() -> impl Strategy<Value = u16> {
    any::<u16>().prop_map(|flags| flags & StatusFlags::all().bits())
}

/// A byte that may stand in a challenge or a name.
fn text(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255_u8, length)
}

const BASE: u32 = caps::PROTOCOL_41 | caps::SECURE_CONNECTION | caps::PLUGIN_AUTH;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn greetings(
        version in text(0..40),
        connection_id: u32,
        nonce in prop::array::uniform20(1..=127_u8),
        extra: u32,
        mariadb_caps: u32,
        collation: u8,
        flags in known_status(),
    ) {
        let caps = BASE | extra;
        let is_mariadb = caps & caps::LONG_PASSWORD == 0;
        let greeting = Greeting {
            version: &version,
            connection_id,
            nonce,
            caps,
            mariadb_caps: if is_mariadb { mariadb_caps } else { 0 },
            collation,
            status: flags,
            plugin: b"caching_sha2_password",
        };
        let bytes = encoded(|out| greeting.encode(out));
        prop_assert_eq!(Greeting::decode(&bytes), Ok(greeting));
        let other: oracle::HandshakePacket<'_> = read(&bytes, ());
        prop_assert_eq!(other.server_version_ref(), &version[..]);
        prop_assert_eq!(other.connection_id(), connection_id);
        prop_assert_eq!(other.nonce(), nonce.to_vec());
        prop_assert_eq!(other.default_collation(), collation);
        prop_assert_eq!(other.auth_plugin_name_ref(), Some(&b"caching_sha2_password"[..]));
        prop_assert_eq!(other.capabilities(), CapabilityFlags::from_bits_truncate(caps));
        if is_mariadb {
            let known = MariadbCapabilities::from_bits_truncate(mariadb_caps);
            prop_assert_eq!(other.mariadb_ext_capabilities(), known);
        }
    }

    #[test]
    fn responses(
        user in "[a-zäß]{0,32}",
        password in prop::collection::vec(any::<u8>(), 0..=250),
        schema in prop::option::of("[a-z]{1,64}"),
        attributes in prop::option::of(prop::collection::hash_map("[a-z_]{1,20}", ".{0,40}", 0..6)),
        lenenc: bool,
        max_packet: u32,
    ) {
        let mut bits = BASE | caps::LONG_PASSWORD;
        if lenenc {
            bits |= caps::PLUGIN_AUTH_LENENC_CLIENT_DATA;
        }
        let theirs = oracle::HandshakeResponse::new(
            Some(&password[..]),
            (8, 4, 0),
            Some(user.as_bytes()),
            schema.as_ref().map(String::as_bytes),
            Some(oracle::AuthPlugin::CachingSha2Password),
            CapabilityFlags::from_bits_retain(bits),
            attributes.clone(),
            max_packet,
        );
        let bytes = written(&theirs);
        let ours = Response::decode(&bytes, u32::MAX).unwrap();
        prop_assert_eq!(ours.caps, theirs.capabilities().bits());
        prop_assert_eq!(ours.user, user.as_bytes());
        prop_assert_eq!(ours.auth, &password[..]);
        prop_assert_eq!(ours.schema, schema.as_ref().map(String::as_bytes));
        prop_assert_eq!(ours.plugin, b"caching_sha2_password");
        prop_assert_eq!(ours.max_packet, max_packet);
        prop_assert_eq!(ours.collation, theirs.collation());
        let pairs = |a: Attributes<'_>| -> HashMap<String, String> {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            a.map(|(k, v)| (text(k), text(v))).collect()
        };
        prop_assert_eq!(pairs(ours.attributes), attributes.unwrap_or_default());
        // Written again, it is the same but for the order of things left open.
        prop_assert_eq!(encoded(|out| ours.encode(out)), bytes);
    }

    #[test]
    fn switches(data in prop::array::uniform20(1..=127_u8)) {
        let switch = AuthSwitch { plugin: b"mysql_native_password", data: &data };
        let bytes = encoded(|out| switch.encode(out));
        prop_assert_eq!(AuthSwitch::decode(&bytes), Ok(switch));
        prop_assert_eq!(switch.nonce(), Some(data));
        let theirs: oracle::AuthSwitchRequest<'_> = read(&bytes, ());
        prop_assert_eq!(theirs.plugin_data(), &data);
        prop_assert_eq!(written(&theirs), bytes);
    }

    #[test]
    fn ok_packets(
        affected_rows: u64,
        last_insert_id: u64,
        flags in known_status(),
        warnings: u16,
        info in text(0..300),
        schema in prop::option::of(text(1..64)),
        tracked: bool,
    ) {
        let session_changes = match &schema {
            Some(name) => encoded(|out| encode_change(out, &Change::Schema(name))),
            None => Vec::new(),
        };
        let ok = OkPacket {
            affected_rows,
            last_insert_id,
            status: flags,
            warnings,
            info: &info,
            session_changes: &session_changes,
        };
        let negotiated = BASE | caps::DEPRECATE_EOF | if tracked { caps::SESSION_TRACK } else { 0 };
        let changed = tracked && schema.is_some();
        let expect = OkPacket {
            status: flags & !status::SESSION_STATE_CHANGED
                | if changed { status::SESSION_STATE_CHANGED } else { 0 },
            session_changes: if changed { &session_changes } else { &[] },
            ..ok
        };
        let bytes = encoded(|out| encode_ok(out, negotiated, &ok));
        prop_assert_eq!(decode_ok(&bytes, negotiated), Ok(expect));
        let as_eof = encoded(|out| encode_ok_as_eof(out, negotiated, &ok));
        prop_assert_eq!(decode_ok(&as_eof, negotiated), Ok(expect));

        let known = CapabilityFlags::from_bits_retain(negotiated);
        type Theirs<'a> = oracle::OkPacketDeserializer<'a, oracle::CommonOkPacket>;
        let theirs = read::<Theirs<'_>>(&bytes, known).into_inner();
        prop_assert_eq!(theirs.affected_rows(), affected_rows);
        prop_assert_eq!(theirs.last_insert_id().unwrap_or(0), last_insert_id);
        prop_assert_eq!(theirs.status_flags(), StatusFlags::from_bits_truncate(expect.status));
        prop_assert_eq!(theirs.warnings(), warnings);
        prop_assert_eq!(theirs.info_ref().unwrap_or_default(), &info[..]);
        let known_changes = theirs.session_state_info_ref().unwrap_or_default();
        prop_assert_eq!(known_changes, expect.session_changes);
    }

    #[test]
    fn err_packets(errno in 1..60_000_u16, sqlstate in "[0-9A-Z]{5}", message in text(0..500)) {
        let err = ErrPacket::new(errno, &sqlstate, &message);
        let bytes = encoded(|out| encode_err(out, &err));
        prop_assert_eq!(decode_err(&bytes), Ok(err));
        let theirs: oracle::ErrPacket<'_> = read(&bytes, CapabilityFlags::CLIENT_PROTOCOL_41);
        let theirs = theirs.server_error();
        prop_assert_eq!(theirs.error_code(), errno);
        prop_assert_eq!(&theirs.sql_state_ref().unwrap().as_str(), &sqlstate);
        prop_assert_eq!(theirs.message_ref(), &message[..]);
    }

    #[test]
    fn columns(
        names in prop::collection::vec(text(0..300), 5),
        collation: u16,
        length: u32,
        flags: u16,
        decimals: u8,
    ) {
        let column = Column {
            schema: &names[0],
            table: &names[1],
            org_table: &names[2],
            name: &names[3],
            org_name: &names[4],
            collation,
            length,
            column_type: column_type::VAR_STRING,
            flags,
            decimals,
        };
        let bytes = encoded(|out| column.encode(out));
        prop_assert_eq!(Column::decode(&bytes), Ok(column));
        let theirs: oracle::Column = read(&bytes, ());
        prop_assert_eq!(theirs.schema_ref(), &names[0][..]);
        prop_assert_eq!(theirs.org_name_ref(), &names[4][..]);
        prop_assert_eq!(theirs.character_set(), collation);
        prop_assert_eq!(theirs.column_length(), length);
        prop_assert_eq!(theirs.decimals(), decimals);
        prop_assert_eq!(theirs.flags(), ColumnFlags::from_bits_truncate(flags));
    }

    #[test]
    fn text_rows(fields in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..300)), 1..12)) {
        let bytes = encoded(|out| encode_text_row(out, fields.iter().map(Option::as_deref)));
        let columns: Vec<_> = fields
            .iter()
            .map(|_| oracle::Column::new(ColumnType::MYSQL_TYPE_BLOB))
            .collect();
        let theirs: RowDeserializer<ServerSide, Text> = read(&bytes, Arc::from(columns));
        let theirs = theirs.into_inner().unwrap();
        let expect: Vec<_> = fields
            .iter()
            .map(|f| f.clone().map_or(OracleValue::NULL, OracleValue::Bytes))
            .collect();
        prop_assert_eq!(theirs, expect);
    }

    #[test]
    fn binary_rows(
        tiny: i8, short: u16, long: i32, longlong: u64,
        float in -1e30_f32..1e30, double in -1e300_f64..1e300,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        nulls in prop::collection::vec(any::<bool>(), 9),
        year in 0..=9999_u16, month in 0..=12_u8, day in 0..=31_u8, hour in 0..24_u8,
        microsecond in 0..1_000_000_u32, days in 0..35_u32, negative: bool,
    ) {
        let date = DateTime { year, month, day, hour, microsecond, ..DateTime::default() };
        let time = Time { negative, days, hours: hour, microseconds: microsecond, ..Time::default() };
        let unsigned = column_flag::UNSIGNED;
        let mut row = vec![
            (column_type::TINY, 0, Value::Signed(i64::from(tiny))),
            (column_type::SHORT, unsigned, Value::Unsigned(u64::from(short))),
            (column_type::LONG, 0, Value::Signed(i64::from(long))),
            (column_type::LONGLONG, unsigned, Value::Unsigned(longlong)),
            (column_type::FLOAT, 0, Value::Float(float)),
            (column_type::DOUBLE, 0, Value::Double(double)),
            (column_type::BLOB, 0, Value::Bytes(&bytes)),
            (column_type::DATETIME, 0, Value::Date(date)),
            (column_type::TIME, 0, Value::Time(time)),
        ];
        for (field, null) in row.iter_mut().zip(nulls) {
            if null {
                field.2 = Value::Null;
            }
        }
        let typed: Vec<_> = row.iter().map(|&(t, _, value)| (t, value)).collect();
        let packed = encoded(|out| encode_binary_row(out, &typed).unwrap());
        let types: Vec<_> = row.iter().map(|&(t, flags, _)| (t, flags != 0)).collect();
        let again = decode_binary_row(&packed, &types).unwrap();
        let expect: Vec<_> = row.iter().map(|&(_, _, value)| value).collect();
        prop_assert_eq!(&again, &expect);

        let columns: Vec<_> = row
            .iter()
            .map(|&(t, flags, _)| {
                oracle::Column::new(ColumnType::try_from(t).unwrap())
                    .with_flags(ColumnFlags::from_bits_truncate(flags))
            })
            .collect();
        let theirs: RowDeserializer<ServerSide, Binary> = read(&packed, Arc::from(columns));
        let theirs = theirs.into_inner().unwrap();
        for (ours, theirs) in expect.iter().zip(theirs) {
            prop_assert_eq!(translate(ours), theirs);
        }
        for cut in 0..packed.len() {
            prop_assert!(decode_binary_row(&packed[..cut], &types).is_err());
        }
    }

    #[test]
    fn executions(
        statement: u32,
        number: i64,
        unsigned: u64,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        double in -1e300_f64..1e300,
        with_null: bool,
    ) {
        let values = vec![
            OracleValue::Int(number),
            OracleValue::UInt(unsigned),
            OracleValue::Bytes(bytes.clone()),
            if with_null { OracleValue::NULL } else { OracleValue::Double(double) },
        ];
        let builder = oracle::ComStmtExecuteRequestBuilder::new(statement);
        let (request, _) = builder.build(&values);
        let payload = written(&request);
        let Ok(Command::StmtExecute(execute)) = Command::parse(&payload) else {
            panic!("not an execute: {payload:?}");
        };
        prop_assert_eq!((execute.statement, execute.flags, execute.iterations), (statement, 0, 1));
        let parameters = execute.parameters(values.len()).unwrap();
        let types = parameters.types.unwrap();
        let mut seen = Vec::new();
        decode_parameters(&parameters, types, |_| false, |_, value| {
            seen.push(translate(&value.unwrap()));
        })
        .unwrap();
        let expect: Vec<_> = values
            .into_iter()
            .map(|value| match value {
                OracleValue::UInt(n) => translate(&Value::Unsigned(n)),
                other => other,
            })
            .collect();
        prop_assert_eq!(seen, expect);
        let at = parameters.values_at;
        prop_assert_eq!(&payload[at..], parameters.values);
    }

    #[test]
    fn prepare_replies(statement: u32, columns: u16, parameters: u16, warnings: u16) {
        let ok = PrepareOk { statement, columns, parameters, warnings };
        let bytes = encoded(|out| ok.encode(out));
        prop_assert_eq!(PrepareOk::decode(&bytes), Ok(ok));
        let theirs: oracle::StmtPacket = read(&bytes, ());
        prop_assert_eq!(theirs.statement_id(), statement);
        prop_assert_eq!(theirs.num_columns(), columns);
        prop_assert_eq!(theirs.num_params(), parameters);
        prop_assert_eq!(theirs.warning_count(), warnings);
    }

    #[test]
    fn attributes_round_trip(pairs in prop::collection::vec((text(0..30), text(0..300)), 0..20)) {
        let mut block = Vec::new();
        for (key, value) in &pairs {
            put_attribute(&mut block, key, value);
        }
        let attributes = Attributes::checked(&block).unwrap();
        let again: Vec<_> = attributes.map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(again, pairs);
    }
}

fn translate(value: &Value<'_>) -> OracleValue {
    match *value {
        Value::Null => OracleValue::NULL,
        Value::Signed(n) => OracleValue::Int(n),
        // An unsigned number below 2⁶³ is an `Int` to the oracle.
        Value::Unsigned(n) => i64::try_from(n).map_or(OracleValue::UInt(n), OracleValue::Int),
        Value::Float(n) => OracleValue::Float(n),
        Value::Double(n) => OracleValue::Double(n),
        Value::Bytes(bytes) => OracleValue::Bytes(bytes.to_vec()),
        Value::Date(d) => OracleValue::Date(
            d.year,
            d.month,
            d.day,
            d.hour,
            d.minute,
            d.second,
            d.microsecond,
        ),
        Value::Time(t) => OracleValue::Time(
            t.negative,
            t.days,
            t.hours,
            t.minutes,
            t.seconds,
            t.microseconds,
        ),
    }
}

#[test]
fn session_changes_read_as_the_oracle_reads_them() {
    let changes = [
        Change::SystemVariable {
            name: b"sql_mode",
            value: b"ANSI",
        },
        Change::Schema(b"shop"),
        Change::StateChanged(true),
        Change::TransactionCharacteristics(b"START TRANSACTION READ ONLY;"),
        Change::TransactionState(b"T_______"),
        Change::Gtids(b"\x00\x03a:1"),
    ];
    let block = encoded(|out| changes.iter().for_each(|change| encode_change(out, change)));
    let again: Vec<_> = Changes::new(&block).map(Result::unwrap).collect();
    assert_eq!(again, changes);
    // Servers send this flag bare (MySQL's `Session_state_change_tracker::store`); the oracle wants a
    // length before it.
    let flag = Change::StateChanged(true);
    assert_eq!(encoded(|out| encode_change(out, &flag)), b"\x02\x011");
    let others = changes.into_iter().filter(|change| *change != flag);
    let block = encoded(|out| {
        for change in others.clone() {
            encode_change(out, &change);
        }
    });
    let mut buf = ParseBuf(&block);
    for change in others {
        let info: oracle::SessionStateInfo<'_> = buf.parse(()).unwrap();
        match (change, info.decode().unwrap()) {
            (Change::SystemVariable { name, value }, SessionStateChange::SystemVariables(all)) => {
                assert_eq!(all.len(), 1);
                assert_eq!((all[0].name_bytes(), all[0].value_bytes()), (name, value));
            }
            (Change::Schema(name), SessionStateChange::Schema(theirs)) => {
                assert_eq!(theirs.as_bytes(), name);
            }
            (
                Change::TransactionCharacteristics(sql),
                SessionStateChange::TransactionCharacteristics(theirs),
            ) => assert_eq!(theirs.as_bytes(), sql),
            (Change::TransactionState(state), SessionStateChange::TransactionState(theirs)) => {
                assert_eq!(theirs.as_bytes(), state);
            }
            (Change::Gtids(_), SessionStateChange::Gtids(theirs)) => {
                assert!(theirs.as_bytes().ends_with(b"a:1"));
            }
            (ours, theirs) => panic!("{ours:?} is {theirs:?} to the oracle"),
        }
    }
    assert!(buf.is_empty());
}

#[test]
fn every_collation_of_a_real_mariadb_is_known() {
    // information_schema.COLLATION_CHARACTER_SET_APPLICABILITY of MariaDB 10.11.
    let listed = include_str!("wire_collations.tsv");
    let mut count = 0;
    for line in listed.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let id = fields[0].parse().unwrap();
        let found = charset::collation(id).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(
            (found.charset, found.name),
            (fields[1], fields[2]),
            "{line}"
        );
        assert_eq!(charset::collation_by_name(fields[2]), Some(found));
        count += 1;
    }
    assert_eq!(count, 1242);
}
