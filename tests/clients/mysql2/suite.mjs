// Runs the mysql2 driver against the listener that MYSQL_HOST, MYSQL_PORT, MYSQL_USER,
// MYSQL_PASSWORD and MYSQL_DATABASE name. Prints "ok - NAME" or "not ok - NAME # ERROR" per case
// and "end - N" last.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import mysql from 'mysql2/promise';
import callbacks from 'mysql2';

const login = {
  host: process.env.MYSQL_HOST,
  port: Number(process.env.MYSQL_PORT),
  user: process.env.MYSQL_USER,
  password: process.env.MYSQL_PASSWORD,
  database: process.env.MYSQL_DATABASE,
};

const cases = [];
const test = (name, body, options = {}) => cases.push({ name, body, options });

async function rejects(promise, errno) {
  const error = await promise.then(() => null, (found) => found);
  assert.equal(error?.errno, errno, `wanted errno ${errno}, got ${error ?? 'no error'}`);
}

async function fresh(connection, name, columns) {
  await connection.query(`DROP TABLE IF EXISTS ${name}`);
  await connection.query(`CREATE TABLE ${name} (${columns}) ENGINE=InnoDB`);
}

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');

test('query: rows and fields', async (c) => {
  const [rows, fields] = await c.query("SELECT 1 AS one, 'zwei' AS two, NULL AS three");
  assert.deepEqual(rows, [{ one: 1, two: 'zwei', three: null }]);
  assert.deepEqual(fields.map((field) => field.name), ['one', 'two', 'three']);
});

test('query: no rows keeps the fields', async (c) => {
  const [rows, fields] = await c.query('SELECT 1 AS a FROM DUAL WHERE FALSE');
  assert.deepEqual(rows, []);
  assert.equal(fields[0].name, 'a');
});

test('query: an error keeps the connection', async (c) => {
  await rejects(c.query('SELECT * FROM no_such_table'), 1146);
  await rejects(c.query('SELEC'), 1064);
  assert.deepEqual((await c.query('SELECT 2 AS n'))[0], [{ n: 2 }]);
});

test('query: queued commands answer in order', async (c) => {
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      i % 2 ? c.query('SELECT ? AS n', [i]) : c.execute('SELECT ? AS n', [String(i)])),
  );
  answers.forEach(([rows], i) => assert.equal(Number(rows[0].n), i));
});

test('insert: affected rows and insert id', async (c) => {
  await fresh(c, 'ids', 'id INT PRIMARY KEY AUTO_INCREMENT, v INT');
  const [first] = await c.query('INSERT INTO ids (v) VALUES (1), (2)');
  assert.equal(first.affectedRows, 2);
  assert.equal(first.insertId, 1);
  const [second] = await c.execute('INSERT INTO ids (v) VALUES (?)', [3]);
  assert.equal(second.insertId, 3);
  assert.deepEqual((await c.query('SELECT LAST_INSERT_ID() AS id'))[0], [{ id: 3 }]);
  const [update] = await c.query('UPDATE ids SET v = 3');
  assert.equal(update.affectedRows, 3);
  assert.equal(update.changedRows, 2);
});

test('execute: every type both ways', async (c) => {
  await fresh(c, 'types', `i TINYINT, u BIGINT UNSIGNED, d DOUBLE, n DECIMAL(30,10), s VARCHAR(20),
    b VARBINARY(300), t TEXT, at DATETIME(6), day DATE, h TIME, j JSON, e ENUM('x','y'), f FLOAT`);
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  const at = new Date(2026, 1, 3, 4, 5, 6, 789);
  await c.execute('INSERT INTO types VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)', [
    -128, '18446744073709551615', 1.5e300, '12345678901234567890.0123456789', 'ä€😀', bytes,
    'long', at, '2026-02-03', '-838:59:59', '{"a":[1,2]}', 'y', 0.5,
  ]);
  for (const send of ['query', 'execute']) {
    const [[row]] = await c[send]('SELECT * FROM types WHERE 1 = 1');
    assert.equal(row.i, -128);
    assert.equal(String(row.u), '18446744073709551615');
    assert.equal(row.d, 1.5e300);
    assert.equal(row.n, '12345678901234567890.0123456789');
    assert.equal(row.s, 'ä€😀');
    assert.ok(row.b.equals(bytes));
    assert.equal(row.at.getTime(), at.getTime());
    assert.equal(row.day.getDate(), 3);
    assert.equal(row.h, '-838:59:59');
    assert.equal(row.e, 'y');
    assert.equal(row.f, 0.5);
  }
}, { supportBigNumbers: true });

