//! From tokens to traits: which words stand where.

use super::{
    Flags, FoundRows, Kind, Traits,
    counting::Counting,
    keyword::Keyword,
    lexer::{Lexer, Sink, Token},
};

/// What is known of the statement under way.
#[derive(Clone, Debug)]
struct Statement {
    kind: Kind,
    /// Its first word.
    first: Keyword,
    /// Words so far, the first included; saturates.
    words: u32,
    /// The word before.
    last: Keyword,
    /// Open parentheses.
    depth: u32,
    /// Since WITH at this depth, until the statement's verb at the same depth.
    with_depth: Option<u32>,
    /// INTO was seen.
    has_into: bool,
    has_user_variable: bool,
    /// Something in it writes or locks.
    is_spoiled: bool,
    /// A word of statements that may be refused was seen: about accounts, KILL, and those whose text is
    /// to be looked at.
    is_suspicious: bool,
    /// Whether it stands behind SET STATEMENT … FOR.
    prefix: Prefix,
    /// What it says about FOUND_ROWS().
    counting: Counting,
}

/// SET STATEMENT … FOR ahead of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    None,
    /// Its FOR is still to come.
    Open,
    /// The words are now those of the statement itself.
    Closed,
}

impl Default for Statement {
    fn default() -> Self {
        Self {
            kind: Kind::Empty,
            first: Keyword::Other,
            words: 0,
            last: Keyword::Other,
            depth: 0,
            with_depth: None,
            has_into: false,
            has_user_variable: false,
            is_spoiled: false,
            is_suspicious: false,
            prefix: Prefix::None,
            counting: Counting::default(),
        }
    }
}

impl Statement {
    /// Whether it is worth the second look of [`super::refusal`]. Columns are often named like
    /// these words.
    fn may_be_refused(&self) -> bool {
        let is_row_work = matches!(
            self.kind,
            Kind::Select
                | Kind::Insert
                | Kind::Update
                | Kind::Delete
                | Kind::Replace
                | Kind::Show
                | Kind::Explain
        );
        self.is_suspicious && !is_row_work
    }
}

/// What the next token decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    Nothing,
    /// A name that is a function if a parenthesis follows.
    Function(Keyword),
    /// `LAST_INSERT_ID(`: with or without an argument?
    Argument,
    /// After `@@`: the name, or the scope.
    Variable,
    /// After `@@scope`.
    VariableScope,
}

/// Reads the tokens of a text, statement by statement.
#[derive(Clone, Debug, Default)]
pub(super) struct Grammar {
    flags: Flags,
    /// The first statement's kind.
    kind: Kind,
    statement: Statement,
    pending: Pending,
    /// A statement has ended; another token makes it several.
    has_ended: bool,
    /// Some statement is not a mere reading one.
    writes: bool,
    /// What becomes of FOUND_ROWS() by the statements so far.
    found_rows: Option<FoundRows>,
    /// Words of statements that may be refused were seen, and a versioned comment.
    is_suspicious: bool,
    has_versioned: bool,
    may_be_refused: bool,
    /// Where the last token ended, if it was in quotes: `'user'@'host'`.
    quoted_end: Option<usize>,
}

impl Sink for Grammar {
    #[inline]
    fn token(&mut self, token: Token, start: usize, end: usize) {
        if self.pending != Pending::Nothing {
            self.resolve(token);
        }
        let after_quoted = self.quoted_end.take() == Some(start);
        if self.has_ended && token != Token::Punct(b';') {
            self.has_ended = false;
            self.flags.add(Flags::MULTI);
        }
        match token {
            Token::Word(keyword) => self.word(keyword),
            Token::Quoted(keyword) => {
                self.quoted_end = Some(end);
                self.name(keyword);
                self.statement.last = Keyword::Other;
            }
            Token::Text => self.quoted_end = Some(end),
            Token::At if after_quoted => {}
            Token::At => self.user_variable(),
            Token::AtAt => self.pending = Pending::Variable,
            Token::Assign => {
                if self.statement.has_user_variable {
                    self.assigns();
                }
            }
            Token::Punct(byte) => self.punct(byte),
        }
    }

