//! The input forms of sums: what is read, what is refused, and where.
#![allow(clippy::unwrap_used)]

use fdrtd_mpc::data::{MAX_COLUMNS, MAX_NAME_BYTES, Reason, Shape, read};
use fdrtd_mpc::microprotocol::Column;
use fdrtd_mpc::number::{Digits, Grid, NumberError, canonical};
use proptest::prelude::*;

const ROWS: u64 = 1000;
/// 256 MiB of sums, in elements of the widest ring.
const MOST_WIDEST_SUMS: usize = (1 << 25) / 32;

fn grid() -> Grid {
    Grid::new(Digits::default())
}

fn ok(json: &str) -> (Shape, Vec<String>, Vec<u64>) {
    let grid = grid();
    let read = read(&grid, ROWS, json).unwrap();
    let sums = read.sums.chunks_exact(grid.ring().limbs());
    let sums = sums.map(|sum| grid.to_decimal(sum)).collect();
    (read.shape.clone(), sums, read.samples.to_vec())
}

fn refused(json: &str) -> (String, Reason) {
    let refusal = read(&grid(), ROWS, json).unwrap_err();
    (refusal.at, refusal.reason)
}

fn columns(names: &[&str]) -> Shape {
    Shape::Columns(names.iter().map(|&name| name.to_owned()).collect())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn every_form_is_read() {
    assert_eq!(ok(" 31 "), (Shape::Scalar, texts(&["31"]), vec![1]));
    let list = ok("[ 0.1 ,\n0.2,-1e0\t]");
    assert_eq!(list, (Shape::Scalar, texts(&["-0.7"]), vec![3]));
    assert_eq!(ok("[]"), (Shape::Scalar, texts(&["0"]), vec![0]));
    let vectors = ok(r#"{ "vectors" : [ [1, 2.5] , [3,-4] ] } "#);
    let expected = texts(&["4", "-1.5"]);
    assert_eq!(vectors, (Shape::Vector(2), expected, vec![2]));
    for json in [
        r#"{"bmi": [22.5, 30], "age": 31, "none": [ ]}"#,
        r#"{"columns": {"bmi": [22.5, 30], "\u0061ge": 31, "none": []}}"#,
    ] {
        let shape = columns(&["age", "bmi", "none"]);
        let expected = texts(&["31", "52.5", "0"]);
        assert_eq!(ok(json), (shape, expected, vec![1, 2, 0]));
    }
    let inner = ok(r#"{"columns": {"columns": 1, "vectors": 2, "a\"b\\": 3}}"#);
    assert_eq!(inner.0, columns(&["a\"b\\", "columns", "vectors"]));
}

/// Column and row of everything that is shown.
fn rows(json: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    let mut see = |column: Column<'_>, row: Option<&[u8]>| all.push((format!("{column:?}"), row.map(<[u8]>::to_vec)));
    fdrtd_mpc::data::rows(json, &mut see).unwrap();
    all
}

#[test]
fn rows_are_shown_one_by_one_in_their_columns() {
    let of = |column: &str, texts: &[&str]| -> Vec<(String, Option<Vec<u8>>)> {
        let row = |text: &&str| Some(canonical(text.as_bytes()).unwrap().to_vec());
        texts.iter().map(|text| (column.to_owned(), row(text))).collect()
    };
    let there = |column: &str| vec![(column.to_owned(), None)];
    assert_eq!(rows(" 31 "), [there("Unnamed"), of("Unnamed", &["31"])].concat());
    assert_eq!(rows("[]"), there("Unnamed"));
    assert_eq!(
        rows("[ 1 ,2.50]"),
        [there("Unnamed"), of("Unnamed", &["1", "2.5"])].concat()
    );
    let vectors = [
        of("Position(0)", &["1"]),
        of("Position(1)", &["2"]),
        of("Position(0)", &["3"]),
        of("Position(1)", &["4"]),
    ];
    assert_eq!(rows(r#"{"vectors": [[1, 2], [3, 4]]}"#), vectors.concat());
    for json in [
        r#"{"bmi": [7], "age": 31, "none": []}"#,
        r#"{"columns": {"bmi": [7], "age": 31, "none": []}}"#,
    ] {
        let columns = [
            there("Named(\"age\")"),
            of("Named(\"age\")", &["31"]),
            there("Named(\"bmi\")"),
            of("Named(\"bmi\")", &["7"]),
            there("Named(\"none\")"),
        ];
        assert_eq!(rows(json), columns.concat());
    }
    assert_eq!(
        rows(r#"{"columns": {"vectors": [1]}}"#)[0],
        (r#"Named("vectors")"#.to_owned(), None)
    );
}

proptest! {
    #[test]
    fn every_way_to_write_a_number_has_one_form(negative: bool, digits in 0..1_000_000_u64, zeros in 0..5_usize, places in 0..9_usize) {
        let sign = if negative { "-" } else { "" };
        let plain = format!("{sign}{digits}");
        let form = canonical(plain.as_bytes()).unwrap();
        let point = format!("{sign}{digits}.{}", "0".repeat(zeros + 1));
        let exponent = format!("{sign}{digits}{}e-{places}", "0".repeat(places));
        for other in [point, exponent, format!("{sign}{digits}E+0")] {
            prop_assert_eq!(&canonical(other.as_bytes()).unwrap()[..], &form[..], "{}", other);
        }
        let next = format!("{sign}{}", digits + 1);
        prop_assert_ne!(&canonical(next.as_bytes()).unwrap()[..], &form[..]);
        if digits > 0 {
            let tenth = format!("{plain}e-1");
            prop_assert_ne!(&canonical(tenth.as_bytes()).unwrap()[..], &form[..]);
            let opposite = plain.strip_prefix('-').map_or(format!("-{plain}"), str::to_owned);
            prop_assert_ne!(&canonical(opposite.as_bytes()).unwrap()[..], &form[..]);
        }
    }

    #[test]
    fn what_is_read_has_as_many_rows_as_samples(columns in proptest::collection::btree_map("[a-z]{1,3}", proptest::collection::vec(any::<i32>(), 0..9), 1..5)) {
        let json = serde_json::json!({"columns": columns}).to_string();
        let sums = read(&grid(), ROWS, &json).unwrap();
        let counted: Vec<u64> = columns.keys().map(|name| {
            let of_column = |(column, row): &&(String, Option<Vec<u8>>)| *column == format!("Named({name:?})") && row.is_some();
            rows(&json).iter().filter(of_column).count() as u64
        }).collect();
        prop_assert_eq!(&sums.samples[..], &counted[..]);
    }
}

#[test]
fn wide_rings_are_summed_like_narrow_ones() {
    let grid = Grid::new(Digits::new(301, 300).unwrap());
    let read = read(&grid, ROWS, r#"{"vectors": [[1e300, 0.1], [1e-300, 0.2]]}"#).unwrap();
    let (first, second) = read.sums.split_at(grid.ring().limbs());
    let zeros = "0".repeat(300);
    assert_eq!(grid.to_decimal(first), format!("1{zeros}.{}1", &zeros[1..]));
    assert_eq!(grid.to_decimal(second), "0.3");
}

#[test]
fn every_refusal_has_its_position() {
    let fine = || {
        Reason::Number(NumberError::TooFine {
            digits_after_needed: 13,
        })
    };
    let large = || {
        Reason::Number(NumberError::TooLarge {
            digits_before_needed: 301,
        })
    };
    let null = || Reason::NotANumber("null");
    for (json, at, reason) in [
        ("1e-13", "", fine()),
        ("[1, 1e300]", "[1]", large()),
        (r#"{"vectors": [[1, 2], [3, 1e-13]]}"#, "vectors[1][1]", fine()),
        (r#"{"columns": {"age": [1, null]}}"#, "columns.age[1]", null()),
        (r#"{"age": [1, null]}"#, "age[1]", null()),
        (r#"{"age": null}"#, "age", null()),
        ("null", "", null()),
        (r#"["12"]"#, "[0]", Reason::NotANumber("text")),
        ("[true]", "[0]", Reason::NotANumber("true or false")),
        ("[1, [2]]", "[1]", Reason::NotANumber("a list")),
        ("[{}]", "[0]", Reason::NotANumber("an object")),
        ("[1, NaN]", "[1]", Reason::NotANumber("NaN")),
        ("[-Infinity]", "[0]", Reason::NotANumber("infinite")),
        (
            r#"{"vectors": [[1, 2], [3]]}"#,
            "vectors[1]",
            Reason::Ragged { expected: 2, found: 1 },
        ),
        (
            r#"{"vectors": [[1, 2], []]}"#,
            "vectors[1]",
            Reason::Ragged { expected: 2, found: 0 },
        ),
        (
            r#"{"vectors": [[1, 2], [3, 4, 5, 6]]}"#,
            "vectors[1]",
            Reason::Ragged { expected: 2, found: 4 },
        ),
        (r#"{"vectors": []}"#, "vectors", Reason::Empty),
        (r#"{"vectors": [[]]}"#, "vectors[0]", Reason::Empty),
        ("{}", "", Reason::Empty),
        (r#"{"columns": {}}"#, "columns", Reason::Empty),
        (r#"{"a": 1, "b": 2, "\u0061": 3}"#, "a", Reason::DuplicateName),
        (r#"{"": 1}"#, "", Reason::NameLength),
        ("", "", Reason::NotJson { byte: 0 }),
        ("1 2", "", Reason::NotJson { byte: 2 }),
        ("[1, ]", "[1]", Reason::NotJson { byte: 4 }),
        ("[1, 02]", "[1]", Reason::NotJson { byte: 4 }),
        ("[1 2]", "[0]", Reason::NotJson { byte: 3 }),
        ("[1", "[0]", Reason::NotJson { byte: 2 }),
        (r#"{"a": 1"#, "a", Reason::NotJson { byte: 7 }),
        (r#"{"a" 1}"#, "", Reason::NotJson { byte: 5 }),
        (r#"{"a": 1,}"#, "", Reason::NotJson { byte: 8 }),
        (r#"{"a"#, "", Reason::NotJson { byte: 3 }),
        (r#"{"vectors": [[1]]"#, "", Reason::NotJson { byte: 17 }),
    ] {
        assert_eq!(refused(json), (at.to_owned(), reason), "{json}");
    }
    for (json, at) in [
        (r#"{"vectors": 1}"#, "vectors"),
        (r#"{"vectors": [1]}"#, "vectors[0]"),
        (r#"{"columns": [1]}"#, "columns"),
        (r#"{"vectors": [[1]], "age": 1}"#, ""),
        (r#"{"age": 1, "vectors": [[1]]}"#, ""),
    ] {
        let (found, reason) = refused(json);
        assert!(matches!(reason, Reason::Shape(_)), "{json}");
        assert_eq!(found, at, "{json}");
    }
}

#[test]
fn sizes_are_bounded() {
    let grid = grid();
    let rows = |json: &str| read(&grid, 2, json).map_err(|r| (r.at, r.reason));
    assert!(rows("[1, 2]").is_ok());
    assert!(rows(r#"{"a": [1, 2], "b": [1, 2]}"#).is_ok());
    let limit = Reason::TooManyRows { limit: 2 };
    let over = |at: &str| Some((at.to_owned(), limit.clone()));
    assert_eq!(rows("[1, 2, 3]").err(), over(""));
    assert_eq!(rows(r#"{"a": 1, "b": [1, 2, 3]}"#).err(), over("b"));
    assert_eq!(rows(r#"{"vectors": [[1], [2], [3]]}"#).err(), over("vectors"));
    assert!(read(&grid, 0, "[]").is_ok());
    assert!(read(&grid, 0, "1").is_err());

    let long = |length| format!(r#"{{"{}": [null]}}"#, "n".repeat(length));
    let (at, reason) = refused(&long(MAX_NAME_BYTES));
    assert_eq!((at.len(), reason), (64 + 3, Reason::NotANumber("null")));
    for length in [MAX_NAME_BYTES + 1, 100_000] {
        assert_eq!(refused(&long(length)).1, Reason::NameLength);
    }
    let many = |count| {
        let members: Vec<String> = (0..count).map(|i| format!("\"{i}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(ok(&many(MAX_COLUMNS)).2.len(), MAX_COLUMNS);
    assert_eq!(refused(&many(MAX_COLUMNS + 1)).1, Reason::TooManyColumns);

    let widest = Grid::new(Digits::new(304, 304).unwrap());
    let limit = MOST_WIDEST_SUMS;
    let vectors = format!("{{\"vectors\": [[{}", "0,".repeat(limit));
    let refusal = read(&widest, ROWS, &vectors).unwrap_err();
    assert_eq!(refusal.reason, Reason::TooManySums { limit });
}

#[test]
fn inputs_of_one_party_merge() {
    let grid = grid();
    let read = |json| read(&grid, 4, json).unwrap();
    let mut sums = read("[1e16, 1, -1e16]");
    sums.merge(&grid, 4, read("[1]")).unwrap();
    assert_eq!(grid.to_decimal(&sums.sums), "2");
    let refusal = sums.merge(&grid, 4, read("1")).unwrap_err();
    assert_eq!(refusal.reason, Reason::TooManyRows { limit: 4 });
    let refusal = sums.merge(&grid, 4, read(r#"{"a": 1}"#)).unwrap_err();
    assert!(refusal.to_string().contains("has one named column, an earlier"));
    assert_eq!((&sums.samples[..], &sums.shape), (&[4][..], &Shape::Scalar));

    let mut sums = read(r#"{"a": [1, 2], "b": 3}"#);
    sums.merge(&grid, 4, read(r#"{"b": [1, 2], "a": 10}"#)).unwrap();
    assert_eq!(sums.samples[..], [3, 3]);
    assert_eq!(grid.to_decimal(&sums.sums[..2]), "13");
    assert_eq!(grid.to_decimal(&sums.sums[2..]), "6");
}

#[test]
fn messages_name_the_remedy_and_never_the_value() {
    let message = |json: &str| read(&grid(), ROWS, json).unwrap_err().to_string();
    assert_eq!(
        message("[1, 7777e-13]"),
        "row [1] needs 13 digits after the point, 12 are declared: create the task with \
         parameters={\"digits_after\": 13}"
    );
    assert_eq!(
        message(r#"{"age": 7777e300}"#),
        "age needs 304 digits before the point, 18 are declared: create the task with \
         parameters={\"digits_before\": 304}"
    );
    assert!(message("7777e999").contains("no more than 608 digits"));
    for json in ["\"7777\"", "[7777 7777]", "[7777, {\"7777\": 1}]", "{\"a\": \"7777\"}"] {
        assert!(!message(json).contains("7777"), "{json}");
    }
    let sums = read(&grid(), ROWS, "[7777]").unwrap();
    assert_eq!(format!("{sums:?}"), "Sums { shape: Scalar, .. }");
    assert!(!message("{\"a\\nb\": null}").contains('\n'));
}

/// Bytes that JSON is made of, so that random text gets past the first few.
fn json_like() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(","),
        Just(":"),
        Just("\"a\""),
        Just("\"vectors\""),
        Just("\"columns\""),
        Just("1"),
        Just("-0.5"),
        Just("1e9"),
        Just("1e-99"),
        Just("null"),
        Just(" "),
        Just("\""),
        Just("\\"),
        Just("é"),
        Just("\\ud800"),
        Just("-"),
        Just("\0"),
    ];
    proptest::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whatever_is_read_is_json_and_nothing_panics(text in prop_oneof![json_like(), any::<String>()]) {
        match read(&grid(), ROWS, &text) {
            Ok(sums) => {
                prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok());
                prop_assert_eq!(sums.sums.len(), sums.shape.elements() * 2);
            }
            Err(refusal) => {
                prop_assert!(!refusal.to_string().is_empty());
                if let Reason::NotJson { byte } = refusal.reason {
                    prop_assert!(byte <= text.len());
                }
            }
        }
    }
}