test('execute: NULL in every position', async (c) => {
  const marks = Array.from({ length: 40 }, () => '?').join(',');
  for (const hole of [0, 7, 8, 39]) {
    const values = Array.from({ length: 40 }, (_, i) => (i === hole ? null : String(i)));
    const [rows] = await c.execute({ sql: `SELECT ${marks}`, rowsAsArray: true }, values);
    assert.deepEqual(rows[0].map((value) => value && String(value)), values);
  }
});

test('execute: a statement is prepared once and used many times', async (c) => {
  const statement = await c.prepare('SELECT ? + ? AS sum');
  for (let i = 0; i < 50; i += 1) {
    const [rows] = await statement.execute([i, 1]);
    assert.equal(Number(rows[0].sum), i + 1);
  }
  await statement.close();
});

test('execute: the cache turns over', async (c) => {
  for (let i = 0; i < 60; i += 1) {
    const [rows] = await c.execute(`SELECT ${i % 20} AS n, ? AS v`, ['x']);
    assert.deepEqual(rows, [{ n: i % 20, v: 'x' }]);
  }
}, { maxPreparedStatements: 4 });

test('execute: an error in prepare and in execute', async (c) => {
  await rejects(c.execute('SELECT * FROM no_such_table WHERE a = ?', [1]), 1146);
  await fresh(c, 'unique_one', 'id INT PRIMARY KEY');
  await c.execute('INSERT INTO unique_one VALUES (?)', [1]);
  await rejects(c.execute('INSERT INTO unique_one VALUES (?)', [1]), 1062);
  assert.equal((await c.execute('SELECT COUNT(*) AS n FROM unique_one', []))[0][0].n, 1);
});

test('execute: the table changes between two executions', async (c) => {
  await fresh(c, 'changing', 'a INT');
  await c.query('INSERT INTO changing VALUES (1)');
  assert.deepEqual((await c.execute('SELECT * FROM changing'))[0], [{ a: 1 }]);
  await c.query("ALTER TABLE changing ADD b VARCHAR(5) DEFAULT 'new'");
  assert.deepEqual((await c.execute('SELECT * FROM changing'))[0], [{ a: 1, b: 'new' }]);
});

test('transaction: rollback and commit', async (c) => {
  await fresh(c, 'tx', 'a INT');
  await c.beginTransaction();
  await c.execute('INSERT INTO tx VALUES (?)', [1]);
  await c.rollback();
  assert.equal((await c.query('SELECT COUNT(*) AS n FROM tx'))[0][0].n, 0);
  await c.beginTransaction();
  await c.query('INSERT INTO tx VALUES (2)');
  await c.query('SAVEPOINT s');
  await c.query('INSERT INTO tx VALUES (3)');
  await c.query('ROLLBACK TO SAVEPOINT s');
  await c.commit();
  assert.deepEqual((await c.query('SELECT a FROM tx'))[0], [{ a: 2 }]);
});

test('transaction: others do not see it before it is committed', async (c) => {
  const other = await mysql.createConnection(login);
  try {
    await fresh(c, 'unseen', 'a INT');
    await c.beginTransaction();
    await c.query('INSERT INTO unseen VALUES (1)');
    assert.equal((await other.query('SELECT COUNT(*) AS n FROM unseen'))[0][0].n, 0);
    await c.commit();
    assert.equal((await other.query('SELECT COUNT(*) AS n FROM unseen'))[0][0].n, 1);
  } finally {
    await other.end();
  }
});

test('stream: 50,000 rows with a slow reader', async (c) => {
  const stream = c.connection
    .query("SELECT seq, REPEAT('s', 200) AS s FROM numbers ORDER BY seq")
    .stream({ highWaterMark: 16 });
  let count = 0;
  for await (const row of stream) {
    count += 1;
    assert.equal(row.seq, count);
    if (count % 5000 === 0) await new Promise((done) => setTimeout(done, 10));
  }
  assert.equal(count, 50000);
  assert.deepEqual((await c.query('SELECT 3 AS n'))[0], [{ n: 3 }]);
});

test('stream: given up in the middle leaves other connections alone', async (c) => {
  const other = callbacks.createConnection(login);
  await new Promise((done, fail) => {
    let count = 0;
    other.query('SELECT a.seq FROM numbers a, numbers b LIMIT 1000000')
      .on('error', fail)
      .on('result', () => {
        count += 1;
        if (count === 100) {
          other.destroy();
          done();
        }
      });
  });
  assert.deepEqual((await c.query('SELECT 4 AS n'))[0], [{ n: 4 }]);
});