    fn versioned(&mut self, _begins: bool) {
        self.has_versioned = true;
    }
}

impl Grammar {
    /// The text is complete.
    pub(super) fn traits(&mut self, lexer: &Lexer) -> Traits {
        self.end_statement();
        let is_uncertain = lexer.is_uncertain();
        // A server reports what SET STATEMENT sets as it reports what stays.
        let is_mixed = self.flags.has(Flags::SET_STATEMENT)
            && (self.has_versioned || self.flags.has(Flags::MULTI));
        if is_uncertain || is_mixed {
            self.flags.add(Flags::UNCERTAIN);
        }
        // What such a comment makes of a statement depends on the server.
        self.may_be_refused |= self.has_versioned && (self.is_suspicious || is_uncertain);
        self.may_be_refused |= lexer.is_ambiguous();
        Traits {
            kind: self.kind,
            flags: self.flags,
            is_read_only: !self.writes && !is_uncertain,
            found_rows: self.found_rows.unwrap_or_default(),
            may_be_refused: self.may_be_refused,
        }
    }

    fn end_statement(&mut self) {
        let statement = std::mem::take(&mut self.statement);
        if self.kind == Kind::Empty {
            self.kind = match statement.prefix {
                Prefix::Closed => Kind::Set,
                Prefix::None | Prefix::Open => statement.kind,
            };
        }
        let sets_for_good = statement.prefix == Prefix::Closed && statement.kind == Kind::Set;
        if sets_for_good && !self.flags.has(Flags::SET_TRANSACTION) {
            // The server reports both, what holds for a statement and what stays.
            self.flags.add(Flags::SETS_UNMOVABLE);
        }
        let reads = matches!(
            statement.kind,
            Kind::Empty | Kind::Select | Kind::Show | Kind::Explain
        );
        self.writes |= !reads || statement.is_spoiled;
        self.may_be_refused |= statement.may_be_refused();
        self.is_suspicious |= statement.is_suspicious;
        let found_rows = statement
            .counting
            .found_rows(statement.kind, statement.has_into);
        self.found_rows = match self.found_rows {
            before if statement.kind == Kind::Empty => before,
            None => Some(found_rows),
            Some(before) => Some(before.then(found_rows)),
        };
        self.pending = Pending::Nothing;
    }

    fn add(&mut self, flag: Flags) {
        self.flags.add(flag);
    }

    /// Adds a flag of something that changes the session.
    fn spoil(&mut self, flag: Flags) {
        self.flags.add(flag);
        self.statement.is_spoiled = true;
    }

    fn punct(&mut self, byte: u8) {
        let statement = &mut self.statement;
        match byte {
            b'(' => statement.depth = statement.depth.saturating_add(1),
            b')' => statement.depth = statement.depth.saturating_sub(1),
            b';' => {
                self.has_ended |= statement.kind != Kind::Empty;
                self.end_statement();
            }
            b',' if statement.depth == 0 => {
                statement.counting.has_join |= !statement.counting.has_set;
                if statement.kind == Kind::Set && statement.prefix == Prefix::None {
                    self.flags.add(Flags::SETS_LIST);
                }
            }
            // A label before a compound statement.
            b':' if statement.words == 1 => self.spoil(Flags::CALL),
            // The same in Oracle's mode.
            b'<' if statement.words == 0 => self.spoil(Flags::CALL),
            _ => {}
        }
    }

    fn user_variable(&mut self) {
        self.add(Flags::USER_VARIABLE);
        self.statement.has_user_variable = true;
        let by_kind = matches!(self.statement.kind, Kind::Set | Kind::Call | Kind::Load)
            || self.statement.first == Keyword::Get;
        if by_kind || self.statement.has_into {
            self.assigns();
        }
    }

    fn assigns(&mut self) {
        self.spoil(Flags::ASSIGNS_USER_VARIABLE);
    }

