//! The statistics over tables: numbers that are known, undefined ones, what rules hide. (Against numpy, scipy and mpmath: tests/oracle.)

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::float_cmp)]

mod simulated;

use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::threshold::Thresholds;
use serde_json::{Value, json};
use simulated::{lists, result, result_with, texts};

/// To 13 digits: so good are the tails that p-values come from.
#[track_caller]
fn close(found: &Value, expected: f64) {
    let number = found
        .as_f64()
        .unwrap_or_else(|| panic!("{found} where {expected} is expected"));
    let apart = (number - expected).abs();
    assert!(apart <= 1e-13 * expected.abs(), "{number:e} {expected:e}");
}

#[test]
fn univariate_of_small_numbers() {
    let all = result("StatisticsUnivariate", "{}", &lists(&["[1, 2]", "[4, null]", "8"]));
    assert_eq!(all["samples"], 4);
    assert_eq!(all["missing"], 1);
    assert_eq!(
        (&all["minimum"], &all["maximum"], &all["sum"]),
        (&json!(1), &json!(8), &json!(15))
    );
    for (name, expected) in [
        ("mean", 3.75),
        ("harmonic_mean", 4.0 / 1.875),
        ("geometric_mean", 8f64.sqrt()),
        ("variance", 28.75 / 3.0),
        ("variance_mle", 7.1875),
        ("variance_of_sample_mean", 28.75 / 12.0),
        ("standard_deviation", (28.75f64 / 3.0).sqrt()),
        ("standard_deviation_mle", 7.1875f64.sqrt()),
        ("standard_error_of_sample_mean", (28.75f64 / 12.0).sqrt()),
        ("coefficient_of_variation", (28.75f64 / 3.0).sqrt() / 3.75),
        ("coefficient_of_variation_mle", 7.1875f64.sqrt() / 3.75),
        ("root_mean_square", 21.25f64.sqrt()),
        ("root_mean_square_deviation", 7.1875f64.sqrt()),
        // scipy.stats
        ("skewness", 0.656_807_734_499_699_4),
        ("kurtosis", 1.901_020_793_950_850_6),
        ("kurtosis_excess", 1.901_020_793_950_850_6 - 3.0),
    ] {
        close(&all[name], expected);
    }
    assert_eq!(all.get("reasons"), None);
}

/// TRAPS: relative errors of 10^−5, domain errors, hangs.
#[test]
fn offsets_cancel() {
    for (offset, digits) in [("1000000", "{}"), ("1000000000", "{}"), ("1000000000000", "{}")] {
        let moved = |numbers: &[i64]| {
            let offset: i64 = offset.parse().unwrap();
            json!(numbers.iter().map(|number| number + offset).collect::<Vec<_>>()).to_string()
        };
        let here = result("StatisticsUnivariate", digits, &lists(&["[3, -3, 1]", "[4, 0, 2, -7]"]));
        let there = result(
            "StatisticsUnivariate",
            digits,
            &[moved(&[3, -3, 1]), moved(&[4, 0, 2, -7])],
        );
        for name in [
            "variance",
            "standard_deviation",
            "skewness",
            "kurtosis",
            "hyper_skewness",
            "hyper_flatness",
        ] {
            assert_eq!(here[name], there[name], "{name}");
        }
        let rows = |pairs: &[[i64; 2]]| {
            let offset: i64 = offset.parse().unwrap();
            json!(
                pairs
                    .iter()
                    .map(|pair| pair.map(|number| number + offset))
                    .collect::<Vec<_>>()
            )
            .to_string()
        };
        let inputs = [rows(&[[1, 2], [3, 5]]), rows(&[[-4, 1], [0, -2]])];
        let both = result("StatisticsBivariate", "{}", &inputs);
        let inputs = texts(&[vec![[1, 2], [3, 5]], vec![[-4, 1], [0, -2]]]);
        let plain = result("StatisticsBivariate", "{}", &inputs);
        for name in [
            "covariance",
            "correlation_coefficient",
            "regression_slope",
            "variance_x",
        ] {
            assert_eq!(both[name], plain[name], "{name}");
        }
    }
}

