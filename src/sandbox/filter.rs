//! The OData-like filters that both fakes take: parsed once, evaluated over cells.
//!
//! The subset that Absorb documents: `eq ne gt ge lt le`, `and or not ()`, `in (..)`, `startswith endswith substringof tolower
//! toupper`, `datetime''`, `guid''`, `''` (a quote is doubled), numbers, `true false null`, a bare boolean field, nested `a/b`.

use std::cmp::Ordering;
use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::time::Timestamp;

/// How deep parentheses and functions may nest.
const DEPTH_MAX: usize = 32;

/// One value of one field of one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
    /// A GUID.
    Guid(Uuid),
    /// An instant.
    Instant(Timestamp),
    /// A list or an object; cannot be compared.
    Json(Value),
}

impl Cell {
    /// Text, or null.
    pub(super) fn text(value: Option<&str>) -> Self {
        value.map_or(Self::Null, |text| Self::Text(text.to_owned()))
    }

    /// An instant, or null.
    pub(super) fn instant(value: Option<Timestamp>) -> Self {
        value.map_or(Self::Null, Self::Instant)
    }

    /// The order of two cells for sorting: nulls first, what cannot be compared is equal.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Less,
            (_, Self::Null) => Ordering::Greater,
            _ => compare(self, other).unwrap_or(Ordering::Equal),
        }
    }
}

/// A parsed filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    /// Both hold.
    And(Box<Expression>, Box<Expression>),
    /// One of both holds.
    Or(Box<Expression>, Box<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// Two operands compare so.
    Compare(Operand, Comparison, Operand),
    /// The operand is one of these.
    In(Operand, Vec<Cell>),
    /// The operand is true.
    Test(Operand),
}

/// What a filter compares.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// A field, by its canonical name.
    Field(String),
    /// A literal.
    Literal(Cell),
    /// A function of its arguments.
    Call(Function, Vec<Operand>),
}

/// The comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

/// The functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    StartsWith,
    EndsWith,
    SubstringOf,
    ToLower,
    ToUpper,
}

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilterError(pub(super) String);

impl fmt::Display for FilterError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Parses a filter; `fields` are the names that may be filtered by, matched without regard to case.
pub(super) fn parse(text: &str, fields: &[&str]) -> Result<Expression, FilterError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, fields };
    let expression = parser.either(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => Err(FilterError(format!("unexpected {token:?} after the end of the filter"))),
    }
}

/// The canonical spelling of a field.
pub(super) fn canonical<'a>(name: &str, fields: &[&'a str]) -> Option<&'a str> {
    fields.iter().copied().find(|field| field.eq_ignore_ascii_case(name))
}

/// Reads an instant as filters and bodies write it: RFC 3339, without offset (taken as UTC), or a date.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(exact) = DateTime::parse_from_rfc3339(text) {
        return Some(Timestamp(exact.timestamp_millis()));
    }
    if let Ok(naive) = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f") {
        return Some(Timestamp(naive.and_utc().timestamp_millis()));
    }
    let date: NaiveDate = text.parse().ok()?;
    Some(Timestamp(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis()))
}

impl Expression {
    /// Whether a row matches; `row` gives the cell of a field by its canonical name.
    pub(super) fn matches(&self, row: &dyn Fn(&str) -> Cell) -> bool {
        match self {
            Self::And(left, right) => left.matches(row) && right.matches(row),
            Self::Or(left, right) => left.matches(row) || right.matches(row),
            Self::Not(inner) => !inner.matches(row),
            Self::Test(operand) => operand.evaluate(row) == Cell::Bool(true),
            Self::In(operand, choices) => {
                let cell = operand.evaluate(row);
                choices.iter().any(|choice| compare(&cell, choice) == Some(Ordering::Equal))
            }
            Self::Compare(left, comparison, right) => {
                comparison.holds(compare(&left.evaluate(row), &right.evaluate(row)))
            }
        }
    }

    /// The texts of which a field must be one for a row to match; `None` when the filter does not say.
    pub(super) fn wanted_texts(&self, field: &str) -> Option<Vec<String>> {
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => Some(text.to_lowercase()),
            _ => None,
        };
        match self {
            Self::Compare(Operand::Field(name), Comparison::Eq, Operand::Literal(cell)) if name == field => {
                text(cell).map(|text| vec![text])
            }
            Self::In(Operand::Field(name), choices) if name == field => choices.iter().map(text).collect(),
            Self::And(left, right) => left.wanted_texts(field).or_else(|| right.wanted_texts(field)),
            Self::Or(left, right) => {
                let (mut all, more) = (left.wanted_texts(field)?, right.wanted_texts(field)?);
                all.extend(more);
                Some(all)
            }
            Self::Compare(..) | Self::In(..) | Self::Not(_) | Self::Test(_) => None,
        }
    }
}