    /// A token after one that left a question open.
    fn resolve(&mut self, token: Token) {
        let pending = std::mem::take(&mut self.pending);
        match (pending, token) {
            (Pending::Function(name), Token::Punct(b'(')) => self.function(name),
            (Pending::Argument, Token::Punct(b')')) => self.add(Flags::READS_LAST_INSERT_ID),
            (Pending::Argument, _) => self.spoil(Flags::SETS_LAST_INSERT_ID),
            (Pending::Variable, Token::Word(name) | Token::Quoted(name)) => {
                self.system_variable(name, true);
            }
            (Pending::VariableScope, Token::Punct(b'.')) => {
                self.pending = Pending::VariableScope;
            }
            (Pending::VariableScope, Token::Word(name) | Token::Quoted(name)) => {
                self.system_variable(name, false);
            }
            _ => {}
        }
    }

    fn system_variable(&mut self, name: Keyword, is_bare: bool) {
        use Keyword as K;
        let has_own_meaning = matches!(
            name,
            K::Session
                | K::Local
                | K::Global
                | K::TransactionIsolation
                | K::TxIsolation
                | K::TransactionReadOnly
                | K::TxReadOnly
        );
        if is_bare && self.statement.kind == Kind::Set && !has_own_meaning {
            self.add(Flags::SETS_UNSCOPED);
        }
        match name {
            K::Session | K::Local | K::Global if is_bare => self.pending = Pending::VariableScope,
            K::Identity | K::LastInsertId => self.add(Flags::READS_IDENTITY),
            K::WarningCount | K::ErrorCount => self.add(Flags::READS_DIAGNOSTICS),
            K::Profiling | K::ProfilingHistorySize => self.add(Flags::SESSION_STATUS),
            K::PseudoThreadId => self.add(Flags::CONNECTION_ID),
            // "SET @@var_name = value" without a scope sets the next transaction's
            // characteristic, unlike "SET var_name = value".
            K::TransactionIsolation | K::TxIsolation | K::TransactionReadOnly | K::TxReadOnly
                if is_bare && self.statement.kind == Kind::Set =>
            {
                self.add(Flags::SET_TRANSACTION);
            }
            _ => {}
        }
    }

    fn function(&mut self, name: Keyword) {
        match name {
            Keyword::LastInsertId => self.pending = Pending::Argument,
            Keyword::FoundRows => self.add(Flags::READS_FOUND_ROWS),
            Keyword::RowCount => self.add(Flags::READS_ROW_COUNT),
            Keyword::ConnectionId => self.add(Flags::CONNECTION_ID),
            Keyword::Lastval => self.add(Flags::SEQUENCE_STATE),
            Keyword::Setval => self.statement.is_spoiled = true,
            _ => self.spoil(Flags::NAMED_LOCK),
        }
    }

    /// A name, quoted or not, that may be a function's or a variable's.
    fn name(&mut self, keyword: Keyword) {
        use Keyword as K;
        match keyword {
            K::LastInsertId
            | K::FoundRows
            | K::RowCount
            | K::ConnectionId
            | K::Lastval
            | K::Setval
            | K::GetLock
            | K::ReleaseLock
            | K::ReleaseAllLocks
            | K::IsFreeLock
            | K::IsUsedLock => self.pending = Pending::Function(keyword),
            K::SessionStatus | K::Profiling => self.add(Flags::SESSION_STATUS),
            // Functions, and columns of a sequence in Oracle's mode.
            K::Nextval => self.spoil(Flags::SEQUENCE_STATE),
            K::Currval => self.add(Flags::SEQUENCE_STATE),
            _ => {}
        }
        if self.statement.kind == Kind::Set {
            if keyword.is_unmovable() {
                self.add(Flags::SETS_UNMOVABLE);
            }
            if keyword.is_tracker() {
                self.add(Flags::SETS_TRACKERS);
            }
        }
    }

    #[inline]
    fn word(&mut self, keyword: Keyword) {
        let words = self.statement.words;
        self.statement.words = words.saturating_add(1);
        match (words, keyword) {
            (0, _) => {
                self.statement.first = keyword;
                self.first_word(keyword);
            }
            (_, Keyword::Other) => self.other_word(words),
            _ => {
                self.verb_after_with(keyword);
                self.name(keyword);
                self.later_word(words, keyword);
            }
        }
        self.statement.last = keyword;
    }