#[test]
fn what_is_undefined_is_null_with_a_reason() {
    let constant = result("StatisticsUnivariate", "{}", &lists(&["[0.1, 0.1]", "[0.1]", "[]"]));
    assert_eq!(
        (&constant["mean"], &constant["variance"], &constant["geometric_mean"]),
        (&json!(0.1), &json!(0.0), &json!(0.1))
    );
    assert_eq!(constant["harmonic_mean"], 0.1);
    assert_eq!(constant["reasons"]["skewness"], "CONSTANT");
    assert_eq!(constant["reasons"]["hyper_flatness"], "CONSTANT");
    assert_eq!(constant["coefficient_of_variation"], 0.0);

    let single = result("StatisticsUnivariate", "{}", &lists(&["[]", "[5]"]));
    assert_eq!(
        (&single["variance_mle"], &single["variance"]),
        (&json!(0.0), &Value::Null)
    );
    assert_eq!(single["reasons"]["standard_error_of_sample_mean"], "TOO_FEW_VALUES");

    let nothing = result("StatisticsUnivariate", "{}", &lists(&["[]", "[null]"]));
    assert_eq!(
        (&nothing["samples"], &nothing["missing"], &nothing["sum"]),
        (&json!(0), &json!(1), &json!(0))
    );
    assert_eq!(nothing["reasons"].as_object().unwrap().len(), 20);
    assert!(
        nothing["reasons"]
            .as_object()
            .unwrap()
            .values()
            .all(|why| why == "NO_VALUES"),
        "{nothing}"
    );

    for inputs in [
        ["[1, 2]", "[3, 0]"],
        ["[1, 2]", "[3, -0.5]"],
        ["[-1, -2]", "[0]"],
        ["[-1]", "[-1]"],
    ] {
        let all = result("StatisticsUnivariate", "{}", &lists(&inputs));
        for name in ["harmonic_mean", "geometric_mean"] {
            assert_eq!(
                (&all[name], &all["reasons"][name]),
                (&Value::Null, &json!("NOT_POSITIVE")),
                "{inputs:?}"
            );
        }
    }
    let zero = result("StatisticsUnivariate", "{}", &lists(&["[1, 2]", "[-3]"]));
    assert_eq!(zero["reasons"]["coefficient_of_variation"], "ZERO_MEAN");
    let huge = result(
        "StatisticsUnivariate",
        r#"{"digits_before": 301}"#,
        &lists(&["[1e300, -1e300]", "[0]"]),
    );
    assert_eq!(
        (&huge["maximum"], &huge["standard_deviation"]),
        (&json!(1e300), &json!(1e300))
    );
    assert_eq!(huge["reasons"]["variance"], "BEYOND_DOUBLES");
    close(&huge["kurtosis"], 1.5);
}

