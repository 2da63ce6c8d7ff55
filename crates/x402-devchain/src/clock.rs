//! The time of blocks: the machine's clock with an offset, or a time that only the test advances.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    mode: Mode,
    next: Option<u64>,
}

#[derive(Clone, Debug)]
enum Mode {
    Real { offset: i64 },
    Fixed { now: u64, step: u64 },
}

impl Clock {
    pub(crate) fn new(fixed: Option<u64>, step: u64) -> Self {
        let mode = fixed.map_or(Mode::Real { offset: 0 }, |now| Mode::Fixed { now, step });
        Self { mode, next: None }
    }

    pub(crate) fn fix(&mut self, now: u64) {
        let step = if let Mode::Fixed { step, .. } = self.mode { step } else { 0 };
        self.mode = Mode::Fixed { now, step };
        self.next = None;
    }

    pub(crate) fn set_step(&mut self, step: u64) {
        self.mode = Mode::Fixed { now: self.now(), step };
    }

    pub(crate) fn release(&mut self) {
        self.mode = Mode::Real { offset: 0 };
        self.next = None;
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        match &mut self.mode {
            Mode::Real { offset } => *offset = offset.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
            Mode::Fixed { now, .. } => *now = now.saturating_add(seconds),
        }
    }

    /// Sets the exact time of the next block; those of later blocks follow from it.
    pub(crate) fn set_next(&mut self, timestamp: u64) {
        self.next = Some(timestamp);
    }

    pub(crate) fn now(&self) -> u64 {
        match self.mode {
            Mode::Real { offset } => machine().saturating_add_signed(offset),
            Mode::Fixed { now, .. } => now,
        }
    }

    /// Returns the time of a block whose parent has the time `parent`. Two blocks may share a second: with a block per
    /// transaction, a second each would run ahead of the clock by which payments are signed.
    pub(crate) fn peek(&self, parent: u64) -> u64 {
        self.next.unwrap_or_else(|| self.now()).max(parent)
    }

    pub(crate) fn take(&mut self, parent: u64) -> u64 {
        let timestamp = self.peek(parent);
        let pinned = self.next.take();
        match &mut self.mode {
            Mode::Real { offset } => {
                if pinned.is_some() {
                    *offset = i64::try_from(timestamp).unwrap_or(i64::MAX).saturating_sub_unsigned(machine());
                }
            }
            Mode::Fixed { now, step } => *now = timestamp.max(*now).saturating_add(*step),
        }
        timestamp
    }
}

fn machine() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_by_its_step_only() {
        let mut clock = Clock::new(Some(100), 2);
        assert_eq!([clock.take(0), clock.take(100), clock.take(102)], [100, 102, 104]);
        clock.set_next(110);
        assert_eq!([clock.take(104), clock.take(110)], [110, 112]);
        clock.advance(1000);
        assert_eq!(clock.take(112), 1114);
        clock.fix(5);
        assert_eq!(clock.take(1114), 1114, "never before the parent");
    }

    #[test]
    fn a_pinned_block_shifts_a_real_clock() {
        let mut clock = Clock::new(None, 0);
        let far = clock.now() + 1_000_000;
        clock.set_next(far);
        assert_eq!(clock.take(0), far);
        assert!(clock.now() >= far && clock.now() < far + 60);
    }
}
