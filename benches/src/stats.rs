//! What a few rounds say.

use serde::{Deserialize, Serialize};

/// A figure: the median of its rounds, and the interval in which the median of many more would lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Figure {
    /// Of at least one value. The interval is between two of the values, by their order alone: it holds the true
    /// median with a probability of at least 95 % from six values on. With fewer it is all of them, which three values
    /// make 75 %.
    pub fn of(values: &[f64]) -> Option<Figure> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let outer = outer(count);
        Some(Figure {
            median: median(&sorted)?,
            low: *sorted.get(outer)?,
            high: *sorted.get(count - 1 - outer)?,
        })
    }

    /// How far the interval reaches to either side, as a part of the median.
    pub fn noise(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.median
    }
}

/// The median of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// How many values at either end lie outside the interval. Each value is above the true median with probability one
/// half, so that this many or fewer are on one side of it with that of a coin.
fn outer(count: usize) -> usize {
    let mut outside = 0;
    // The probability that at most `outside` of `count` tosses show heads.
    let mut probability = 0.5_f64.powi(count as i32);
    let mut term = probability;
    while outside < count / 2 {
        term *= (count - outside) as f64 / (outside + 1) as f64;
        probability += term;
        if probability > 0.025 {
            break;
        }
        outside += 1;
    }
    outside
}

/// The quotients of two peers' rounds, round by round, as far as both go.
pub fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

/// How far rounds lie from their mean, as the standard deviation of their logarithms, of several series together.
pub fn spread<'a>(series: impl Iterator<Item = &'a [f64]>) -> f64 {
    let (mut squares, mut freedom) = (0.0, 0);
    for rounds in series.filter(|rounds| rounds.len() > 1 && rounds.iter().all(|round| *round > 0.0)) {
        let mean = rounds.iter().map(|round| round.ln()).sum::<f64>() / rounds.len() as f64;
        squares += rounds.iter().map(|round| (round.ln() - mean).powi(2)).sum::<f64>();
        freedom += rounds.len() - 1;
    }
    if freedom == 0 { 0.0 } else { (squares / freedom as f64).sqrt() }
}

/// The exponent with which `y` grows with `x` between the ends of a series: 0 not at all, 1 as `x` does.
pub fn exponent(series: &[(f64, f64)]) -> Option<f64> {
    let (first, last) = (series.first()?, series.last()?);
    (last.0 > first.0 && first.1 > 0.0 && last.1 > 0.0)
        .then(|| (last.1 / first.1).ln() / (last.0 / first.0).ln())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)] // of figures that are exact

    use super::*;

    #[test]
    fn a_figure_is_the_median_and_an_interval_between_values() {
        let figure = Figure::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((figure.median, figure.low, figure.high), (2.0, 1.0, 3.0));
        assert_eq!(Figure::of(&[1.0, 4.0]).unwrap().median, 2.5);
        assert_eq!(Figure::of(&[]), None);
        assert_eq!(Figure::of(&[f64::NAN]), None);
    }

    #[test]
    fn intervals_leave_out_what_the_sign_test_lets_them() {
        // From a table of the sign test: the interval between the values of these orders holds 95 %.
        for (count, first) in [(5, 1), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6)] {
            assert_eq!(outer(count) + 1, first, "{count}");
        }
    }

    #[test]
    fn the_spread_is_that_within_series() {
        let (a, b) = ([10.0, 10.0 * 1.1_f64.exp()], [1000.0, 1000.0]);
        // Two deviations of 0.55, and two of nothing, with two degrees of freedom.
        let expected = (2.0 * 0.55_f64.powi(2) / 2.0).sqrt();
        assert!((spread([&a[..], &b[..]].into_iter()) - expected).abs() < 1e-9);
        assert_eq!(spread([&[5.0][..]].into_iter()), 0.0);
    }

    #[test]
    fn growth_is_told_apart() {
        let of = |f: fn(f64) -> f64| {
            let series: Vec<(f64, f64)> = [10.0, 1000.0, 1e6].map(|x| (x, f(x))).to_vec();
            exponent(&series).unwrap()
        };
        assert!(of(|_| 5.0).abs() < 1e-9);
        assert!((of(|x| 3.0 * x) - 1.0).abs() < 1e-9);
        assert!((of(|x| x * x) - 2.0).abs() < 1e-9);
        assert!(of(f64::ln) < 0.16);
        assert_eq!(exponent(&[(1.0, 1.0)]), None);
    }
}
