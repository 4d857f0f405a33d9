//! From values to places in a plot.

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Evenly, from zero.
    Linear,
    /// Each doubling, or each factor of ten, takes the same room.
    Log,
    /// Percentiles: each further nine takes the same room.
    Nines,
}

/// An axis: which values it shows, and where.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    kind: Kind,
    values: (f64, f64),
    places: (f64, f64),
}

impl Scale {
    /// An axis with room for all of these values, from place to place.
    pub fn for_values(kind: Kind, values: impl IntoIterator<Item = f64>, places: (f64, f64)) -> Self {
        let usable = values.into_iter().filter(|value| value.is_finite() && (kind != Kind::Log || *value > 0.0));
        let (low, high) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let values = match kind {
            _ if low > high => (0.5, 1.0),
            Kind::Linear => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
            Kind::Log if low == high => (low / 2.0, high * 2.0),
            Kind::Log | Kind::Nines => (low, high),
        };
        Self { kind, values, places }
    }

    /// Where a value is.
    pub fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.spread(self.values.0), self.spread(self.values.1));
        let share = if high > low { (self.spread(value) - low) / (high - low) } else { 0.0 };
        self.places.0 + share.clamp(0.0, 1.0) * (self.places.1 - self.places.0)
    }

    fn spread(&self, value: f64) -> f64 {
        match self.kind {
            Kind::Linear => value,
            Kind::Log => value.max(f64::MIN_POSITIVE).log2(),
            // The largest of all has no more nines than can be drawn.
            Kind::Nines => -(1.0 - value.min(99.999) / 100.0).log10(),
        }
    }

    /// Values worth a line across the plot: round numbers, five to eight of them.
    pub fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        match self.kind {
            Kind::Linear => {
                let step = round_step((high - low) / 5.0);
                let first = (low / step).ceil();
                (0..20).map(|n| (first + f64::from(n)) * step).take_while(|tick| *tick <= high).collect()
            }
            Kind::Log => {
                let decades = (high / low).log10();
                let parts: &[f64] = if decades > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let first = low.log10().floor() as i32;
                let last = high.log10().ceil() as i32;
                let all = (first..=last).flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)));
                all.filter(|tick| (low..=high).contains(tick)).collect()
            }
            Kind::Nines => {
                let known = crate::cli::bench::tally::PERCENTILES;
                known.into_iter().filter(|tick| (low..=high).contains(tick)).collect()
            }
        }
    }
}

/// The 1, 2 or 5 of some power of ten that is next to `about`.
fn round_step(about: f64) -> f64 {
    let power = 10f64.powf(about.max(f64::MIN_POSITIVE).log10().floor());
    let part = about / power;
    let part = if part < 1.5 {
        1.0
    } else if part < 3.5 {
        2.0
    } else if part < 7.5 {
        5.0
    } else {
        10.0
    };
    part * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_has_air_above() {
        let scale = Scale::for_values(Kind::Linear, [40.0, 100.0], (200.0, 0.0));
        near(scale.place(0.0), 200.0);
        near(scale.place(105.0), 0.0);
        near(scale.place(52.5), 100.0);
        assert_eq!(scale.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
    }

    #[test]
    fn a_logarithmic_axis_gives_each_doubling_the_same_room() {
        let scale = Scale::for_values(Kind::Log, [1.0, 512.0], (0.0, 900.0));
        for (value, place) in [(1.0, 0.0), (2.0, 100.0), (64.0, 600.0), (512.0, 900.0)] {
            near(scale.place(value), place);
        }
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]);
    }

    #[test]
    fn an_axis_of_nines_gives_each_nine_the_same_room() {
        let scale = Scale::for_values(Kind::Nines, [0.0, 99.99], (0.0, 400.0));
        for (value, place) in [(0.0, 0.0), (90.0, 100.0), (99.0, 200.0), (99.9, 300.0), (99.99, 400.0)] {
            near(scale.place(value), place);
        }
    }

    #[test]
    fn what_is_outside_stays_on_the_edge() {
        let scale = Scale::for_values(Kind::Log, [1.0, 10.0], (0.0, 100.0));
        near(scale.place(0.0), 0.0);
        near(scale.place(1e9), 100.0);
    }

    #[test]
    fn an_axis_without_values_or_with_one_can_still_be_drawn() {
        for kind in [Kind::Linear, Kind::Log, Kind::Nines] {
            for values in [vec![], vec![7.0]] {
                let scale = Scale::for_values(kind, values, (0.0, 100.0));
                assert!((0.0..=100.0).contains(&scale.place(7.0)));
                assert!(scale.ticks().len() < 20);
            }
        }
    }
}