#[test]
fn columns_by_name_and_without_extremes() {
    let inputs = lists(&[
        r#"{"b": [1, 2, 3], "a": [10]}"#,
        r#"{"columns": ["a", "b"], "rows": [[20, 5], [null, 6]]}"#,
    ]);
    let all = result("StatisticsUnivariate", r#"{"extremes": false}"#, &inputs);
    assert_eq!(all["a"]["samples"], 2);
    assert_eq!(all["b"]["samples"], 5);
    assert_eq!(all["a"]["missing"], 1);
    assert_eq!(all["b"]["mean"], 3.4);
    assert_eq!(
        all["a"]["reasons"],
        json!({"minimum": "EXTREMES_HIDDEN", "maximum": "EXTREMES_HIDDEN"})
    );
}

#[test]
fn rules_hide_before_anything_opens() {
    let rules = Thresholds {
        samples_total: 5,
        cell: 3,
        no_extremes: true,
        ..Thresholds::default()
    };
    let inputs = lists(&[
        r#"{"x": [1, 2, null], "y": [1, 2, 3]}"#,
        r#"{"x": [3, 4], "y": [5, null]}"#,
        r#"{"x": [], "y": [3]}"#,
    ]);
    let all = result_with("StatisticsUnivariate", "{}", &inputs, rules);
    let reasons = all["x"]["reasons"].as_object().unwrap();
    assert_eq!(reasons.len(), 23, "{all}");
    assert!(
        reasons
            .iter()
            .all(|(name, why)| why == "FEW_SAMPLES" || name.ends_with("imum")),
        "{all}"
    );
    assert_eq!(all["y"]["samples"], 5);
    assert_eq!(all["y"]["mean"], 2.8);
    assert_eq!(
        all["y"]["reasons"],
        json!({"missing": "FEW_IN_CELL", "minimum": "EXTREMES_HIDDEN", "maximum": "EXTREMES_HIDDEN"})
    );
    for name in ["StatisticsBivariate", "CorrelationMatrix"] {
        let inputs = lists(&["[[1, 2]]", "[[3, 4], [5, null]]", "[[3, 4], [5, 7]]"]);
        let few = result_with(name, "{}", &inputs, rules);
        assert_eq!(few["reasons"]["samples"], "FEW_SAMPLES", "{few}");
        assert_eq!(few["reasons"]["missing"], "FEW_SAMPLES");
        let enough = result_with(
            name,
            "{}",
            &inputs,
            Thresholds {
                samples_total: 4,
                ..rules
            },
        );
        assert_eq!(
            (&enough["samples"], &enough["reasons"]["missing"]),
            (&json!(4), &json!("FEW_IN_CELL"))
        );
    }
}

#[test]
fn bivariate_of_small_numbers() {
    let inputs = lists(&[
        r#"{"columns": ["x", "y"], "rows": [[1, 2], [2, 3]]}"#,
        r#"{"x": [3, 4], "y": [5, 4]}"#,
        r#"{"columns": {"x": [null], "y": [7]}}"#,
    ]);
    let all = result("StatisticsBivariate", "{}", &inputs);
    assert_eq!((&all["samples"], &all["missing"]), (&json!(4), &json!(1)));
    for (name, expected) in [
        ("mean_x", 2.5),
        ("mean_y", 3.5),
        ("variance_x", 5.0 / 3.0),
        ("variance_y", 5.0 / 3.0),
        ("covariance", 4.0 / 3.0),
        ("covariance_mle", 1.0),
        ("correlation_coefficient", 0.8),
        ("regression_slope", 0.8),
        ("regression_intercept", 1.5),
        ("regression_interceipt", 1.5),
        ("regression_slope_only", 39.0 / 30.0),
    ] {
        close(&all[name], expected);
    }
    let constant = result("StatisticsBivariate", "{}", &lists(&["[[1, 2]]", "[[1, 3]]"]));
    assert_eq!(
        constant["reasons"],
        json!({
            "correlation_coefficient": "CONSTANT", "regression_slope": "CONSTANT", "regression_intercept": "CONSTANT", "regression_interceipt": "CONSTANT",
        })
    );
    let one = result("StatisticsBivariate", "{}", &lists(&["[[1, 2]]", "[]"]));
    assert_eq!(one["reasons"]["regression_slope"], "TOO_FEW_VALUES");
    assert_eq!(one["regression_slope_only"], 2.0);
}

#[test]
fn correlations_of_three_columns() {
    let inputs = lists(&[
        r#"{"c": [1, 2, 3], "a": [2, 4, 6], "b": [1, 0, 1]}"#,
        r#"{"columns": ["a", "b", "c"], "rows": [[8, 5, 4], [1, 1, null]]}"#,
    ]);
    let all = result("CorrelationMatrix", "{}", &inputs);
    assert_eq!(all["columns"], json!(["a", "b", "c"]));
    assert_eq!((&all["samples"], &all["missing"]), (&json!(4), &json!(1)));
    assert_eq!(all["correlation"][0], json!([1.0, all["correlation"][1][0], 1.0]));
    // scipy.stats.pearsonr([2, 4, 6, 8], [1, 0, 1, 5])
    close(&all["correlation"][0][1], 0.756_889_262_661_456_6);
    close(&all["p"][1][2], 0.243_110_737_338_543_3);
    assert_eq!(all["p"][0][2], 0.0);
    close(&all["covariance"][0][1], 13.0 / 3.0);
    close(&all["standard_deviations"][2], (5.0f64 / 3.0).sqrt());
}

#[test]
fn unusable_inputs_are_refused_with_their_position() {
    for (name, text, code, at) in [
        ("StatisticsUnivariate", "[[1, 2]]", "INPUT_SHAPE", ""),
        ("StatisticsUnivariate", "[1, \"x\"]", "NUMBER_EXPECTED", "[1]"),
        ("StatisticsUnivariate", "[1e60]", "NUMBER_TOO_LARGE", "[0]"),
        ("StatisticsBivariate", "[1, 2]", "INPUT_SHAPE", ""),
        ("StatisticsBivariate", "[[1, 2], [3]]", "ROWS_RAGGED", "[1]"),
        (
            "StatisticsBivariate",
            r#"{"x": [1, 2], "y": [3]}"#,
            "COLUMNS_UNEVEN",
            "y",
        ),
        (
            "StatisticsBivariate",
            r#"{"columns": ["x", "y"], "rows": [[1, 2], [3, 1e-20]]}"#,
            "NUMBER_TOO_FINE",
            "rows[1][1]",
        ),
        ("CorrelationMatrix", "[[1], [2]]", "INPUT_SHAPE", ""),
        ("CorrelationMatrix", "[]", "INPUT_SHAPE", ""),
    ] {
        let configured = Entry::find(name).unwrap().configure("{}").unwrap();
        let refusal = configured.input(3, &[text]).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.at.as_str()),
            (code, at),
            "{name} {text}: {refusal}"
        );
    }
}

