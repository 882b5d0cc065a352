//! Counts host calls: all of them for the plan's bound, and each function's for the trail.

use super::linker::HostFunction;
use crate::trail::Event;

/// Host calls of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    all: u64,
    of_each: [Calls; HostFunction::ALL.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    count: u64,
    bytes: u64,
}

impl Tally {
    /// Counts a call, whose arguments say that they have so many bytes, and returns how many calls there were.
    pub(super) fn count(&mut self, function: HostFunction, bytes: u32) -> u64 {
        self.all += 1;
        if let Some(calls) = self.of_each.get_mut(function as usize) {
            calls.count += 1;
            calls.bytes += u64::from(bytes);
        }
        self.all
    }

    /// A line for each function that was called.
    pub(super) fn events(&self) -> Vec<Event> {
        HostFunction::ALL
            .iter()
            .zip(self.of_each)
            .filter(|(_, calls)| calls.count > 0)
            .map(|(function, Calls { count, bytes })| Event::Called {
                function: function.id(),
                calls: count,
                bytes,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_has_its_line_and_all_calls_are_one_number() {
        let mut tally = Tally::default();
        assert_eq!(tally.events(), []);
        for (function, bytes, all) in [
            (HostFunction::Log, 3, 1),
            (HostFunction::ClockNowMs, 0, 2),
            (HostFunction::Log, u32::MAX, 3),
        ] {
            assert_eq!(tally.count(function, bytes), all);
        }
        let called = |function: &str, calls, bytes| Event::Called {
            function: function.to_owned(),
            calls,
            bytes,
        };
        assert_eq!(
            tally.events(),
            [
                called("stockade#log", 2, 0x1_0000_0002),
                called("stockade#clock_now_ms", 1, 0)
            ]
        );
    }

    #[test]
    fn functions_are_counted_where_they_stand_in_the_list() {
        for (position, function) in HostFunction::ALL.into_iter().enumerate() {
            assert_eq!(function as usize, position);
        }
    }
}
