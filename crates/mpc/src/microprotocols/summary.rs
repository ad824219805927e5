//! What is told of a sample of numbers once their count, sum and sum of squares about the mean have opened: mean, deviation, interval.

use num_bigint::BigInt;

use super::columns::First;
use crate::centred::{Centre, Product};
use crate::distributions::student_quantile;
use crate::exact::{Ratio, unit};
use crate::number::Grid;
use crate::threshold::Why;

/// A sample, or several ones together. In steps of the grid, exact.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) samples: u64,
    sum: BigInt,
    /// Σ(x − mean)².
    squares: Ratio,
}

impl Summary {
    /// Of each column.
    pub(super) fn all(first: &First, squares: &[Result<Product, Why>]) -> Vec<Result<Summary, Why>> {
        let columns = first.centres.iter().zip(squares);
        columns.map(|(centre, square)| Summary::new(centre, square)).collect()
    }

    fn new(centre: &Result<Centre, Why>, square: &Result<Product, Why>) -> Result<Summary, Why> {
        let centre = centre.as_ref().map_err(|why| *why)?;
        let square = square.as_ref().map_err(|why| *why)?;
        Ok(Summary {
            samples: centre.samples,
            sum: centre.sum.clone(),
            squares: square.exact_sum().ok_or(Why::NoValues)?,
        })
    }

    /// All of them together. Those without values count for nothing.
    pub(super) fn together(parts: &[Result<Summary, Why>]) -> Result<Summary, Why> {
        let mut all = Summary {
            samples: 0,
            sum: BigInt::ZERO,
            squares: Ratio::whole(0),
        };
        let mut between = Ratio::whole(0);
        for part in parts {
            let part = match part {
                Ok(part) => part,
                Err(Why::NoValues) => continue,
                Err(why) => return Err(*why),
            };
            all.samples += part.samples;
            all.sum += &part.sum;
            all.squares = all.squares.plus(&part.squares);
            between = between.plus(&part.square_of_sum()?);
        }
        if all.samples == 0 {
            return Err(Why::NoValues);
        }
        let between = between.plus(&all.square_of_sum()?.negated());
        all.squares = all.squares.plus(&between);
        Ok(all)
    }

    /// (Σx)² / n.
    fn square_of_sum(&self) -> Result<Ratio, Why> {
        Ratio::new(&self.sum * &self.sum, self.samples).ok_or(Why::NoValues)
    }

    /// Σ(x − mean)².
    pub(super) fn squares(&self) -> &Ratio {
        &self.squares
    }

    pub(super) fn exact_mean(&self) -> Result<Ratio, Why> {
        Ratio::new(self.sum.clone(), self.samples).ok_or(Why::NoValues)
    }

    pub(super) fn mean(&self, grid: &Grid) -> Result<f64, Why> {
        Ok(self.exact_mean()?.shifted(unit(grid)).to_f64())
    }

    /// With n − 1.
    pub(super) fn exact_variance(&self) -> Result<Ratio, Why> {
        self.squares.clone().divided(self.degrees()).ok_or(Why::TooFewValues)
    }

    pub(super) fn deviation(&self, grid: &Grid) -> Result<f64, Why> {
        Ok(root(grid, self.exact_variance()?))
    }

    /// Of the mean, squared.
    pub(super) fn squared_error(&self) -> Result<Ratio, Why> {
        self.exact_variance()?.divided(self.samples).ok_or(Why::NoValues)
    }

    pub(super) fn error(&self, grid: &Grid) -> Result<f64, Why> {
        Ok(root(grid, self.squared_error()?))
    }

    pub(super) fn degrees(&self) -> u64 {
        self.samples.saturating_sub(1)
    }

    /// For the mean, with this probability.
    pub(super) fn interval(&self, grid: &Grid, confidence: f64) -> Result<[f64; 2], Why> {
        let quantile = student_quantile(f64::midpoint(1.0, confidence), self.degrees() as f64);
        let (mean, error) = (self.mean(grid)?, self.error(grid)?);
        let reach = quantile.ok_or(Why::TooFewValues)? * error;
        Ok([mean - reach, mean + reach])
    }
}

/// The root of what is in squared steps of the grid.
pub(super) fn root(grid: &Grid, square: Ratio) -> f64 {
    square.shifted(2 * unit(grid)).root().to_f64()
}