impl Comparison {
    fn parse(word: &str) -> Option<Self> {
        let all = [Self::Eq, Self::Ne, Self::Gt, Self::Ge, Self::Lt, Self::Le];
        let position = ["eq", "ne", "gt", "ge", "lt", "le"].iter().position(|name| name.eq_ignore_ascii_case(word))?;
        Some(all[position])
    }

    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Eq => order == Some(Ordering::Equal),
            Self::Ne => order != Some(Ordering::Equal),
            Self::Gt => order == Some(Ordering::Greater),
            Self::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Self::Lt => order == Some(Ordering::Less),
            Self::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        }
    }
}

impl Operand {
    fn evaluate(&self, row: &dyn Fn(&str) -> Cell) -> Cell {
        match self {
            Self::Field(name) => row(name),
            Self::Literal(cell) => cell.clone(),
            Self::Call(function, arguments) => {
                let values: Vec<String> = arguments.iter().map(|argument| plain(&argument.evaluate(row))).collect();
                function.apply(&values)
            }
        }
    }
}

impl Function {
    fn parse(word: &str) -> Option<(Self, usize)> {
        match word.to_ascii_lowercase().as_str() {
            "startswith" => Some((Self::StartsWith, 2)),
            "endswith" => Some((Self::EndsWith, 2)),
            "substringof" => Some((Self::SubstringOf, 2)),
            "tolower" => Some((Self::ToLower, 1)),
            "toupper" => Some((Self::ToUpper, 1)),
            _ => None,
        }
    }

    fn apply(self, values: &[String]) -> Cell {
        let folded: Vec<String> = values.iter().map(|value| value.to_lowercase()).collect();
        match (self, folded.as_slice()) {
            (Self::StartsWith, [field, part]) => Cell::Bool(field.starts_with(part.as_str())),
            (Self::EndsWith, [field, part]) => Cell::Bool(field.ends_with(part.as_str())),
            // The odd one of OData 3: the part stands before the field.
            (Self::SubstringOf, [part, field]) => Cell::Bool(field.contains(part.as_str())),
            (Self::ToLower, [field]) => Cell::Text(field.clone()),
            (Self::ToUpper, [field]) => Cell::Text(field.to_uppercase()),
            _ => Cell::Null,
        }
    }
}

fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Bool(value) => value.to_string(),
        Cell::Number(value) => value.to_string(),
        Cell::Text(value) => value.clone(),
        Cell::Guid(value) => value.to_string(),
        Cell::Instant(value) => value.to_string(),
        Cell::Json(value) => value.to_string(),
    }
}

/// Compares two cells. Text knows no case, as in the databases behind both systems; text is read as what it is compared with.
fn compare(left: &Cell, right: &Cell) -> Option<Ordering> {
    match (left, right) {
        (Cell::Null, Cell::Null) => Some(Ordering::Equal),
        (Cell::Bool(left), Cell::Bool(right)) => Some(left.cmp(right)),
        (Cell::Number(left), Cell::Number(right)) => left.partial_cmp(right),
        (Cell::Text(left), Cell::Text(right)) => Some(left.to_lowercase().cmp(&right.to_lowercase())),
        (Cell::Guid(left), Cell::Guid(right)) => Some(left.cmp(right)),
        (Cell::Instant(left), Cell::Instant(right)) => Some(left.cmp(right)),
        (Cell::Instant(left), Cell::Text(right)) => Some(left.cmp(&instant(right)?)),
        (Cell::Guid(left), Cell::Text(right)) => Some(left.cmp(&Uuid::parse_str(right).ok()?)),
        (Cell::Text(_), Cell::Instant(_) | Cell::Guid(_)) => compare(right, left).map(Ordering::reverse),
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Literal(Cell),
    Open,
    Close,
    Comma,
}

fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '(' => (Token::Open, &rest[1..]),
            ')' => (Token::Close, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            '\'' => quoted(&rest[1..]).map(|(text, after)| (Token::Literal(Cell::Text(text)), after))?,
            letter if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') => word(rest)?,
            other => return Err(FilterError(format!("unexpected character {other:?} in the filter"))),
        };
        found.push(token);
        rest = after.trim_start();
    }
    Ok(found)
}

fn quoted(rest: &str) -> Result<(String, &str), FilterError> {
    let mut text = String::new();
    let mut letters = rest.char_indices().peekable();
    while let Some((position, letter)) = letters.next() {
        if letter != '\'' {
            text.push(letter);
        } else if letters.peek().is_some_and(|(_, next)| *next == '\'') {
            letters.next();
            text.push('\'');
        } else {
            return Ok((text, &rest[position + 1..]));
        }
    }
    Err(FilterError("a quote in the filter is not closed".to_owned()))
}