// The driver itself sends one packet too many for commands of 2^24-5 to 2^24-2 bytes.
for (const [label, size] of [
  ['2^24-8', 2 ** 24 - 8], ['2^24-1', 2 ** 24 - 1], ['2^24', 2 ** 24], ['17 MiB', 17 * 2 ** 20],
]) {
  test(`big packets: a command of ${label} bytes`, async (c) => {
    // Command byte, then the statement: together exactly `size` bytes of payload.
    const frame = "SELECT LENGTH('') AS n";
    const text = 'x'.repeat(size - 1 - frame.length);
    const [rows] = await c.query(`SELECT LENGTH('${text}') AS n`);
    assert.equal(rows[0].n, text.length);
    assert.deepEqual((await c.query('SELECT 5 AS n'))[0], [{ n: 5 }]);
  });

}

for (const [label, size] of [
  ['2^24-2', 2 ** 24 - 2], ['2^24-1', 2 ** 24 - 1], ['2^24', 2 ** 24], ['17 MiB', 17 * 2 ** 20],
]) {
  test(`big packets: a row of ${label} bytes`, async (c) => {
    // One column: a length of four bytes (0xfd + 3) below 2^24, of nine above.
    const payload = size - 4 < 2 ** 24 ? size - 4 : size - 9;
    for (const send of ['query', 'execute']) {
      const sql = `SELECT REPEAT('y', ${payload}) AS v`;
      const [rows] = await c[send](sql);
      assert.equal(rows[0].v.length, payload);
      assert.equal(digest(rows[0].v), digest('y'.repeat(payload)));
    }
  });

  test(`big packets: a parameter of ${label} bytes`, async (c) => {
    const value = Buffer.alloc(size, 0x03);
    const [rows] = await c.execute('SELECT LENGTH(?) AS n, SHA2(?, 256) AS h', [value, 'a']);
    assert.equal(rows[0].n, size);
    assert.equal(rows[0].h, digest('a'));
  });
}

test('multi-statements: every result in order', async (c) => {
  await fresh(c, 'multi', 'a INT');
  const [results] = await c.query(
    'INSERT INTO multi VALUES (1); SELECT a FROM multi; UPDATE multi SET a = 2; SELECT a FROM multi');
  assert.equal(results.length, 4);
  assert.equal(results[0].affectedRows, 1);
  assert.deepEqual(results[1], [{ a: 1 }]);
  assert.deepEqual(results[3], [{ a: 2 }]);
}, { multipleStatements: true });

test('multi-statements: an error ends the rest', async (c) => {
  await fresh(c, 'multi_stop', 'a INT');
  await rejects(c.query('SELECT 1; SELECT * FROM nope; INSERT INTO multi_stop VALUES (1)'), 1146);
  assert.equal((await c.query('SELECT COUNT(*) AS n FROM multi_stop'))[0][0].n, 0);
}, { multipleStatements: true });

test('multi-statements: refused where they were not asked for', async (c) => {
  await rejects(c.query('SELECT 1; SELECT 2'), 1064);
});

test('stored procedure: several results and the last OK', async (c) => {
  await c.query('DROP PROCEDURE IF EXISTS both_sets');
  await c.query('CREATE PROCEDURE both_sets(IN x INT) BEGIN SELECT x AS a; SELECT x + 1 AS b; END');
  for (const send of ['query', 'execute']) {
    const [results] = await c[send]('CALL both_sets(?)', [7]);
    assert.deepEqual(results[0].map((row) => Number(row.a)), [7]);
    assert.deepEqual(results[1].map((row) => Number(row.b)), [8]);
  }
});

test('dates: as strings and in another time zone', async (c) => {
  await c.query("SET time_zone = '+05:30'");
  const [[row]] = await c.query("SELECT @@time_zone AS z, FROM_UNIXTIME(0) AS at, DATE('2026-12-31') AS d");
  assert.deepEqual(row, { z: '+05:30', at: '1970-01-01 05:30:00', d: '2026-12-31' });
  const [[again]] = await c.execute('SELECT FROM_UNIXTIME(?) AS at', [0]);
  assert.match(String(again.at), /^1970-01-01 05:30:00/);
}, { dateStrings: true });