/// Values of scipy.stats.
#[test]
fn tests_of_means() {
    let one = result(
        "TTest",
        r#"{"test": "one-sample", "mean": 5}"#,
        &lists(&["[5.1, 4.9]", "[6.2, null]", "[5.8, 5.5]"]),
    );
    close(&one["statistic"], 2.132_007_163_556_104_4);
    close(&one["p"], 0.099_981_967_353_416_54);
    assert_eq!((&one["degrees_of_freedom"], &one["missing"]), (&json!(4.0), &json!(1)));
    let paired = result(
        "TTest",
        r#"{"test": "paired", "alternative": "greater"}"#,
        &lists(&["[[5, 4], [6, 6.5]]", "[[7, 5], [4, 3.2]]", "[[1, null]]"]),
    );
    close(&paired["statistic"], 1.605_780_796_146_316_2);
    close(&paired["p"], 0.103_335_849_442_681_58);
    assert_eq!(paired["confidence_interval"][1], Value::Null);
    assert_eq!(paired.get("reasons"), None);
    let rows = lists(&[
        r#"[["a", 1], ["b", 2], ["a", 3]]"#,
        r#"{"columns": ["g", "v"], "rows": [["b", 5.5], ["a", 2], [null, 4]]}"#,
        r#"[["b", 7], ["b", 4]]"#,
    ]);
    let two = result("TTest", r#"{"test": "two-sample", "groups": ["a", "b"]}"#, &rows);
    close(&two["statistic"], -1.940_345_391_687_733_8);
    close(&two["p"], 0.110_022_164_417_969_62);
    let welch = result("TTest", r#"{"test": "welch", "groups": ["a", "b"]}"#, &rows);
    close(&welch["statistic"], -2.162_154_402_621_927_5);
    close(&welch["degrees_of_freedom"], 4.440_754_089_270_863);
    let anova = result("AnovaOneWay", r#"{"groups": ["a", "b"]}"#, &rows);
    close(&anova["statistic"], 3.764_940_239_043_824_5);
    assert_eq!(anova["samples"], json!([3, 4]));
    assert_eq!(anova["missing"], 1);
    let none = result("AnovaOneWay", r#"{"groups": ["a", "b", 1]}"#, &rows);
    assert_eq!(
        (&none["statistic"], &none["reasons"]["p"]),
        (&Value::Null, &json!("NO_VALUES"))
    );
    let constant = result("TTest", r#"{"test": "one-sample"}"#, &lists(&["[2, 2]", "[2]"]));
    assert_eq!(constant["reasons"]["statistic"], "CONSTANT");
}

#[test]
fn a_table_of_a_study() {
    let inputs = lists(&[
        r#"{"columns": ["arm", "bmi", "age"], "rows": [["a", 20.5, 30], ["b", null, 40], ["a", 25, 50]]}"#,
        r#"{"age": [35, 45, 20], "arm": ["b", "a", null], "bmi": [30, 31, 22]}"#,
    ]);
    let table = result(
        "Table1",
        r#"{"group": {"column": "arm", "categories": ["a", "b"]}}"#,
        &inputs,
    );
    assert_eq!(
        (&table["groups"], &table["without_group"]),
        (&json!(["a", "b"]), &json!(1))
    );
    let age = &table["columns"]["age"];
    assert_eq!(
        (&age["all"]["n"], &age["groups"][0]["n"], &age["groups"][1]["n"]),
        (&json!(5), &json!(3), &json!(2))
    );
    close(&age["all"]["mean"], 40.0);
    close(&age["all"]["standard_deviation"], 62.5f64.sqrt());
    close(&age["all"]["standard_error"], 12.5f64.sqrt());
    // scipy.stats.t.ppf(0.975, 4)
    close(
        &age["all"]["confidence_interval"][0],
        40.0 - 2.776_445_105_197_798_7 * 12.5f64.sqrt(),
    );
    let bmi = &table["columns"]["bmi"];
    assert_eq!(
        (&bmi["all"]["missing"], &bmi["groups"][1]["missing"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        table["reasons"]["columns.bmi.groups[1].standard_deviation"],
        "TOO_FEW_VALUES"
    );
    let whole = result("Table1", "{}", &lists(&[r#"{"x": [1, 2]}"#, r#"{"x": [3, null]}"#]));
    assert_eq!(whole["columns"]["x"]["all"]["n"], 3);
    assert_eq!(whole.get("groups"), None);

    let rules = Thresholds {
        group_total: 3,
        ..Thresholds::default()
    };
    let few = result_with(
        "Table1",
        r#"{"group": {"column": "arm", "categories": ["a", "b"]}}"#,
        &inputs,
        rules,
    );
    let age = &few["columns"]["age"];
    assert_eq!(
        (&age["groups"][0]["n"], &age["groups"][1]["n"], &age["all"]["n"]),
        (&json!(3), &Value::Null, &Value::Null)
    );
    assert_eq!(few["reasons"]["columns.age.all.mean"], "FEW_SAMPLES");
}

#[test]
fn unknown_groups_are_refused_with_their_position() {
    for (name, parameters, text, code, at) in [
        (
            "AnovaOneWay",
            r#"{"groups": ["a", 1]}"#,
            r#"[["a", 1], ["1", 2]]"#,
            "CATEGORY_UNKNOWN",
            "[1][0]",
        ),
        (
            "TTest",
            r#"{"test": "welch", "groups": ["a", "b"]}"#,
            r#"{"g": ["a", "c"], "x": [1, 2]}"#,
            "CATEGORY_UNKNOWN",
            "g[1]",
        ),
        (
            "Table1",
            r#"{"group": {"column": "arm", "categories": ["a"]}}"#,
            r#"{"x": [1]}"#,
            "INPUT_SHAPE",
            "",
        ),
        ("Table1", "{}", "[[1, 2]]", "INPUT_SHAPE", ""),
        (
            "Table1",
            r#"{"group": {"column": "arm", "categories": ["a"]}}"#,
            r#"{"arm": ["a"]}"#,
            "INPUT_SHAPE",
            "",
        ),
    ] {
        let configured = Entry::find(name).unwrap().configure(parameters).unwrap();
        let refusal = configured.input(3, &[text]).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.at.as_str()),
            (code, at),
            "{name} {text}: {refusal}"
        );
    }
    for (name, parameters, at) in [
        ("TTest", "{}", ""),
        ("TTest", r#"{"test": "z"}"#, "test"),
        ("TTest", r#"{"test": "welch"}"#, ""),
        ("TTest", r#"{"test": "welch", "groups": ["a"]}"#, "groups"),
        ("TTest", r#"{"test": "paired", "groups": ["a", "b"]}"#, "groups"),
        ("TTest", r#"{"test": "paired", "confidence": 1}"#, "confidence"),
        ("TTest", r#"{"test": "paired", "alternative": "both"}"#, "alternative"),
        ("TTest", r#"{"test": "paired", "mean": "0"}"#, "mean"),
        ("AnovaOneWay", r#"{"groups": ["a", "a"]}"#, "groups[1]"),
        ("Table1", r#"{"group": "arm"}"#, "group"),
        ("StatisticsUnivariate", r#"{"extremes": 1}"#, "extremes"),
    ] {
        let refusal = Entry::find(name).unwrap().configure(parameters).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.at.as_str()),
            ("PARAMETERS_UNUSABLE", at),
            "{name} {parameters}: {refusal}"
        );
    }
}