fn word(rest: &str) -> Result<(Token, &str), FilterError> {
    let part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/');
    let end = rest.find(|letter| !part(letter)).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if let Some(quote) = after.strip_prefix('\'') {
        let (text, after) = quoted(quote)?;
        return Ok((Token::Literal(typed(name, &text)?), after));
    }
    let literal = match name.to_ascii_lowercase().as_str() {
        "true" => Some(Cell::Bool(true)),
        "false" => Some(Cell::Bool(false)),
        "null" => Some(Cell::Null),
        // "nan" and "inf" are words here, whatever Rust thinks.
        number if number.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') => {
            let number = number.trim_end_matches(['m', 'd', 'l']);
            Some(Cell::Number(number.parse().map_err(|_| FilterError(format!("{name} is not a number")))?))
        }
        _ => None,
    };
    Ok((literal.map_or_else(|| Token::Word(name.to_owned()), Token::Literal), after))
}

fn typed(kind: &str, text: &str) -> Result<Cell, FilterError> {
    let refuse = || FilterError(format!("{kind}'{text}' is not a literal"));
    match kind.to_ascii_lowercase().as_str() {
        "datetime" => instant(text).map(Cell::Instant).ok_or_else(refuse),
        "guid" => Uuid::parse_str(text).map(Cell::Guid).map_err(|_| refuse()),
        _ => Err(refuse()),
    }
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    fields: &'a [&'a str],
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn took_word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), FilterError> {
        match self.take() {
            Some(token) if token == *wanted => Ok(()),
            other => Err(FilterError(format!("expected {wanted:?} in the filter, found {other:?}"))),
        }
    }

    fn either(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut left = self.both(depth)?;
        while self.took_word("or") {
            left = Expression::Or(Box::new(left), Box::new(self.both(depth)?));
        }
        Ok(left)
    }

    fn both(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut left = self.single(depth)?;
        while self.took_word("and") {
            left = Expression::And(Box::new(left), Box::new(self.single(depth)?));
        }
        Ok(left)
    }

    fn single(&mut self, depth: usize) -> Result<Expression, FilterError> {
        if depth > DEPTH_MAX {
            return Err(FilterError(format!("the filter nests deeper than {DEPTH_MAX}")));
        }
        if self.took_word("not") {
            return Ok(Expression::Not(Box::new(self.single(depth + 1)?)));
        }
        if self.peek() == Some(&Token::Open) {
            self.next += 1;
            let inner = self.either(depth + 1)?;
            self.expect(&Token::Close)?;
            return Ok(inner);
        }
        let left = self.operand(depth)?;
        if self.took_word("in") {
            return Ok(Expression::In(left, self.choices()?));
        }
        let Some(Token::Word(word)) = self.peek() else { return Ok(Expression::Test(left)) };
        let Some(comparison) = Comparison::parse(word) else { return Ok(Expression::Test(left)) };
        self.next += 1;
        Ok(Expression::Compare(left, comparison, self.operand(depth)?))
    }

    fn choices(&mut self) -> Result<Vec<Cell>, FilterError> {
        self.expect(&Token::Open)?;
        let mut choices = Vec::new();
        loop {
            match self.take() {
                Some(Token::Literal(cell)) => choices.push(cell),
                other => return Err(FilterError(format!("expected a literal in the list, found {other:?}"))),
            }
            if self.peek() != Some(&Token::Comma) {
                self.expect(&Token::Close)?;
                return Ok(choices);
            }
            self.next += 1;
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Operand, FilterError> {
        match self.take() {
            Some(Token::Literal(cell)) => Ok(Operand::Literal(cell)),
            Some(Token::Word(word)) if self.peek() == Some(&Token::Open) => self.call(&word, depth),
            Some(Token::Word(word)) => canonical(&word, self.fields)
                .map(|field| Operand::Field(field.to_owned()))
                .ok_or_else(|| FilterError(format!("'{word}' cannot be filtered by"))),
            other => Err(FilterError(format!("expected a field or a literal in the filter, found {other:?}"))),
        }
    }

    fn call(&mut self, word: &str, depth: usize) -> Result<Operand, FilterError> {
        let (function, count) =
            Function::parse(word).ok_or_else(|| FilterError(format!("'{word}' is not a function")))?;
        if depth > DEPTH_MAX {
            return Err(FilterError(format!("the filter nests deeper than {DEPTH_MAX}")));
        }
        self.expect(&Token::Open)?;
        let mut arguments = vec![self.operand(depth + 1)?];
        while arguments.len() < count {
            self.expect(&Token::Comma)?;
            arguments.push(self.operand(depth + 1)?);
        }
        self.expect(&Token::Close)?;
        Ok(Operand::Call(function, arguments))
    }
}
