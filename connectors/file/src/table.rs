//! The table of one object: where its rows stand, how they are read, and how changes come into it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind as IoKind, Seek, Write};

use chrono::{DateTime, TimeDelta, Utc};
use learnsync_sdk::{Action, Change, DeliveryError, ErrorKind, Fields, ListedPage, Receipt, Value};

use crate::dialect::{Dialect, Format};
use crate::folder::{Folder, OURS, cannot, is_in_doubt};
use crate::listing::{self, Position};
use crate::manifest::{Manifest, Seal, Sealing, manifest_name};
use crate::row::{ActionCell, Reader, Row, Writer};
use crate::settings::{Layout, Mode, Settings};

/// What stands in the action column.
const PUT: &str = "put";
const WITHDRAWN: &str = "withdrawn";
/// There is no status of HTTP here; a receipt has one.
const STATUS_DONE: u16 = 200;
/// The longest text of all fields of a row together. Escaped to the last sign it still fits into what is read as one row.
const ROW_TEXT_BYTES_MAX: usize = 1024 * 1024;
/// How many names of deltas are tried; a millisecond each.
const NAMES_TRIED_MAX: u32 = 10_000;

/// The table of one object. In full mode it is the file itself; deltas are taken away by whoever reads them, so beside them we keep the
/// rows as they are after the last one.
pub(crate) struct Table<'a> {
    folder: &'a Folder,
    settings: &'a Settings,
    object: &'a str,
    layout: Layout,
    name: String,
    dialect: Dialect,
}

/// A table as it was found.
#[derive(Default)]
struct Scan {
    /// The rows with the marks that were asked for.
    held: HashMap<String, Vec<Row>>,
    found: Option<Found>,
}

/// Its file, ready to be read once more.
struct Found {
    file: File,
    manifest: Option<Manifest>,
    /// Those it was written with.
    dialect: Dialect,
    columns: Vec<String>,
}

/// What a batch makes of the rows.
struct Plan<'a> {
    /// For each change whether something must be written.
    outcomes: Vec<Result<bool, DeliveryError>>,
    /// Mark, row before, row after; in the order of the batch.
    changed: Vec<(&'a str, Option<Row>, Option<Row>)>,
}

impl<'a> Table<'a> {
    /// The table of an object.
    ///
    /// # Errors
    /// `Rejected` for a name that no object has.
    pub(crate) fn new(folder: &'a Folder, settings: &'a Settings, object: &'a str) -> Result<Self, DeliveryError> {
        let layout = settings.layout(object).map_err(rejected)?;
        let (name, dialect) = match settings.mode {
            Mode::Full => (settings.file_name(object, DateTime::UNIX_EPOCH), settings.dialect.clone()),
            Mode::Delta => (format!("{OURS}/{object}.csv"), Dialect::of_state(&settings.dialect.mark_column)),
        };
        Ok(Self { folder, settings, object, layout, name, dialect })
    }

    /// The rows with these marks.
    ///
    /// # Errors
    /// The file cannot be read, is not as we left it, or is not ours.
    pub(crate) fn rows_with(&self, marks: &HashSet<&str>) -> Result<HashMap<String, Vec<Row>>, DeliveryError> {
        Ok(self.scan(marks)?.held)
    }

    /// One page of all rows, whoever wrote them; `next` of the page before asks for it.
    ///
    /// # Errors
    /// As `rows_with`; `Unavailable` as well when rows before this page went, `Rejected` for a page that none named.
    pub(crate) fn page(&self, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        let from = match page {
            None => None,
            Some(word) => {
                let position = Position::parse(word);
                Some(position.ok_or_else(|| rejected(format!("{} has no page {word:?}", self.name)))?)
            }
        };
        self.try_page(from.as_ref()).map_err(|error| cannot(&format!("list {}", self.name), &error))
    }

