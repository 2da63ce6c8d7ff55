//! The times at which a chain's next blocks are expected, learned from its own heads.
//!
//! Chains that make blocks by the clock write the second of each block into it, so the interval is known from a few
//! heads, however seldom they were read. The moment of a block's arrival within its second is learned from polls that were
//! close to it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The number of heads that are remembered.
const KEPT: usize = 9;
/// The number of intervals between heads that is needed to determine the usual one.
const ENOUGH: usize = 3;
/// The number of expected blocks that may fail to appear before the chain is taken to have stopped making blocks by the
/// clock.
const MISSING: u32 = 2;
/// The longest interval of blocks by the clock.
const SLOWEST: Duration = Duration::from_secs(300);
/// The longest pause between two polls, as a multiple of the shortest: what bounds the delay of an answer, whatever was
/// expected.
const LONGEST: u32 = 20;
/// The divisor of a wait for the pause to the next poll: the end of a long wait is noticed at most so much later.
const SHARE: u32 = 8;
/// The divisor of the shortest pause for the least change of the time at which a block is expected.
const FINEST: u32 = 8;

/// The time at which a block is expected to be there.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// The second of the block.
    second: u64,
    at: Instant,
    /// The time by which the next block is expected earlier if this one was there. It is halved with each block.
    apart: Duration,
}

/// The time at which the next block is expected.
#[derive(Debug, Clone, Copy)]
struct Expected {
    first: Instant,
    /// The time before which it does not come.
    sure: Instant,
    /// The interval of blocks.
    interval: Duration,
}

/// The schedule of a chain's blocks.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The shortest pause between two polls.
    shortest: Duration,
    /// The newest heads that were seen, by number and second.
    heads: VecDeque<(u64, u64)>,
    arrival: Option<Arrival>,
    /// The beginning of the last poll, and of the last one that found a block.
    polled: Option<Instant>,
    found: Option<Instant>,
}

impl Schedule {
    /// Creates a schedule of which nothing is known yet.
    pub(super) const fn new(shortest: Duration) -> Self {
        Self { shortest, heads: VecDeque::new(), arrival: None, polled: None, found: None }
    }

    /// Notes a poll that began at this time, and the block that it found, by number and second.
    pub(super) fn note(&mut self, began: Instant, found: Option<(u64, u64)>) {
        let before = self.polled.replace(began);
        let Some((number, second)) = found else { return };
        if self.heads.back().is_some_and(|(last, _)| *last >= number) {
            return;
        }
        self.found = Some(began);
        self.arrival = self.learned(second, began, before);
        self.heads.push_back((number, second));
        if self.heads.len() > KEPT {
            self.heads.pop_front();
        }
    }

    /// Returns the arrival after a block of this second was found by a poll at `began`, and not by the one `before`.
    fn learned(&self, second: u64, began: Instant, before: Option<Instant>) -> Option<Arrival> {
        let before = before?;
        let finest = self.shortest / FINEST;
        let Some(known) = self.arrival.and_then(|arrival| arrival.of(second)) else {
            return Some(Arrival { second, at: began, apart: began.duration_since(before) / 2 });
        };
        let Arrival { at, apart, .. } = known;
        let halved = (apart / 2).max(finest);
        Some(if began < at {
            Arrival { at: began, apart: apart.min(began.duration_since(before) / 2).max(finest), ..known }
        } else if before >= at {
            // The block was not there when it was expected. If the next poll was long after that, as at rest, the block was
            // probably there long before it, as far as its moment was known.
            let about = self.shortest.max(apart * 2);
            let late = began.duration_since(at).min(before.duration_since(at) + about);
            let at = began.min(at + (late / 2).max(self.shortest / 2));
            Arrival { at, apart: halved.max(late / 8), ..known }
        } else if began <= at + self.shortest {
            // The block was there, and the next one may be there earlier.
            Arrival { at: at.checked_sub(apart)?, apart: halved, ..known }
        } else {
            known
        })
    }

