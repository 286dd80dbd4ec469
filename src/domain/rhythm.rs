//! The weekly rhythm of a portal's webhooks, and when a silence is longer than it explains. Pure: counts and instants in, an instant out.
//!
//! What is counted are minutes in which at least one webhook came, by hour of the week. A completion brings several webhooks, a class
//! thirty completions: counted one by one they would look like much more evidence than they are.
//!
//! The question is not whether a silence is longer than usual: of all gaps of chance every eighth is longer than two mean ones. It is
//! whether a gap as long as this one, at these hours of the week, is to be expected at all. If the busy minutes of the history were spread
//! at random over history and silence, how likely is it that none falls into the silence? Take an hour of the week of which the history has
//! `N` minutes, `S` of them busy: the `M`-th silent minute in it is one of those that are not with the chance `(N - S + M) / (N + M)`, and
//! all of them together with the product. When that is less than what would be met once in five years, among as many gaps as a year has,
//! the silence is unusual.

use std::collections::BTreeMap;

use chrono::{Datelike, TimeZone, Timelike};
use chrono_tz::Tz;

use super::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const WEEK_HOURS: i64 = 7 * 24;
const WEEKS_A_YEAR: f64 = 52.0;

/// Fewer weeks of history say nothing: what came once may come once.
pub const WEEKS_MIN: i64 = 2;
/// Older weeks are forgotten: a portal's year has seasons.
pub const WEEKS_MAX: i64 = 6;
/// How often a year silence may be told where nothing is wrong, if webhooks come by chance in the rhythm of the week.
const FALSE_ALARMS_A_YEAR: f64 = 0.2;
/// Minutes of hours in which webhooks come that must pass without any. Nobody needs to know earlier, however busy a portal is: the sender
/// may be slow, the receiver restarted, the first of Monday late.
const MISSED_MINUTES_MIN: i64 = 15;
/// A silence that is usual for so long is usual for ever: nothing came in whole weeks.
const SILENCE_MAX_HOURS: i64 = 8 * WEEK_HOURS;

/// How many minutes of an hour had webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// Hours since 1970.
    pub hour: i64,
    /// Minutes in which a webhook came.
    pub minutes: i64,
}

/// What the last weeks were like.
#[derive(Clone, Debug, PartialEq)]
pub struct Rhythm {
    zone: Tz,
    weeks: i64,
    cells: Vec<Cell>,
    /// The improbability, as a negative logarithm, from which on a silence is unusual.
    limit: f64,
    /// By how much the counts vary more than chance would have it; at least 1.
    dispersion: f64,
}

/// One hour of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    /// Its minutes in all weeks. Where clocks change it is an hour more or less.
    all: f64,
    /// Those with webhooks, without outliers.
    busy: f64,
}

/// The hour of the week in which an hour since 1970 lies, by the clock of the people: by UTC every morning would begin an hour late in
/// winter.
fn cell_of(hour: i64, zone: Tz) -> usize {
    let local = zone.from_utc_datetime(&Timestamp(hour * HOUR_MS).utc().naive_utc());
    (local.weekday().num_days_from_monday() * 24 + local.hour()) as usize
}

fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(HOUR_MS)
}

impl Rhythm {
    /// Learns from the whole weeks before the hour of the last webhook, at most `WEEKS_MAX` of them; hours that are missing had none. None
    /// while there are fewer than `WEEKS_MIN`.
    #[must_use]
    pub fn learn(hours: &[Hour], last: Timestamp, zone: Tz) -> Option<Self> {
        let end = hour_of(last);
        let first = hours.iter().filter(|hour| hour.minutes > 0).map(|hour| hour.hour).min()?;
        let weeks = ((end - first) / WEEK_HOURS).min(WEEKS_MAX);
        if weeks < WEEKS_MIN {
            return None;
        }
        let counts: BTreeMap<i64, i64> = hours.iter().map(|hour| (hour.hour, hour.minutes)).collect();
        let mut seen = vec![Vec::new(); usize::try_from(WEEK_HOURS).unwrap_or_default()];
        for hour in end - weeks * WEEK_HOURS..end {
            seen[cell_of(hour, zone)].push(counts.get(&hour).copied().unwrap_or(0) as f64);
        }
        let cell =
            |counts: &Vec<f64>| Cell { all: counts.len() as f64 * 60.0, busy: without_outliers(counts).iter().sum() };
        let cells: Vec<Cell> = seen.iter().map(cell).collect();
        let a_year = cells.iter().map(|cell| cell.busy).sum::<f64>() / weeks as f64 * WEEKS_A_YEAR;
        let limit = (a_year.max(1.0) / FALSE_ALARMS_A_YEAR).ln();
        Some(Self { zone, weeks, cells, limit, dispersion: dispersion(&seen) })
    }