    /// Makes the changes, all with one rewrite of the file; one outcome for each, in their order.
    pub(crate) fn change(&self, changes: &[&Change], now: DateTime<Utc>) -> Vec<Result<Receipt, DeliveryError>> {
        let all_failed = |error: &DeliveryError| changes.iter().map(|_| Err(error.clone())).collect();
        let marks = changes.iter().map(|change| change.mark.as_str()).collect();
        let scan = match self.scan(&marks) {
            Ok(scan) => scan,
            Err(error) => return all_failed(&error),
        };
        let plan = self.plan(changes, &scan.held);
        match self.write(scan, &plan, now) {
            // Refused ones were not part of the write.
            Err(error) => plan.outcomes.into_iter().map(|outcome| outcome.and(Err(error.clone()))).collect(),
            Ok(words) => {
                let receipt = |(change, outcome): (&&Change, Result<bool, DeliveryError>)| {
                    outcome.map(|wrote| Receipt {
                        row: change.mark.clone(),
                        status: STATUS_DONE,
                        words: words.clone(),
                        wrote,
                    })
                };
                changes.iter().zip(plan.outcomes).map(receipt).collect()
            }
        }
    }

    // ---- Reading ----------------------------------------------------------------------------------------------------------------

    fn scan(&self, marks: &HashSet<&str>) -> Result<Scan, DeliveryError> {
        self.try_scan(marks).map_err(|error| cannot(&format!("read {}", self.name), &error))
    }

    fn try_scan(&self, marks: &HashSet<&str>) -> io::Result<Scan> {
        let Some((file, manifest)) = self.open()? else { return Ok(Scan::default()) };
        let dialect = self.dialect_of(manifest.as_ref());
        let mut reader = self.reader(&file, &dialect, manifest.as_ref())?;
        let mut held: HashMap<String, Vec<Row>> = HashMap::new();
        while let Some(raw) = reader.next_raw()? {
            // Where a seal vouches for the whole, the rows of others need not be understood.
            let is_other = reader.mark_at_a_glance(&raw).is_some_and(|mark| !marks.contains(mark));
            if is_other && manifest.is_some() {
                continue;
            }
            let row = reader.row(&raw)?;
            if let Some(mark) = row.mark.clone().filter(|mark| marks.contains(mark.as_str())) {
                held.entry(mark).or_default().push(row);
            }
        }
        let columns = reader.columns().to_vec();
        wants_seal(manifest.as_ref(), reader)?;
        let columns = columns.into_iter().filter(|name| *name != dialect.mark_column).collect();
        Ok(Scan { held, found: Some(Found { file, manifest, dialect, columns }) })
    }

    fn try_page(&self, from: Option<&Position>) -> io::Result<ListedPage> {
        let Some((file, manifest)) = self.open()? else {
            return if from.is_none() { Ok(ListedPage::default()) } else { Err(listing::moved()) };
        };
        let mut reader = self.reader(&file, &self.dialect_of(manifest.as_ref()), manifest.as_ref())?;
        let page = listing::page(&mut reader, from)?;
        wants_seal(manifest.as_ref(), reader)?;
        Ok(page)
    }

    /// The file and its manifest; none where neither is there.
    fn open(&self) -> io::Result<Option<(File, Option<Manifest>)>> {
        let manifest = self.manifest()?;
        match File::open(self.folder.path.join(&self.name)) {
            Ok(file) => Ok(Some((file, manifest))),
            Err(error) if error.kind() == IoKind::NotFound && manifest.is_none() => Ok(None),
            Err(error) if error.kind() == IoKind::NotFound => {
                let why = "it is gone, and its manifest is not: bring it back, or remove the manifest to begin anew";
                Err(io::Error::new(IoKind::InvalidData, why))
            }
            Err(error) => Err(error),
        }
    }

    /// As it was written, whatever the settings say by now.
    fn dialect_of(&self, manifest: Option<&Manifest>) -> Dialect {
        manifest.map_or_else(|| self.dialect.clone(), |manifest| manifest.dialect.clone())
    }