test('binary: every byte in text, in parameters and in results', async (c) => {
  await fresh(c, 'bytes', 'id INT PRIMARY KEY, b LONGBLOB');
  const bytes = Buffer.from(Array.from({ length: 65536 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
  await c.query('INSERT INTO bytes VALUES (1, ?)', [bytes]);
  await c.execute('INSERT INTO bytes VALUES (2, ?)', [bytes]);
  for (const send of ['query', 'execute']) {
    const [rows] = await c[send]('SELECT b FROM bytes ORDER BY id');
    rows.forEach((row) => assert.ok(row.b.equals(bytes)));
  }
});

test('character set: changed by SET NAMES', async (c) => {
  await c.query('SET NAMES latin1');
  const [[row]] = await c.query('SELECT @@character_set_client AS cs, @@character_set_results AS rs');
  assert.deepEqual(row, { cs: 'latin1', rs: 'latin1' });
  const [[again]] = await c.query('SELECT @@character_set_client AS cs');
  assert.equal(again.cs, 'latin1');
});

test('character set: asked for at login', async (c) => {
  const [[row]] = await c.query("SELECT @@character_set_client AS cs, 'é' AS e, LENGTH('é') AS n");
  assert.deepEqual(row, { cs: 'latin1', e: 'é', n: 1 });
}, { charset: 'LATIN1_SWEDISH_CI' });

test('session: variables stay with their connection', async (c) => {
  const other = await mysql.createConnection(login);
  try {
    for (const [connection, mine] of [[c, 'one'], [other, 'two']]) {
      await connection.query('SET @who = ?, @@sql_mode = ?', [mine, mine === 'one' ? 'ANSI' : '']);
    }
    for (let i = 0; i < 10; i += 1) {
      const [[a]] = await c.query('SELECT @who AS who, @@sql_mode AS mode');
      const [[b]] = await other.execute('SELECT @who AS who, @@sql_mode AS mode');
      assert.equal(a.who, 'one');
      assert.match(a.mode, /ANSI/);
      assert.deepEqual({ ...b }, { who: 'two', mode: '' });
    }
  } finally {
    await other.end();
  }
});

test('session: temporary tables stay with their connection', async (c) => {
  const other = await mysql.createConnection(login);
  try {
    await c.query('CREATE TEMPORARY TABLE mine (a INT)');
    await rejects(other.query('SELECT * FROM mine'), 1146);
    assert.deepEqual((await c.query('SELECT * FROM mine'))[0], []);
  } finally {
    await other.end();
  }
});

test('session: named locks exclude each other', async (c) => {
  const other = await mysql.createConnection(login);
  try {
    assert.equal((await c.query("SELECT GET_LOCK('suite', 0) AS got"))[0][0].got, 1);
    assert.equal((await other.query("SELECT GET_LOCK('suite', 0) AS got"))[0][0].got, 0);
    await c.query("DO RELEASE_LOCK('suite')");
    assert.equal((await other.query("SELECT GET_LOCK('suite', 0) AS got"))[0][0].got, 1);
  } finally {
    await other.end();
  }
});

test('session: schema changed by USE', async (c) => {
  await c.query('USE information_schema');
  assert.equal((await c.query('SELECT DATABASE() AS d'))[0][0].d, 'information_schema');
  await c.query(`USE ${login.database}`);
  assert.equal((await c.execute('SELECT DATABASE() AS d'))[0][0].d, login.database);
});

test('session: FOUND_ROWS, ROW_COUNT and warnings', async (c) => {
  await c.query('SELECT SQL_CALC_FOUND_ROWS seq FROM numbers WHERE seq <= 9 LIMIT 2');
  assert.equal((await c.query('SELECT FOUND_ROWS() AS n'))[0][0].n, 9);
  await fresh(c, 'counted', 'a TINYINT');
  await c.query("SET sql_mode = ''");
  const [inserted] = await c.query('INSERT INTO counted VALUES (1), (300), (2)');
  assert.equal(inserted.warningStatus, 1);
  assert.equal((await c.query('SHOW WARNINGS'))[0][0].Code, 1264);
  await c.query('DELETE FROM counted WHERE a < 3');
  assert.equal((await c.query('SELECT ROW_COUNT() AS n'))[0][0].n, 2);
});

test('commands: ping and reset', async (c) => {
  await c.ping();
  await c.query('SET @kept = 1');
  await c.reset();
  assert.equal((await c.query('SELECT @kept AS k'))[0][0].k, null);
});

test('pool: more work than connections', async () => {
  const pool = mysql.createPool({ ...login, connectionLimit: 8 });
  try {
    const answers = await Promise.all(
      Array.from({ length: 400 }, (_, i) =>
        i % 3 ? pool.query('SELECT ? AS n', [i]) : pool.execute('SELECT ? + 0 AS n', [i])),
    );
    answers.forEach(([rows], i) => assert.equal(Number(rows[0].n), i));
  } finally {
    await pool.end();
  }
});

test('login: a wrong password and an unknown schema', async () => {
  await rejects(mysql.createConnection({ ...login, password: 'wrong' }), 1045);
  await rejects(mysql.createConnection({ ...login, database: 'no_such_schema' }), 1049);
});

for (const { name, body, options } of cases) {
  let connection;
  try {
    connection = await mysql.createConnection({ ...login, ...options });
    await body(connection);
    console.log(`ok - ${name}`);
  } catch (error) {
    const text = String(error.stack ?? error).slice(0, 1500).replaceAll('\n', '\\n');
    console.log(`not ok - ${name} # ${text}`);
  } finally {
    connection?.destroy();
  }
}
console.log(`end - ${cases.length}`);