    /// How many weeks it was learned from.
    #[must_use]
    pub fn weeks(&self) -> i64 {
        self.weeks
    }

    /// Until when it is usual that nothing comes after a webhook; none when it always is.
    #[must_use]
    pub fn usual_until(&self, last: Timestamp) -> Option<Timestamp> {
        self.unusual_from(last, SILENCE_MAX_HOURS * 60)
    }

    /// Whether it is unusual that nothing came between a webhook and now.
    #[must_use]
    pub fn is_unusual(&self, last: Timestamp, now: Timestamp) -> bool {
        let minutes = ((now.0 - last.0) / MINUTE_MS).min(SILENCE_MAX_HOURS * 60);
        self.unusual_from(last, minutes).is_some()
    }

    /// The end of the first of so many silent minutes with which the silence is unusual.
    fn unusual_from(&self, last: Timestamp, minutes: i64) -> Option<Timestamp> {
        let mut silent = vec![0.0; self.cells.len()];
        let mut left = self.limit * self.dispersion;
        let mut missed = 0;
        let mut place = (i64::MIN, 0);
        for minute in 1..=minutes {
            let at = last.plus_ms(minute * MINUTE_MS);
            // Once an hour: the calendar costs more than all else.
            if place.0 != hour_of(at) {
                place = (hour_of(at), cell_of(hour_of(at), self.zone));
            }
            let (cell, silent) = (self.cells[place.1], &mut silent[place.1]);
            *silent += 1.0;
            left += ((cell.all - cell.busy + *silent) / (cell.all + *silent)).ln();
            missed += i64::from(cell.busy > 0.0);
            if left <= 0.0 && missed >= MISSED_MINUTES_MIN {
                return Some(at.plus_ms(MINUTE_MS));
            }
        }
        None
    }

    /// How many minutes with webhooks there usually are between two instants.
    #[must_use]
    pub fn usual_minutes(&self, from: Timestamp, to: Timestamp) -> f64 {
        let part = |hour: i64| (to.0.min((hour + 1) * HOUR_MS) - from.0.max(hour * HOUR_MS)).max(0) as f64;
        let share = |cell: Cell| if cell.all > 0.0 { cell.busy / cell.all } else { 0.0 };
        let hours = hour_of(from)..=hour_of(to);
        hours.map(|hour| share(self.cells[cell_of(hour, self.zone)]) * part(hour) / MINUTE_MS as f64).sum()
    }
}

/// The same counts, each at most one more than twice the median of the others: two thousand people who finish a course on one noon say
/// nothing of the next week's.
fn without_outliers(counts: &[f64]) -> Vec<f64> {
    let cap = |place: usize| {
        let mut others: Vec<f64> =
            counts.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, n)| *n).collect();
        others.sort_by(f64::total_cmp);
        let middle = others.get(others.len() / 2).copied().unwrap_or(0.0);
        let below = others.get((others.len().max(1) - 1) / 2).copied().unwrap_or(0.0);
        1.0 + middle + below
    };
    counts.iter().enumerate().map(|(place, count)| count.min(cap(place))).collect()
}