    /// Returns the beginning of the next poll while a payment is unfinished. `since` is the time since which the newest
    /// one is.
    pub(super) fn next(&self, since: Instant) -> Instant {
        let Some(last) = self.polled else { return since };
        let longest = last + self.shortest * LONGEST;
        let Some(Expected { first, sure, interval }) = self.expected() else {
            return self.after(last, self.found.map_or(since, |found| found.max(since))).min(longest);
        };
        // The polls begin at the first possible moment as long as the moment is not known well.
        let from = if first.duration_since(sure) > self.shortest * 2 { sure.max(last + self.shortest) } else { first };
        if last < from && last < first {
            return from.min(longest);
        }
        if last.max(since) < first {
            return (last + self.shortest).min(first);
        }
        let (over, next) = around(first, interval, last.max(since));
        if last < since && since > over + interval / 4 {
            // The blocks that came while nothing was read were there before the payment.
            return next.min(since + self.shortest * LONGEST);
        }
        self.after(last, over).min(next).min(longest)
    }

    /// Returns the beginning of the next poll at rest, about so long after the last one: at a time at which a block is
    /// expected, which so is learned better with each.
    pub(super) fn at_rest(&self, rest: Duration) -> Instant {
        let Some(last) = self.polled else { return Instant::now() };
        let usual = last + rest;
        let Some(Expected { first, interval, .. }) = self.expected() else { return usual };
        let soonest = last + rest / 2;
        let next = if first >= soonest { first } else { around(first, interval, soonest).1 };
        if next <= usual + rest / 2 { next } else { usual }
    }

    /// Returns whether blocks come by the clock.
    pub(super) fn is_regular(&self) -> bool {
        self.expected().is_some()
    }

    /// Returns the time of the poll after one at `last`, for a wait since `since`.
    fn after(&self, last: Instant, since: Instant) -> Instant {
        last + (last.saturating_duration_since(since) / SHARE).max(self.shortest)
    }

    /// Returns when the block behind the last one is expected; `None` if that is not known, or if the chain is long overdue.
    fn expected(&self) -> Option<Expected> {
        let seconds = self.interval()?;
        let (_, last) = self.heads.back()?;
        let Arrival { at: first, apart, .. } = self.arrival?.of(last.checked_add(seconds)?)?;
        let interval = Duration::from_secs(seconds);
        // Polls that are no further apart than this cost little, and a block that takes longer is none by the clock.
        let is_long = interval > self.shortest * 2 && interval <= SLOWEST;
        let is_overdue = self
            .polled
            .is_some_and(|polled| polled.saturating_duration_since(first) >= SLOWEST.min(interval * MISSING));
        let sure = first.checked_sub(apart * 2)?;
        (is_long && !is_overdue).then_some(Expected { first, sure, interval })
    }

    /// Returns the interval of blocks in seconds, if three of four pairs of heads have it.
    fn interval(&self) -> Option<u64> {
        let pairs = || self.heads.iter().zip(self.heads.iter().skip(1));
        let of = |((n, s), (m, t)): (&(u64, u64), &(u64, u64))| {
            let (blocks, seconds) = (m.checked_sub(*n)?, t.checked_sub(*s)?);
            let exact = seconds.checked_rem(blocks)? == 0;
            seconds.checked_div(blocks).filter(|each| exact && *each > 0)
        };
        let count = pairs().count();
        let agreeing = |each: u64| pairs().filter(|pair| of(*pair) == Some(each)).count();
        let is_theirs = |each: &u64| agreeing(*each).saturating_mul(4) >= count.saturating_mul(3);
        if count < ENOUGH { None } else { pairs().filter_map(of).find(is_theirs) }
    }
}

/// Returns the newest of the expected times that are over at `at`, and the next one.
fn around(first: Instant, interval: Duration, at: Instant) -> (Instant, Instant) {
    let times = at.saturating_duration_since(first).as_nanos().checked_div(interval.as_nanos()).unwrap_or(0);
    let over = first + interval * u32::try_from(times).unwrap_or(0);
    (over, over + interval)
}

