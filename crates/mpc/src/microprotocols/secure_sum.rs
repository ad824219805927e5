//! SecureSum (older name: BasicSum): the sum of everybody's numbers and how many there are.
//!
//! - **Declared outputs**, everything that opens: for every coordinate the sum over all parties, exact on the declared grid; and the total
//!   number of values (`samples`) per scalar, vector or column.
//! - **How**: pairwise masks in Z_2^64k ([`crate::mask`]); sums and counts are coordinates of one vector.
//! - **Rounds** after the last input: 1, and the closing digest.
//! - **Adversary**: semi-honest, any number of colluding parties. An active party can shift the result, and stop the computation after having seen it.
//! - **What each party sees**: masked vectors, uniformly random up to their sum; see [`crate::mask`] for why that is simulatable from its input
//!   and the output.
//! - **Not protected**: the shape (how long the vectors are; that the column names agree or not); what follows from the output: with n parties, n − 1 that
//!   pool their inputs can subtract them. With two parties each learns the other's sum and count.
//!
//! Inputs: see [`crate::data`]. Parameters: `digits_before`, `digits_after` (see [`crate::number`]).

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use zeroize::Zeroizing;

use crate::data::{self, Shape, Sums};
use crate::mask;
use crate::microprotocol::{self, Microprotocol, Refusal, Release, SeeRow};
use crate::net::{Abort, Net};
use crate::number::{self, Digits, Grid};
use crate::threshold::Thresholds;

/// See the [module](self).
#[derive(Debug)]
pub struct SecureSum;

/// What opens.
#[derive(Debug)]
pub enum Output {
    /// Of numbers and lists of numbers.
    Scalar(Total<number::Total>),
    /// Of vectors: `samples` counts the vectors, so it is the number of values in every coordinate.
    Vector(Total<Vec<number::Total>>),
    /// Of named columns.
    Columns(Vec<(String, Total<number::Total>)>),
}

/// A number of values, and their sum.
#[derive(Debug, Serialize)]
pub struct Total<S> {
    /// How many values were added.
    pub samples: u64,
    /// Their sum: an integer when it is integral and below 2^63, else the nearest 64-bit float.
    pub sum: S,
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Output::Scalar(total) => total.serialize(serializer),
            Output::Vector(total) => total.serialize(serializer),
            Output::Columns(columns) => {
                let mut map = serializer.serialize_map(Some(columns.len()))?;
                for (name, total) in columns {
                    map.serialize_entry(name, total)?;
                }
                map.end()
            }
        }
    }
}

