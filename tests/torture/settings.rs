//! How writers change their sessions: what moves with a session, and what is on its connection alone.

use crate::ledger::Fate;
use crate::schemas::{GONE, LASTING};
use crate::state::{LEVELS, State, is};
use crate::writer::{Session, Stop, is_set, unless_ended};
use crate::zones;

impl Session<'_> {
    /// One of what moves.
    pub fn change_setting(&mut self) -> Result<(), Stop> {
        match self.prng.below(7) {
            0 | 1 => self.use_schema(),
            2 => {
                let zone = self.pick(&zones::of(self.writer));
                let literal = format!("'{zone}'");
                self.set_variable("time_zone", &literal, |state| state.zone = zone)
            }
            3 | 4 => self.set_mode(),
            5 => self.set_collation(),
            _ => self.set_isolation(),
        }
    }

    fn use_schema(&mut self) -> Result<(), Stop> {
        let schema = self.pick(&LASTING);
        if self.enter(schema, &[])? {
            self.state.schema = schema;
        }
        Ok(())
    }

    fn enter(&mut self, schema: &'static str, allowed: &[u16]) -> Result<bool, Stop> {
        let told = match self.prng.below(3) {
            0 => self.tell(&format!("INIT_DB {schema}"), allowed, |client| {
                client.run_raw(2, schema.as_bytes())
            }),
            1 => self.ask(&format!("USE `{schema}`"), allowed),
            _ => self.ask(&format!("/* to */ use {schema}"), allowed),
        };
        is_set(told)
    }

    /// The schema that comes and goes, if it is there.
    pub fn go_to_gone(&mut self) -> Result<(), Stop> {
        if self.enter(GONE, &[1044, 1049, 1205, 1213])? {
            self.state.schema = GONE;
        }
        Ok(())
    }

    /// A variable by its name, in one of many forms.
    fn set_variable(
        &mut self,
        name: &str,
        value: &str,
        change: impl FnOnce(&mut State),
    ) -> Result<(), Stop> {
        let sql = match self.prng.below(6) {
            0 => format!("SET {name} = {value}"),
            1 => format!("SET @@{name} = {value}"),
            2 => format!("SET @@session.{name} := {value}"),
            3 => format!("SET SESSION {name} = {value}, sql_notes = 1"),
            4 => format!("/* first */ set @@local.{name} = {value}"),
            _ => format!("SET @@sql_notes = 1, @@{name} = {value}"),
        };
        let told = if self.chance(3) {
            self.ask_prepared(&sql)
        } else {
            self.ask(&sql, &[])
        };
        if is_set(told)? {
            change(&mut self.state);
        }
        Ok(())
    }

    /// How texts are read from here on.
    fn set_mode(&mut self) -> Result<(), Stop> {
        let mode = (!self.chance(5)).then(|| u8::try_from(self.prng.below(8)).expect("three bits"));
        let mut wanted = self.state.clone();
        wanted.mode = mode;
        let value = match mode {
            Some(_) => format!("'{}'", wanted.mode_text()),
            None => "DEFAULT".to_owned(),
        };
        self.set_variable("sql_mode", &value, |state| state.mode = mode)
    }

    fn set_collation(&mut self) -> Result<(), Stop> {
        let (sql, collation, is_latin) = match self.prng.below(4) {
            0 => ("SET NAMES latin1", "latin1_swedish_ci", Some(true)),
            1 => (
                "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
                "utf8mb4_bin",
                Some(false),
            ),
            2 => (
                "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_general_ci'",
                "utf8mb4_general_ci",
                Some(false),
            ),
            _ => {
                let change = |state: &mut State| state.collation = "utf8mb4_bin".to_owned();
                return self.set_variable("collation_connection", "utf8mb4_bin", change);
            }
        };
        if self.set(sql)? {
            self.state.collation = collation.to_owned();
            self.state.is_latin = is_latin.unwrap_or(self.state.is_latin);
        }
        Ok(())
    }

    /// Of the session; without SESSION it would be the next transaction's.
    fn set_isolation(&mut self) -> Result<(), Stop> {
        let level = self.pick(&LEVELS);
        let name = self.state.isolation();
        let sql = match self.prng.below(3) {
            0 => {
                let words = level.replace('-', " ");
                format!("SET SESSION TRANSACTION ISOLATION LEVEL {words}")
            }
            1 => format!("SET SESSION {name} = '{level}'"),
            _ => format!("SET @@session.{name} = '{level}'"),
        };
        if self.set(&sql)? {
            self.state.iso = level.to_owned();
        }
        Ok(())
    }

    /// One of what is nowhere but on the connection.
    pub fn keep_something(&mut self) -> Result<(), Stop> {
        self.is_kept = true;
        match self.prng.below(7) {
            0..3 => self.set_mine(),
            3 => self.take_lock(),
            4 if self.state.is_held => {
                let sql = format!("SELECT RELEASE_LOCK('{}')", self.state.lock());
                if self.set(&sql)? {
                    self.state.is_held = false;
                }
                Ok(())
            }
            5 if !self.state.is_in_gone() => {
                let zone = self.pick(&zones::of(self.writer));
                if self.set(&format!("SELECT zone_it('{zone}')"))? {
                    self.state.zone = zone;
                }
                Ok(())
            }
            _ => self.make_temporary(),
        }
    }

    fn set_mine(&mut self) -> Result<(), Stop> {
        let tag = format!("m{}:{}", self.writer, self.ledger.next());
        let forms = if self.state.is_in_gone() { 3 } else { 4 };
        let sql = match self.prng.below(forms) {
            0 => format!("SET @mine = '{tag}'"),
            1 => format!("SELECT '{tag}' INTO @mine"),
            2 => format!("SELECT @mine := '{tag}'"),
            _ => format!("SELECT remember('{tag}')"),
        };
        let told = if self.chance(3) {
            self.ask_prepared(&sql)
        } else {
            self.ask(&sql, &[])
        };
        if is_set(told)? {
            self.state.mine = is(tag);
        }
        Ok(())
    }

    /// Its own, which nobody else takes. One that a session before had may be free a moment later.
    fn take_lock(&mut self) -> Result<(), Stop> {
        let lock = self.state.lock();
        let sql = match self.state.is_in_gone() || self.chance(2) {
            true => format!("SELECT GET_LOCK('{lock}', 0)"),
            false => format!("SELECT lock_it('{lock}')"),
        };
        let told = self.ask(&sql, &[]);
        let is_taken = matches!(&told, Ok(answer) if answer.text(0, 0).as_deref() == Some("1"));
        if is_set(told)? && is_taken {
            self.state.is_held = true;
        }
        Ok(())
    }

    /// A temporary table that hides a real one in its schema.
    fn make_temporary(&mut self) -> Result<(), Stop> {
        if self.state.is_in_gone() {
            return Ok(());
        }
        if let Some((schema, _)) = &self.state.temporary {
            let sql = format!("DROP TEMPORARY TABLE {schema}.mine");
            let told = self.ask(&sql, &[]);
            if is_set(told)? {
                self.state.temporary = None;
            }
            return Ok(());
        }
        let tag = format!("t{}:{}", self.writer, self.ledger.next());
        let schema = self.state.schema;
        if self.set("CREATE TEMPORARY TABLE mine (tag VARCHAR(80))")? {
            let told = self.ask(&format!("INSERT INTO mine VALUES ('{tag}')"), &[]);
            if told.is_err() {
                return Err(Stop);
            }
            self.state.temporary = Some((schema, tag));
            let told = self.ask("SELECT MAX(tag) FROM mine", &[]);
            if let Ok(answer) = &told {
                let found = answer.text(0, 0);
                let shown = self.state.run("seen", schema).cell;
                if !shown.allows(found.as_deref(), Fate::There) {
                    self.problem(&format!("a temporary table with {found:?}, not {shown:?}"));
                }
            }
            unless_ended(told)?;
        }
        Ok(())
    }
}
