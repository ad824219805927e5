//! What is run: every microprotocol, with parameters and thresholds of several kinds, and how many elements of each declared output then open.

use fdrtd_mpc::threshold::Thresholds;
use serde_json::{Value, json};

/// The data of all parties together.
pub(crate) enum Data {
    /// Rows, or the numbers of a list.
    Rows(Vec<Value>),
    /// Rows with names of columns.
    #[allow(dead_code)]
    Table(&'static [&'static str], Vec<Value>),
    /// Columns, each of which is dealt for itself.
    Columns(Vec<(&'static str, Vec<Value>)>),
    /// One value for each party.
    Each(Vec<Value>),
}

/// One kind of task.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) parties: usize,
    pub(crate) parameters: Value,
    pub(crate) thresholds: Thresholds,
    pub(crate) data: Data,
    /// Elements of rings, and bits of circuits.
    pub(crate) opens: Vec<(&'static str, usize)>,
}

const ENOUGH: &str = "whether there are enough samples";
const SAMPLES: &str = "number of samples";
const SUM: &str = "sum";
const EXTREMES: &str = "smallest and greatest value";
const COMPARED: &str = "values of the wanted ranks, by comparisons with public numbers";
const SMALL: &str = "whether a cell counts some, but too few";
const EMPTY: &str = "whether a cell is empty";
const CELLS: &str = "counts of the cells that are not hidden";
const PLACE: &str = "to each party alone, how many values are smaller and how many greater than its own";

/// Bits of a number with three digits before and two after the point.
const KEY: usize = 18;
/// Comparisons by which it is found: three bits at once, then five.
const SIGNS: usize = 7 + 3 * 31;
/// Bits of a count that is opened from a circuit.
const COUNT: usize = 32;

const NONE: Thresholds = Thresholds {
    samples_total: 0,
    samples_others: 0,
    cell: 0,
    beyond: 0,
    no_extremes: false,
};

fn samples(samples_total: u64) -> Thresholds {
    Thresholds { samples_total, ..NONE }
}

fn case(
    name: &'static str,
    parameters: Value,
    thresholds: Thresholds,
    data: Data,
    opens: &[(&'static str, usize)],
) -> Case {
    Case {
        name,
        parties: 3,
        parameters,
        thresholds,
        data,
        opens: opens.to_vec(),
    }
}

fn numbers() -> Data {
    let numbers = [31.5, 40.0, -2.25, 31.5, 0.0, 77.0, 5.5, 12.0, 31.5, 99.0];
    Data::Rows(numbers.iter().map(|number| json!(number)).collect())
}

/// More of one than of the other.
fn columns() -> Data {
    let column = |numbers: &[f64]| numbers.iter().map(|number| json!(number)).collect();
    Data::Columns(vec![
        ("age", column(&[31.0, 40.5, 22.0, 67.0, 40.5, 18.0, 55.0])),
        ("bmi", column(&[20.5, 31.0, 24.0])),
    ])
}

pub(crate) fn all() -> Vec<Case> {
    let mut all = sums();
    all.extend(comparisons());
    all.extend(cells());
    all
}

fn sums() -> Vec<Case> {
    vec![
        case("SecureSum", json!({}), NONE, numbers(), &[(SUM, 1), (SAMPLES, 1)]),
        case(
            "SecureSum",
            json!({"digits_after": 100}),
            NONE,
            columns(),
            &[(SUM, 2), (SAMPLES, 2)],
        ),
        case(
            "SecureSum",
            json!({}),
            samples(5),
            columns(),
            &[(ENOUGH, 2), (SUM, 2), (SAMPLES, 2 * COUNT)],
        ),
        case(
            "SecureSum",
            json!({"min_samples": 11}),
            Thresholds {
                samples_others: 5,
                ..NONE
            },
            numbers(),
            &[(ENOUGH, 1), (SUM, 1), (SAMPLES, COUNT)],
        ),
        Case {
            parties: 6,
            ..case("SecureSum", json!({}), NONE, numbers(), &[(SUM, 1), (SAMPLES, 1)])
        },
    ]
}

fn comparisons() -> Vec<Case> {
    let few = |mut parameters: Value| {
        parameters["digits_before"] = json!(3);
        parameters["digits_after"] = json!(2);
        parameters
    };
    let quartiles = json!([0.25, 0.5, 0.75]);
    vec![
        case(
            "MinimumMaximum",
            few(json!({})),
            NONE,
            numbers(),
            &[(EXTREMES, 2 * KEY)],
        ),
        case(
            "MinimumMaximum",
            few(json!({})),
            samples(5),
            columns(),
            &[(ENOUGH, 2), (EXTREMES, 4 * KEY)],
        ),
        case(
            "KthElement",
            few(json!({"rank": 4})),
            NONE,
            numbers(),
            &[(SAMPLES, 1), (COMPARED, SIGNS)],
        ),
        case(
            "KthElement",
            few(json!({"rank": 4, "min_cell": 2})),
            samples(8),
            numbers(),
            &[(ENOUGH, 1), (SAMPLES, COUNT), (COMPARED, SIGNS)],
        ),
        case(
            "SecureMedian",
            few(json!({})),
            NONE,
            numbers(),
            &[(SAMPLES, 1), (COMPARED, 2 * SIGNS)],
        ),
        case(
            "SecureMedian",
            few(json!({})),
            samples(5),
            columns(),
            &[(ENOUGH, 2), (SAMPLES, 2 * COUNT), (COMPARED, 4 * SIGNS)],
        ),
        case(
            "Quantiles",
            few(json!({"probabilities": quartiles, "type": 1})),
            NONE,
            numbers(),
            &[(SAMPLES, 1), (COMPARED, 3 * SIGNS)],
        ),
        case(
            "Quantiles",
            few(json!({"probabilities": quartiles})),
            Thresholds {
                samples_total: 5,
                beyond: 3,
                ..NONE
            },
            numbers(),
            &[(ENOUGH, 1), (SAMPLES, COUNT), (COMPARED, 6 * SIGNS)],
        ),
        Case {
            parties: 5,
            ..case(
                "Benchmark",
                few(json!({})),
                NONE,
                Data::Each([3.0, 11.5, 3.0, -4.0, 20.0].map(|number| json!(number)).to_vec()),
                &[(SAMPLES, 1), (COMPARED, 6 * SIGNS), (PLACE, 6)],
            )
        },
        Case {
            parties: 4,
            ..case(
                "Benchmark",
                few(json!({})),
                samples(4),
                Data::Each([3.0, 11.5, 3.0, -4.0].map(|number| json!(number)).to_vec()),
                &[(ENOUGH, 1), (SAMPLES, COUNT), (COMPARED, 6 * SIGNS), (PLACE, 6)],
            )
        },
    ]
}

fn cells() -> Vec<Case> {
    let edges = json!({"edges": [0, 10, 32, 99]});
    let with = |name: &str, number: u64| {
        let mut parameters = edges.clone();
        parameters[name] = json!(number);
        parameters
    };
    let compared = [(SMALL, 5), (EMPTY, 5), (CELLS, 5 * COUNT)];
    vec![
        case("Histogram", edges.clone(), NONE, numbers(), &[(CELLS, 5)]),
        case("Histogram", with("min_cell", 2), NONE, numbers(), &compared),
        case(
            "Histogram",
            edges.clone(),
            Thresholds { cell: 3, ..NONE },
            numbers(),
            &compared,
        ),
        case(
            "Histogram",
            with("min_samples", 11),
            NONE,
            numbers(),
            &[(ENOUGH, 1), (CELLS, 5)],
        ),
    ]
}