impl Microprotocol for SecureSum {
    const NAME: &'static str = "SecureSum";
    const ALIASES: &'static [&'static str] = &["BasicSum"];
    const RELEASES: &'static [Release] = &[Release::Statistic];
    const COMPARES: bool = false;
    type Params = Grid;
    type Input = Sums;
    type Output = Output;

    fn params(json: &str) -> Result<Grid, Refusal> {
        let given: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json).map_err(|_| unusable("parameters are a JSON object"))?;
        let mut digits = [
            ("digits_before", Digits::default().before()),
            ("digits_after", Digits::default().after()),
        ];
        for (name, value) in &given {
            let slot = digits.iter_mut().find(|(known, _)| known == name);
            let Some((_, slot)) = slot else {
                return Err(unusable(
                    "SecureSum knows the parameters digits_before and digits_after only",
                ));
            };
            let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
            *slot = number.ok_or_else(|| unusable("digits_before and digits_after are whole numbers from 0 to 608"))?;
        }
        let digits = Digits::new(digits[0].1, digits[1].1).map_err(|error| unusable(&error.to_string()))?;
        Ok(Grid::new(digits))
    }

    fn canonical(grid: &Grid) -> String {
        let digits = grid.digits();
        format!(
            "{{\"digits_after\":{},\"digits_before\":{}}}",
            digits.after(),
            digits.before()
        )
    }

    fn input(grid: &Grid, parties: usize, texts: &[&str]) -> Result<Sums, Refusal> {
        // Every party may fill its share of the ring's capacity: the total cannot overflow, and nobody needs to tell how many rows it has.
        let rows = grid.max_rows() / parties.max(1) as u64;
        let (first, more) = texts.split_first().ok_or_else(|| unusable("there is no input"))?;
        let mut sums = data::read(grid, rows, first)?;
        for text in more {
            sums.merge(grid, rows, data::read(grid, rows, text)?)?;
        }
        Ok(sums)
    }

    fn rounds(_grid: &Grid, _parties: usize, _thresholds: &Thresholds) -> u32 {
        1
    }

    fn shape(grid: &Grid, _parties: usize, input: &Sums) -> microprotocol::Shape {
        let elements = elements(grid, input);
        let (text, exact) = match &input.shape {
            Shape::Scalar => ("a number or a list of numbers".to_owned(), "scalar".to_owned()),
            Shape::Vector(len) => (format!("vectors of {len} numbers"), format!("vector {len}")),
            Shape::Columns(names) => (
                format!("{} named columns", names.len()),
                format!("columns {}", serde_json::Value::from(names.clone())),
            ),
        };
        microprotocol::Shape {
            text,
            exact,
            message_bytes: elements * grid.ring().element_bytes(),
        }
    }

    fn digits(grid: &Grid) -> Option<Digits> {
        Some(grid.digits())
    }

    fn samples(input: &Sums) -> Zeroizing<Vec<u64>> {
        input.samples.clone()
    }

    fn rows(_grid: &Grid, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        let mut texts = texts.iter();
        texts.try_for_each(|text| data::rows(text, see).ok_or_else(|| unusable("the input is not one of sums")))
    }

    async fn run(grid: Grid, input: Sums, net: &mut Net) -> Result<Output, Abort> {
        let ring = grid.ring();
        let vector = encode(&grid, &input);
        let coordinates = input.sums.len() / ring.limbs();
        let shape = input.shape.clone();
        drop(input);
        let total = mask::sum(net, ring, vector).await?;
        decode(&grid, &shape, coordinates, &total)
    }
}

fn elements(grid: &Grid, input: &Sums) -> usize {
    input.sums.len() / grid.ring().limbs() + input.samples.len()
}

/// Sums first, then counts, as elements of one ring.
fn encode(grid: &Grid, input: &Sums) -> Zeroizing<Vec<u64>> {
    let limbs = grid.ring().limbs();
    let mut vector = Zeroizing::new(Vec::with_capacity(elements(grid, input) * limbs));
    vector.extend_from_slice(&input.sums);
    for count in input.samples.iter() {
        vector.push(*count);
        vector.extend(std::iter::repeat_n(0, limbs - 1));
    }
    vector
}

fn decode(grid: &Grid, shape: &Shape, coordinates: usize, total: &[u64]) -> Result<Output, Abort> {
    let limbs = grid.ring().limbs();
    let (sums, counts) = total.split_at(coordinates * limbs);
    let count = |element: &[u64]| element.first().copied().ok_or(Abort::Internal("no count"));
    match shape {
        Shape::Scalar => Ok(Output::Scalar(Total {
            samples: count(counts)?,
            sum: grid.to_total(sums),
        })),
        Shape::Vector(_) => {
            let sum = sums.chunks(limbs).map(|element| grid.to_total(element)).collect();
            Ok(Output::Vector(Total {
                samples: count(counts)?,
                sum,
            }))
        }
        Shape::Columns(names) => {
            let elements = sums.chunks(limbs).zip(counts.chunks(limbs));
            let column = |(name, (sum, samples)): (&String, (&[u64], &[u64]))| {
                Ok((
                    name.clone(),
                    Total {
                        samples: count(samples)?,
                        sum: grid.to_total(sum),
                    },
                ))
            };
            Ok(Output::Columns(
                names.iter().zip(elements).map(column).collect::<Result<_, _>>()?,
            ))
        }
    }
}

fn unusable(message: &str) -> Refusal {
    Refusal {
        code: "PARAMETERS_UNUSABLE",
        at: String::new(),
        message: message.to_owned(),
        hint: "for example parameters={\"digits_before\": 18, \"digits_after\": 12}".to_owned(),
    }
}
