//! Which event a caller wants next, by number. Number 0 is the hot one; the others follow from 1.

use std::sync::Arc;

use crate::scenario::Shape;

/// Draws events.
#[derive(Clone, Debug)]
pub enum Picker {
    /// Always the hot one.
    Hot,
    /// `count` events with equal chances, every `stride`-th from 1 on.
    Uniform {
        /// How many.
        count: u32,
        /// How far apart their numbers are.
        stride: u32,
    },
    /// By popularity: the chances of the events up to each, the first being the most wanted.
    Zipf(Arc<[f64]>),
}

impl Picker {
    /// Draws from `count` events.
    pub fn new(shape: Shape, count: u32) -> Self {
        match shape {
            Shape::Hot => Self::Hot,
            Shape::Uniform => Self::Uniform { count, stride: 1 },
            Shape::Zipf => Self::Zipf(zipf(count)),
        }
    }

    /// The number of the next event.
    pub fn pick(&self, random: &mut fastrand::Rng) -> u32 {
        match self {
            Self::Hot => 0,
            Self::Uniform { count, stride } => 1 + stride * random.u32(..count),
            Self::Zipf(up_to) => {
                let place = random.f64();
                let rank = up_to.partition_point(|chances| *chances <= place);
                // Sums of floats may end a little below 1.
                u32::try_from(rank.min(up_to.len() - 1)).unwrap_or(u32::MAX - 1) + 1
            }
        }
    }
}

/// Zipf's law with exponent 1: the chance of the n-th most wanted is proportional to 1/n.
fn zipf(count: u32) -> Arc<[f64]> {
    let all: f64 = (1..=count).map(|rank| 1.0 / f64::from(rank)).sum();
    let up_to = (1..=count).scan(0.0, |sum, rank| {
        *sum += 1.0 / f64::from(rank) / all;
        Some(*sum)
    });
    up_to.collect()
}

/// The id of the event of this number.
pub fn event_id(number: u32) -> String {
    format!("bench-{number}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn draw(picker: &Picker, times: u32) -> BTreeMap<u32, u32> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = BTreeMap::new();
        for _ in 0..times {
            *seen.entry(picker.pick(&mut random)).or_default() += 1;
        }
        seen
    }

    #[test]
    fn zipf_draws_the_nth_event_an_nth_as_often_as_the_first() {
        let count = 10_000;
        let seen = draw(&Picker::new(Shape::Zipf, count), 1_000_000);
        let all: f64 = (1..=count).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 3, 10, 100] {
            let expected = 1_000_000.0 / f64::from(rank) / all;
            let found = f64::from(seen[&rank]);
            let tolerance = 5.0 * expected.sqrt();
            assert!((found - expected).abs() < tolerance, "event {rank}: {found} times, not about {expected:.0}");
        }
        assert!(seen.keys().all(|number| (1..=count).contains(number)));
        assert!(seen.len() > 9_000, "the rare ones are drawn too: {}", seen.len());
    }

    #[test]
    fn zipf_over_one_event_is_that_event() {
        assert_eq!(draw(&Picker::new(Shape::Zipf, 1), 100).into_keys().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn uniform_draws_all_and_nothing_else() {
        let seen = draw(&Picker::Uniform { count: 10, stride: 100 }, 10_000);
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (0..10).map(|n| 1 + 100 * n).collect::<Vec<_>>());
        assert!(seen.values().all(|times| (800..1200).contains(times)), "{seen:?}");
    }

    #[test]
    fn the_hot_event_is_none_of_the_others() {
        assert_eq!(draw(&Picker::new(Shape::Hot, 10), 100).into_keys().collect::<Vec<_>>(), [0]);
    }
}
