//! SecureSum (older name: BasicSum): the sum of everybody's numbers and how many there are.
//!
//! - **Declared outputs**, everything that opens: for every coordinate the sum over all parties, exact on the declared grid; and the total
//!   number of values (`samples`) per scalar, vector or column. Where rules want a minimum of samples: whether it is reached, for each scalar, vector or
//!   column; where it is not, neither sum nor number opens.
//! - **How**: pairwise masks in Z_2^64k ([`crate::mask`]); sums and counts are coordinates of one vector. With a minimum the counts are added and compared in a circuit
//!   first ([`crate::threshold`]), open from there, and the masks are sent last.
//! - **Rounds** after the last input: 1, and the closing digest; with a minimum 17 for three parties.
//! - **Adversary**: semi-honest, any number of colluding parties. An active party can shift the result, and stop the computation after having seen it.
//! - **What each party sees**: masked vectors, uniformly random up to their sum; see [`crate::mask`] and [`crate::threshold`] for why that is simulatable from its
//!   input and the output.
//! - **Not protected**: the shape (how long the vectors are; that the column names agree or not); what follows from the output: with n parties, n − 1 that
//!   pool their inputs can subtract them. With two parties each learns the other's sum and count.
//!
//! Inputs: see [`crate::data`]. Parameters: `digits_before`, `digits_after` (see [`crate::number`]), `min_samples`.

use zeroize::Zeroizing;

use super::answer::{Answer, Answers, Field};
use super::parameters::Common;
use crate::data::{self, Shape, Sums};
use crate::mask;
use crate::microprotocol::{self, Microprotocol, Refusal, Release};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::threshold::{self, MOST_SAMPLES, Thresholds, Why, most_of_each};

/// See the [module](self).
#[derive(Debug)]
pub struct SecureSum;

impl Microprotocol for SecureSum {
    const NAME: &'static str = "SecureSum";
    const ALIASES: &'static [&'static str] = &["BasicSum"];
    const RELEASES: &'static [Release] = &[Release::Statistic];
    const COMPARES: bool = true;
    type Params = Common;
    type Input = Sums;
    type Output = Answers;

    fn params(json: &str) -> Result<Common, Refusal> {
        Common::read(Self::NAME, json)
    }

    fn canonical(params: &Common) -> String {
        params.canonical()
    }

    fn input(params: &Common, parties: usize, texts: &[&str]) -> Result<Sums, Refusal> {
        let grid = &params.grid;
        // Every party may fill its share of the ring's capacity: the total cannot overflow, and nobody needs to tell how many rows it has.
        let rows = (grid.max_rows() / parties.max(1) as u64).min(most_of_each(parties));
        let (first, more) = texts
            .split_first()
            .ok_or_else(|| super::parameters::unusable("", "there is no input"))?;
        let mut sums = data::read(grid, rows, first)?;
        for text in more {
            sums.merge(grid, rows, data::read(grid, rows, text)?)?;
        }
        Ok(sums)
    }

    fn rounds(params: &Common, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = params.thresholds.strictest(*thresholds);
        if thresholds.want_samples() {
            threshold::totals_rounds(parties, &thresholds) + 1
        } else {
            1
        }
    }

    fn shape(params: &Common, parties: usize, input: &Sums) -> microprotocol::Shape {
        let elements = elements(&params.grid, input);
        let compared = threshold::totals_message_bytes(parties, input.samples.len());
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
            message_bytes: compared.max(elements * params.grid.ring().element_bytes()),
        }
    }

    fn digits(params: &Common) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Sums) -> Zeroizing<Vec<u64>> {
        input.samples.clone()
    }

    async fn run(params: Common, mut input: Sums, net: &mut Net) -> Result<Answers, Abort> {
        let grid = params.grid;
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        let ring = grid.ring();
        let coordinates = input.sums.len() / ring.limbs();
        let each = (coordinates / input.samples.len().max(1)).max(1);
        let (samples, sums) = if thresholds.want_samples() {
            let samples = threshold::totals(net, &thresholds, &input.samples).await?;
            // What must not open is added as 0: messages are as long as otherwise.
            for (sums, _) in input
                .sums
                .chunks_mut(each * ring.limbs())
                .zip(&samples)
                .filter(|(_, samples)| samples.is_none())
            {
                sums.fill(0);
            }
            let sums = std::mem::take(&mut input.sums);
            (samples, mask::sum(net, ring, sums).await?)
        } else {
            let mut sums = mask::sum(net, ring, encode(&grid, &input)).await?;
            let counts = sums.split_off(coordinates * ring.limbs());
            // Honest parties have no more; the limit keeps what follows in range whatever the others send.
            let count = |element: &[u64]| element.first().map(|count| (*count).min(MOST_SAMPLES));
            (counts.chunks(ring.limbs()).map(count).collect(), sums)
        };
        let answer = |(samples, sums): (Option<u64>, &[u64])| {
            let mut sums = sums.chunks(ring.limbs()).map(|element| grid.to_total(element));
            let sum = match (samples, &input.shape) {
                (None, _) => Field::Number(Err(Why::FewSamples)),
                (_, Shape::Vector(_)) => Field::numbers(sums.map(Ok)),
                _ => Field::Number(sums.next().ok_or(Why::NoValues)),
            };
            Answer::new(vec![
                ("samples", Field::Count(samples.ok_or(Why::FewSamples))),
                ("sum", sum),
            ])
        };
        let columns = samples.into_iter().zip(sums.chunks(each * ring.limbs()));
        let answers = columns.map(answer).collect();
        Ok(Answers::new(input.shape, answers))
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