impl Arrival {
    /// Returns the arrival of a block of this second.
    fn of(self, second: u64) -> Option<Self> {
        let at = match second.checked_sub(self.second) {
            Some(later) => self.at.checked_add(Duration::from_secs(later)),
            None => self.at.checked_sub(Duration::from_secs(self.second.saturating_sub(second))),
        };
        at.map(|at| Self { second, at, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_millis(100);
    const BOUND: Duration = Duration::from_secs(2);

    /// A chain as its blocks arrive: number, second, and milliseconds from the beginning.
    type Blocks = Vec<(u64, u64, u64)>;

    /// Makes a block at each of these seconds, which arrives so many milliseconds later.
    fn blocks(seconds: impl Iterator<Item = u64>, after: impl Fn(u64) -> u64) -> Blocks {
        (1..).zip(seconds).map(|(number, second)| (number, second, second * 1_000 + after(number))).collect()
    }

    /// Polls while a payment is unfinished, until the last block was found. Returns the number of polls and the longest delay, for
    /// the blocks from this number on.
    fn follow(schedule: &mut Schedule, blocks: &Blocks, from: u64) -> (u32, Duration) {
        let began = Instant::now();
        let (mut at, mut known, mut polls, mut latest) = (began, 0, 0, Duration::ZERO);
        while known < blocks.last().unwrap().0 {
            let there = |(_, _, arrival): &&(u64, u64, u64)| began + Duration::from_millis(*arrival) <= at;
            let found = blocks.iter().rev().find(there).filter(|(number, ..)| *number > known);
            schedule.note(at, found.map(|(number, second, _)| (*number, *second)));
            if known >= from {
                polls += 1;
            }
            if let Some((number, _, arrival)) = found {
                known = *number;
                if known > from {
                    latest = latest.max(at - (began + Duration::from_millis(*arrival)));
                }
            }
            let next = schedule.next(began);
            assert!(next >= at + SHORTEST / 2 || known == 1, "{:?}", next - at);
            assert!(next <= at + BOUND, "{:?}", next - at);
            at = next;
        }
        (polls, latest)
    }

    #[test]
    fn a_block_by_the_clock_is_asked_for_when_it_is_expected() {
        for (interval, most) in [(1, 2), (2, 2), (12, 8)] {
            for after in [0, 300, 999] {
                let mut schedule = Schedule::new(SHORTEST);
                let blocks = blocks((0..40).map(|number| number * interval), |_| after);
                let (polls, latest) = follow(&mut schedule, &blocks, 8);
                assert!(schedule.is_regular());
                assert!(polls <= most * 32 && latest <= SHORTEST, "{interval} s: {polls} polls, {latest:?}");
            }
        }
    }

    /// At rest a block that was just missed is found with the next one, an interval later.
    #[test]
    fn a_block_that_was_missed_at_rest_does_not_delay_the_next_ones() {
        let (began, mut schedule) = (Instant::now(), Schedule::new(SHORTEST));
        let arrival = |number: u64| began + Duration::from_millis(number * 2_000 + 300);
        let (mut at, mut known) = (began, 0);
        // Until the next block is expected a little too early.
        while known < 20 || at >= arrival(known + 1) {
            let found = (at >= arrival(known + 1)).then(|| known + 1);
            known = found.unwrap_or(known);
            schedule.note(at, found.map(|number| (number, 2 * number)));
            at = schedule.next(began);
        }
        schedule.note(at, None);
        schedule.note(at + 20 * SHORTEST, Some((known + 1, 2 * (known + 1))));
        let since = at + 10 * SHORTEST;
        assert!(schedule.next(since) <= arrival(known + 2) + SHORTEST);
    }

    #[test]
    fn blocks_that_arrive_early_and_late_are_found_within_some_polls() {
        // What arrives up to 0.4 s later than the fastest.
        let mut schedule = Schedule::new(SHORTEST);
        let blocks = blocks((0..100).map(|number| number * 2), |number| 300 + number * 271 % 400);
        let (polls, latest) = follow(&mut schedule, &blocks, 8);
        assert!(polls <= 3 * 92 && latest <= SHORTEST * 5, "{polls} polls, {latest:?}");
    }

    #[test]
    fn a_chain_whose_blocks_come_at_another_time_than_before_is_followed() {
        for (before, after) in [(900, 100), (100, 900)] {
            let blocks = blocks((0..200).map(|number| number * 2), |number| if number < 20 { before } else { after });
            // None is found later than the difference; after a while it is as before.
            for (from, most, longest) in [(8, 3, SHORTEST * 9), (120, 2, SHORTEST)] {
                let (polls, latest) = follow(&mut Schedule::new(SHORTEST), &blocks, from);
                let count = u32::try_from(200 - from).unwrap();
                assert!(polls <= most * count && latest <= longest, "from {from}: {polls} polls, {latest:?}");
            }
        }
    }

    #[test]
    fn a_slot_without_a_block_costs_few_polls() {
        let mut schedule = Schedule::new(SHORTEST);
        // Every twentieth is missing.
        let blocks = blocks((0..200).filter(|slot| slot % 20 != 19).map(|slot| slot * 12), |_| 400);
        let (polls, latest) = follow(&mut schedule, &blocks, 8);
        assert!(polls <= 9 * 182 && latest <= SHORTEST * 2, "{polls} polls, {latest:?}");
    }

    #[test]
    fn where_nothing_is_known_the_polls_become_rarer_while_nothing_comes() {
        let mut schedule = Schedule::new(SHORTEST);
        let began = Instant::now();
        let (mut at, mut pauses) = (began, Vec::new());
        for _ in 0..50 {
            schedule.note(at, None);
            let next = schedule.next(began);
            pauses.push((next - at).as_millis());
            at = next;
        }
        assert_eq!(pauses[6..11], [100, 100, 100, 112, 126]);
        assert_eq!(pauses[49], BOUND.as_millis());
        // A payment that begins is followed as closely as the first.
        assert_eq!(schedule.next(at), schedule.polled.unwrap() + SHORTEST);
    }

    #[test]
    fn a_chain_that_stops_is_asked_ever_less_often() {
        let mut schedule = Schedule::new(SHORTEST);
        follow(&mut schedule, &blocks((0..20).map(|number| number * 2), |_| 300), 8);
        let began = schedule.polled.unwrap();
        let mut at = schedule.next(began);
        let mut polls = 0;
        while at < began + Duration::from_secs(120) {
            schedule.note(at, None);
            at = schedule.next(began);
            polls += 1;
        }
        assert!(polls < 120, "{polls}");
        assert!(!schedule.is_regular());
    }

    #[test]
    fn blocks_on_demand_are_no_schedule() {
        let mut schedule = Schedule::new(SHORTEST);
        let blocks = blocks([0, 3, 4, 11, 30, 31, 31, 32, 50, 57, 60].into_iter(), |_| 0);
        let (_, latest) = follow(&mut schedule, &blocks, 0);
        assert!(!schedule.is_regular());
        assert!(latest <= BOUND, "{latest:?}");
    }

    #[test]
    fn the_moment_is_learned_at_rest_and_by_the_first_payment() {
        for rested in [4, 60] {
            let mut schedule = Schedule::new(SHORTEST);
            let began = Instant::now();
            let arrival = |number: u64| began + Duration::from_millis(2_000 * number + 777);
            let found = |at: Instant| (0..1_000).take_while(|number| arrival(*number) <= at).last();
            let mut known = None;
            let mut poll = |schedule: &mut Schedule, at: Instant| {
                let new = found(at).filter(|number| Some(*number) > known);
                schedule.note(at, new.map(|number| (number, 2 * number)));
                known = known.max(new);
                new.map(|number| at - arrival(number))
            };
            let (mut at, mut polls) = (began, 0);
            while at < began + Duration::from_secs(2 * rested) {
                poll(&mut schedule, at);
                at = schedule.at_rest(BOUND);
                polls += 1;
            }
            assert!(polls <= rested + rested / 4 + 4, "{polls} polls");
            // The first payment is answered as soon as where the head is read all the time, the next costs no more calls.
            let mut count = 0;
            let since = at;
            at = schedule.next(since).max(since);
            let first = loop {
                count += 1;
                // What was there before the payment is none of its blocks.
                if let Some(late) = poll(&mut schedule, at).filter(|late| at - *late > since) {
                    break late;
                }
                at = schedule.next(since);
            };
            assert!(first <= SHORTEST * 3 && count <= 21, "{rested}: {count} polls, {first:?}");
            assert!(rested < 60 || count <= 2, "{count} polls");
        }
    }

    #[test]
    fn times_that_no_chain_has_are_no_schedule() {
        let began = Instant::now();
        for seconds in [[0, 0, 0, 0, 0], [5, 4, 3, 2, 1], [0, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX]] {
            let mut schedule = Schedule::new(SHORTEST);
            for (number, second) in (1..).zip(seconds) {
                let at = began + SHORTEST * number;
                schedule.note(at, Some((u64::from(number), second)));
                assert!(schedule.next(began) <= at + BOUND);
            }
            assert!(!schedule.is_regular());
        }
    }
}