/// How much more the counts of the same hour vary from week to week than by chance, if they do: chance alone gives 1, and itself varies;
/// webhooks that come in bursts give more.
fn dispersion(seen: &[Vec<f64>]) -> f64 {
    let (mut sum, mut freedom) = (0.0, 0.0);
    for counts in seen {
        let mean = counts.iter().sum::<f64>() / counts.len().max(1) as f64;
        if mean > 0.0 {
            sum += counts.iter().map(|count| (count - mean).powi(2) / mean).sum::<f64>();
            freedom += counts.len() as f64 - 1.0;
        }
    }
    let found = if freedom > 0.0 { sum / freedom } else { 1.0 };
    if found > 1.0 + 2.0 * (2.0 / freedom).sqrt() { found } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chance::{Entropy, Generator};

    const ZONE: Tz = Tz::Europe__Berlin;
    const QUARTER_MS: i64 = 15 * MINUTE_MS;
    const YEAR_HOURS: i64 = 52 * WEEK_HOURS;
    /// A Monday, 5 January 2026, midnight in UTC.
    const BEGIN_HOUR: i64 = 490_992;

    fn at(hour: i64) -> Timestamp {
        Timestamp(hour * HOUR_MS)
    }

    /// How busy an hour of the week is: offices by day, a little in the evening, hardly anything at night and on weekends.
    fn weight(cell: usize) -> f64 {
        let by_day = match cell % 24 {
            8..=11 | 13..=16 => 1.0,
            7 | 12 | 17 => 0.5,
            18..=22 => 0.1,
            _ => 0.005,
        };
        if cell / 24 < 5 { by_day } else { by_day * 0.05 }
    }

    /// Webhooks by chance in this rhythm.
    struct World {
        /// Webhooks in an hour of weight 1.
        busy: f64,
        chance: Generator,
    }

    impl World {
        fn new(a_week: f64, seed: u64) -> Self {
            Self { busy: a_week / (0..168).map(weight).sum::<f64>(), chance: Generator::seeded(seed) }
        }

        fn rate_an_hour(&self, hour: i64) -> f64 {
            self.busy * weight(cell_of(hour, ZONE))
        }

        /// The instants of all minutes of a year in which one came.
        fn year(&self) -> Vec<Timestamp> {
            let mut minutes = Vec::new();
            for hour in BEGIN_HOUR..BEGIN_HOUR + YEAR_HOURS {
                let none = (-self.rate_an_hour(hour) / 60.0).exp();
                for minute in 0..60 {
                    let chance = self.chance.below(1 << 32) as f64 / (1_u64 << 32) as f64;
                    if chance >= none {
                        minutes.push(at(hour).plus_ms(minute * MINUTE_MS));
                    }
                }
            }
            minutes
        }

        /// When, after this, as many webhooks should have come as the longest gap of a year is expected to miss.
        fn expected_gap_until(&self, last: Timestamp, longest: f64) -> Timestamp {
            let (mut left, mut from) = (longest, last);
            for hour in hour_of(last).. {
                let to = at(hour + 1);
                let expected = self.rate_an_hour(hour) * (to.0 - from.0) as f64 / HOUR_MS as f64;
                if expected >= left {
                    return from.plus_ms((left / self.rate_an_hour(hour) * HOUR_MS as f64) as i64);
                }
                left -= expected;
                from = to;
            }
            unreachable!("the rates are never 0")
        }

        fn expected_between(&self, from: Timestamp, to: Timestamp) -> f64 {
            let part = |hour: i64| (to.0.min((hour + 1) * HOUR_MS) - from.0.max(hour * HOUR_MS)).max(0) as f64;
            (hour_of(from)..=hour_of(to)).map(|hour| self.rate_an_hour(hour) * part(hour) / HOUR_MS as f64).sum()
        }
    }

    /// A year of minutes in which webhooks came, and how many there were in each hour.
    struct Year {
        minutes: Vec<Timestamp>,
        hours: Vec<Hour>,
        zone: Tz,
    }

    impl Year {
        fn of(minutes: Vec<Timestamp>) -> Self {
            let mut hours: BTreeMap<i64, i64> = BTreeMap::new();
            for at in &minutes {
                *hours.entry(hour_of(*at)).or_default() += 1;
            }
            let hours = hours.into_iter().map(|(hour, minutes)| Hour { hour, minutes }).collect();
            Self { minutes, hours, zone: ZONE }
        }

        /// What is known when a webhook has just come; no more than is kept.
        fn learned(&self, last: Timestamp) -> Option<Rhythm> {
            let first = hour_of(last) - (WEEKS_MAX + 1) * WEEK_HOURS;
            let begin = self.hours.partition_point(|hour| hour.hour < first);
            let end = self.hours.partition_point(|hour| hour.hour < hour_of(last));
            Rhythm::learn(&self.hours[begin..end], last, self.zone)
        }

        /// The gaps that were called unusual, though nothing was wrong.
        fn false_alarms(&self) -> usize {
            let mut known: (i64, Option<Rhythm>) = (0, None);
            let mut alarms = 0;
            for pair in self.minutes.windows(2).filter(|pair| pair[1].0 - pair[0].0 > QUARTER_MS) {
                // Once a day is enough, and a year has many gaps.
                if known.0 != hour_of(pair[0]) / 24 {
                    known = (hour_of(pair[0]) / 24, self.learned(pair[0]));
                }
                // Until the last minute before the next webhook.
                let is_told =
                    known.1.as_ref().is_some_and(|rhythm| rhythm.is_unusual(pair[0], pair[1].plus_ms(-MINUTE_MS)));
                alarms += usize::from(is_told);
            }
            alarms
        }
    }

    /// A year of each, by several seeds. The expected gap is the longest that a year of `n` busy minutes has by chance: it misses about
    /// `ln n + 0.577` webhooks. How late a silence is told is measured in webhooks, too, for a night is no time in which any should come.
    #[test]
    fn a_silence_is_told_within_twice_the_expected_gap_and_chance_alone_hardly_ever_is() {
        let (mut years, mut alarms) = (0, 0);
        for a_week in [20.0, 500.0, 20_000.0] {
            let (mut worst, mut by_the_clock, mut silences) = (0.0_f64, 0, 0);
            for seed in 1..=3 {
                let world = World::new(a_week, seed);
                let year = Year::of(world.year());
                let found = year.false_alarms();
                (years, alarms) = (years + 1, alarms + found);
                println!(
                    "{a_week} a week, seed {seed}: {} minutes with webhooks, {found} false alarms",
                    year.minutes.len()
                );
                let longest = (year.minutes.len() as f64).ln() + 0.577;
                for _ in 0..100 {
                    // From the ninth week on, at any minute of the week.
                    let week = BEGIN_HOUR + 8 * WEEK_HOURS;
                    let begins = at(week).plus_ms(world.chance.below(40 * 7 * 24 * 60) as i64 * MINUTE_MS);
                    let last = year.minutes[year.minutes.partition_point(|at| *at <= begins) - 1];
                    let told = year.learned(last).and_then(|rhythm| rhythm.usual_until(last)).expect("it is told");
                    let gap = world.expected_gap_until(last, longest).max(last.plus_ms(QUARTER_MS));
                    silences += 1;
                    // Earlier nobody needs to know, and minutes cannot tell.
                    if told > gap.plus_ms(QUARTER_MS) {
                        worst = worst.max(world.expected_between(last, told) / world.expected_between(last, gap));
                        by_the_clock += usize::from(told.0 - last.0 > 2 * (gap.0 - last.0));
                    }
                }
            }
            println!(
                "{a_week} a week: of {silences} silences the worst was told after {worst:.2} x the expected gap; by the clock \
                 {by_the_clock} later than 2 x"
            );
            assert!(worst <= 2.0, "{a_week} a week: told after {worst} x the expected gap");
        }
        println!("{alarms} false alarms in {years} years");
        assert!(alarms < years, "{alarms} false alarms in {years} years");
    }

    #[test]
    fn webhooks_that_come_in_bursts_are_no_more_evidence_than_their_bursts() {
        let (mut years, mut alarms) = (0, 0);
        for seed in 1..=3 {
            let world = World::new(40.0, seed);
            let classes = world.year();
            let mut minutes: Vec<Timestamp> =
                classes.iter().flat_map(|class| (0..20).map(|minute| class.plus_ms(minute * MINUTE_MS))).collect();
            minutes.sort();
            minutes.dedup();
            (years, alarms) = (years + 1, alarms + Year::of(minutes).false_alarms());
        }
        println!("{alarms} false alarms in {years} years of bursts");
        assert!(alarms < years, "{alarms} false alarms in {years} years");
    }

    /// Webhooks in every minute of office hours, by the clock of the people.
    fn offices(weeks: i64) -> Year {
        let is_open = |cell: usize| cell / 24 < 5 && (8..18).contains(&(cell % 24));
        let hours = (BEGIN_HOUR..BEGIN_HOUR + weeks * WEEK_HOURS).filter(|hour| is_open(cell_of(*hour, ZONE)));
        Year::of(hours.flat_map(|hour| (0..60).map(move |minute| at(hour).plus_ms(minute * MINUTE_MS))).collect())
    }

    #[test]
    fn nights_weekends_and_the_days_on_which_clocks_change_are_no_silence() {
        let year = offices(52);
        assert_eq!(year.false_alarms(), 0);
        let by_utc = Year { zone: Tz::UTC, ..year };
        assert!(by_utc.false_alarms() > 0, "or the zone would not matter");
    }

    #[test]
    fn a_silence_in_office_hours_is_told_after_a_quarter_of_an_hour_and_one_on_friday_evening_on_monday() {
        let year = offices(5);
        let last_of = |day: i64, hour: i64, minute: i64| {
            // In winter the clocks are one hour ahead of UTC.
            let hour = BEGIN_HOUR + 4 * WEEK_HOURS + day * 24 + hour - 1;
            at(hour).plus_ms(minute * MINUTE_MS)
        };
        let told = |last: Timestamp| {
            let rhythm = year.learned(last).expect("there are more than two weeks");
            let local = ZONE.from_utc_datetime(&rhythm.usual_until(last).expect("it is told").utc().naive_utc());
            local.format("%a %H:%M").to_string()
        };
        assert_eq!(told(last_of(1, 10, 0)), "Tue 10:16");
        assert_eq!(told(last_of(4, 17, 59)), "Mon 08:15");
    }

    #[test]
    fn two_weeks_are_needed_and_a_single_busy_hour_is_not_a_rhythm() {
        let year = offices(4);
        let (monday, friday) = (BEGIN_HOUR + 2 * WEEK_HOURS, BEGIN_HOUR + 11 * 24 + 9);
        assert_eq!(year.learned(at(friday)), None);
        let usual = year.learned(at(monday + 10)).expect("two weeks");
        assert_eq!(usual.weeks(), 2);
        assert_eq!(Rhythm::learn(&[], at(monday), ZONE), None);
        // Everybody finishes a course on one Sunday.
        let mut hours = year.hours.clone();
        hours.push(Hour { hour: BEGIN_HOUR + 13 * 24 + 12, minutes: 60 });
        let last = at(monday + 10);
        let after = Rhythm::learn(&hours, last, ZONE).expect("two weeks");
        let later = after.usual_until(last).expect("it is told").0 - usual.usual_until(last).expect("it is told").0;
        assert!(later.abs() < MINUTE_MS, "{later} ms");
    }

    #[test]
    fn where_nothing_came_for_weeks_nothing_is_missed() {
        let last = at(BEGIN_HOUR + 20 * WEEK_HOURS);
        let once = [Hour { hour: BEGIN_HOUR, minutes: 1 }];
        let rhythm = Rhythm::learn(&once, last, ZONE).expect("twenty weeks");
        assert_eq!(rhythm.usual_until(last), None);
    }

    #[test]
    fn how_many_minutes_are_usual_is_the_mean_of_the_weeks() {
        let year = offices(5);
        let last = at(BEGIN_HOUR + 4 * WEEK_HOURS + 9);
        let rhythm = year.learned(last).expect("four weeks");
        assert_eq!(rhythm.usual_minutes(last, last.plus_ms(90 * MINUTE_MS)).round(), 90.0);
        assert_eq!(rhythm.usual_minutes(at(BEGIN_HOUR), at(BEGIN_HOUR + 6)).round(), 0.0);
    }
}
