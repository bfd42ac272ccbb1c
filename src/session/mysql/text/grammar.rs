//! From tokens to traits: which words stand where.

use super::{
    Flags, FoundRows, Kind, Traits,
    keyword::Keyword,
    lexer::{Sink, Token},
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

/// The words of a statement that decide what it does to FOUND_ROWS().
#[derive(Clone, Copy, Debug, Default)]
struct Counting {
    /// UNION and its kind.
    has_union: bool,
    has_limit: bool,
    /// SQL_CALC_FOUND_ROWS, PROCEDURE ANALYSE: not the rows sent.
    is_special: bool,
    /// VALUES and TABLE, which are no SELECT; a SHOW that is one in disguise.
    is_list: bool,
    /// A SELECT that is not the first word.
    has_select: bool,
    /// Of UPDATE and DELETE: several tables, which servers read like a SELECT.
    has_join: bool,
    /// SET was seen: the list of an UPDATE's tables is over.
    has_set: bool,
    /// SHOW WARNINGS and SHOW ERRORS, which leave it as it was.
    shows_conditions: bool,
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
            prefix: Prefix::None,
            counting: Counting::default(),
        }
    }
}

impl Counting {
    fn word(&mut self, keyword: Keyword) {
        use Keyword as K;
        match keyword {
            K::Union | K::Except | K::Intersect => self.has_union = true,
            K::Limit => self.has_limit = true,
            K::SqlCalcFoundRows | K::Procedure => self.is_special = true,
            K::Select => self.has_select = true,
            K::Join | K::StraightJoin | K::Using => self.has_join = true,
            K::Set => self.has_set = true,
            _ => {}
        }
    }
}

impl Statement {
    /// What becomes of FOUND_ROWS(). Seen on MariaDB 10.11: some SHOWs and EXPLAINs set it, others
    /// do not; INSERT … SELECT does, and so do joins in UPDATE and DELETE; a subselect does unless
    /// it was optimized away.
    fn found_rows(&self) -> FoundRows {
        let counting = self.counting;
        let unclear_if = |is_unclear| match is_unclear {
            true => FoundRows::Unclear,
            false => FoundRows::Kept,
        };
        match self.kind {
            Kind::Empty => FoundRows::Kept,
            Kind::Select if counting.is_list => FoundRows::Unclear,
            Kind::Select
                if counting.is_special
                    || counting.has_union && counting.has_limit
                    || self.has_into =>
            {
                FoundRows::Counted
            }
            // CALL and EXECUTE keep the connection, where the server knows better.
            Kind::Select | Kind::Call | Kind::Execute => FoundRows::Sent,
            Kind::Show if counting.is_list => FoundRows::Sent,
            Kind::Show => unclear_if(!counting.shows_conditions),
            Kind::Explain => FoundRows::Unclear,
            Kind::Update | Kind::Delete => unclear_if(counting.has_select || counting.has_join),
            _ => unclear_if(counting.has_select),
        }
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
}

impl Grammar {
    /// The text is complete.
    pub(super) fn traits(mut self, is_uncertain: bool) -> Traits {
        self.end_statement();
        if is_uncertain {
            self.flags.add(Flags::UNCERTAIN);
        }
        Traits {
            kind: self.kind,
            flags: self.flags,
            is_read_only: !self.writes && !is_uncertain,
            found_rows: self.found_rows.unwrap_or_default(),
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
        let reads = matches!(
            statement.kind,
            Kind::Empty | Kind::Select | Kind::Show | Kind::Explain
        );
        self.writes |= !reads || statement.is_spoiled;
        let found_rows = statement.found_rows();
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
            }
            // A label before a compound statement.
            b':' if statement.words == 1 => self.spoil(Flags::CALL),
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
            Keyword::Nextval | Keyword::Setval => self.statement.is_spoiled = true,
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
            | K::Nextval
            | K::Setval
            | K::GetLock
            | K::ReleaseLock
            | K::ReleaseAllLocks
            | K::IsFreeLock
            | K::IsUsedLock => self.pending = Pending::Function(keyword),
            K::SessionStatus | K::Profiling => self.add(Flags::SESSION_STATUS),
            K::Currval => self.add(Flags::SEQUENCE_STATE),
            _ => {}
        }
        if self.statement.kind == Kind::Set && is_unmovable(keyword) {
            self.add(Flags::SETS_UNMOVABLE);
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
            K::Kill => (Kind::Kill, Flags::KILL),
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
            K::Value if last == K::Previous => self.add(Flags::SEQUENCE_STATE),
            K::Value if last == K::Next => self.statement.is_spoiled = true,
            K::For if self.statement.prefix == Prefix::Open && self.statement.depth == 0 => {
                self.begin_again();
            }
            _ => {}
        }
        match self.statement.kind {
            Kind::Set if words == 1 => self.second_of_set(keyword),
            Kind::Show => self.word_of_show(words, keyword),
            Kind::Ddl if keyword == K::Temporary && self.statement.first == K::Create => {
                self.add(Flags::TEMPORARY_TABLE);
            }
            Kind::Ddl if keyword == K::Prepare && last == K::Drop => {
                self.statement.kind = Kind::Deallocate;
                self.add(Flags::TEXT_PREPARE);
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

/// Session variables that no server reports and no other connection can be given, or that the
/// gateway itself relies on.
fn is_unmovable(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(
        keyword,
        K::SqlLogBin
            | K::SqlLogOff
            | K::GtidNext
            | K::GtidDomainId
            | K::GtidSeqNo
            | K::ServerId
            | K::SkipReplication
            | K::WsrepOn
            | K::PseudoThreadId
            | K::PseudoSlaveMode
            | K::PseudoReplicaMode
            | K::InsertId
            | K::LastInsertId
            | K::Identity
            | K::Timestamp
            | K::RandSeed1
            | K::RandSeed2
            | K::Profiling
            | K::ProfilingHistorySize
            | K::Debug
            | K::SessionTrackGtids
            | K::SessionTrackSchema
            | K::SessionTrackStateChange
            | K::SessionTrackSystemVariables
            | K::SessionTrackTransactionInfo
    )
}
