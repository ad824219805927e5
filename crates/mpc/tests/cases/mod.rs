//! What is run: every microprotocol, with parameters and thresholds of several kinds, and how many elements of each declared output then open.

use fdrtd_mpc::threshold::Thresholds;
use serde_json::{Value, json};

/// The data of all parties together.
pub(crate) enum Data {
    /// Rows, or the numbers of a list.
    Rows(Vec<Value>),
    /// Rows with names of columns.
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
    /// Each party says which categories it has enough of: then the same hands go to other parties.
    pub(crate) names: bool,
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

const SUMS: &str = "sums";
const MISSING_FEW: &str = "whether some values are missing, but too few to say how many";
const MISSING_NONE: &str = "whether no value is missing";
const MISSING: &str = "number of missing values";
const PRODUCTS: &str = "sums of squares and products about the means";
const SQUARES: &str = "sums of squares about the means";
const NOT_POSITIVE: &str = "whether some value is not greater than 0 (then neither of the next two)";
const RECIPROCALS: &str = "sums of mean/x";
const LOGARITHMS: &str = "sums of ln(x/mean)";
const POWERS: &str = "sums of third to sixth powers of (x − mean)/σ";
const NAMES: &str = "names of categories that are not declared, in a summed sketch";

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
    group_total: 0,
    group_others: 0,
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
        names: false,
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
    all.extend(univariate());
    all.extend(bivariate());
    all.extend(categories());
    all.extend(means());
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

/// Numbers with three digits before and two after the point.
fn few(mut parameters: Value) -> Value {
    parameters["digits_before"] = json!(3);
    parameters["digits_after"] = json!(2);
    parameters
}

/// With missing values.
fn holes(numbers: &[f64], missing: usize) -> Vec<Value> {
    let all = numbers.iter().map(|number| json!(number));
    all.chain(std::iter::repeat_n(Value::Null, missing)).collect()
}

fn univariate() -> Vec<Case> {
    let positive = || Data::Rows(holes(&[31.5, 40.0, 2.25, 31.5, 0.5, 77.0, 5.5, 12.0], 3));
    let columns = || {
        Data::Columns(vec![
            ("age", holes(&[31.0, 40.5, 22.0, 67.0, 40.5, 18.0, 55.0], 1)),
            ("bmi", holes(&[20.5, -31.0, 24.0], 4)),
        ])
    };
    // Of each column.
    let passes = |columns: usize| {
        [
            (SQUARES, 1),
            (NOT_POSITIVE, 1),
            (RECIPROCALS, 1),
            (LOGARITHMS, 1),
            (POWERS, 4),
        ]
        .map(|(what, elements)| (what, elements * columns))
        .to_vec()
    };
    let of = |columns: usize, others: &[(&'static str, usize)]| [&passes(columns), others].concat();
    let name = "StatisticsUnivariate";
    let without = json!({"extremes": false});
    let hidden = Thresholds {
        cell: 4,
        no_extremes: true,
        ..samples(5)
    };
    let compared = [
        (ENOUGH, 2),
        (SAMPLES, 2 * COUNT),
        (MISSING_FEW, 2),
        (MISSING_NONE, 2),
        (MISSING, 2 * COUNT),
        (SUMS, 2),
    ];
    vec![
        case(
            name,
            without.clone(),
            NONE,
            positive(),
            &of(1, &[(SAMPLES, 1), (MISSING, 1), (SUMS, 1)]),
        ),
        case(
            name,
            few(json!({})),
            NONE,
            positive(),
            &of(1, &[(SAMPLES, 1), (MISSING, 1), (SUMS, 1), (EXTREMES, 2 * KEY)]),
        ),
        // Not all are greater than 0; of numbers whose mean is below 0 nothing says so.
        case(
            name,
            without.clone(),
            NONE,
            numbers(),
            &of(1, &[(SAMPLES, 1), (MISSING, 1), (SUMS, 1)]),
        ),
        case(
            name,
            without.clone(),
            NONE,
            Data::Rows(holes(&[-3.0, 1.0, -4.5, 0.0], 0)),
            &of(1, &[(SAMPLES, 1), (MISSING, 1), (SUMS, 1)]),
        ),
        case(
            name,
            without.clone(),
            NONE,
            Data::Rows(holes(&[7.25; 9], 1)),
            &of(1, &[(SAMPLES, 1), (MISSING, 1), (SUMS, 1)]),
        ),
        case(
            name,
            without,
            NONE,
            columns(),
            &of(2, &[(SAMPLES, 2), (MISSING, 2), (SUMS, 2)]),
        ),
        case(name, few(json!({"min_cell": 2})), hidden, columns(), &of(2, &compared)),
        Case {
            parties: 5,
            ..case(
                name,
                few(json!({"min_samples": 7})),
                NONE,
                columns(),
                &of(
                    2,
                    &[
                        (ENOUGH, 2),
                        (SAMPLES, 2 * COUNT),
                        (MISSING, 2),
                        (SUMS, 2),
                        (EXTREMES, 4 * KEY),
                    ],
                ),
            )
        },
    ]
}

fn rows() -> Vec<Value> {
    let rows = [
        [1.5, 2.0, -3.0],
        [4.0, 1.25, 0.0],
        [2.0, 2.0, 2.0],
        [9.0, 7.5, 1.0],
        [-4.0, 0.5, 6.0],
        [0.0, 0.0, 11.0],
    ];
    let rows = rows.iter().map(|row| json!(row));
    rows.chain([json!([1, null, 2]), json!([null, null, 5]), json!([3, 3, null])])
        .collect()
}

fn bivariate() -> Vec<Case> {
    let pairs = || Data::Rows(rows().iter().map(|row| json!([row[0], row[1]])).collect());
    let (two, many) = ("StatisticsBivariate", "CorrelationMatrix");
    let hidden = Thresholds { cell: 4, ..samples(5) };
    let compared = [
        (ENOUGH, 1),
        (SAMPLES, COUNT),
        (MISSING_FEW, 1),
        (MISSING_NONE, 1),
        (MISSING, COUNT),
    ];
    let of = |columns: usize, others: &[(&'static str, usize)]| {
        [others, &[(SUMS, columns), (PRODUCTS, columns * (columns + 1) / 2)]].concat()
    };
    vec![
        case(two, json!({}), NONE, pairs(), &of(2, &[(SAMPLES, 1), (MISSING, 1)])),
        case(two, json!({}), hidden, pairs(), &of(2, &compared)),
        case(
            two,
            json!({"min_samples": 90}),
            NONE,
            pairs(),
            &of(2, &[(ENOUGH, 1), (SAMPLES, COUNT), (MISSING, 1)]),
        ),
        case(
            many,
            json!({}),
            NONE,
            Data::Table(&["c", "a", "b"], rows()),
            &of(3, &[(SAMPLES, 1), (MISSING, 1)]),
        ),
        case(
            many,
            json!({"min_cell": 2}),
            hidden,
            Data::Table(&["c", "a", "b"], rows()),
            &of(3, &compared),
        ),
    ]
}

fn categories() -> Vec<Case> {
    let texts = ["a", "b", "a", "1", "b", "a", "a", "b", "b", "c"].map(|text| json!(text));
    let list = || {
        Data::Rows(
            texts
                .iter()
                .cloned()
                .chain([json!(1), Value::Null, json!(1), Value::Null])
                .collect(),
        )
    };
    let pairs = || {
        Data::Rows(
            texts
                .iter()
                .zip([1, 2, 1, 1, 2, 2, 1, 2, 2, 1])
                .map(|(text, number)| json!([text, number]))
                .chain([json!(["a", null])])
                .collect(),
        )
    };
    let (one, two) = ("StatisticsFrequency", "StatisticsContingency");
    let declared = json!({"categories": ["a", "b", "c", "1", 1]});
    let table = json!({"categories": {"rows": ["a", "b", "c", "1"], "columns": [1, 2]}});
    let with = |parameters: &Value, name: &str, value: Value| {
        let mut parameters = parameters.clone();
        parameters[name] = value;
        parameters
    };
    let compared = |cells: usize| vec![(SMALL, cells), (EMPTY, cells), (CELLS, cells * COUNT)];
    // Dealt in turn to three parties, each has two of "a" and of "b".
    let two_of_each = Data::Rows(
        ["aaa", "bbb", "cab", "bba", "a"]
            .iter()
            .flat_map(|row| row.chars().map(|name| json!(name.to_string())))
            .collect(),
    );
    // Elements of the first of two tables.
    let sketch = (NAMES, 3 * 128 * 4);
    let found = |case: Case| Case { names: true, ..case };
    let hidden = Thresholds { cell: 2, ..NONE };
    vec![
        case(one, declared.clone(), NONE, list(), &[(CELLS, 6)]),
        case(one, with(&declared, "other", json!(true)), hidden, list(), &compared(7)),
        case(
            one,
            with(&declared, "min_samples", json!(13)),
            hidden,
            list(),
            &[compared(6), vec![(ENOUGH, 1)]].concat(),
        ),
        found(case(one, json!({}), NONE, list(), &[sketch, (CELLS, 7)])),
        found(case(
            one,
            json!({}),
            samples(12),
            list(),
            &[sketch, (ENOUGH, 1), (CELLS, 7)],
        )),
        case(two, table.clone(), NONE, pairs(), &[(CELLS, 9)]),
        case(two, table.clone(), samples(3), pairs(), &[(ENOUGH, 1), (CELLS, 9)]),
        case(two, table, hidden, pairs(), &compared(9)),
        found(case(two, json!({}), NONE, pairs(), &[sketch, (CELLS, 10)])),
        found(case(
            one,
            json!({}),
            hidden,
            two_of_each,
            &[vec![sketch], compared(4)].concat(),
        )),
    ]
}

/// Rows of a group and a number.
fn grouped() -> Data {
    let rows = [
        ("a", 1.5),
        ("b", 4.0),
        ("a", 2.25),
        ("c", 7.0),
        ("b", 4.5),
        ("a", -3.0),
        ("c", 8.0),
        ("b", 1.0),
    ];
    let rows = rows.iter().map(|(group, number)| json!([group, number]));
    Data::Rows(
        rows.chain([json!([null, 3]), json!(["a", null]), json!([null, null])])
            .collect(),
    )
}

fn means() -> Vec<Case> {
    let list = || Data::Rows(holes(&[1.5, 2.0, -7.25, 4.0, 0.0, 3.5], 2));
    let pairs = || Data::Rows(rows().iter().map(|row| json!([row[0], row[1]])).collect());
    let two = || {
        let Data::Rows(rows) = grouped() else { return grouped() };
        Data::Rows(rows.into_iter().filter(|row| row[0] != "c").collect())
    };
    let table = || {
        let rows = rows().into_iter().zip(["a", "b", "b", "a", "a", "b", "b", "a", "b"]);
        let mut rows: Vec<Value> = rows.map(|(row, arm)| json!([row[0], arm, row[1]])).collect();
        rows.push(json!([1, null, 2]));
        Data::Table(&["y", "arm", "x"], rows)
    };
    let numbers = || Data::Table(&["c", "a", "b"], rows());
    // So many samples of numbers, and so many counts of missing values.
    let of =
        |cells: usize, missing: usize| vec![(SAMPLES, cells), (SUMS, cells), (MISSING, missing), (PRODUCTS, cells)];
    let compared = |cells: usize, missing: usize| {
        let samples = [
            (ENOUGH, cells),
            (SAMPLES, cells * COUNT),
            (SUMS, cells),
            (PRODUCTS, cells),
        ];
        [
            &samples[..],
            &[
                (MISSING_FEW, missing),
                (MISSING_NONE, missing),
                (MISSING, missing * COUNT),
            ],
        ]
        .concat()
    };
    let hidden = Thresholds { cell: 3, ..samples(2) };
    let groups = Thresholds {
        group_total: 3,
        cell: 3,
        ..NONE
    };
    let arms = json!({"group": {"column": "arm", "categories": ["a", "b"]}});
    vec![
        case(
            "TTest",
            json!({"test": "one-sample", "mean": 1}),
            NONE,
            list(),
            &of(1, 1),
        ),
        case("TTest", json!({"test": "one-sample"}), hidden, list(), &compared(1, 1)),
        case("TTest", json!({"test": "paired"}), NONE, pairs(), &of(1, 1)),
        case(
            "TTest",
            json!({"test": "two-sample", "groups": ["a", "b"]}),
            NONE,
            two(),
            &of(2, 1),
        ),
        case(
            "TTest",
            json!({"test": "welch", "groups": ["a", "b"]}),
            groups,
            two(),
            &compared(2, 1),
        ),
        case(
            "AnovaOneWay",
            json!({"groups": ["a", "b", "c"]}),
            NONE,
            grouped(),
            &of(3, 1),
        ),
        case(
            "AnovaOneWay",
            json!({"groups": ["c", "b", "a"]}),
            groups,
            grouped(),
            &compared(3, 1),
        ),
        // And rows without a group: none if there are no groups.
        case("Table1", json!({}), NONE, numbers(), &of(3, 4)),
        case("Table1", json!({}), hidden, numbers(), &compared(3, 4)),
        case("Table1", arms.clone(), NONE, table(), &of(4, 5)),
        case("Table1", arms, groups, table(), &compared(4, 5)),
    ]
}