    fn first_word(&mut self, keyword: Keyword) {
        use Keyword as K;
        let kind = match keyword {
            K::With => {
                self.statement.with_depth = Some(self.statement.depth);
                Kind::Other
            }
            K::Show | K::Help => Kind::Show,
            K::Explain | K::Describe | K::Desc => Kind::Explain,
            K::Begin => Kind::Begin,
            K::Commit => Kind::Commit,
            K::Rollback => Kind::Rollback,
            K::Savepoint | K::Release => Kind::Savepoint,
            K::Set => Kind::Set,
            K::Use => Kind::Use,
            K::Do => Kind::Do,
            K::Load => Kind::Load,
            K::Create | K::Alter | K::Drop | K::Truncate | K::Rename => Kind::Ddl,
            K::Grant | K::Revoke | K::Analyze | K::Optimize | K::Repair => Kind::Ddl,
            K::Flush => Kind::Flush,
            _ => verb(keyword).unwrap_or_else(|| self.pinning_first_word(keyword)),
        };
        self.statement.counting.is_list = matches!(keyword, K::Table | K::Values);
        self.statement.is_suspicious = matches!(
            keyword,
            K::Grant | K::Revoke | K::Prepare | K::Execute | K::Kill
        );
        self.statement.kind = kind;
    }

    /// First words that keep the connection by themselves.
    fn pinning_first_word(&mut self, keyword: Keyword) -> Kind {
        use Keyword as K;
        let (kind, flag) = match keyword {
            K::Call => (Kind::Call, Flags::CALL),
            K::Lock => (Kind::Lock, Flags::LOCK_TABLES),
            K::Unlock => (Kind::Unlock, Flags::UNLOCK),
            K::Backup => (Kind::Other, Flags::LOCK_TABLES),
            K::Prepare => (Kind::Prepare, Flags::TEXT_PREPARE),
            K::Execute => (Kind::Execute, Flags::TEXT_PREPARE),
            K::Deallocate => (Kind::Deallocate, Flags::TEXT_PREPARE),
            K::Kill => (Kind::Kill, Flags::EMPTY),
            K::Handler => (Kind::Handler, Flags::HANDLER),
            K::Xa => (Kind::Xa, Flags::XA),
            K::Get => (Kind::Other, Flags::EMPTY),
            // MariaDB runs compound statements outside stored programs.
            K::If | K::Case | K::Loop | K::While | K::Repeat | K::For | K::Declare => {
                (Kind::Other, Flags::CALL)
            }
            _ => (Kind::Other, Flags::EMPTY),
        };
        self.add(flag);
        kind
    }

    /// The statement that WITH belongs to.
    fn verb_after_with(&mut self, keyword: Keyword) {
        if self.statement.with_depth == Some(self.statement.depth)
            && let Some(kind) = verb(keyword)
        {
            self.statement.kind = kind;
            self.statement.with_depth = None;
        }
    }

    /// An unknown word that is not the first.
    fn other_word(&mut self, words: u32) {
        // BEGIN is followed by WORK or by nothing; BEGIN NOT ATOMIC starts a compound statement.
        if words == 1 && self.statement.kind == Kind::Begin {
            self.compound();
        }
    }

    fn compound(&mut self) {
        self.statement.kind = Kind::Other;
        self.add(Flags::CALL);
    }