    fn reader<'f>(
        &self,
        file: &'f File,
        dialect: &Dialect,
        manifest: Option<&Manifest>,
    ) -> io::Result<Reader<BufReader<Sealing<&'f File>>>> {
        let columns = match manifest {
            Some(manifest) => manifest.columns.clone(),
            None => self.with_mark(&self.known_columns()),
        };
        Reader::new(BufReader::new(Sealing::new(file)), dialect.clone(), columns)
    }

    fn manifest(&self) -> io::Result<Option<Manifest>> {
        let json = match fs::read(self.folder.path.join(manifest_name(&self.name))) {
            Ok(json) => json,
            Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let broken = |error| io::Error::new(IoKind::InvalidData, format!("its manifest cannot be read: {error}"));
        serde_json::from_slice(&json).map(Some).map_err(broken)
    }

    fn known_columns(&self) -> Vec<String> {
        self.layout.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    fn with_mark(&self, columns: &[String]) -> Vec<String> {
        std::iter::once(&self.dialect.mark_column).chain(columns).cloned().collect()
    }

    // ---- Deciding ---------------------------------------------------------------------------------------------------------------

    fn plan<'c>(&self, changes: &[&'c Change], held: &HashMap<String, Vec<Row>>) -> Plan<'c> {
        // What a mark's row was before the batch, and is by now.
        let mut rows: HashMap<&str, (Option<Row>, Option<Row>)> = HashMap::new();
        let mut order = Vec::new();
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let mark = change.mark.as_str();
            let copies = held.get(mark).map_or(&[][..], Vec::as_slice);
            if copies.len() > 1 {
                let message = format!("{} rows of {} carry {mark}: remove all but one", copies.len(), self.name);
                outcomes.push(Err(rejected(message)));
                continue;
            }
            let (_, row) = rows.entry(mark).or_insert_with(|| {
                order.push(mark);
                (copies.first().cloned(), copies.first().cloned())
            });
            outcomes.push(self.apply(change, row));
        }
        let changed = order.into_iter().filter_map(|mark| {
            let (before, after) = rows.remove(mark)?;
            (!self.is_same(before.as_ref(), after.as_ref())).then_some((mark, before, after))
        });
        Plan { outcomes, changed: changed.collect() }
    }

    /// Brings one change into its row; tells whether that made a difference.
    fn apply(&self, change: &Change, row: &mut Option<Row>) -> Result<bool, DeliveryError> {
        let after = match &change.action {
            Action::Put { fields, .. } => {
                self.refuse_fields(fields)?;
                let mut after = row.clone().unwrap_or_default();
                after.mark = Some(change.mark.clone());
                after.fields.extend(fields.clone());
                after.fields.retain(|_, value| *value != Value::Null);
                refuse_length(&after.fields)?;
                Some(after)
            }
            Action::Withdraw { .. } => None,
        };
        let is_same = self.is_same(row.as_ref(), after.as_ref());
        if !is_same {
            *row = after;
        }
        Ok(!is_same)
    }

    fn is_same(&self, left: Option<&Row>, right: Option<&Row>) -> bool {
        match (left, right) {
            (None, None) => true,
            (Some(left), Some(right)) => self.dialect.looks_the_same(&left.fields, &right.fields),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn refuse_fields(&self, fields: &Fields) -> Result<(), DeliveryError> {
        for (name, value) in fields {
            let is_ours = *name == self.settings.dialect.mark_column
                || (self.settings.mode == Mode::Delta && *name == self.settings.action_column);
            if is_ours {
                return Err(rejected(format!(
                    "{} cannot be filled by a mapping: that column is learnsync's own",
                    name
                )));
            }
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(rejected(format!("{name:?} is no name for a column")));
            }
            if !self.layout.is_open && !self.layout.columns.iter().any(|(known, _)| known == name) {
                let known = self.known_columns().join(", ");
                return Err(rejected(format!("{} has no column {name}, there are {known}", self.object)));
            }
            if matches!(value, Value::Number(number) if !number.is_finite()) {
                return Err(rejected(format!("{name} is no finite number")));
            }
        }
        Ok(())
    }

    // ---- Writing ----------------------------------------------------------------------------------------------------------------

    /// Writes what the plan changes; answers what the receipt says.
    fn write(&self, scan: Scan, plan: &Plan<'_>, now: DateTime<Utc>) -> Result<String, DeliveryError> {
        let is_whole = match &scan.found {
            None => true,
            // Without a manifest a process died before it wrote one, or a person removed it; with other settings it is written anew.
            Some(found) => found.manifest.is_some() && found.dialect == self.dialect,
        };
        if plan.changed.is_empty() && is_whole {
            return Ok(format!("{} has it already", self.name));
        }
        let last = scan.found.as_ref().and_then(|found| found.manifest.as_ref()).map(|manifest| manifest.written_at);
        // A clock that was set back must not make a delta that sorts before the last one.
        let mut time = last.map_or(now, |last| now.max(last + TimeDelta::milliseconds(1)));
        let columns = self.columns(scan.found.as_ref(), plan);
        let mut words = self.name.clone();
        if self.settings.mode == Mode::Delta && !plan.changed.is_empty() {
            (words, time) = self.write_delta(plan, &columns, time)?;
        }
        let rewritten = self.rewrite(scan.found, plan, columns, time);
        match self.settings.mode {
            Mode::Full => rewritten?,
            // The delta is out already. Read back, the state will say no; then the same rows go out once more.
            Mode::Delta => rewritten.map_err(is_in_doubt)?,
        }
        Ok(words)
    }

    /// Known columns first, then those that the file has, then new ones by their name: columns never change places.
    fn columns(&self, found: Option<&Found>, plan: &Plan<'_>) -> Vec<String> {
        let mut columns = self.known_columns();
        if !self.layout.is_open {
            return columns;
        }
        let held = found.into_iter().flat_map(|found| found.columns.iter());
        let new: BTreeMap<&String, ()> = plan
            .changed
            .iter()
            .filter_map(|(_, _, after)| after.as_ref())
            .flat_map(|row| row.fields.keys())
            .map(|name| (name, ()))
            .collect();
        for name in held.chain(new.into_keys()) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        columns
    }

    /// A new file with the changed rows: those that were withdrawn as they were before.
    fn write_delta(
        &self,
        plan: &Plan<'_>,
        columns: &[String],
        not_before: DateTime<Utc>,
    ) -> Result<(String, DateTime<Utc>), DeliveryError> {
        let (name, time) = self.free_name(not_before)?;
        let dialect = &self.settings.dialect;
        let column = self.settings.action_column.as_str();
        let fill = |out: &mut dyn Write| {
            let mut writer = Writer::new(out, dialect.clone(), columns.to_vec(), Some(column))?;
            for (_, before, after) in &plan.changed {
                match (before, after) {
                    (_, Some(row)) => writer.row(row, Some(ActionCell { column, word: PUT }))?,
                    (Some(row), None) => writer.row(row, Some(ActionCell { column, word: WITHDRAWN }))?,
                    (None, None) => {}
                }
            }
            Ok(writer.end().0)
        };
        let fill = |out: &mut dyn Write| fill(out).map_err(|error| cannot(&format!("write {name}"), &error));
        let all_columns = std::iter::once(column.to_owned()).chain(self.with_mark(columns)).collect();
        let manifest = |rows, seal| self.manifest_of(&name, time, rows, seal, all_columns, dialect.clone());
        self.folder.publish(&name, fill, manifest)?;
        Ok((name, time))
    }

    /// A name that no file has, be it that a process died between this delta and the state.
    fn free_name(&self, not_before: DateTime<Utc>) -> Result<(String, DateTime<Utc>), DeliveryError> {
        for later in 0..NAMES_TRIED_MAX {
            let time = not_before + TimeDelta::milliseconds(later.into());
            let name = self.settings.file_name(self.object, time);
            let is_taken = |name: &str| self.folder.path.join(name).symlink_metadata().is_ok();
            if !is_taken(&name) && !is_taken(&manifest_name(&name)) {
                return Ok((name, time));
            }
        }
        let message =
            format!("no name is free for {}: is the clock right?", self.settings.file_name(self.object, not_before));
        Err(DeliveryError::new(ErrorKind::Unavailable, message))
    }

    /// The table once more, with its changes. Only one row at a time is held, and the changes.
    fn rewrite(
        &self,
        found: Option<Found>,
        plan: &Plan<'_>,
        columns: Vec<String>,
        time: DateTime<Utc>,
    ) -> Result<(), DeliveryError> {
        let all_columns = self.with_mark(&columns);
        let fill = |out: &mut dyn Write| {
            let mut writer = Writer::new(out, self.dialect.clone(), columns.clone(), None)?;
            let mut pending: HashMap<&str, Option<&Row>> =
                plan.changed.iter().map(|(mark, _, after)| (*mark, after.as_ref())).collect();
            if let Some(mut found) = found {
                let has_columns = matches!(self.dialect.format, Format::Csv(_));
                let is_alike = found.dialect == self.dialect && (!has_columns || found.columns == columns);
                found.file.rewind()?;
                let mut reader = self.reader(&found.file, &found.dialect, found.manifest.as_ref())?;
                while let Some(raw) = reader.next_raw()? {
                    let is_other = reader.mark_at_a_glance(&raw).is_some_and(|mark| !pending.contains_key(mark));
                    if is_other && is_alike {
                        writer.copy(&raw)?;
                        continue;
                    }
                    let row = reader.row(&raw)?;
                    match row.mark.as_deref().and_then(|mark| pending.remove(mark)) {
                        Some(Some(after)) => writer.row(after, None)?,
                        Some(None) => {}
                        None if is_alike => writer.copy(&raw)?,
                        None => writer.row(&row, None)?,
                    }
                }
            }
            for (mark, _, after) in &plan.changed {
                if let (Some(row), true) = (after, pending.contains_key(mark)) {
                    writer.row(row, None)?;
                }
            }
            Ok(writer.end().0)
        };
        let name = self.name.as_str();
        let fill = |out: &mut dyn Write| fill(out).map_err(|error| cannot(&format!("write {name}"), &error));
        let manifest = |rows, seal| self.manifest_of(name, time, rows, seal, all_columns, self.dialect.clone());
        self.folder.publish(name, fill, manifest)
    }

    fn manifest_of(
        &self,
        name: &str,
        written_at: DateTime<Utc>,
        rows: u64,
        seal: Seal,
        columns: Vec<String>,
        dialect: Dialect,
    ) -> Manifest {
        Manifest {
            file: name.rsplit('/').next().unwrap_or(name).to_owned(),
            object: self.object.to_owned(),
            mode: self.settings.mode,
            installation: self.folder.installation.clone(),
            written_at,
            rows,
            seal,
            columns,
            dialect,
        }
    }
}

/// Compares all that was read with what the manifest says of it.
fn wants_seal(manifest: Option<&Manifest>, reader: Reader<BufReader<Sealing<&File>>>) -> io::Result<()> {
    let (_, seal) = reader.into_input().into_inner().end();
    if manifest.is_none_or(|manifest| manifest.seal == seal) {
        return Ok(());
    }
    let why = "it is not as it was left, its manifest tells another sha256: bring it back, or remove the manifest if it is right as it is";
    Err(io::Error::new(IoKind::InvalidData, why))
}

fn refuse_length(fields: &Fields) -> Result<(), DeliveryError> {
    let length = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
    let bytes: usize = fields.values().map(length).sum();
    if bytes <= ROW_TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(rejected(format!("the row has {} KiB of text, the limit is {} KiB", bytes / 1024, ROW_TEXT_BYTES_MAX / 1024)))
}

pub(crate) fn rejected(message: impl Into<String>) -> DeliveryError {
    DeliveryError::new(ErrorKind::Rejected, message)
}