    fn later_word(&mut self, words: u32, keyword: Keyword) {
        use Keyword as K;
        let last = self.statement.last;
        self.statement.counting.word(keyword);
        match keyword {
            K::Into => {
                self.statement.has_into = true;
                self.statement.is_spoiled = true;
            }
            K::Update | K::Share | K::Lock | K::Procedure | K::Analyze => {
                self.statement.is_spoiled = true;
            }
            K::User | K::Password | K::Role | K::Grant | K::Revoke => {
                self.statement.is_suspicious = true;
            }
            // Within a compound statement, or behind what a server may skip.
            K::Statement if last == K::Set && self.statement.kind != Kind::Ddl => {
                self.add(Flags::SET_STATEMENT);
            }
            K::Prepare | K::Execute | K::Kill => self.statement.is_suspicious = true,
            K::Value if last == K::Previous => self.add(Flags::SEQUENCE_STATE),
            K::Value if last == K::Next => self.spoil(Flags::SEQUENCE_STATE),
            K::For if self.statement.prefix == Prefix::Open && self.statement.depth == 0 => {
                self.begin_again();
            }
            _ => {}
        }
        match self.statement.kind {
            Kind::Set if words == 1 => self.second_of_set(keyword),
            Kind::Show => self.word_of_show(words, keyword),
            Kind::Ddl
                if keyword == K::Temporary
                    && matches!(self.statement.first, K::Create | K::Drop) =>
            {
                self.add(Flags::TEMPORARY_TABLE);
            }
            Kind::Ddl if keyword == K::Prepare && last == K::Drop => {
                self.statement.kind = Kind::Deallocate;
                self.add(Flags::TEXT_PREPARE);
            }
            // They answer with rows, so that no OK tells the id that they leave.
            Kind::Insert | Kind::Replace if keyword == K::Returning => {
                self.spoil(Flags::SETS_LAST_INSERT_ID);
            }
            Kind::Ddl
                if self.statement.first == K::Analyze
                    && matches!(keyword, K::Insert | K::Replace) =>
            {
                self.spoil(Flags::SETS_LAST_INSERT_ID);
            }
            Kind::Flush if matches!(keyword, K::Read | K::Lock | K::Export) => {
                self.add(Flags::LOCK_TABLES);
            }
            Kind::Begin if words == 1 && keyword != K::Work => self.compound(),
            Kind::Execute if keyword == K::Immediate => self.add(Flags::CALL),
            Kind::Rollback if keyword == K::To => self.statement.kind = Kind::Savepoint,
            Kind::Other if keyword == K::Transaction && last == K::Start => {
                self.statement.kind = Kind::Begin;
            }
            Kind::Other if keyword == K::Diagnostics => self.add(Flags::READS_DIAGNOSTICS),
            _ => {}
        }
    }

    /// After `SET STATEMENT … FOR`: what follows is a statement like any other, but for what holds
    /// while it runs.
    fn begin_again(&mut self) {
        self.statement = Statement {
            prefix: Prefix::Closed,
            is_spoiled: true,
            ..Statement::default()
        };
    }

    fn second_of_set(&mut self, keyword: Keyword) {
        match keyword {
            Keyword::Transaction => self.add(Flags::SET_TRANSACTION),
            Keyword::Role => self.add(Flags::SET_ROLE),
            // RESOURCE GROUP, which is the connection's thread's and which nobody reports.
            Keyword::Resource => self.add(Flags::SET_ROLE),
            Keyword::Statement => {
                self.add(Flags::SET_STATEMENT);
                self.statement.prefix = Prefix::Open;
            }
            _ => {}
        }
    }

    fn word_of_show(&mut self, words: u32, keyword: Keyword) {
        use Keyword as K;
        let last = self.statement.last;
        match keyword {
            K::Warnings | K::Errors => {
                self.add(Flags::READS_DIAGNOSTICS);
                // Not SHOW COUNT(*) WARNINGS, which is a SELECT in disguise.
                self.statement.counting.shows_conditions |= words == 1;
            }
            K::Collation
            | K::Columns
            | K::Databases
            | K::Engines
            | K::Fields
            | K::Index
            | K::Indexes
            | K::Keys
            | K::Plugins
            | K::Schemas
            | K::Tables
            | K::Triggers
            | K::Variables
                if words <= 2 =>
            {
                self.statement.counting.is_list = true;
            }
            K::Profile | K::Profiles if words == 1 => self.add(Flags::SESSION_STATUS),
            // Not SHOW TABLE STATUS, SHOW ENGINE … STATUS and the like.
            K::Status if words == 1 || matches!(last, K::Session | K::Local) => {
                self.add(Flags::SESSION_STATUS);
            }
            _ => {}
        }
    }
}

/// The kind of a statement that may follow WITH.
fn verb(keyword: Keyword) -> Option<Kind> {
    match keyword {
        Keyword::Select | Keyword::Table | Keyword::Values => Some(Kind::Select),
        Keyword::Insert => Some(Kind::Insert),
        Keyword::Update => Some(Kind::Update),
        Keyword::Delete => Some(Kind::Delete),
        Keyword::Replace => Some(Kind::Replace),
        _ => None,
    }
}
